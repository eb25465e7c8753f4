"""Bones as a radiograph shows them: how much of the beam each takes away, added up.

A long bone is a tube with a hard shell, wider at its ends; a bone of the wrist or a growing end is
a rounded lump. Thickness is in mm along the beam, so that a picture follows from one law
(Lambert-Beer) whatever is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Numbers = npt.NDArray[np.float64]
Point = tuple[float, float]
# Of bone mineral and of soft tissue per mm, at some 60 kV.
_BONE, _SOFT = 0.055, 0.018


@dataclass(frozen=True)
class Mineral:
    """How dense bones are.

    Attributes
    ----------
    cortex
        Thickness of the shell as a share of the radius.
    spongy
        What the inside takes away, as a share of the shell.
    density
        Of all of it; 1 is healthy.
    """

    cortex: float = 0.42
    spongy: float = 0.28
    density: float = 1.0


class Plate:
    """What lies on the detector: mm of bone and of soft tissue, ``(rows, columns)``.

    ``spacing_mm`` is that of rows and columns; points are (down, across) in mm from the top left.
    """

    def __init__(self, shape: tuple[int, int], spacing_mm: float) -> None:
        self.shape, self.spacing_mm = shape, spacing_mm
        self.bone = np.zeros(shape)
        self.soft = np.zeros(shape)

    def _window(self, points: list[Point], reach: float) -> tuple[slice, slice]:
        sides = []
        for axis in (0, 1):
            values = [point[axis] for point in points]
            low = int(np.floor((min(values) - reach) / self.spacing_mm))
            high = int(np.ceil((max(values) + reach) / self.spacing_mm)) + 1
            sides.append(slice(max(low, 0), min(max(high, 0), self.shape[axis])))
        return sides[0], sides[1]

    def _grid(self, window: tuple[slice, slice]) -> tuple[Numbers, Numbers]:
        down, across = (
            (np.arange(side.start, side.stop) + 0.5) * self.spacing_mm for side in window
        )
        return down[:, None], across[None, :]

    def tube(self, start: Point, stop: Point, radius: float, mineral: Mineral,
             waist: float = 0.3) -> None:
        """A long bone from end to end; its middle is thinner by ``waist``."""
        window = self._window([start, stop], radius * 1.2)
        along, away = self._along(window, start, stop)
        width = radius * (1.0 - waist * np.clip(4.0 * along * (1.0 - along), 0.0, 1.0))
        inside = ((along >= 0.0) & (along <= 1.0)).astype(float)
        whole = _chord(width, away)
        hollow = _chord(width * (1.0 - mineral.cortex), away)
        self.bone[window] += inside * mineral.density * (
            whole - (1.0 - mineral.spongy) * hollow)

    def lump(self, middle: Point, half: Point, angle: float, mineral: Mineral) -> None:
        """A rounded bone with half axes ``half`` mm, the first turned by ``angle`` from down."""
        window = self._window([middle], max(half) * 1.1)
        down, across = self._grid(window)
        y, x = down - middle[0], across - middle[1]
        first = y * np.cos(angle) + x * np.sin(angle)
        second = -y * np.sin(angle) + x * np.cos(angle)
        depth = min(half)
        for scale, share in ((1.0, 1.0), (1.0 - 0.5 * mineral.cortex, -(1.0 - mineral.spongy))):
            reach = (first / (half[0] * scale)) ** 2 + (second / (half[1] * scale)) ** 2
            thick = 2.0 * depth * scale * np.sqrt(np.clip(1.0 - reach, 0.0, None))
            self.bone[window] += share * mineral.density * thick

    def flesh(self, start: Point, stop: Point, radius: float, depth: float | None = None) -> None:
        """Soft tissue about a line; where two overlap the thicker counts."""
        window = self._window([start, stop], radius)
        along, _ = self._along(window, start, stop)
        down, across = self._grid(window)
        held = np.clip(along, 0.0, 1.0)
        y = down - (start[0] + held * (stop[0] - start[0]))
        x = across - (start[1] + held * (stop[1] - start[1]))
        thick = _chord(np.full_like(y, radius), np.hypot(y, x)) * (depth or radius) / radius
        self.soft[window] = np.maximum(self.soft[window], thick)

    def _along(self, window: tuple[slice, slice], start: Point, stop: Point
               ) -> tuple[Numbers, Numbers]:
        """Share of the way from start to stop, and the distance from that line in mm."""
        down, across = self._grid(window)
        y, x = stop[0] - start[0], stop[1] - start[1]
        length = max(float(np.hypot(y, x)), 1e-6)
        along = ((down - start[0]) * y + (across - start[1]) * x) / length**2
        away = np.abs((down - start[0]) * x - (across - start[1]) * y) / length
        return along, away


def _chord(radius: Numbers, away: Numbers) -> Numbers:
    """How thick a round body is at a distance from its middle."""
    return np.asarray(2.0 * np.sqrt(np.clip(radius**2 - away**2, 0.0, None)))


@dataclass(frozen=True)
class XrayUnit:
    """An invented X-ray unit: how it shows what lies on its detector.

    Attributes
    ----------
    blur_mm, noise
        Standard deviations: of the focus and the detector, and of the noise at full exposure.
    gain, gamma
        Of the picture: how bright it is, and how steep.
    scatter
        Share of the beam that arrives everywhere.
    """

    name: str
    manufacturer: str
    model: str
    blur_mm: float = 0.4
    noise: float = 0.01
    gain: float = 1.0
    gamma: float = 1.0
    scatter: float = 0.1


XRAY_UNITS = (
    XrayUnit("sharp", "Phantom Works", "Ray 1", 0.3, 0.012, 1.0, 1.0, 0.05),
    XrayUnit("soft", "Phantom Works", "Ray 2", 0.8, 0.006, 1.1, 0.85, 0.15),
    XrayUnit("old plate", "Example Imaging", "Plate", 0.7, 0.025, 0.9, 1.2, 0.2),
)
"""Three that held-back phantoms are seen by."""


def random_unit(rng: np.random.Generator) -> XrayUnit:
    """Any unit, for training."""
    return XrayUnit(
        "training", "Phantom Works", "Any", float(rng.uniform(0.25, 0.9)),
        float(rng.uniform(0.004, 0.03)), float(rng.uniform(0.85, 1.15)),
        float(rng.uniform(0.8, 1.25)), float(rng.uniform(0.03, 0.22)),
    )


def exposed(plate: Plate, unit: XrayUnit, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """The picture ``(rows, columns)``, 0 to 1, white where much is taken away."""
    weakened = _SOFT * plate.soft + _BONE * plate.bone
    beam = (1.0 - unit.scatter) * np.exp(-weakened) + unit.scatter * 0.35
    beam = ndimage.gaussian_filter(beam, unit.blur_mm / plate.spacing_mm)
    grain = rng.standard_normal(beam.shape) * unit.noise * np.sqrt(np.clip(beam, 0.01, None))
    shown = -np.log(np.clip(beam + grain, 0.02, 1.5)) / 1.5
    return np.asarray(
        np.clip(unit.gain * np.clip(shown, 0.0, 1.0) ** unit.gamma, 0.0, 1.0), dtype=np.float32
    )
