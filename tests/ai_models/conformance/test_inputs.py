"""Empty inputs are answered with numbers, and wrong ones refused for the right reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_models.conformance.inputs import (
    check_empty,
    check_kind,
    check_not_finite,
    check_slices,
    check_unit,
)
from ai_models.conformance.scene import scene_for
from ai_models.prediction.checking import check_source
from ai_models.prediction.preparing import prepare
from ai_models.types import ModelInput, Prediction
from tests.ai_models.conformance.models import (
    boxed,
    card_of,
    labelled,
    refusing,
    scored,
    text,
    volume,
)
from tests.ai_models.conformance.test_scene import IMAGE, MR

CLASSES = {"channels": 1, "scores": [{"name": "bright", "channel": 0}]}
CHECKS = (check_not_finite, check_slices, check_unit, check_kind)


@pytest.mark.parametrize(
    "changes", [{"input__min_slices": 5}, {"input": IMAGE}, {"input": {**MR, "min_slices": 5}}]
)
def test_the_core_refuses_what_no_model_may_see(tmp_path: Path, changes: dict[str, Any]) -> None:
    card = card_of(tmp_path, **changes)

    def core(source: ModelInput) -> Prediction:
        check_source(source, card)
        prepare(source, card)
        return labelled(card, np.zeros(source.array.shape))

    scene = scene_for(card, quick=True)
    found = [look(card, core, scene).outcome for look in CHECKS]
    has_slices = card.input.kind == "volume"
    assert found == ["passed", "passed" if has_slices else "not applicable", "passed", "passed"]


def test_what_is_answered_all_the_same_fails(tmp_path: Path) -> None:
    card = card_of(tmp_path, input__min_slices=5)
    scene = scene_for(card, quick=True)

    def anything(source: ModelInput) -> Prediction:
        return scored(card, bright=0.5)

    assert {look(card, anything, scene).outcome for look in CHECKS} == {"failed"}
    other = check_unit(card, refusing("model.failed"), scene)
    assert other.sentence == "input.wrong_unit expected, it was model.failed: it will not"


@pytest.mark.parametrize(("answer", "outcome"), [
    (lambda card: scored(card, bright=0.2), "passed"),
    (lambda card: scored(card, bright=math.nan), "failed"),
    (lambda card: scored(card, bright=1.5), "failed"),
    (lambda card: text(card, "Nothing is seen."), "passed"),
    (lambda card: text(card, " "), "failed"),
    (boxed, "passed"),
    (lambda card: boxed(card, (math.nan, 0, 0)), "failed"),
    (lambda card: labelled(card, np.zeros((2, 2, 2))), "failed"),
])
def test_of_air_there_is_an_answer_of_numbers(
    tmp_path: Path, answer: Callable[[Any], Prediction], outcome: str
) -> None:
    card = card_of(tmp_path)
    scene = scene_for(card, quick=True)
    assert check_empty(card, lambda source: answer(card), scene).outcome == outcome


def test_air_may_be_refused_as_input_and_not_as_a_failure(tmp_path: Path) -> None:
    card = card_of(tmp_path)
    scene = scene_for(card, quick=True)
    assert check_empty(card, refusing("input.empty"), scene).outcome == "passed"
    assert check_empty(card, refusing("model.failed"), scene).outcome == "failed"


def test_air_is_air(tmp_path: Path) -> None:
    empty = scene_for(card_of(tmp_path), quick=True).empty()
    assert set(np.unique(empty.array)) == {-1000}
    assert not scene_for(card_of(tmp_path, input=MR), quick=True).empty().array.any()
    assert volume(empty.array).unit == "HU"
