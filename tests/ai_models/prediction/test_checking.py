"""What a card does not allow is not run, and says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_models.prediction.checking import check_source, checked_probabilities, checked_scores
from ai_models.types import Image, JointInput, ModelError, ModelInput, Volume
from tests.ai_models.prediction.cards import IMAGE, card_for

VOLUME = Volume(np.zeros((4, 8, 8), np.int16), np.eye(4))
RADIOGRAPH = Image(np.zeros((8, 8), np.float32), (0.2, 0.2))


@pytest.mark.parametrize(
    ("source", "changes", "reason"),
    [
        (VOLUME, {"input__max_slices": 3}, "input.too_many_slices"),
        (VOLUME, {"input": IMAGE}, "input.not_an_image"),
        (RADIOGRAPH, {}, "input.not_a_volume"),
        (Volume(np.zeros((8, 8), np.int16), np.eye(4)), {}, "input.not_a_volume"),
        (VOLUME, {"input__channels": [
            {"name": "a", "intensity": {"unit": "arbitrary"}}],
            "input__intensity": {"unit": "arbitrary"}}, "input.wrong_unit"),
        (Image(np.zeros((8, 8), np.float32), None),
         {"input": {**IMAGE, "spacing_mm": [1, 1, 1]}}, "input.spacing_unknown"),
        (Image(np.zeros((8, 8), np.float32), (0.0, 0.2)), {"input": IMAGE},
         "input.bad_geometry"),
        (Image(np.zeros((1, 8, 8), np.float32), None), {"input": IMAGE}, "input.not_an_image"),
        (Image(np.zeros((0, 8), np.float32), None), {"input": IMAGE}, "input.not_an_image"),
        (Image(np.full((8, 8), np.nan, np.float32), None), {"input": IMAGE},
         "input.not_finite"),
        (Image(np.full((8, 8), 255.0, np.float32), None), {"input": IMAGE}, "input.wrong_unit"),
    ],
)
def test_input_that_the_card_does_not_allow_is_refused(
    tmp_path: Path, source: ModelInput, changes: dict[str, Any], reason: str
) -> None:
    card = card_for(tmp_path, "regression", **changes)
    with pytest.raises(ModelError) as caught:
        check_source(source, card)
    assert caught.value.reason == reason


def test_volume_and_image_that_fit_their_card_pass(tmp_path: Path) -> None:
    check_source(VOLUME, card_for(tmp_path, "regression", input__max_slices=4))
    check_source(RADIOGRAPH, card_for(tmp_path, "regression", input=IMAGE))


@pytest.mark.parametrize(("degrees", "order", "holds"), [
    (0.0, (0, 1, 2), True), (9.9, (0, 1, 2), True), (10.1, (0, 1, 2), False),
    (9.9, (2, 0, 1), True), (10.1, (1, 2, 0), False), (-10.1, (0, 1, 2), False),
])
def test_series_that_lies_more_oblique_than_the_card_allows_is_refused(
    tmp_path: Path, degrees: float, order: tuple[int, int, int], holds: bool
) -> None:
    place = np.eye(4)
    turn = np.radians(degrees)
    place[1:3, 1:3] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    # Slices along any direction, one turned round, steps of different length.
    place = place @ np.diag([-3.0, 1.0, 0.5, 1.0])
    volume = Volume(VOLUME.array, place[:, [*order, 3]])
    assert volume.tilt_deg == pytest.approx(abs(degrees), abs=1e-6)
    check_source(volume, card_for(tmp_path, "regression"))
    card = card_for(tmp_path, "regression", input__max_tilt_deg=10)
    for source in (volume, JointInput(volume)):
        if holds:
            check_source(source, card)
            continue
        with pytest.raises(ModelError, match=r"by 10\.1 degrees, .* allows 10$") as caught:
            check_source(source, card)
        assert caught.value.reason == "input.tilted"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_none_spoils_the_answer(bad: float) -> None:
    scores = np.zeros((2, 3, 4))
    scores[1, 2, 3] = bad
    with pytest.raises(ModelError) as caught:
        checked_scores(scores, "scores")
    assert caught.value.reason == "model.not_finite"


@pytest.mark.parametrize("scores", [None, np.array([0.5, 1.2]), np.array([-0.1, 0.4])])
def test_probabilities_lie_between_zero_and_one(scores: np.ndarray | None) -> None:
    with pytest.raises(ModelError) as caught:
        checked_probabilities(scores, "probabilities")
    assert caught.value.reason == "model.wrong_output"
