"""Values of a channel as the card asks for them: clipped, scaled, normalised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ai_models.array.intensity import IMAGENET, bounds_of, normalise, scale_intensity, zscore_of
from ai_models.card_entries import InputEntry, Intensity, MeanAndDeviation
from ai_models.types import FloatArray, ModelError

PADDING_HU = -1024.0
# A header that is wrong about its spacing must not ask for all memory: 1 GiB for each copy.
LARGEST_GRID_VOXELS = 1 << 28


def lowest_of(intensity: Intensity) -> float | None:
    """The value that stands for what lies below or outside, where the unit has one."""
    return PADDING_HU if intensity.unit == "HU" else None


def scaled(
    image: FloatArray, intensity: Intensity, outside: float,
    of: FloatArray | Sequence[FloatArray] | None = None,
) -> tuple[FloatArray, float]:
    """Clipped and mapped as the card asks, and what ``outside`` becomes.

    Bounds that the card leaves to the input are those of ``of``, by default of ``image``: phases
    share theirs, for what changes between them is what is looked for.
    """
    beyond = np.full(1, outside, dtype=np.float32)
    if intensity.clip is not None:
        bounds = intensity.clip
    elif intensity.clip_percentiles is not None or intensity.scale_to is not None:
        bounds = bounds_of(_together(image, of), intensity.clip_percentiles)
    else:
        return image, outside
    to = intensity.scale_to
    if to is None:
        return np.clip(image, *bounds), float(np.clip(beyond, *bounds)[0])
    return scale_intensity(image, bounds, to), float(scale_intensity(beyond, bounds, to)[0])


def normalised(
    image: FloatArray, outside: float, entry: InputEntry, number: int,
    of: FloatArray | Sequence[FloatArray] | None = None,
) -> tuple[FloatArray, float]:
    """Channel ``number`` as ``input.normalisation`` asks, and what ``outside`` becomes.

    Mean and deviation that the card leaves to the input are those of ``of``, as in `scaled`.

    Raises
    ------
    ModelError
        ``model.wrong_input``: the card has neither one mean nor one for each channel.
    """
    kind, nonzero = entry.normalisation, entry.normalisation == "zscore_nonzero"
    if kind == "none":
        return image, outside
    if kind in ("zscore", "zscore_nonzero"):
        mean, deviation = zscore_of(_together(image, of), nonzero=nonzero)
    else:
        known = (kind.mean, kind.std) if isinstance(kind, MeanAndDeviation) else IMAGENET
        count = entry.channel_counts[0] - entry.constant_channels
        if len(known[0]) not in (1, count) or len(known[0]) != len(known[1]):
            raise ModelError(
                f"{len(known[0])} means for {count} channels", reason="model.wrong_input"
            )
        at = number if len(known[0]) == count else 0
        mean, deviation = known[0][at], known[1][at]
    beyond = np.full(1, outside, dtype=np.float32)
    return (
        normalise(image, mean, deviation, nonzero=nonzero),
        float(normalise(beyond, mean, deviation, nonzero=nonzero)[0]),
    )


def _together(image: FloatArray, of: FloatArray | Sequence[FloatArray] | None) -> FloatArray:
    if of is None:
        return image
    return of if isinstance(of, np.ndarray) else of[0] if len(of) == 1 else np.stack(of)
