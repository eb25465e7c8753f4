"""What a model takes beside its series: wherever it lies, and where it is not there."""

from __future__ import annotations

from dataclasses import replace

from ai_models.card import Card
from ai_models.card_input import CompanionEntry
from ai_models.conformance.agreement import SAME, Answered, agreement, marks_nothing
from ai_models.conformance.check import (
    Check,
    Predict,
    failed,
    judged,
    not_applicable,
    passed,
    refused,
)
from ai_models.conformance.inputs import not_valid
from ai_models.conformance.presentations import flips
from ai_models.conformance.scene import Scene
from ai_models.types import JointInput, Prediction, Volume

TURNED, MISSING, PATIENT = "companions turned", "companions missing", "patient unknown"
_WITHOUT = "without "


def check_turned_companions(
    card: Card, predict: Predict, scene: Scene, reference: Prediction
) -> Check:
    """Each companion with its axes turned round: its place follows from its affine."""
    source = scene.reference
    if not isinstance(source, JointInput) or not card.input.companions:
        return not_applicable(TURNED, "the card takes no further series")
    if marks_nothing(reference):
        return not_applicable(TURNED, "marks nothing on what was shown")

    def look() -> Check:
        worst = ""
        for one in card.input.companions:
            volume = source.companions.get(one.role)
            if volume is None:
                continue
            *_, turned = flips(volume, quick=False)
            if not isinstance(turned.source, Volume):
                continue
            shown = _with(source, one.role, turned.source)
            found = agreement(
                card, Answered(source, reference), Answered(shown, predict(shown)), SAME
            )
            if found.holds is False:
                return failed(
                    TURNED, f"{one.role} turned round, the answer is another: {found.figure}"
                )
            worst = found.figure
        return passed(TURNED, f"turned round, the answer is the same: {worst}")

    return judged(TURNED, look)


def check_missing_companions(card: Card, predict: Predict, scene: Scene) -> Check:
    """Without one that is required there is no answer; without another there is, and it says so."""
    source = scene.reference
    if not isinstance(source, JointInput) or not card.input.companions:
        return not_applicable(MISSING, "the card takes no further series")
    said = []
    for one in card.input.companions:
        shown = _with(source, one.role, None)
        found = (
            _refused(predict, shown) if one.required else _answered(predict, shown, one)
        )
        if found.outcome == "failed":
            return found
        said.append(f"{one.role}: {found.sentence}")
    return passed(MISSING, "; ".join(said))


def check_unknown_patient(card: Card, predict: Predict, scene: Scene) -> Check:
    """Where the headers say nothing of the patient there is an answer, and it says so."""
    source = scene.reference
    if isinstance(source, Volume) or not card.input.clinical:
        return not_applicable(PATIENT, "the card takes nothing of what headers say of the patient")

    def look() -> Check:
        shown = replace(source, clinical=dict.fromkeys(source.clinical))
        prediction = predict(shown)
        wrong = not_valid(prediction, shown)
        unsaid = [
            one.name for one in card.input.clinical
            if f"{one.name} is not known" not in prediction.notes
        ]
        if wrong or unsaid:
            return failed(PATIENT, wrong or f"no note says that {unsaid[0]} is not known")
        return passed(PATIENT, "answered, with notes that say so")

    return judged(PATIENT, look)


def _refused(predict: Predict, shown: JointInput) -> Check:
    return refused(MISSING, lambda: predict(shown), ("input.companion_missing",))


def _answered(predict: Predict, shown: JointInput, one: CompanionEntry) -> Check:
    def look() -> Check:
        prediction = predict(shown)
        wrong = not_valid(prediction, shown)
        if wrong:
            return failed(MISSING, f"without {one.role} {wrong}")
        if not any(note.startswith(f"{_WITHOUT}{one.role}") for note in prediction.notes):
            return failed(MISSING, f"no note says that {one.role} was missing")
        return passed(MISSING, "answered without it, with a note that says so")

    return judged(MISSING, look)


def _with(source: JointInput, role: str, volume: Volume | None) -> JointInput:
    return replace(source, companions={**source.companions, role: volume})
