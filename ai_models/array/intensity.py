"""Intensities for a model: clipping, scaling, and the box that is worth looking at."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ai_models.types import FloatArray

Box = tuple[slice, slice, slice]


def scale_intensity(
    image: FloatArray, clip: tuple[float, float], scale_to: tuple[float, float]
) -> FloatArray:
    """Clip to ``clip`` (in the unit of ``image``) and map that range linearly to ``scale_to``."""
    low, high = clip
    slope = (scale_to[1] - scale_to[0]) / (high - low)
    scaled = np.clip(image, low, high)
    scaled -= np.float32(low)
    scaled *= np.float32(slope)
    scaled += np.float32(scale_to[0])
    return scaled


def foreground_box(
    image: FloatArray, above: float, margin_mm: float, spacing_mm: tuple[float, float, float]
) -> Box:
    """Box around the largest connected part of ``image > above``, with a margin on every side.

    ``image`` is ``(slices, rows, columns)``, ``spacing_mm`` along the same axes. Without any
    foreground the box is the whole image: what is shown nothing of is not decided here.
    """
    parts, count = ndimage.label(image > above)
    if count == 0:
        return (slice(0, image.shape[0]), slice(0, image.shape[1]), slice(0, image.shape[2]))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    box = ndimage.find_objects(parts)[int(sizes.argmax()) - 1]
    grown = [
        slice(max(0, side.start - margin), min(length, side.stop + margin))
        for side, length, margin in zip(
            box, image.shape, (int(np.ceil(margin_mm / step)) for step in spacing_mm), strict=True
        )
    ]
    return (grown[0], grown[1], grown[2])
