"""A gate is tried with what it can look at: not with a drawing that is too small for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_models.conformance.quality import check_quality
from ai_models.conformance.scene import affine_of, scene_for, shape_of
from ai_models.types import Image, ModelError, ModelInput, Prediction
from tests.ai_models.conformance.models import card_of, scored
from tests.ai_models.conformance.test_scene import IMAGE, MR

EDGE = 300
CLASSES = {"activation": "sigmoid", "channels": 1, "scores": [{"name": "bright", "channel": 0}]}


@pytest.mark.parametrize("kind", [IMAGE, MR])
def test_what_the_gate_is_shown_has_the_pixels_that_the_card_asks_for(
    tmp_path: Path, kind: dict[str, Any]
) -> None:
    card = card_of(tmp_path, task="classification", output=CLASSES,
                   input={**kind, "quality": {"min_edge_pixels": EDGE}})
    scene = scene_for(card, quick=True)
    assert min(shape_of(scene.reference)[-2:]) < EDGE
    shown: list[ModelInput] = []

    def predict(source: ModelInput) -> Prediction:
        shown.append(source)
        raise ModelError("blank", reason="input.blank")

    assert check_quality(card, predict, scene).outcome == "passed"
    (source,) = shown
    assert min(shape_of(source)[-2:]) >= EDGE
    # The first pixel begins where it began, and the last one ends where it ended.
    for corner in (-0.5, 1.0):
        assert np.allclose(place(scene.reference, corner), place(source, corner))


def place(source: ModelInput, corner: float) -> np.ndarray:
    shape = np.array(shape_of(source))[-2:]
    index = np.full(2, -0.5) if corner < 0 else shape - 0.5
    at: np.ndarray = affine_of(source) @ np.array([0.0, *index, 1.0])
    return at


def test_a_gate_that_lets_nothing_at_all_through_is_told(tmp_path: Path) -> None:
    card = card_of(tmp_path, task="classification", output=CLASSES,
                   input={**IMAGE, "quality": {}})
    assert isinstance(scene_for(card, quick=True).reference, Image)
    check = check_quality(card, lambda _: scored(card, bright=0.9), scene_for(card, quick=True))
    assert check.outcome == "failed" and "an empty input was answered" in check.sentence
