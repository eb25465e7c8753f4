"""Reading label maps of both kinds: one label a voxel (uint8), or any number (uint64, a bit each).

Arrays are ``(slices, rows, columns)``; see `ai_models.types.LabelMap`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ai_models.types import LabelMap

MOST_OVERLAPPING = 64
BoolArray = npt.NDArray[np.bool_]


def is_overlapping(label_map: LabelMap) -> bool:
    """Whether several labels may hold in one voxel."""
    return label_map.dtype == np.uint64


def mask_of(label_map: LabelMap, value: int) -> BoolArray:
    """Where label ``value`` holds."""
    bit = np.uint64(1 << (value - 1)) if is_overlapping(label_map) else None
    mask: BoolArray = label_map == value if bit is None else (label_map & bit) != 0
    return mask


def values_in(label_map: LabelMap) -> list[int]:
    """The label values that occur, ascending."""
    if is_overlapping(label_map):
        bits = int(np.bitwise_or.reduce(label_map, axis=None))
        return [bit + 1 for bit in range(MOST_OVERLAPPING) if bits >> bit & 1]
    counts = np.bincount(label_map.ravel(), minlength=256)
    return [int(value) for value in np.flatnonzero(counts) if value]


def overlapping(masks: Mapping[int, BoolArray], shape: tuple[int, ...]) -> LabelMap:
    """A label map of masks that may share voxels, by label value (1 to 64)."""
    label_map = np.zeros(shape, dtype=np.uint64)
    for value, mask in masks.items():
        if not 1 <= value <= MOST_OVERLAPPING:
            raise ValueError(f"label {value}: overlapping labels count from 1 to 64")
        label_map[mask] |= np.uint64(1 << (value - 1))
    return label_map
