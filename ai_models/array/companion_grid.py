"""One series on the grid of another: where both show the same place of the patient.

Arrays are ``(slices, rows, columns)``, affines index to mm in LPS. Where the other grid is coarser,
values are averaged over its steps first (as `ai_models.array.resample` does it), so that nothing
is left out between its samples; where it is finer they are interpolated linearly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ai_models.array.resample import Regridding, Shape, plan_regridding, to_model_grid
from ai_models.types import Affine, FloatArray

_AXES = ("S", "P", "L")
# Multiples of a rotation leave dust where an index lies on an edge.
_DUST = 1e-6


@dataclass(frozen=True)
class Placement:
    """How one grid and another lie to each other; made by `place`.

    ``plan`` takes the series to its own axes at steps no finer than those of the other grid;
    ``to_own`` maps an index of the other grid to one of the series (4x4).
    """

    plan: Regridding
    to_own: Affine
    affine: Affine
    shape: Shape

    @property
    def voxels(self) -> int:
        """Of the largest array on the way."""
        return max(math.prod(grid) for grid in (self.plan.coarse_shape, self.shape))


def place(shape: Shape, affine: Affine, on_shape: Shape, on_affine: Affine) -> Placement:
    """Lay a series of ``shape`` and ``affine`` to the grid of ``on_shape`` and ``on_affine``."""
    own = plan_regridding(shape, affine, _AXES, None)
    columns = own.coarse_affine_lps[:3, :3]
    wanted = []
    for axis in range(3):
        step = float(np.linalg.norm(columns[:, axis]))
        # How far the other grid moves along this axis of the series in one of its own steps.
        along = np.abs(columns[:, axis] / step @ on_affine[:3, :3])
        wanted.append(max(step, float(along.max())))
    plan = plan_regridding(shape, affine, _AXES, (wanted[0], wanted[1], wanted[2]))
    plan = replace(
        plan, model_shape=plan.coarse_shape, model_affine_lps=plan.coarse_affine_lps,
        model_to_coarse=None,
    )
    return Placement(plan, np.linalg.inv(affine) @ on_affine, on_affine, on_shape)


def smoothed(
    array: npt.NDArray[np.generic], placement: Placement, lowest: float | None = None
) -> FloatArray:
    """The series at steps no finer than those of the other grid, as float32.

    Raises
    ------
    ValueError
        A value is not finite.
    """
    return to_model_grid(array, placement.plan, lowest)


def sampled(
    coarse: FloatArray, placement: Placement
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """What `smoothed` made, on the other grid, and where that grid lies inside the series.

    Outside, values are those of the nearest voxel: they say nothing.
    """
    to_coarse = np.linalg.inv(placement.plan.coarse_affine_lps) @ placement.affine
    to_coarse[np.abs(to_coarse) < 1e-9] = 0.0
    matrix, offset = to_coarse[:3, :3], to_coarse[:3, 3]
    if np.count_nonzero(matrix - np.diag(np.diag(matrix))) == 0:
        return _along_axes(coarse, np.diag(matrix), offset, placement.shape), _inside(placement)
    values: FloatArray = ndimage.affine_transform(
        coarse, matrix, offset=offset, output_shape=placement.shape, order=1,
        mode="nearest", prefilter=False, output=np.float32,
    )
    return values, _inside(placement)


def _along_axes(
    coarse: FloatArray, scale: npt.NDArray[np.float64], offset: npt.NDArray[np.float64],
    shape: Shape,
) -> FloatArray:
    """The same where the axes of both grids are the same: one axis after the other, far quicker."""
    values = coarse
    for axis in range(3):
        length = values.shape[axis]
        at = np.clip(offset[axis] + scale[axis] * np.arange(shape[axis]), 0.0, length - 1.0)
        lower = np.minimum(np.floor(at).astype(int), max(length - 2, 0))
        share = (at - lower).astype(np.float32).reshape([-1 if n == axis else 1 for n in range(3)])
        near = np.take(values, lower, axis)
        far = np.take(values, np.minimum(lower + 1, length - 1), axis)
        values = near + share * (far - near)
    return values


def _inside(placement: Placement) -> npt.NDArray[np.bool_]:
    """Where the other grid lies no further outside than half a voxel of the series."""
    inside = np.ones(placement.shape, dtype=np.bool_)
    for axis, length in enumerate(placement.plan.source_shape):
        row = placement.to_own[axis]
        first, second, third = (
            row[one] * np.arange(edge) for one, edge in enumerate(placement.shape)
        )
        at = (first + row[3])[:, None, None] + second[None, :, None] + third[None, None, :]
        inside &= (at >= -0.5 - _DUST) & (at <= length - 0.5 + _DUST)
    return inside
