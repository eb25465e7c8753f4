"""Cleaning of label maps: holes, stray parts, parts too small to be meant.

Label maps are uint8 ``(slices, rows, columns)``, 0 is background. Parts hang together through
faces (6-neighbourhood).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ai_models.types import LabelMap

BoolArray = npt.NDArray[np.bool_]


def clean_labels(
    label_map: LabelMap,
    voxel_volume_ml: float,
    *,
    fill_holes: bool = False,
    largest_component: bool = False,
    min_volume_ml: float = 0.0,
) -> LabelMap:
    """Apply, to every label for itself, holes, then component, then volume.

    A hole is background that one label encloses on all sides; another label in it stays. Of a
    single slice (an image) these are the sides in its plane.
    Returns a new array.
    """
    cleaned = label_map.copy()
    is_flat = len(label_map) == 1
    for position, box in enumerate(ndimage.find_objects(label_map)):
        if box is None:
            continue
        value = position + 1
        here = cleaned[box]
        mask = label_map[box] == value
        if fill_holes:
            here[_holes(mask, is_flat) & (here == 0)] = value
            mask = here == value
        if largest_component or min_volume_ml > 0:
            here[_dropped_parts(mask, voxel_volume_ml, largest_component, min_volume_ml)] = 0
    return cleaned


def _holes(mask: BoolArray, is_flat: bool) -> BoolArray:
    border = [(0, 0) if is_flat else (1, 1), (1, 1), (1, 1)]
    outside, _ = ndimage.label(np.pad(~mask, border, constant_values=True))
    inner = slice(None) if is_flat else slice(1, -1)
    holes: BoolArray = (outside != outside[0, 0, 0])[inner, 1:-1, 1:-1] & ~mask
    return holes


def _dropped_parts(
    mask: BoolArray, voxel_volume_ml: float, largest_component: bool, min_volume_ml: float
) -> BoolArray:
    parts, count = ndimage.label(mask)
    dropped = np.zeros(mask.shape, dtype=np.bool_)
    # Slice by slice: counting and look-up would else widen the whole array to 64 bits.
    sizes = np.zeros(count + 1, dtype=np.int64)
    for plane in parts:
        sizes += np.bincount(plane.ravel(), minlength=count + 1)
    sizes[0] = 0
    keep = sizes * voxel_volume_ml >= min_volume_ml
    if largest_component:
        keep &= np.arange(count + 1) == int(sizes.argmax())
    keep[0] = True
    if not keep.all():
        for plane, dropped_plane in zip(parts, dropped, strict=True):
            dropped_plane[...] = ~keep[plane]
    return dropped
