"""Probabilities and numbers: named as the card names them, and never made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_models.backends import Answer
from ai_models.prediction.preparing import prepare
from ai_models.types import CardError, Image, ModelError, Volume
from tests.ai_models.marked_phantom import AXIAL, rotation
from tests.ai_models.prediction.cards import IMAGE, answered, card_for

RADIOGRAPH = Image(np.zeros((8, 8), np.float32), None)
BY_SLICE: dict[str, Any] = {"input__ndim": 2, "output__per": "slice", "input__spacing_mm": None}


def volume(slices: int, spacing_mm: float = 1.0, directions: np.ndarray = AXIAL) -> Volume:
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array([spacing_mm, 1.0, 1.0])
    return Volume(np.zeros((slices, 16, 16), np.int16), affine)


def scores_of(nodule: list[float]) -> Answer:
    scores = np.zeros((len(nodule), 3), dtype=np.float32)
    scores[:, 2] = nodule
    return Answer(scores=scores)


def test_scores_are_named_by_their_channel(tmp_path: Path) -> None:
    card = card_for(tmp_path, "classification", input=IMAGE)
    answer = Answer(scores=np.array([0.1, 0.2, 0.9], dtype=np.float32))
    prediction = answered(card, RADIOGRAPH, answer)
    assert prediction.scores == pytest.approx({"nodule": 0.9, "effusion": 0.1})
    assert prediction.by_slice == {}


@pytest.mark.parametrize(
    ("rule", "expected"), [("max", 0.5), ("mean", 0.275), ("noisy_or", 1 - 0.5 * 0.8 * 0.6 * 1)]
)
def test_scores_of_slices_become_one_of_the_series(
    tmp_path: Path, rule: str, expected: float
) -> None:
    card = card_for(tmp_path, "classification", **BY_SLICE, output__aggregate=rule)
    prediction = answered(card, volume(4), scores_of([0.5, 0.2, 0.4, 0.0]))
    assert prediction.scores["nodule"] == pytest.approx(expected)
    assert prediction.by_slice["nodule"].tolist() == pytest.approx([0.5, 0.2, 0.4, 0.0])
    assert prediction.by_slice["nodule"].dtype == np.float32


def test_of_a_class_among_several_the_slice_decides_that_shows_most(tmp_path: Path) -> None:
    decisive = {**BY_SLICE, "output__aggregate": "decisive", "output__absence": "effusion"}
    card = card_for(tmp_path, "classification", **decisive)
    scores = np.array([[0.9, 0.0, 0.1], [0.2, 0.0, 0.8], [0.8, 0.0, 0.2]], np.float32)
    prediction = answered(card, volume(3), Answer(scores=scores))
    # The highest score of "nothing there" is that of a slice beside it.
    assert prediction.scores == pytest.approx({"nodule": 0.8, "effusion": 0.2})
    assert prediction.by_slice["nodule"].tolist() == pytest.approx([0.1, 0.8, 0.2])


def test_of_thinner_slices_the_decisive_one_is_told_with_all_of_its_scores(tmp_path: Path) -> None:
    card = card_for(tmp_path, "classification", **{
        **BY_SLICE, "output__aggregate": "decisive", "output__absence": "effusion",
        "input__spacing_mm": [1.0, 1.0, 1.0],
    })
    nothing = np.array([0.9, 0.1, 0.8, 0.6, 0.5, 0.7], np.float32)
    scores = np.stack([nothing, 0 * nothing, 1 - nothing], axis=1)
    prediction = answered(card, volume(2, 3.0), Answer(scores=scores))
    assert prediction.by_slice["effusion"].tolist() == pytest.approx([0.1, 0.5])
    assert prediction.by_slice["nodule"].tolist() == pytest.approx([0.9, 0.5])
    # So the slice of the series is found that decided.
    assert prediction.scores["effusion"] == prediction.by_slice["effusion"].min()


@pytest.mark.parametrize("wrong", [
    {"output__aggregate": "decisive"}, {"output__absence": "effusion"},
    {"output__aggregate": "decisive", "output__absence": "tumour"},
], ids=str)
def test_which_score_says_that_nothing_is_there_must_be_known(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(CardError, match="output.absence"):
        card_for(tmp_path, "classification", **BY_SLICE, **wrong)


def test_slices_are_told_in_the_order_of_the_series(tmp_path: Path) -> None:
    upside_down = volume(3, directions=AXIAL * np.array([-1.0, 1.0, 1.0]))
    card = card_for(tmp_path, "classification", **BY_SLICE)
    prediction = answered(card, upside_down, scores_of([0.1, 0.2, 0.3]))
    assert prediction.by_slice["nodule"].tolist() == pytest.approx([0.3, 0.2, 0.1])


def test_of_thinner_slices_of_the_network_the_highest_is_told(tmp_path: Path) -> None:
    card = card_for(
        tmp_path, "classification", **{**BY_SLICE, "input__spacing_mm": [1.0, 1.0, 1.0]}
    )
    prediction = answered(card, volume(2, 3.0), scores_of([0.1, 0.7, 0.2, 0.3, 0.1, 0.0]))
    assert prediction.by_slice["nodule"].tolist() == pytest.approx([0.7, 0.3])


def test_of_thicker_slices_of_the_network_the_nearest_is_told(tmp_path: Path) -> None:
    card = card_for(
        tmp_path, "classification", **{**BY_SLICE, "input__spacing_mm": [3.0, 1.0, 1.0]}
    )
    prediction = answered(card, volume(6), scores_of([0.9, 0.2]))
    assert prediction.by_slice["nodule"].tolist() == pytest.approx([0.9] * 3 + [0.2] * 3)


@pytest.mark.parametrize(
    ("directions", "changes"),
    [
        (AXIAL[:, [1, 0, 2]], {}),
        (rotation(0, 25) @ AXIAL, {"input__spacing_mm": [1.0, 1.0, 1.0]}),
    ],
    ids=["coronal", "oblique"],
)
def test_slices_that_cross_those_of_the_series_are_not_told_of(
    tmp_path: Path, directions: np.ndarray, changes: dict[str, Any]
) -> None:
    card = card_for(tmp_path, "classification", **{**BY_SLICE, **changes})
    prepared = prepare(volume(6, directions=directions), card)
    prediction = answered(card, prepared, scores_of([0.5] * prepared.shape[0]))
    assert prediction.scores["nodule"] == pytest.approx(0.5)
    assert prediction.by_slice == {}
    assert "not those of the series" in prediction.notes[-1]


def test_oblique_slices_stay_the_series_own_where_the_card_names_no_spacing(
    tmp_path: Path,
) -> None:
    card = card_for(tmp_path, "classification", **BY_SLICE)
    oblique = volume(3, directions=rotation(0, 25) @ AXIAL)
    prediction = answered(card, oblique, scores_of([0.1, 0.2, 0.3]))
    assert prediction.by_slice["nodule"].tolist() == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(), "model.wrong_output"),
        (Answer(scores=np.zeros(2, np.float32)), "model.wrong_output"),
        (Answer(scores=np.zeros((4, 3), np.float32)), "model.wrong_output"),
        (Answer(scores=np.array([0.1, 4.0, 0.2], np.float32)), "model.wrong_output"),
        (Answer(scores=np.array([0.1, np.nan, 0.2], np.float32)), "model.not_finite"),
    ],
)
def test_answer_that_is_no_probabilities_is_an_error(
    tmp_path: Path, answer: Answer, reason: str
) -> None:
    with pytest.raises(ModelError) as caught:
        answered(card_for(tmp_path, "classification", input=IMAGE), RADIOGRAPH, answer)
    assert caught.value.reason == reason


def test_scores_of_another_number_of_slices_are_an_error(tmp_path: Path) -> None:
    card = card_for(tmp_path, "classification", **BY_SLICE)
    with pytest.raises(ModelError) as caught:
        answered(card, volume(4), scores_of([0.1, 0.2, 0.3]))
    assert caught.value.reason == "model.wrong_output"


def test_quantities_are_in_their_unit(tmp_path: Path) -> None:
    card = card_for(tmp_path, "regression", input=IMAGE)
    prediction = answered(card, RADIOGRAPH, Answer(scores=np.array([9.0, 2.5], np.float32)))
    assert prediction.values == {"age": 125.0}


@pytest.mark.parametrize("output", [-10.1, 14.1])
def test_impossible_quantity_is_refused_and_not_clipped(tmp_path: Path, output: float) -> None:
    card = card_for(tmp_path, "regression", input=IMAGE)
    with pytest.raises(ModelError, match="age would be") as caught:
        answered(card, RADIOGRAPH, Answer(scores=np.array([0.0, output], np.float32)))
    assert caught.value.reason == "model.implausible_value"


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (np.zeros(3, np.float32), "model.wrong_output"),
        (np.zeros((4, 2), np.float32), "model.wrong_output"),
        (np.array([0.0, np.inf], np.float32), "model.not_finite"),
        (None, "model.wrong_output"),
    ],
)
def test_answer_that_is_not_the_cards_numbers_is_an_error(
    tmp_path: Path, scores: np.ndarray | None, reason: str
) -> None:
    with pytest.raises(ModelError) as caught:
        answered(card_for(tmp_path, "regression", input=IMAGE), RADIOGRAPH, Answer(scores=scores))
    assert caught.value.reason == reason


SEQUENCE: dict[str, Any] = {"output__per": "sequence", "input__spacing_mm": None}


def test_a_sequence_tells_of_each_slice_and_of_the_series(tmp_path: Path) -> None:
    card = card_for(
        tmp_path, "classification", **SEQUENCE, input__size=None, output__aggregate="max")
    prediction = answered(card, volume(4), scores_of([0.5, 0.2, 0.9, 0.0]))
    assert prediction.scores["nodule"] == pytest.approx(0.9)
    assert prediction.by_slice["nodule"].tolist() == pytest.approx([0.5, 0.2, 0.9, 0.0])


def test_slices_that_only_fill_up_the_sequence_do_not_count(tmp_path: Path) -> None:
    card = card_for(
        tmp_path, "classification", **SEQUENCE, input__size={"edges": [8, 16, 16], "fit": "crop"})
    prepared = prepare(volume(4), card)
    content = prepared.fitting.axes[0].content if prepared.fitting else slice(0)
    said = np.full(8, 0.99)
    said[content] = [0.5, 0.2, 0.4, 0.0]
    prediction = answered(card, prepared, scores_of(said.tolist()))
    assert prediction.scores["nodule"] == pytest.approx(0.5)
    assert prediction.by_slice["nodule"].tolist() == pytest.approx([0.5, 0.2, 0.4, 0.0])


def test_a_sequence_needs_a_score_for_every_slice(tmp_path: Path) -> None:
    card = card_for(tmp_path, "classification", **SEQUENCE, input__size=None)
    with pytest.raises(ModelError, match="ask for"):
        answered(card, volume(4), scores_of([0.5, 0.2, 0.4]))


def test_slices_without_foreground_are_part_of_the_sequence(tmp_path: Path) -> None:
    card = card_for(
        tmp_path, "classification", **SEQUENCE, input__size=None,
        input__foreground={"above": 100.0, "margin_mm": 0.0})
    source = volume(6)
    source.array[2:4, 4:12, 4:12] = 500
    assert prepare(source, card).shape == (6, 8, 8)
