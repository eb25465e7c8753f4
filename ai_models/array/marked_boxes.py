"""The voxels of a box that lies anyhow in the patient, or of the ellipsoid that just fits in it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from ai_models.array.labels import BoolArray
from ai_models.types import Affine

BoxMask = Literal["ellipsoid", "box"]
Index = tuple[int, int, int]
# Edges in voxels below which a shape is widened: then what is thinner than a slice, and lies
# between two, is seen on both as an ellipsoid, and as a box on the one that is nearer.
_THINNEST = {"ellipsoid": 1.5, "box": 1.0}


def centre_voxel(box_lps: Affine, affine_lps: Affine) -> Index:
    """Index (slice, row, column) of the voxel in which the centre of a box lies.

    ``box_lps`` maps the unit cube to mm (`ai_models.types.Detection`), ``affine_lps`` the index to
    mm, both in LPS. The index need not be on any grid.
    """
    centre = np.linalg.solve(affine_lps, box_lps @ np.array([0.5, 0.5, 0.5, 1.0]))
    slice_index, row, column = (int(value) for value in np.rint(centre[:3]))
    return slice_index, row, column


def marked_box(
    box_lps: Affine, affine_lps: Affine, shape: tuple[int, ...], mask: BoxMask
) -> tuple[tuple[slice, slice, slice], BoolArray] | None:
    """The part of a grid around a box, and which of its voxels the box or ellipsoid marks.

    A voxel is marked when its centre lies inside. What is smaller than a voxel is widened to one,
    and the voxel at the centre is always marked. Parts beyond the grid are left out.

    Returns
    -------
    tuple or None
        Slices of the grid and a mask of that part; ``None`` where the centre is not on the grid.
    """
    at_centre = centre_voxel(box_lps, affine_lps)
    if any(not 0 <= at < size for at, size in zip(at_centre, shape, strict=True)):
        return None
    in_voxels = np.linalg.solve(affine_lps, box_lps)
    centre = (in_voxels @ np.array([0.5, 0.5, 0.5, 1.0]))[:3]
    edges = _widened(np.asarray(in_voxels[:3, :3], np.float64), _THINNEST[mask])
    reach = 0.5 * (
        np.linalg.norm(edges, axis=1) if mask == "ellipsoid" else np.abs(edges).sum(axis=1)
    )
    first = np.clip(np.ceil(centre - reach), 0, at_centre).astype(int)
    last = np.clip(np.floor(centre + reach), at_centre, np.asarray(shape) - 1).astype(int)
    place = tuple(slice(int(low), int(high) + 1) for low, high in zip(first, last, strict=True))
    marked = np.zeros(tuple(last - first + 1), bool)
    to_unit = np.linalg.inv(edges)
    rows = np.arange(first[1], last[1] + 1) - centre[1]
    columns = np.arange(first[2], last[2] + 1) - centre[2]
    for number, plane in enumerate(marked):
        along = first[0] + number - centre[0]
        unit = (
            to_unit[:, 0, None, None] * along
            + to_unit[:, 1, None, None] * rows[:, None]
            + to_unit[:, 2, None, None] * columns
        )
        if mask == "ellipsoid":
            plane[:] = (unit**2).sum(axis=0) <= 0.25 + 1e-9
        else:
            plane[:] = np.abs(unit).max(axis=0) <= 0.5 + 1e-9
    marked[tuple(np.asarray(at_centre) - first)] = True
    return (place[0], place[1], place[2]), marked


def _widened(edges: npt.NDArray[np.float64], least: float) -> npt.NDArray[np.float64]:
    """``edges`` (a column each, in voxels) with every principal width at least ``least``."""
    turned, widths, back = np.linalg.svd(edges)
    widened: npt.NDArray[np.float64] = (turned * np.maximum(widths, least)) @ back
    return widened
