"""What in ``input`` cannot go together where a model takes several series, phases, or the patient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ai_models.card_checks_intensity import intensity_problems, modality_problems
from ai_models.card_input import ClinicalEntry, InputEntry, MeanAndDeviation, Phases

if TYPE_CHECKING:
    from ai_models.card import Card

Problems = Iterator[tuple[str, str]]

_OF_SEVERAL = ("role", "phases", "companions", "presence", "clinical")
_WORDS = frozenset({"PatientSex", "SmokingStatus"})
_PRIOR = "prior"
_PHASES = "phases"


def joint_problems(card: Card) -> Problems:
    """Key path and sentence of each."""
    entry = card.input
    if entry.kind == "image":
        for key in _OF_SEVERAL:
            # What is known of the patient is told of an image as well.
            if key != "clinical" and entry.gives(key):
                yield f"input.{key}", "only a volume is taken with others: input.kind is image"
    if entry.is_joint and card.task == "text" and card.runtime.backend != "command":
        yield _first_given(entry), "a language model is shown pictures of one series"
    if entry.kind == "volume":
        yield from _phases(entry)
        yield from _companions(card)
    yield from _clinical(card)
    yield from _explained(card)


def _first_given(entry: InputEntry) -> str:
    return next(f"input.{key}" for key in _OF_SEVERAL if key != "role" and entry.gives(key))


def _phases(entry: InputEntry) -> Problems:
    if not isinstance(entry.phases, Phases):
        return
    if entry.phases.max < entry.phases.min:
        yield "input.phases.max", f"fewer than input.phases.min, {entry.phases.min}"
    for key in ("channels", "repeat"):
        if entry.gives(key) and (key != "repeat" or entry.repeat > 1):
            yield f"input.{key}", "each of input.phases is a channel already"
    kind, varies = entry.normalisation, entry.phases.min != entry.phases.max
    if varies and (
        kind == "imagenet" or (isinstance(kind, MeanAndDeviation) and len(kind.mean) > 1)
    ):
        yield "input.normalisation", "there are not always as many phases: one mean expected"


def _companions(card: Card) -> Problems:
    entry = card.input
    roles = [entry.role]
    if entry.role == _PRIOR:
        yield "input.role", "prior is the role of an earlier examination"
    for position, one in enumerate(entry.companions):
        here = f"input.companions[{position}]"
        if one.role in roles:
            yield f"{here}.role", f"{one.role!r} is the role of another series already"
        if one.role == _PRIOR:
            yield f"{here}.role", "prior is the role of an earlier examination, and no channel"
        if one.role == _PHASES:
            yield f"{here}.role", "phases is what a rule calls further series of input.phases"
        roles.append(one.role)
        yield from modality_problems(f"{here}.modality", one.modality, "volume")
        yield from intensity_problems(f"{here}.intensity", one.intensity, one.modality)
        if one.intensity.unit == "displayed":
            yield f"{here}.intensity.unit", "of an image only: a companion is a volume"
    optional = [one for one in entry.companions if not one.required]
    if entry.presence and not optional:
        yield "input.presence", "there is no companion that is not required"
    if card.runtime.backend == "nnunet":
        for position, one in enumerate(entry.companions):
            scales = ("clip", "clip_percentiles", "scale_to")
            if any(one.intensity.gives(key) for key in scales):
                yield f"input.companions[{position}].intensity", (
                    "nnU-Net scales intensities itself: only the unit expected here"
                )
        if entry.constant_channels or entry.phases != 1:
            key = "clinical" if entry.clinical else "presence" if entry.presence else "phases"
            yield f"input.{key}", "nnU-Net takes series, one channel each"


def _clinical(card: Card) -> Problems:
    names = [card.input.role, *(one.role for one in card.input.companions)]
    for position, one in enumerate(card.input.clinical):
        here = f"input.clinical[{position}]"
        if one.name in names:
            yield f"{here}.name", f"{one.name!r} is already taken"
        names.append(one.name)
        yield from _values(here, one)


def _values(here: str, one: ClinicalEntry) -> Problems:
    if one.keyword in _WORDS:
        if not one.values:
            yield f"{here}.values", f"a number for each word of {one.keyword} expected"
        for word in one.values:
            if word != word.upper():
                yield f"{here}.values.{word}", f"as DICOM writes it, {word.upper()} expected"
    elif one.values:
        yield f"{here}.values", f"{one.keyword} is a number already"


def _explained(card: Card) -> Problems:
    explanation = card.explanation
    if card.input.constant_channels and explanation and explanation.method == "occlusion":
        yield "explanation.method", (
            "occlusion would cover what is said of the patient as well: grad_cam expected"
        )
