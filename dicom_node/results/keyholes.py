"""Masks as simple polygons: every hole joined to what surrounds it by a channel without width.

That is the keyhole technique of PS3.3 C.8.8.6.3. A reader that fills each polygon and takes the
union, one that fills by winding number and one that combines polygons by exclusive or all get the
mask back; a hole as a contour of its own says so to the last only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dicom_node.results.contours import Mask, outlines

Points = npt.NDArray[np.float64]

# Beside the pixel centres, so that no reader meets a centre on the channel.
_CHANNEL = 0.25


def polygons(mask: Mask) -> list[Points]:
    """Polygons along the pixel edges of a ``(rows, columns)`` mask, one per 4-connected part.

    Each is ``(n, 2)``, (column, row), 0, 0 at the outer corner of the first pixel; it is not
    closed by its first point again.
    """
    found: list[Points] = []
    for points in outlines(mask):
        column, row = (int(value) for value in points[0])
        if mask[row, column]:
            found.append(points[:-1])
        else:
            _join(found, points[:-1])
    return found


def _join(found: list[Points], hole: Points) -> None:
    """Join ``hole`` to the edge straight above its first corner.

    Outlines come in the order of their topmost corners, so what has that edge, the outer outline
    or another hole, is in ``found`` already.
    """
    column, row = float(hole[0, 0]) + _CHANNEL, float(hole[0, 1])
    number, edge, above = _edge_above(found, column, row)
    around = found[number]
    channel = np.array([[column, above], [column, row]])
    backwards = np.concatenate([hole[:1], hole[:0:-1]])
    found[number] = np.concatenate(
        [around[: edge + 1], channel, backwards, channel[::-1], around[edge + 1 :]]
    )


def _edge_above(found: list[Points], column: float, row: float) -> tuple[int, int, float]:
    """Number of the polygon, index of its edge and that edge's row, nearest above a point."""
    nearest = (-1, -1, -np.inf)
    for number, points in enumerate(found):
        ends = np.roll(points, -1, axis=0)
        spans = (np.minimum(points[:, 0], ends[:, 0]) < column) & (
            np.maximum(points[:, 0], ends[:, 0]) > column
        )
        rows = np.where(spans & (points[:, 1] < row), points[:, 1], -np.inf)
        edge = int(rows.argmax())
        if rows[edge] > nearest[2]:
            nearest = (number, edge, float(rows[edge]))
    return nearest
