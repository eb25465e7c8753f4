"""The same input gives the same answer, and fewer bits give nearly the same."""

from __future__ import annotations

import yaml

from ai_models.card import Card, load_card
from ai_models.conformance.agreement import (
    MARKS_NOTHING,
    PRECISE,
    Answered,
    agreement,
    is_same_answer,
    marks_nothing,
)
from ai_models.conformance.check import Check, Predict, failed, judged, not_applicable, passed
from ai_models.conformance.scene import Scene
from ai_models.types import Prediction
from ai_models.yaml_lines import read_yaml

DETERMINISM, PRECISION = "determinism", "precision"
_IN_FP32 = "the CPU computes in fp32"


def check_determinism(predict: Predict, scene: Scene, reference: Prediction) -> Check:
    """Once more: results are named by their input, so they may not change from run to run."""

    def look() -> Check:
        if is_same_answer(reference, predict(scene.reference)):
            return passed(DETERMINISM, "two runs are the same to the last bit")
        return failed(DETERMINISM, "two runs on one input differ")

    return judged(DETERMINISM, look)


def in_full_precision(card: Card) -> Card | None:
    """The same card with ``runtime.precision: fp32``; ``None`` where it says so already."""
    if card.runtime.precision == "fp32":
        return None
    values, _ = read_yaml(card.content, card.folder)
    values["runtime"]["precision"] = "fp32"
    return load_card(card.folder, yaml.safe_dump(values).encode())


def check_precision(
    card: Card, predict_in_full: Predict, scene: Scene, reference: Prediction
) -> Check:
    """``reference`` is in the card's precision, ``predict_in_full`` answers in 32 bits."""
    precision = card.runtime.precision
    if precision == "fp32":
        return not_applicable(PRECISION, "the card asks for fp32, which nothing is compared with")
    if any(_IN_FP32 in note for note in reference.notes):
        return not_applicable(PRECISION, f"{_IN_FP32}: {precision} needs a GPU to be seen")
    if marks_nothing(reference):
        return not_applicable(PRECISION, MARKS_NOTHING)

    def look() -> Check:
        source = scene.reference
        found = agreement(
            card, Answered(source, predict_in_full(source)), Answered(source, reference), PRECISE
        )
        sentence = f"{precision} against fp32: {found.figure}"
        if found.holds is None:
            return not_applicable(PRECISION, sentence)
        return (passed if found.holds else failed)(PRECISION, sentence)

    return judged(PRECISION, look)
