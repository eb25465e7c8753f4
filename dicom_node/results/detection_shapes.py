"""Shapes of findings in one label map, so that none hides another where they overlap.

Viewers differ over segments that share voxels, and a label map of one number a voxel cannot hold
them. So what overlaps is cut: a smaller shape lies over a larger one, and of two that are as large
the one with the higher score. No finding is lost by it: one that is covered whole takes back a
voxel of its own shape, the nearest to its centre that another can spare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ai_models.array.labels import MOST_OVERLAPPING, BoolArray, bit_of, voxels_by_label
from ai_models.array.marked_boxes import Index
from ai_models.types import LabelMap
from dicom_node.errors import ModelFailed

Place = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Shape:
    """What a finding marks: ``marked`` ``(slices, rows, columns)`` at ``place`` of a grid.

    ``centre`` is the voxel at the centre of the finding, which need not be marked.
    """

    place: Place
    marked: BoolArray
    centre: Index
    score: float

    def on_slices(self, origin: npt.NDArray[np.int64]) -> Shape:
        """The same on other slices of the same rows and columns.

        ``origin`` gives the slice of this grid that each of them shows, ascending. A shape that
        lies between two of them marks the voxel at its centre on the nearer one.
        """
        along, rows, columns = self.place
        taken = np.flatnonzero((origin >= along.start) & (origin < along.stop))
        if taken.size:
            first, last = int(taken[0]), int(taken[-1])
            marked = self.marked[origin[first : last + 1] - along.start]
            if marked.any():
                nearest = int(np.abs(origin - self.centre[0]).argmin())
                return Shape(
                    (slice(first, last + 1), rows, columns), marked, (nearest, *self.centre[1:]),
                    self.score,
                )
        nearest = int(np.abs(origin - self.centre[0]).argmin())
        _, row, column = self.centre
        place = (slice(nearest, nearest + 1), slice(row, row + 1), slice(column, column + 1))
        return Shape(place, np.ones((1, 1, 1), bool), (nearest, row, column), self.score)


def painted(shapes: Sequence[Shape], grid: tuple[int, ...]) -> tuple[LabelMap, bool]:
    """The label map of ``shapes``, numbered from 1 in their order, and whether any was cut.

    Returns
    -------
    tuple
        uint8 where each finding can have a voxel of its own. Otherwise uint64, every shape whole
        and none cut.

    Raises
    ------
    ModelFailed
        ``model.wrong_output``: of more than 64 shapes some have no voxel of their own.
    """
    label_map: LabelMap = np.zeros(grid, np.uint8)
    largest_first = sorted(
        range(len(shapes)),
        key=lambda one: (-np.count_nonzero(shapes[one].marked), shapes[one].score, -one),
    )
    is_cut = False
    for one in largest_first:
        here, marked = label_map[shapes[one].place], shapes[one].marked
        is_cut = is_cut or bool(here[marked].any())
        here[marked] = one + 1
    counts = voxels_by_label(label_map)
    for one in reversed(largest_first):
        if not counts[one + 1] and not _take_voxel(one + 1, shapes, label_map, counts, set()):
            return whole(shapes, grid), False
    return label_map, is_cut


def _take_voxel(
    value: int, shapes: Sequence[Shape], label_map: LabelMap, counts: npt.NDArray[np.int64],
    asked: set[int],
) -> bool:
    """Give ``value`` a voxel of its shape; who holds its last one there moves on, if it can.

    Everything in the shape is held by somebody. This is a path that augments a matching (Kuhn),
    so that it fails only where there are fewer voxels than findings.
    """
    asked.add(value)
    shape = shapes[value - 1]
    start = np.array([side.start for side in shape.place])
    voxels = np.argwhere(shape.marked) + start
    nearest_first = np.square(voxels - np.array(shape.centre)).sum(axis=1).argsort(kind="stable")
    for voxel in voxels[nearest_first]:
        place = tuple(voxel)
        holder = int(label_map[place])
        if holder in asked:
            continue
        if counts[holder] > 1 or _take_voxel(holder, shapes, label_map, counts, asked):
            label_map[place] = value
            counts[holder] -= 1
            counts[value] += 1
            return True
    return False


def whole(shapes: Sequence[Shape], grid: tuple[int, ...]) -> LabelMap:
    """All of ``shapes`` uncut, uint64; raises as `painted`."""
    if len(shapes) > MOST_OVERLAPPING:
        raise ModelFailed(
            f"more than {MOST_OVERLAPPING} findings, of which some lie in the same voxels",
            reason="model.wrong_output",
        )
    label_map: LabelMap = np.zeros(grid, np.uint64)
    for number, shape in enumerate(shapes, start=1):
        label_map[shape.place][shape.marked] |= bit_of(number)
    return label_map
