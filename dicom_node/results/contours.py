"""Outlines and borders of a mask, and the largest section of a segment, in source pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ai_models.array.labels import mask_of
from ai_models.types import LabelMap

Mask = npt.NDArray[np.bool_]


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
    """Largest section of the voxels of ``label_map`` that have ``value``; there are some.

    ``label_map`` is ``(slices, rows, columns)``; the first slice is taken when several are equal.
    ``pixel_spacing_mm`` is (row, column).
    """
    index = int(np.argmax([np.count_nonzero(mask_of(plane, value)) for plane in label_map]))
    points = outline(_largest_part(mask_of(label_map[index], value)))
    row_mm, column_mm = pixel_spacing_mm
    columns, rows = points[:-1, 0] * column_mm, points[:-1, 1] * row_mm
    area = abs(float(np.dot(columns, np.roll(rows, -1)) - np.dot(rows, np.roll(columns, -1)))) / 2
    return Section(index, points, area, _longest_distance(np.stack([columns, rows], axis=1)))


def outline(part: Mask) -> npt.NDArray[np.float64]:
    """Closed outer outline of a 4-connected ``(rows, columns)`` mask along its pixel edges.

    Clockwise as displayed, only corners: its area is exactly that of the pixels inside.
    """
    return outlines(part)[0]


def outlines(mask: Mask) -> list[npt.NDArray[np.float64]]:
    """Closed outlines of every part of a ``(rows, columns)`` mask and of every hole in it.

    Each is ``(n, 2)``, (column, row) corners along the pixel edges, clockwise as displayed from
    its topmost, then leftmost corner, in the order of those corners. Parts are 4-connected: where
    two pixels touch at a corner only, the outlines touch and do not cross. Filled by the even-odd
    rule they give the mask.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return []
    occupied = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    points, across, along = _corners(np.pad(occupied, 1).astype(np.int8))
    points += (columns[0], rows[0])
    unseen = np.ones(len(points), bool)
    found = []
    for start in range(len(points)):
        if not unseen[start]:
            continue
        loop: list[int] = []
        corner = start
        while not loop or corner != start:
            loop += [corner, across[corner]]
            corner = along[across[corner]]
        unseen[loop] = False
        found.append(points[[*loop, start]])
    return found


def _corners(
    padded: npt.NDArray[np.int8],
) -> tuple[npt.NDArray[np.float64], list[int], list[int]]:
    """Corners of all outlines, row by row, and for each the next one on its row and its column.

    Along a row or a column the edges of a mask begin and end in turn, so neighbours pair up. A
    corner where two pixels touch is two: the first has the edge to the left, the second that to
    the right; which of them has the edge upwards depends on the pixels.
    """
    above_left, above_right = padded[:-1, :-1], padded[:-1, 1:]
    below_left, below_right = padded[1:, :-1], padded[1:, 1:]
    turns = (above_left + above_right + below_left + below_right) % 2 == 1
    falling = (above_left & below_right) > (above_right | below_left)
    rising = (above_right & below_left) > (above_left | below_right)
    places = np.argwhere(turns | falling | rising)
    twice = (falling | rising)[tuple(places.T)]
    repeated = np.repeat(np.arange(len(places)), 1 + twice)
    rows, columns = places[repeated].T
    second = np.concatenate([[False], repeated[1:] == repeated[:-1]])
    lower = np.where(rising[rows, columns], ~second, second)
    by_column = np.lexsort((lower, rows, columns))
    partner = np.empty_like(by_column)
    partner[by_column] = by_column.reshape(-1, 2)[:, ::-1].ravel()
    along_row = np.arange(len(rows)).reshape(-1, 2)[:, ::-1].ravel()
    return np.stack([columns, rows], axis=1).astype(float), along_row.tolist(), partner.tolist()


def border(mask: Mask, width: int = 1) -> Mask:
    """The pixels of a ``(rows, columns)`` mask within ``width`` pixels of its edge, seen along
    rows and columns. The edge of the image is an edge of the mask."""
    core = mask
    for _ in range(width):
        padded = np.pad(core, 1)
        core = core & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~core


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
