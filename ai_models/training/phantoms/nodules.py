"""Lung nodules of known volume, as shapes in the patient.

A nodule is star-shaped about its centre: a radius for every direction, with low bumps (lobulated)
or narrow ones (spiculated). The radius is scaled so that the volume is what was asked for; nothing
about it depends on the grid that it is painted on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from ai_models.types import Affine

FloatArray = npt.NDArray[np.float32]
Point = tuple[float, float, float]
Box = tuple[slice, slice, slice]
Kind = Literal["solid", "part_solid", "ground_glass", "spiculated", "juxta_pleural"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_SPHERE_POINTS = 4096


@dataclass(frozen=True)
class Nodule:
    """One nodule, in mm of the patient.

    Attributes
    ----------
    kind
        Solid, part-solid, ground-glass, spiculated (solid), or juxta-pleural (solid, its base cut
        by the pleura).
    centre_lps_mm
        Where it lies.
    volume_ml
        Of the whole shape; what the pleura cuts off a juxta-pleural one is taken off this.
    hu
        Of its outer part: soft tissue, or the haze of ground glass.
    solid_fraction
        Share of the volume that is a solid core: 1, 0, or between of a part-solid one.
    core_hu
        Of that core.
    bumps
        Unit vectors ``(n, 3)`` in LPS.
    heights, widths
        Of each bump: height as a share of the radius, width ``w`` of ``exp((cos(angle) - 1) / w)``.
    """

    kind: Kind
    centre_lps_mm: Point
    volume_ml: float
    hu: float
    solid_fraction: float
    core_hu: float
    bumps: tuple[Point, ...] = ()
    heights: tuple[float, ...] = ()
    widths: tuple[float, ...] = ()

    @property
    def diameter_mm(self) -> float:
        """Of the sphere of the same volume."""
        return float((6000.0 * self.volume_ml / np.pi) ** (1.0 / 3.0))

    @property
    def mean_radius_mm(self) -> float:
        """The radius that the bumps rise from: the volume is a third of its cube over the sphere.

        V = 1/3 * integral of r^3 over all directions.
        """
        cubes = float(np.mean(self._relief(_directions()) ** 3))
        return float((3000.0 * self.volume_ml / (4.0 * np.pi * cubes)) ** (1.0 / 3.0))

    @property
    def reach_mm(self) -> float:
        """The farthest that it reaches from its centre."""
        return self.mean_radius_mm * float(self._relief(_directions()).max())

    def _relief(self, directions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        relief = np.ones(directions.shape[:-1])
        for bump, height, width in zip(self.bumps, self.heights, self.widths, strict=True):
            relief += height * np.exp((directions @ np.asarray(bump) - 1.0) / width)
        return relief

    def painted(
        self, affine_lps: Affine, shape: tuple[int, int, int], samples: int = 3
    ) -> tuple[Box, FloatArray, FloatArray] | None:
        """Share of each voxel that it fills, and that its solid core fills, in a box of the grid.

        ``affine_lps`` maps index (slice, row, column) to mm; every voxel is asked at ``samples``
        places along each axis. None where it misses the grid.
        """
        box = self._box(affine_lps, shape)
        if box is None:
            return None
        fine = [
            (np.arange((side.stop - side.start) * samples) + 0.5) / samples - 0.5 + side.start
            for side in box
        ]
        index = np.stack(np.meshgrid(*fine, indexing="ij"), axis=-1)
        away = index @ affine_lps[:3, :3].T + affine_lps[:3, 3] - np.asarray(self.centre_lps_mm)
        distance = np.linalg.norm(away, axis=-1)
        near = distance < self.reach_mm
        radius = np.zeros_like(distance)
        directions = away[near] / np.maximum(distance[near], 1e-9)[:, None]
        radius[near] = self.mean_radius_mm * self._relief(directions)
        core = radius * self.solid_fraction ** (1.0 / 3.0)
        extents = tuple(side.stop - side.start for side in box)
        cells = [part for extent in extents for part in (extent, samples)]

        def share(inside: npt.NDArray[np.bool_]) -> FloatArray:
            return np.asarray(inside.reshape(cells).mean(axis=(1, 3, 5)), dtype=np.float32)

        return box, share(near & (distance < radius)), share(near & (distance < core))

    def _box(self, affine_lps: Affine, shape: tuple[int, int, int]) -> Box | None:
        to_index = np.linalg.inv(affine_lps)
        centre = to_index @ np.array([*self.centre_lps_mm, 1.0])
        # Of a ball: the rows of the inverse say how many voxels a millimetre is at most.
        reach = self.reach_mm * np.linalg.norm(to_index[:3, :3], axis=1) + 1.0
        low = np.maximum(np.floor(centre[:3] - reach), 0).astype(int)
        high = np.minimum(np.ceil(centre[:3] + reach) + 1, shape).astype(int)
        if (high <= low).any():
            return None
        return (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))


def draw_nodule(
    rng: np.random.Generator, kind: Kind, diameter_mm: float, centre_lps_mm: Point
) -> Nodule:
    """A nodule of this kind with the volume of a sphere of ``diameter_mm``."""
    count, height, width = {
        "spiculated": (int(rng.integers(10, 18)), (0.4, 1.0), (0.008, 0.02)),
    }.get(kind, (int(rng.integers(3, 7)), (0.0, 0.25), (0.1, 0.4)))
    bumps = rng.normal(0.0, 1.0, (count, 3))
    bumps /= np.linalg.norm(bumps, axis=1, keepdims=True)
    part = float(rng.uniform(0.1, 0.5))
    solid_fraction = {"ground_glass": 0.0, "part_solid": part}.get(kind, 1.0)
    solid_hu = float(rng.uniform(-20.0, 70.0))
    hazy = kind in ("ground_glass", "part_solid")
    return Nodule(
        kind, centre_lps_mm, np.pi * diameter_mm**3 / 6000.0,
        float(rng.uniform(-680.0, -480.0)) if hazy else solid_hu,
        solid_fraction, solid_hu,
        tuple((float(x), float(y), float(z)) for x, y, z in bumps),
        tuple(rng.uniform(*height, count).tolist()),
        tuple(rng.uniform(*width, count).tolist()),
    )


def _directions() -> npt.NDArray[np.float64]:
    """Points evenly over the sphere, ``(n, 3)``: a spiral with the golden angle."""
    step = np.arange(_SPHERE_POINTS) + 0.5
    z = 1.0 - 2.0 * step / _SPHERE_POINTS
    turn = np.pi * (3.0 - np.sqrt(5.0)) * step
    flat = np.sqrt(1.0 - z**2)
    return np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=-1)
