"""What must not be run, and what must not be believed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ai_models.card import Card
from ai_models.types import FloatArray, Image, JointInput, ModelError, ModelInput, Volume

_SPACING_MM = (1e-3, 1e3)
# Sums of window weights and 16-bit softmax leave 0..1 by so much.
_ROUNDING = 2e-3
WRONG = "model.wrong_output"


def check_source(source: ModelInput, card: Card) -> None:
    """Refuse an input that the card does not allow: ModelError with reason ``input.*``."""
    if isinstance(source, Image):
        _check_image(source, card)
    elif isinstance(source, JointInput):
        check_volume(source.reference, card)
        _check_joint(source, card)
    else:
        check_volume(source, card)
        _check_joint(JointInput(source), card)


def _check_joint(source: JointInput, card: Card) -> None:
    """What is taken together must be what the card names, each of it usable."""
    entry = card.input
    _check_phases(source, card)
    asked = {one.role: one for one in entry.companions}
    for role in source.companions:
        if role not in asked:
            raise ModelError(f"{card.id} takes no {role}", reason="input.companion_unknown")
    for role, companion in asked.items():
        volume = source.companions.get(role)
        if volume is None:
            if companion.required:
                raise ModelError(
                    f"{card.id} does not answer without {role}", reason="input.companion_missing"
                )
            continue
        _check_grid(volume, role)
        if volume.unit != companion.intensity.unit:
            raise ModelError(
                f"{card.id} takes {role} in {companion.intensity.unit}, it is in {volume.unit}",
                reason="input.wrong_unit",
            )
    _check_clinical(source.clinical, card)


def _check_clinical(told: Mapping[str, float | None], card: Card) -> None:
    named = {one.name for one in card.input.clinical}
    for name, value in told.items():
        if name not in named:
            raise ModelError(f"{card.id} takes no {name}", reason="input.companion_unknown")
        if value is not None and not np.isfinite(value):
            raise ModelError(f"{name} is no number", reason="input.not_finite")


def _check_phases(source: JointInput, card: Card) -> None:
    least, most = card.input.phase_counts
    count = max(1, len(source.phases))
    if count < least:
        raise ModelError(
            f"{count} phases, {card.id} needs {least}", reason="input.too_few_phases"
        )
    if count > most:
        raise ModelError(
            f"{count} phases, {card.id} allows {most}", reason="input.too_many_phases"
        )
    if source.times_s and len(source.times_s) != count:
        raise ModelError("not every phase has its time", reason="input.bad_phases")
    for phase in source.phases:
        if (
            phase.array.shape != source.array.shape or phase.unit != source.unit
            or not np.allclose(phase.affine_lps, source.affine_lps, rtol=0, atol=1e-3)
        ):
            raise ModelError("the phases are not on one grid", reason="input.bad_phases")


def check_volume(volume: Volume, card: Card) -> None:
    """Refuse a volume that the card does not allow: ModelError with reason ``input.*``."""
    array, entry = volume.array, card.input
    if entry.kind != "volume":
        raise ModelError(f"{card.id} takes single images", reason="input.not_an_image")
    _check_grid(volume, "the volume")
    _check_unit(volume.unit, card)
    if array.shape[0] < entry.min_slices:
        raise ModelError(
            f"{array.shape[0]} slices, {card.id} needs {entry.min_slices}",
            reason="input.too_few_slices",
        )
    if entry.max_slices is not None and array.shape[0] > entry.max_slices:
        raise ModelError(
            f"{array.shape[0]} slices, {card.id} allows {entry.max_slices}",
            reason="input.too_many_slices",
        )
    gap = volume.spacing_mm[0]
    if entry.max_slice_gap_mm is not None and gap > entry.max_slice_gap_mm + 1e-3:
        raise ModelError(
            f"slices {gap:.2f} mm apart, {card.id} allows {entry.max_slice_gap_mm:g} mm",
            reason="input.slices_too_far_apart",
        )
    tilt = volume.tilt_deg
    if entry.max_tilt_deg is not None and tilt > entry.max_tilt_deg + 1e-3:
        raise ModelError(
            f"the series lies oblique in the patient by {tilt:.1f} degrees, {card.id} allows "
            f"{entry.max_tilt_deg:g}", reason="input.tilted",
        )


def _check_grid(volume: Volume, what: str) -> None:
    array, affine = volume.array, volume.affine_lps
    if array.ndim != 3 or 0 in array.shape:
        raise ModelError(f"{what} has the shape {array.shape}", reason="input.not_a_volume")
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or volume.voxel_volume_ml < 1e-9:
        raise ModelError(f"the affine of {what} is not usable", reason="input.bad_geometry")
    if not all(_SPACING_MM[0] <= step <= _SPACING_MM[1] for step in volume.spacing_mm):
        raise ModelError(f"{what}: no scanner has this spacing", reason="input.bad_geometry")


def _check_image(image: Image, card: Card) -> None:
    array, spacing = image.array, image.pixel_spacing_mm
    if card.input.kind != "image" or card.task == "detection":
        raise ModelError(f"{card.id} takes volumes", reason="input.not_a_volume")
    if array.ndim != 2 or 0 in array.shape:
        raise ModelError(f"an image of shape {array.shape}", reason="input.not_an_image")
    if spacing is None:
        if card.input.spacing_mm is not None:
            raise ModelError(
                f"{card.id} needs to know how large a pixel is", reason="input.spacing_unknown"
            )
    elif not all(_SPACING_MM[0] <= step <= _SPACING_MM[1] for step in spacing):
        raise ModelError("no device has this pixel spacing", reason="input.bad_geometry")
    _check_unit("displayed", card)
    _check_clinical(image.clinical, card)
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ModelError("the image holds values that are not finite", reason="input.not_finite")
    if low < -1e-6 or high > 1 + 1e-6:
        raise ModelError(
            f"displayed values lie between 0 and 1, these between {low:g} and {high:g}",
            reason="input.wrong_unit",
        )


def _check_unit(unit: str, card: Card) -> None:
    wanted = {card.input.intensity.unit, *(one.intensity.unit for one in card.input.channels)}
    for expected in sorted(wanted):
        if unit != expected:
            raise ModelError(
                f"{card.id} takes {expected}, the input is in {unit}", reason="input.wrong_unit"
            )


def checked_scores(scores: npt.NDArray[np.generic] | None, what: str) -> FloatArray:
    """Scores that are numbers, as float32.

    Raises
    ------
    ModelError
        ``model.wrong_output``: there are none; ``model.not_finite``.
    """
    if scores is None:
        raise ModelError(f"the back-end answered no {what}", reason=WRONG)
    answer: FloatArray = np.asarray(scores, dtype=np.float32)
    # The extremes are NaN or infinite as soon as one value is: no mask of the whole is made.
    if answer.size and not (np.isfinite(answer.min()) and np.isfinite(answer.max())):
        raise ModelError("the network answered NaN or infinity", reason="model.not_finite")
    return answer


def checked_probabilities(scores: npt.NDArray[np.generic] | None, what: str) -> FloatArray:
    """`checked_scores` that lie between 0 and 1, else ``model.wrong_output``."""
    answer = checked_scores(scores, what)
    low, high = float(answer.min(initial=0.0)), float(answer.max(initial=0.0))
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise ModelError(
            f"{what} lie between 0 and 1, the network answered {low:g} to {high:g}: is the "
            "activation of the card right?", reason=WRONG,
        )
    return answer
