"""The answer is of the patient: however the same thing is presented, it says the same of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ai_models.card import Card
from ai_models.conformance.agreement import (
    ALIKE,
    COARSE,
    MARKS_NOTHING,
    SAME,
    Agreement,
    Answered,
    agreement,
    marks_nothing,
)
from ai_models.conformance.check import (
    Check,
    Predict,
    failed,
    judged,
    not_applicable,
    passed,
    refused,
)
from ai_models.conformance.presentations import Presentation, flips, oblique, permuted, respaced
from ai_models.conformance.scene import Scene, scene_for
from ai_models.types import Image, Prediction, Volume, reference_of

FLIPS, AXES, OBLIQUE, SPACING = "flips", "axes", "oblique", "spacing"
_NO_DIRECTIONS = "an image has no directions in the patient"


def check_flips(
    card: Card, predict: Predict, scene: Scene, reference: Prediction, *, quick: bool
) -> Check:
    """The same samples turned round along every set of axes."""
    source = scene.reference
    if isinstance(source, Image):
        return not_applicable(FLIPS, _NO_DIRECTIONS)
    shown = tuple(flips(source, quick=quick))
    return judged(FLIPS, lambda: _compared(FLIPS, card, predict, scene, reference, shown))


def check_axes(card: Card, predict: Predict, scene: Scene, reference: Prediction) -> Check:
    """The same samples with their axes in another order."""
    source = scene.reference
    if isinstance(source, Image):
        return not_applicable(AXES, _NO_DIRECTIONS)
    shown = (permuted(source, card),)
    return judged(AXES, lambda: _compared(AXES, card, predict, scene, reference, shown))


def check_oblique(
    card: Card, predict: Predict, scene: Scene, reference: Prediction, *, quick: bool = False
) -> Check:
    """The same thing on a grid that lies oblique in the patient.

    ``quick``: what was drawn is small, and only an answer that is far off is looked at again, on a
    larger drawing, which decides.

    What the card calls too oblique (``input.max_tilt_deg``) must be refused, and what is as
    oblique as it allows is compared.
    """
    if isinstance(scene.reference, Image):
        return not_applicable(OBLIQUE, _NO_DIRECTIONS)
    shown = oblique(scene)
    declined = ""
    if _is_too_oblique(shown, card):
        answer = refused(OBLIQUE, lambda: predict(shown.source), ("input.tilted",))
        if answer.outcome == "failed":
            return replace(answer, sentence=f"{shown.name}, {answer.sentence}")
        declined = f"{shown.name} the card declines it, and it was refused with input.tilted"
        shown = oblique(scene, card.input.max_tilt_deg or 0.0)
        if _is_too_oblique(shown, card):
            return not_applicable(OBLIQUE, declined)
    if card.task == "text":
        return not_applicable(OBLIQUE, "other pictures may be told of in other words")
    found = judged(
        OBLIQUE,
        lambda: _compared(OBLIQUE, card, predict, scene, reference, (shown,), quick=quick),
    )
    if declined and found.outcome != "failed":
        return replace(found, sentence=f"{declined}; {found.sentence}")
    if found.outcome == "failed" and quick:
        return _decided(card, predict, check_oblique)
    if found.outcome == "failed" and card.input.spacing_mm is None:
        return failed(OBLIQUE, found.sentence + (
            "; without input.spacing_mm the network sees what is oblique as it lies"
        ))
    return found


def check_spacing(
    card: Card, predict: Predict, scene: Scene, reference: Prediction, *, quick: bool = False
) -> Check:
    """The same thing at another spacing along each axis; ``quick`` as `check_oblique`."""
    entry = card.input
    if card.task == "text":
        return not_applicable(SPACING, "other pictures may be told of in other words")
    if isinstance(scene.reference, Image) and not (entry.spacing_mm or entry.size):
        return not_applicable(
            SPACING, "the card asks for neither input.spacing_mm nor input.size: the network sees "
            "the pixels of the device",
        )
    found = judged(
        SPACING,
        lambda: _compared(
            SPACING, card, predict, scene, reference, (respaced(scene, card),), quick=quick
        ),
    )
    if found.outcome == "failed" and quick:
        return _decided(card, predict, check_spacing)
    if found.outcome == "failed" and entry.spacing_mm is None and entry.size is None:
        return failed(SPACING, found.sentence + (
            "; without input.spacing_mm the network sees the grid of the series"
        ))
    return found


def _is_too_oblique(shown: Presentation, card: Card) -> bool:
    limit, volume = card.input.max_tilt_deg, reference_of(shown.source)
    return limit is not None and isinstance(volume, Volume) and volume.tilt_deg > limit


def _decided(card: Card, predict: Predict, check: Callable[..., Check]) -> Check:
    """By what the run without --quick draws: that run must not pass what this one fails."""
    whole = scene_for(card, quick=False)
    found = check(card, predict, whole, predict(whole.reference))
    return replace(found, sentence=f"{found.sentence} (on a larger drawing)")


def _compared(
    name: str, card: Card, predict: Predict, scene: Scene, reference: Prediction,
    shown: Sequence[Presentation], *, quick: bool = False,
) -> Check:
    if marks_nothing(reference):
        return not_applicable(name, MARKS_NOTHING)
    first = Answered(scene.reference, reference)
    found: list[tuple[Presentation, Agreement]] = []
    for one in shown:
        second = Answered(one.source, predict(one.source))
        compared = agreement(card, first, second, SAME if one.is_exact else ALIKE)
        if compared.holds is False and quick and not one.is_exact and (
            agreement(card, first, second, COARSE).holds
        ):
            return not_applicable(
                name, f"{one.name}: {compared.figure}, which on the small drawing of --quick says "
                "little: the run without --quick decides",
            )
        if compared.holds is False:
            limit = SAME if one.is_exact else ALIKE
            return failed(
                name, f"{one.name}, the answer is another: {compared.figure} "
                f"(Dice of {limit.dice} or a difference of {limit.scores} is allowed)",
            )
        if compared.holds:
            found.append((one, compared))
    if not found:
        return not_applicable(name, f"{compared.figure}: a larger one may show it (--on PATH)")
    worst, figures = min(found, key=lambda one: one[1].worst)
    if len(shown) == 1:
        return passed(name, f"{worst.name}: {figures.figure}")
    return passed(name, f"in {len(found)} of {len(shown)} ways, at worst {figures.figure}")
