"""What the shipped models of examinations are said to have looked at is what they are about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from ai_models.card import load_card
from ai_models.predictor import Predictor
from ai_models.training.recipes import embolism_ct, fdg_pet_ct, lesion_dce_mr
from ai_models.training.recipes.case_examples import Case
from ai_models.types import ClassificationPrediction, JointInput, Volume

ZOO = Path(__file__).parents[3] / "ai_models/zoo"
NEAR_MM = 10.0


@pytest.mark.parametrize(
    ("model_id", "draw", "seed", "name"),
    [
        # Along phases, along slices, and of two series: of seeds that nothing was trained on.
        ("lesion-dce-mr", lesion_dce_mr.draw, 70002, "enhancing_lesion"),
        ("embolism-ct", embolism_ct.draw, 70003, "pulmonary_embolism"),
        ("fdg-pet-ct", fdg_pet_ct.draw, 70001, "malignant_lesion"),
    ],
)
def test_the_map_of_a_drawn_examination_is_highest_at_what_was_drawn_into_it(
    model_id: str, draw: Callable[[int], Case], seed: int, name: str
) -> None:
    case = draw(seed)
    predictor = Predictor(load_card(ZOO / model_id))
    predictor.load()
    answer = predictor.predict(case.source)
    assert isinstance(answer, ClassificationPrediction)
    reference = case.source.reference if isinstance(case.source, JointInput) else case.source
    assert isinstance(reference, Volume) and case.mask is not None
    found, there = answer.saliency[name], case.mask > 0
    assert found.shape == there.shape
    spacing_mm = np.linalg.norm(reference.affine_lps[:3, :3], axis=0)
    away_mm = ndimage.distance_transform_edt(~there, spacing_mm)
    assert away_mm[np.unravel_index(found.argmax(), found.shape)] < NEAR_MM
    assert found[there].mean() > 3.0 * found[~there].mean()
