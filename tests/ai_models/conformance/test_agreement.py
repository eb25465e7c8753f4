"""Answers are compared in the patient: where they lie, not where they stand in an array."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ai_models.conformance.agreement import (
    ALIKE,
    SAME,
    Answered,
    agreement,
    is_same_answer,
    marks_nothing,
)
from ai_models.prediction.instances import separated
from ai_models.types import Prediction, RegressionPrediction, Volume
from tests.ai_models.conformance.models import boxed, card_of, labelled, scored, text, volume

BLOCK = np.zeros((16, 16, 16), dtype=np.uint8)
BLOCK[3:12, 4:12, 5:13] = 1


def test_shifted_affine_and_shifted_labels_are_the_same_place(tmp_path: Path) -> None:
    card, source = card_of(tmp_path), volume(BLOCK)
    first = Answered(source, labelled(card, BLOCK))
    affine = source.affine_lps.copy()
    affine[:3, 3] += affine[:3, 0] * 2
    moved = np.zeros_like(BLOCK)
    moved[:-2] = BLOCK[2:]
    there = Answered(Volume(source.array, affine), labelled(card, moved))
    found = agreement(card, first, there, SAME)
    assert found.holds
    assert found.worst == 1.0
    unmoved = Answered(Volume(source.array, affine), labelled(card, BLOCK))
    assert agreement(card, first, unmoved, SAME).holds is False


def test_what_lies_outside_of_one_grid_is_not_counted(tmp_path: Path) -> None:
    card, source = card_of(tmp_path), volume(BLOCK)
    affine = source.affine_lps.copy()
    affine[:3, 3] += affine[:3, 1] * 8
    half = Answered(Volume(source.array[:, 8:], affine), labelled(card, BLOCK[:, 8:]))
    assert agreement(card, Answered(source, labelled(card, BLOCK)), half, SAME).holds


def test_findings_that_change_their_numbers_are_the_same_findings(tmp_path: Path) -> None:
    card, source = card_of(tmp_path), volume(BLOCK)
    two = np.zeros_like(BLOCK)
    two[1:7, 1:7, 1:7], two[9:15, 9:15, 9:15] = 1, 1
    other = two.copy()
    two[1, 1, 1], other[14, 14, 14] = 0, 0
    answers = []
    for one in (two, other):
        label_map, labels, _ = separated(one, card.labels)
        answers.append(Answered(source, replace(labelled(card, label_map), labels=labels)))
    assert answers[0].prediction.label_map[3, 3, 3] != answers[1].prediction.label_map[3, 3, 3]  # type: ignore[union-attr]
    assert agreement(card, *answers, SAME).holds


def test_labels_too_small_are_not_judged(tmp_path: Path) -> None:
    card, source = card_of(tmp_path), volume(BLOCK)
    point = np.zeros_like(BLOCK)
    point[5, 5, 5] = 1
    both = Answered(source, labelled(card, point)), Answered(source, labelled(card, BLOCK * 0))
    assert agreement(card, *both, SAME).holds is None


def test_a_label_that_one_answer_lacks_is_a_difference(tmp_path: Path) -> None:
    card, source = card_of(tmp_path), volume(BLOCK)
    both = Answered(source, labelled(card, BLOCK * 0)), Answered(source, labelled(card, BLOCK))
    assert agreement(card, *both, ALIKE).holds is False


@pytest.mark.parametrize(("score", "tolerance", "holds"), [
    (0.5005, SAME, True), (0.51, SAME, False), (0.54, ALIKE, True), (0.56, ALIKE, False),
])
def test_scores_may_differ_by_the_tolerance(
    tmp_path: Path, score: float, tolerance: object, holds: bool
) -> None:
    card, source = card_of(tmp_path), volume(BLOCK)
    both = [Answered(source, scored(card, a=0.1, b=value)) for value in (0.5, score)]
    assert agreement(card, *both, tolerance).holds is holds  # type: ignore[arg-type]


def test_numbers_are_compared_as_a_share_of_what_is_possible(tmp_path: Path) -> None:
    card = card_of(tmp_path, task="regression", output={"quantities": [
        {"name": "bone_age", "unit": "mo", "minimum": 0.0, "maximum": 200.0}]})
    both = [
        Answered(volume(BLOCK), RegressionPrediction({"bone_age": value}, card.algorithm()))
        for value in (100.0, 108.0)
    ]
    assert agreement(card, *both, ALIKE).holds
    assert agreement(card, *both, SAME).holds is False


def test_every_box_needs_a_partner_but_those_that_hardly_count(tmp_path: Path) -> None:
    card = card_of(tmp_path, task="detection", output={
        "labels": card_of(tmp_path).output.model_dump()["labels"]})
    source = volume(BLOCK)

    def holds(one: Prediction, other: Prediction) -> bool | None:
        return agreement(card, Answered(source, one), Answered(source, other), SAME).holds

    here = boxed(card, (0, 0, 0), (20, 0, 0))
    assert holds(here, boxed(card, (20, 0.5, 0), (0, 0, 0.5)))
    assert holds(here, boxed(card, (0, 0, 0))) is False
    assert holds(here, boxed(card, (0, 0, 0), (20, 2, 0))) is False
    assert holds(boxed(card), boxed(card)) is None
    weak = boxed(card, (40, 0, 0), score=0.5002)
    assert holds(boxed(card), weak)
    assert holds(weak, boxed(card, (0, 0, 0))) is False


def test_texts_are_the_same_or_not(tmp_path: Path) -> None:
    card, source = card_of(tmp_path), volume(BLOCK)
    one, other = Answered(source, text(card, "a")), Answered(source, text(card, "b"))
    assert agreement(card, one, one, ALIKE).holds
    assert agreement(card, one, other, ALIKE).holds is False
    assert agreement(card, one, Answered(source, scored(card, a=0.1)), ALIKE).holds is False


def test_same_answer_means_every_bit(tmp_path: Path) -> None:
    card = card_of(tmp_path)
    pairs: list[tuple[Prediction, Prediction]] = [
        (labelled(card, BLOCK), labelled(card, BLOCK * 0)),
        (scored(card, a=0.1), scored(card, a=0.1 + 1e-9)),
        (boxed(card, (0, 0, 0)), boxed(card, (0, 0, 1e-9))),
        (boxed(card, (0, 0, 0)), boxed(card)),
        (text(card, "a"), text(card, "b")),
    ]
    for one, other in pairs:
        assert is_same_answer(one, one)
        assert not is_same_answer(one, other)
    assert not is_same_answer(pairs[0][0], pairs[1][0])


def test_only_what_is_marked_can_be_compared(tmp_path: Path) -> None:
    card = card_of(tmp_path)
    assert marks_nothing(labelled(card, BLOCK * 0))
    assert marks_nothing(boxed(card))
    assert not marks_nothing(labelled(card, BLOCK))
    assert not marks_nothing(scored(card, a=0.0))
