"""Reading label maps of both kinds: one label a voxel (uint8), or any number (uint64, a bit each).

Arrays are ``(slices, rows, columns)``, or one slice of it; see `ai_models.types.LabelMap`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ai_models.types import LabelMap

MOST_OVERLAPPING = 64
VALUES = 256
# Up to this value comparing with each is faster than counting all of them.
_FEW = 8
BoolArray = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]


def is_overlapping(label_map: LabelMap) -> bool:
    """Whether several labels may hold in one voxel."""
    return label_map.dtype == np.uint64


def has_overlap(label_map: LabelMap) -> bool:
    """Whether several labels do hold in some voxel."""
    if not is_overlapping(label_map):
        return False
    # A number with one bit at most has none in common with the number before it.
    one = np.uint64(1)
    return any(bool(np.any(plane & (plane - one))) for plane in label_map)


def mask_of(label_map: LabelMap, value: int) -> BoolArray:
    """Where label ``value`` holds."""
    if is_overlapping(label_map):
        mask: BoolArray = (label_map & bit_of(value)) != 0
    else:
        mask = label_map == value
    return mask


def bit_of(value: int) -> np.uint64:
    """The bit of label ``value`` (1 to 64) in a map of labels that may overlap; of others none."""
    return np.uint64(1 << (value - 1) if 1 <= value <= MOST_OVERLAPPING else 0)


def values_in(label_map: LabelMap) -> list[int]:
    """The label values that occur, ascending."""
    if is_overlapping(label_map):
        bits = int(np.bitwise_or.reduce(label_map, axis=None))
        return [bit + 1 for bit in range(MOST_OVERLAPPING) if bits >> bit & 1]
    highest = int(label_map.max(initial=0))
    if highest <= _FEW:
        # Most are found on one of the first slices that is looked at.
        return [
            value for value in range(1, highest + 1)
            if any(bool((plane == value).any()) for plane in np.atleast_2d(label_map))
        ]
    counts = np.bincount(label_map.ravel(), minlength=VALUES)
    return [int(value) for value in np.flatnonzero(counts) if value]


def voxels_by_label(label_map: LabelMap) -> Counts:
    """How many voxels each label has: ``(256,)``, by label value; of the background none."""
    counts: Counts = np.zeros(VALUES, np.int64)
    if not is_overlapping(label_map):
        highest = int(label_map.max(initial=0))
        if highest > _FEW:
            counts[:] = np.bincount(label_map.ravel(), minlength=VALUES)
        else:
            for value in range(1, highest + 1):
                counts[value] = np.count_nonzero(label_map == value)
    else:
        marked = label_map[label_map != 0]
        for value in values_in(marked):
            counts[value] = np.count_nonzero(marked & bit_of(value))
    counts[0] = 0
    return counts


def voxels_by_slice(label_map: LabelMap) -> Counts:
    """As `voxels_by_label` for every slice: ``(slices, 256)``."""
    if not len(label_map):
        return np.zeros((0, VALUES), np.int64)
    return np.stack([voxels_by_label(box_of(plane)) for plane in label_map])


def box_of(plane: LabelMap) -> LabelMap:
    """The smallest rectangle of a slice with all that is marked on it; empty where nothing is."""
    return place_of(plane)[2]


def place_of(plane: LabelMap) -> tuple[int, int, LabelMap]:
    """The first row and column of `box_of`, and the box: a view of ``plane``."""
    rows = np.flatnonzero(plane.max(axis=1, initial=0))
    if not rows.size:
        return 0, 0, plane[:0, :0]
    band = plane[rows[0] : rows[-1] + 1]
    columns = np.flatnonzero(band.max(axis=0))
    return int(rows[0]), int(columns[0]), band[:, columns[0] : columns[-1] + 1]


def occupied_slices(label_map: LabelMap) -> BoolArray:
    """Which label values occur on which slice: ``(slices, 256)``, the background left out."""
    if is_overlapping(label_map):
        occupied = np.zeros((len(label_map), VALUES), bool)
        bits = [np.bitwise_or.reduce(plane, axis=None) for plane in label_map]
        octets = np.array(bits, "<u8").view(np.uint8).reshape(len(bits), 8)
        occupied[:, 1 : MOST_OVERLAPPING + 1] = np.unpackbits(octets, axis=1, bitorder="little")
        return occupied
    return voxels_by_slice(label_map) > 0


def overlapping(masks: Mapping[int, BoolArray], shape: tuple[int, ...]) -> LabelMap:
    """A label map of masks that may share voxels, by label value (1 to 64)."""
    label_map = np.zeros(shape, dtype=np.uint64)
    for value, mask in masks.items():
        if not 1 <= value <= MOST_OVERLAPPING:
            raise ValueError(f"label {value}: overlapping labels count from 1 to 64")
        label_map[mask] |= bit_of(value)
    return label_map


def exclusive(label_map: LabelMap) -> LabelMap:
    """The same labels with one a voxel (uint8).

    Raises
    ------
    ValueError
        Several labels hold in some voxel.
    """
    if not is_overlapping(label_map):
        return label_map
    if has_overlap(label_map):
        raise ValueError("several labels hold in one voxel")
    flat = np.zeros(label_map.shape, np.uint8)
    for value in values_in(label_map):
        flat[mask_of(label_map, value)] = value
    return flat


def renumbered(label_map: LabelMap, numbers: Mapping[int, int]) -> LabelMap:
    """The same map with ``numbers[value]`` in the place of each ``value``; others are left out."""
    if not is_overlapping(label_map):
        table = np.zeros(VALUES, np.uint8)
        table[list(numbers)] = list(numbers.values())
        picked: LabelMap = table[label_map]
        return picked
    if all(value == number for value, number in numbers.items()):
        return label_map & _bits_of(list(numbers))
    moved = np.zeros(label_map.shape, np.uint64)
    for value, number in numbers.items():
        moved |= np.where(label_map & bit_of(value), bit_of(number), np.uint64(0))
    return moved


def _bits_of(values: Sequence[int]) -> np.unsignedinteger[Any]:
    return np.uint64(sum(int(bit_of(value)) for value in values))
