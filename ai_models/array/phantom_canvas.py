"""A volume to paint simple solids into, in millimetres of the patient, box by box."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Point = tuple[float, float, float]


class Canvas:
    """HU volume ``(slices, rows, columns)`` whose axes run to superior, posterior and left.

    Coordinates are millimetres ``(x, y, z)`` in LPS about the middle of the chest; ``x``, ``y``
    and ``z`` broadcast to the shape of ``hu``.
    """

    def __init__(
        self, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], centre_mm: Point
    ) -> None:
        self.spacing_mm = spacing_mm
        axes = [
            (np.arange(n, dtype=np.float32) - (n - 1) / 2.0) * s + c
            for n, s, c in zip(shape, spacing_mm, centre_mm[::-1], strict=True)
        ]
        self.z = axes[0].astype(np.float32)[:, None, None]
        self.y = axes[1].astype(np.float32)[None, :, None]
        self.x = axes[2].astype(np.float32)[None, None, :]
        self.hu: FloatArray = np.full(shape, -1000.0, dtype=np.float32)

    def box(self, low: Point, high: Point) -> tuple[slice, slice, slice] | None:
        """Index box of the millimetre box; None where it misses the volume."""
        slices = []
        for axis, first, last in zip((self.z, self.y, self.x), low[::-1], high[::-1], strict=True):
            values = axis.ravel()
            start, stop = np.searchsorted(values, [first, last], side="left")
            if stop <= start:
                return None
            slices.append(slice(int(start), int(stop)))
        return (slices[0], slices[1], slices[2])

    def ellipsoid(self, centre: Point, radii: Point) -> tuple[tuple[slice, ...], BoolArray] | None:
        """Index box and mask in it of the ellipsoid; None where it misses the volume."""
        low = (centre[0] - radii[0], centre[1] - radii[1], centre[2] - radii[2])
        high = (centre[0] + radii[0], centre[1] + radii[1], centre[2] + radii[2])
        box = self.box(low, high)
        if box is None:
            return None
        distance = (
            ((self.z[box[0]] - centre[2]) / radii[2]) ** 2
            + ((self.y[:, box[1]] - centre[1]) / radii[1]) ** 2
            + ((self.x[:, :, box[2]] - centre[0]) / radii[0]) ** 2
        )
        return box, distance < 1.0

    def capsule_distance(
        self, start: Point, end: Point, radius: float
    ) -> tuple[tuple[slice, ...], FloatArray] | None:
        """Index box and distance in mm to the segment in it; None where it misses the volume."""
        low = tuple(min(a, b) - radius for a, b in zip(start, end, strict=True))
        high = tuple(max(a, b) + radius for a, b in zip(start, end, strict=True))
        box = self.box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
        if box is None:
            return None
        along = np.subtract(end, start).astype(np.float32)
        length2 = max(float(along @ along), 1e-6)
        dx = self.x[:, :, box[2]] - start[0]
        dy = self.y[:, box[1]] - start[1]
        dz = self.z[box[0]] - start[2]
        t = np.clip((dx * along[0] + dy * along[1] + dz * along[2]) / length2, 0.0, 1.0)
        distance = np.sqrt(
            (dx - t * along[0]) ** 2 + (dy - t * along[1]) ** 2 + (dz - t * along[2]) ** 2
        )
        return box, distance.astype(np.float32)

    def paint_ellipsoid(
        self, centre: Point, radii: Point, hu: float, within: BoolArray | None = None
    ) -> None:
        """Set an ellipsoid to ``hu``, only where ``within`` (same shape as ``hu``) holds."""
        found = self.ellipsoid(centre, radii)
        if found is not None:
            box, mask = found
            self.hu[box][mask if within is None else mask & within[box]] = hu

    def paint_capsule(
        self, start: Point, end: Point, radius: float, hu: float, within: BoolArray | None = None
    ) -> None:
        """Set a capsule to ``hu``; thin ones mix with what is there by their share of a voxel."""
        blur = float(np.mean(self.spacing_mm)) / 2.0
        found = self.capsule_distance(start, end, radius + blur)
        if found is None:
            return
        box, distance = found
        share = np.clip((radius - distance) / (2.0 * blur) + 0.5, 0.0, 1.0)
        share *= min(1.0, (radius / blur) ** 2)
        if within is not None:
            share = share * within[box]
        self.hu[box] += share * (hu - self.hu[box])
