"""What the shipped models of examinations are said to have looked at is what they are about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from ai_models.card import load_card
from ai_models.predictor import Predictor
from ai_models.training.phantoms.brain import HEAD_SCANNERS, BrainVariation, brain_phantom
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


@pytest.mark.long
@pytest.mark.parametrize("kind", ["glioma", "meningioma", "pituitary"])
def test_the_map_of_a_head_is_highest_near_the_tumour_that_was_drawn_into_it(kind: str) -> None:
    phantom = brain_phantom(95_001, BrainVariation(kind, radius_mm=15.0), HEAD_SCANNERS[1])
    predictor = Predictor(load_card(ZOO / "brain-tumour-mr"))
    predictor.load()
    answer = predictor.predict(Volume(phantom.signal, phantom.affine_lps, "arbitrary"))
    assert isinstance(answer, ClassificationPrediction)
    assert max(answer.scores, key=lambda name: answer.scores[name]) == kind
    spacing_mm = np.linalg.norm(phantom.affine_lps[:3, :3], axis=0)
    away_mm = ndimage.distance_transform_edt(phantom.tumour == 0, spacing_mm)
    found = answer.saliency[kind]
    assert away_mm[np.unravel_index(found.argmax(), found.shape)] < NEAR_MM
