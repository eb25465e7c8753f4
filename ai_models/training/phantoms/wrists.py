"""Drawn radiographs of a grown left wrist, with bones that are dense or lack mineral.

In bones that lack mineral the shell is thinner and the inside clearer, and of its beams only the
thick ones are left (Singh et al., J Bone Joint Surg Am 1970;52:457, of the hip). How a picture is
exposed varies as much as this does, so that brightness alone says little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ai_models.training.phantoms.bones import Mineral, Plate, XrayUnit, exposed

FloatArray = npt.NDArray[np.float32]
SIZE_MM = (128.0, 96.0)
"""Height and width of what is shown."""
LIMIT = -1.0
"""A deviation below this is low density: the limit of osteopenia (WHO Technical Report 843, 1994),
which is one of a measured density; here it is what the bones are drawn by."""
# As in the hand: down, across (to the thumb), half axes; from the base of the third metacarpal.
_CARPALS = (
    ((9.0, 0.0), (10.0, 6.5)), ((9.0, -12.0), (9.0, 7.0)), ((19.0, -15.0), (6.5, 6.0)),
    ((21.0, -3.0), (6.5, 7.0)), ((6.5, 21.0), (6.5, 6.5)), ((5.5, 11.5), (5.5, 5.0)),
    ((17.0, 12.0), (9.5, 5.5)), ((18.0, -19.0), (4.0, 4.0)),
)
_METACARPALS = ((24.0, 40.0, 5.5), (13.0, 10.0, 5.2), (1.0, 1.0, 5.4), (-9.0, -8.0, 4.8),
                (-18.0, -16.0, 4.6))  # fmt: skip


@dataclass(frozen=True)
class WristVariation:
    """Whose wrist it is and how it lies.

    Attributes
    ----------
    deviation
        Of the mineral from that of young grown-ups, in standard deviations: below `LIMIT` it is
        called low.
    size, turn_degrees, shift_mm
        Of this wrist; how it lies; down and across.
    flesh
        Thickness of soft tissue; 1 is the middle.
    """

    deviation: float
    size: float = 1.0
    turn_degrees: float = 0.0
    shift_mm: tuple[float, float] = (0.0, 0.0)
    flesh: float = 1.0

    @property
    def is_low(self) -> bool:
        """The truth."""
        return self.deviation < LIMIT


def random_wrist(rng: np.random.Generator, *, low: bool) -> WristVariation:
    """Any wrist of one kind; half a deviation about the limit is left out, which nobody could tell.
    """
    deviation = LIMIT - 0.25 - float(rng.gamma(2.0, 0.6)) if low else (
        LIMIT + 0.25 + float(rng.gamma(2.0, 0.6)))
    return WristVariation(
        float(np.clip(deviation, -4.0, 2.5)), float(rng.uniform(0.88, 1.12)),
        float(rng.uniform(-8.0, 8.0)), (float(rng.uniform(-4, 4)), float(rng.uniform(-4, 4))),
        float(rng.uniform(0.8, 1.3)),
    )


def wrist_radiograph(
    seed: int, variation: WristVariation, unit: XrayUnit, spacing_mm: float = 0.75
) -> FloatArray:
    """The picture ``(rows, columns)``, 0 to 1, white high, of `SIZE_MM`."""
    rng = np.random.default_rng(seed)
    plate = Plate(
        (round(SIZE_MM[0] / spacing_mm), round(SIZE_MM[1] / spacing_mm)), spacing_mm
    )
    lack = float(np.clip(-variation.deviation, -2.5, 4.0))
    mineral = Mineral(
        cortex=float(np.clip(0.36 - 0.055 * lack, 0.1, 0.5)),
        spongy=float(np.clip(0.30 - 0.045 * lack, 0.08, 0.42)),
        density=float(np.clip(1.0 - 0.05 * lack + rng.normal(0.0, 0.05), 0.6, 1.2)),
    )
    turn = np.deg2rad(variation.turn_degrees)

    def at(down: float, across: float) -> tuple[float, float]:
        y, x = down * variation.size, across * variation.size
        return (
            52.0 + variation.shift_mm[0] + y * np.cos(turn) - x * np.sin(turn),
            47.0 + variation.shift_mm[1] + y * np.sin(turn) + x * np.cos(turn),
        )

    size = variation.size
    plate.flesh(at(-70.0, 2.0), at(5.0, 0.0), 36.0 * size, 17.0 * size * variation.flesh)
    plate.flesh(at(5.0, -3.0), at(150.0, -4.0), 29.0 * size, 20.0 * size * variation.flesh)
    for across, degrees, radius in _METACARPALS:
        angle = np.deg2rad(degrees)
        far = (-60.0 * np.cos(angle), across + 60.0 * np.sin(angle))
        plate.tube(at(0.0, across), at(*far), radius * size, mineral)
        plate.lump(at(0.0, across), (3.5 * size, radius * size), -angle, mineral)
    for (down, across), (high, wide) in _CARPALS:
        part = size * float(rng.normal(1.0, 0.04))
        plate.lump(at(down + 3.0, across), (high * part, wide * part),
                   float(rng.normal(0.0, 0.15)), mineral)
    for across, radius, top in ((6.0, 13.0, 32.0), (-17.0, 7.5, 35.0)):
        plate.tube(at(top, across), at(150.0, across * 0.85), radius * size, mineral, waist=0.45)
        plate.lump(at(top + 3.0, across), (5.0 * size, radius * size), 0.0, mineral)
    plate.bone *= _beams(plate.shape, spacing_mm, lack, rng)
    return exposed(plate, unit, rng)


def _beams(
    shape: tuple[int, int], spacing_mm: float, lack: float, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """The fine beams inside of bones: fewer and coarser where mineral lacks."""
    coarse = 0.5 + 0.12 * max(lack, 0.0)
    grain = ndimage.gaussian_filter(
        rng.standard_normal(shape), (1.6 * coarse / spacing_mm, 0.7 * coarse / spacing_mm)
    )
    grain /= max(float(grain.std()), 1e-9)
    return np.asarray(1.0 + (0.06 + 0.02 * max(lack, 0.0)) * np.clip(grain, -2.5, 2.5))
