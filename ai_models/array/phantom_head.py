"""A head with eight different balls at the corners of its brain, drawn on any grid.

No turn or mirror maps it to itself, its edges are soft, and every grid shows the same head: what
is wrong about a grid is seen in where the balls are found again. No patient is in it.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from ai_models.types import Affine, Volume

CENTRE_MM = np.array([11.0, -140.0, 820.0])
HALF_AXES_MM = np.array([72.0, 92.0, 82.0])
"""Of the skin, to Left, Posterior and Superior."""
_EDGE_MM = 3.0
# The brain lies to one side of its skull, which is thicker on the others.
_SKULL = (0.95, 0.81)
_BRAIN_MM = (-5.0, 6.0, -6.0)
# Eight corners, each pulled in by another amount: directions to Left, Posterior and Superior.
_PULLS = (
    (0, 0, 0), (6, 0, 0), (0, 5, 0), (0, 0, 8), (9, 4, 0), (0, 9, 4), (5, 0, 10), (6, 6, 6),
)
_CORNER_MM = (23.0, 29.0, 27.0)
_RADII_MM = (9.0, 11.5, 10.0, 11.0, 9.5, 12.0, 10.5, 12.5)
_LARGEST_POINTS = 1 << 21
# Air, skin, skull, brain, ventricle, and the balls from the first to the last.
_VALUES = {
    "HU": (-1000.0, 40.0, 700.0, 35.0, 5.0, (150.0, 900.0)),
    "arbitrary": (0.0, 300.0, 60.0, 500.0, 150.0, (600.0, 1000.0)),
    "SUVbw": (0.0, 0.6, 0.4, 5.0, 1.0, (7.0, 15.0)),
}
FloatArray = npt.NDArray[np.float32]


def head_phantom(
    shape: tuple[int, int, int], affine_lps: Affine, unit: str = "HU", size: float = 1.0
) -> Volume:
    """The head on a grid of ``shape`` (slices, rows, columns); ``size`` scales it.

    ``unit`` is ``HU``, ``arbitrary`` for what looks like MR: skull dark, brain bright, or ``SUVbw``
    for a PET of the brain. int16, of a PET float32. Its middle lies at `CENTRE_MM` (LPS).
    """
    is_whole = unit != "SUVbw"
    array = np.empty(shape, dtype=np.int16 if is_whole else np.float32)
    slab = max(1, _LARGEST_POINTS // (shape[1] * shape[2]))
    for start in range(0, shape[0], slab):
        stop = min(start + slab, shape[0])
        index = np.stack(
            np.meshgrid(np.arange(start, stop), *map(np.arange, shape[1:]), indexing="ij"), axis=-1
        )
        points = index @ affine_lps[:3, :3].T + (affine_lps[:3, 3] - CENTRE_MM)
        values = _values_at((points / size).astype(np.float32), unit)
        array[start:stop] = np.rint(values) if is_whole else values
    return Volume(array, np.asarray(affine_lps, dtype=np.float64), unit)


def _values_at(points: FloatArray, unit: str) -> FloatArray:
    air, skin, skull, brain, ventricle, (low, high) = _VALUES[unit]
    reach = np.linalg.norm(points / HALF_AXES_MM.astype(np.float32), axis=-1)
    across = float(HALF_AXES_MM.mean())
    values = np.full(points.shape[:-1], air, dtype=np.float32)
    _blend(values, (1.0 - reach) * across, skin)
    _blend(values, (_SKULL[0] - reach) * across, skull)
    # From here on from the middle of the brain.
    points = points - np.array(_BRAIN_MM, dtype=np.float32)
    reach = np.linalg.norm(points / HALF_AXES_MM.astype(np.float32), axis=-1)
    _blend(values, (_SKULL[1] - reach) * across, brain)
    horn = points - np.array([7.0, 8.0, 4.0], dtype=np.float32)
    horn /= np.array([9.0, 22.0, 12.0], dtype=np.float32)
    _blend(values, (1 - np.linalg.norm(horn, axis=-1)) * 14, ventricle)
    corners = itertools.product((-1.0, 1.0), repeat=3)
    for number, (corner, pull, radius) in enumerate(zip(corners, _PULLS, _RADII_MM, strict=True)):
        centre = np.array(corner) * (np.array(_CORNER_MM) - np.array(pull))
        distance = np.linalg.norm(points - centre.astype(np.float32), axis=-1)
        _blend(values, radius - distance, low + (high - low) * number / (len(_PULLS) - 1))
    return values


def _blend(values: FloatArray, depth_mm: FloatArray, inside: float) -> None:
    """Mix ``inside`` in where ``depth_mm`` under a surface is positive, softly at the surface."""
    share = np.clip(depth_mm / _EDGE_MM + 0.5, 0.0, 1.0)
    values += share * (inside - values)
