"""What a network is given beside the reference series: companions, presence, clinical values.

The order of the channels is that of `ai_models.card_input`: those of the reference, one per
companion, with ``presence`` one per companion that is not required, then two per clinical value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ai_models.array.companion_grid import place, sampled, smoothed
from ai_models.array.resample import Shape
from ai_models.card import Card
from ai_models.card_input import CompanionEntry, InputEntry
from ai_models.prediction.intensities import (
    LARGEST_GRID_VOXELS,
    lowest_of,
    normalised,
    scaled,
)
from ai_models.types import Affine, FloatArray, JointInput, ModelError, ModelInput, Volume

# A companion that shows less of what is looked at is worth a word.
_WORTH_A_NOTE = 0.95


@dataclass(frozen=True)
class Further:
    """Channels ``(slices, rows, columns)`` each, what the reader of a result should know, and the
    roles of companions that show nothing of what is looked at."""

    channels: tuple[FloatArray, ...] = ()
    notes: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


def joined(source: ModelInput) -> JointInput | None:
    """The input with its companions; a volume alone has none, and an image never has any."""
    if isinstance(source, JointInput):
        return source
    return JointInput(source) if isinstance(source, Volume) else None


def further_channels(
    source: JointInput, card: Card, shape: Shape, affine: Affine, content: tuple[slice, ...],
    first: int,
) -> Further:
    """Everything behind the channels of the reference, on the network's grid.

    Parameters
    ----------
    shape, affine
        Of the network's grid, index to mm in LPS.
    content
        Where on that grid the reference lies; elsewhere a companion is not shown either.
    first
        How many channels there are of the reference.

    Raises
    ------
    ModelError
        ``input.companion_missing``, ``input.companion_elsewhere``: one that is required is not
        there, or shows another place; ``input.too_large``, ``input.not_finite``.
    """
    entry = card.input
    channels: list[FloatArray] = []
    notes: list[str] = []
    there: dict[str, bool] = {}
    for number, companion in enumerate(entry.companions):
        volume = source.companions.get(companion.role)
        shown = None if volume is None else _on_grid(
            volume, companion, entry, shape, affine, content, first + number
        )
        if shown is None and companion.required:
            raise _lacking(card, companion, volume)
        there[companion.role] = shown is not None
        if shown is None:
            channels.append(np.full(shape, companion.absent, dtype=np.float32))
            notes.append(_without(companion, volume))
            continue
        channels.append(shown[0])
        if shown[1] < _WORTH_A_NOTE:
            notes.append(f"{companion.role} shows {100 * shown[1]:.0f} % of what was looked at")
    if entry.presence:
        channels += [
            _constant(shape, float(there[one.role])) for one in entry.companions if not one.required
        ]
    of_patient = clinical_channels(source.clinical, entry, shape)
    channels += of_patient.channels
    notes += of_patient.notes
    absent = tuple(role for role, is_there in there.items() if not is_there)
    return Further(tuple(channels), tuple(notes), absent)


def clinical_channels(
    told: Mapping[str, float | None], entry: InputEntry, shape: Shape
) -> Further:
    """Two channels for each thing that a card asks of the patient: its value, 1 where known."""
    channels: list[FloatArray] = []
    notes: list[str] = []
    for one in entry.clinical:
        value = told.get(one.name)
        said = 0.0 if value is None else (value - one.center) / one.scale
        channels += [_constant(shape, said), _constant(shape, float(value is not None))]
        if value is None:
            notes.append(f"{one.name} is not known")
    return Further(tuple(channels), tuple(notes))


def _on_grid(
    volume: Volume, companion: CompanionEntry, entry: InputEntry, shape: Shape, affine: Affine,
    content: tuple[slice, ...], number: int,
) -> tuple[FloatArray, float] | None:
    """A companion's channel and the share of the content that it shows; ``None``: nothing."""
    own = (volume.array.shape[0], volume.array.shape[1], volume.array.shape[2])
    placement = place(own, volume.affine_lps, shape, affine)
    if placement.voxels > LARGEST_GRID_VOXELS:
        raise ModelError(
            f"{companion.role} takes {placement.voxels} voxels", reason="input.too_large"
        )
    lowest = lowest_of(companion.intensity)
    try:
        coarse = smoothed(volume.array, placement, lowest)
    except ValueError as error:
        raise ModelError(f"{companion.role}: {error}", reason="input.not_finite") from error
    values, inside = sampled(coarse, placement)
    share = float(np.count_nonzero(inside[content])) / max(1, inside[content].size)
    if share == 0.0:
        return None
    outside = float(coarse.min()) if lowest is None else lowest
    # Of the whole companion, as it is of the whole reference.
    values, _ = scaled(values, companion.intensity, outside, of=coarse)
    seen, _ = scaled(coarse, companion.intensity, outside)
    values, _ = normalised(values, outside, entry, number, of=seen)
    return _only(values, inside, content, companion.absent), share


def _only(
    values: FloatArray, inside: npt.NDArray[np.bool_], content: tuple[slice, ...], absent: float
) -> FloatArray:
    channel = np.full(values.shape, absent, dtype=np.float32)
    here = inside[content]
    channel[content][here] = values[content][here]
    return channel


def _constant(shape: Shape, value: float) -> FloatArray:
    return np.full(shape, value, dtype=np.float32)


def _lacking(card: Card, companion: CompanionEntry, volume: Volume | None) -> ModelError:
    if volume is None:
        return ModelError(
            f"{card.id} does not answer without {companion.role}",
            reason="input.companion_missing",
        )
    return ModelError(
        f"{companion.role} shows another place than the series", reason="input.companion_elsewhere"
    )


def _without(companion: CompanionEntry, volume: Volume | None) -> str:
    if volume is None:
        return f"without {companion.role}"
    return f"without {companion.role}: it shows another place"
