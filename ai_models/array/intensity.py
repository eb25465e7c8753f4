"""Intensities for a model: clipping, scaling, normalising, and the box worth looking at."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ai_models.types import FloatArray

Box = tuple[slice, slice, slice]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def scale_intensity(
    image: FloatArray, clip: tuple[float, float], scale_to: tuple[float, float]
) -> FloatArray:
    """Clip to ``clip`` (in the unit of ``image``) and map that range linearly to ``scale_to``.

    An empty range (an image of one value) maps to the lower bound.
    """
    low, high = clip
    slope = (scale_to[1] - scale_to[0]) / (high - low) if high > low else 0.0
    scaled = np.clip(image, low, high)
    scaled -= np.float32(low)
    scaled *= np.float32(slope)
    scaled += np.float32(scale_to[0])
    return scaled


def bounds_of(
    image: FloatArray, percentiles: tuple[float, float] | None = None
) -> tuple[float, float]:
    """The lowest and the highest value, or those at two percentiles (0 to 100)."""
    if percentiles is None:
        return float(image.min()), float(image.max())
    low, high = np.percentile(image, percentiles)
    return float(low), float(high)


def zscore_of(image: FloatArray, *, nonzero: bool) -> tuple[float, float]:
    """Mean and standard deviation of all values, or of those that are not zero.

    Of one single value, or of none, the deviation is 1: there is nothing to normalise.
    """
    values = image[image != 0] if nonzero else image
    if values.size == 0:
        return 0.0, 1.0
    # Sums of many float32 lose digits: both are taken in 64 bits.
    mean = float(values.mean(dtype=np.float64))
    deviation = float(values.std(dtype=np.float64))
    return mean, deviation if deviation > 1e-6 * max(1.0, abs(mean)) else 1.0


def normalise(
    image: FloatArray, mean: float, deviation: float, *, nonzero: bool = False
) -> FloatArray:
    """``(image - mean) / deviation``; with ``nonzero`` zeros stay zero."""
    normal = (image - np.float32(mean)) / np.float32(deviation)
    return np.where(image != 0, normal, np.float32(0.0)) if nonzero else normal


def foreground_box(
    image: FloatArray, above: float, margin_mm: float, spacing_mm: tuple[float, float, float]
) -> tuple[Box, int]:
    """Box around the largest connected part of ``image > above``, with a margin on every side.

    ``image`` is ``(slices, rows, columns)``, ``spacing_mm`` along the same axes. The second is the
    number of voxels of that part. Without any foreground the box is the whole image: what is shown
    nothing of is not decided here.
    """
    parts, count = ndimage.label(image > above)
    if count == 0:
        return (slice(0, image.shape[0]), slice(0, image.shape[1]), slice(0, image.shape[2])), 0
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    largest = int(sizes.argmax())
    box = ndimage.find_objects(parts)[largest - 1]
    grown = [
        slice(max(0, side.start - margin), min(length, side.stop + margin))
        for side, length, margin in zip(
            box, image.shape, (int(np.ceil(margin_mm / step)) for step in spacing_mm), strict=True
        )
    ]
    return (grown[0], grown[1], grown[2]), int(sizes[largest])
