"""The largest section of a segment and its outline, in pixels of the source image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ai_models.types import LabelMap

Mask = npt.NDArray[np.bool_]
_TURNS = {(0, 1): (1, 0), (1, 0): (0, -1), (0, -1): (-1, 0), (-1, 0): (0, 1)}


@dataclass(frozen=True)
class Section:
    """The slice where a segment is largest.

    ``points`` is ``(n, 2)``: (column, row) corners of the outline of its largest part, closed,
    with 0, 0 at the outer corner of the first pixel (PS3.3 C.18.6.1.2). ``area_mm2`` is the area
    inside that outline (holes filled), ``long_axis_mm`` the largest distance between two points.
    """

    slice_index: int
    points: npt.NDArray[np.float64]
    area_mm2: float
    long_axis_mm: float


def largest_section(
    label_map: LabelMap, value: int, pixel_spacing_mm: tuple[float, float]
) -> Section:
    """Largest section of the voxels of ``label_map`` with ``value``, of which there are some.

    ``label_map`` is ``(slices, rows, columns)``; the first slice is taken when several are equal.
    ``pixel_spacing_mm`` is (row, column).
    """
    index = int(np.argmax([np.count_nonzero(plane == value) for plane in label_map]))
    points = outline(_largest_part(label_map[index] == value))
    row_mm, column_mm = pixel_spacing_mm
    columns, rows = points[:-1, 0] * column_mm, points[:-1, 1] * row_mm
    area = abs(float(np.dot(columns, np.roll(rows, -1)) - np.dot(rows, np.roll(columns, -1)))) / 2
    return Section(index, points, area, _longest_distance(np.stack([columns, rows], axis=1)))


def outline(part: Mask) -> npt.NDArray[np.float64]:
    """Closed outer outline of a 4-connected ``(rows, columns)`` mask along its pixel edges.

    Clockwise as displayed, only corners: its area is exactly that of the pixels inside.
    """
    padded = np.pad(part, 1)
    row, column = (int(v) for v in np.argwhere(padded)[0])
    start = (row, column)
    position, direction = start, (0, 1)
    points = [start]
    while True:
        position = (position[0] + direction[0], position[1] + direction[1])
        turned = _turned(padded, position, direction)
        if position == start and turned == (0, 1):
            break
        if turned != direction:
            points.append(position)
            direction = turned
    points.append(start)
    corners = np.asarray(points, float) - 1
    return corners[:, ::-1]


def _turned(padded: Mask, position: tuple[int, int], direction: tuple[int, int]) -> tuple[int, int]:
    """Next direction along the edge, mask on the right hand; a diagonal touch is not crossed."""
    row, column = position
    right = _TURNS[direction]
    left = (-right[0], -right[1])
    ahead_right = _pixel(padded, row, column, direction, right)
    ahead_left = _pixel(padded, row, column, direction, left)
    if not ahead_right:
        return right
    return left if ahead_left else direction


def _pixel(
    padded: Mask, row: int, column: int, ahead: tuple[int, int], side: tuple[int, int]
) -> bool:
    """Whether the pixel ahead of a grid corner, on one side, is in the mask."""
    down = ahead[0] + side[0]
    across = ahead[1] + side[1]
    return bool(padded[row + (0 if down > 0 else -1), column + (0 if across > 0 else -1)])


def _largest_part(plane: Mask) -> Mask:
    from scipy import ndimage

    parts, count = ndimage.label(plane)
    if count <= 1:
        return plane
    largest: Mask = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return largest


def _longest_distance(points: npt.NDArray[np.float64]) -> float:
    """Largest distance between two of the points; only extreme ones can be the ends."""
    angles = np.linspace(0, np.pi, 180, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    projections = points @ directions
    ends = points[np.unique([projections.argmax(axis=0), projections.argmin(axis=0)])]
    differences = ends[:, None, :] - ends[None, :, :]
    return float(np.sqrt((differences**2).sum(axis=-1)).max())
