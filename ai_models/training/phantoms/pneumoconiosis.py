"""Drawn chest radiographs, PA, of dust lungs: small rounded opacities in graded profusion.

Profusion is graded as the ILO does (International Classification of Radiographs of
Pneumoconioses, 2011): category 0 to 3, and sizes ``q`` (1.5 to 3 mm) and ``r`` (3 to 10 mm); how
many opacities a category has is invented, and ``p`` is left out, which the raster does not show.
Ribs, vessels and how a picture is exposed differ from chest to chest as well.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ai_models.training.phantoms.bones import Mineral, Plate, Point, XrayUnit, exposed

Numbers = npt.NDArray[np.floating[Any]]
SIZE_MM = (400.0, 360.0)
"""Height and width of what is shown."""
SPACING_MM = 1.25
RIGHT_LUNG, LEFT_LUNG = 1, 2
"""Values of the outlines. The patient's right lung lies at the left of the picture."""
CATEGORIES = (0, 1, 2, 3)
# Opacities of both lungs together, fewest and most.
_COUNTS = {0: (0, 6), 1: (90, 200), 2: (250, 500), 3: (650, 1200)}
_DIAMETERS_MM = {"q": (1.5, 3.0), "r": (3.0, 8.0)}
# Of the beam of 120 kV soft tissue takes less away than of the one that bones are drawn for.
_HARD_BEAM = 0.42
# Silicotic nodules are denser than flesh.
_NODULE_DENSITY = 3.0
_VESSEL = Mineral(1.0, 1.0, 0.16)
_RIB = Mineral(0.3, 0.3, 0.16)


@dataclass(frozen=True)
class ChestVariation:
    """Whose chest it is, and what dust left in it.

    Attributes
    ----------
    category
        Profusion, 0 to 3: from 1 on it is pneumoconiosis.
    kind
        Size of the opacities: ``q`` or ``r``.
    size, shift_mm
        Of the chest; where it lies, down and across.
    breath
        How deep the diaphragms stand; 1 is the middle.
    heart, flesh
        Size of the heart, thickness of the body; 1 is the middle.
    """

    category: int
    kind: Literal["q", "r"] = "r"
    size: float = 1.0
    shift_mm: Point = (0.0, 0.0)
    breath: float = 1.0
    heart: float = 1.0
    flesh: float = 1.0

    @property
    def is_sick(self) -> bool:
        """The truth: category 1 and above."""
        return self.category > 0


@dataclass(frozen=True)
class DrawnChest:
    """A picture and what is true of it.

    Attributes
    ----------
    displayed
        ``(rows, columns)``, 0 to 1, white high.
    lungs
        The same shape: 0, `RIGHT_LUNG`, `LEFT_LUNG`; without what heart and diaphragms hide.
    opacities
        The same shape: mm of opacities along the beam.
    """

    displayed: npt.NDArray[np.float32]
    lungs: npt.NDArray[np.uint8]
    opacities: npt.NDArray[np.float32]


def random_chest(rng: np.random.Generator, category: int) -> ChestVariation:
    """Any chest with opacities of this category."""
    return ChestVariation(
        category, "q" if rng.random() < 0.35 else "r", float(rng.uniform(0.85, 1.12)),
        (float(rng.uniform(-15.0, 15.0)), float(rng.uniform(-12.0, 12.0))),
        float(rng.uniform(0.85, 1.1)), float(rng.uniform(0.85, 1.25)),
        float(rng.uniform(0.85, 1.25)),
    )


def chest_radiograph(
    seed: int, variation: ChestVariation, unit: XrayUnit, spacing_mm: float = SPACING_MM
) -> DrawnChest:
    """The picture of a chest, of `SIZE_MM`; the same seed gives the same one."""
    rng = np.random.default_rng((seed, 31))
    plate = Plate(
        (round(SIZE_MM[0] / spacing_mm), round(SIZE_MM[1] / spacing_mm)), spacing_mm
    )
    body = _Body(plate, variation)
    lungs, air = body.lungs()
    plate.soft += body.flesh()
    # Below a blurred edge there is no step that nothing in a chest makes.
    plate.soft -= ndimage.gaussian_filter(air, 2.0 / spacing_mm)
    plate.soft = np.clip(plate.soft, 4.0, None)
    body.bones(rng)
    body.vessels(rng)
    opacities = _opacities(lungs, variation, spacing_mm, rng)
    plate.soft += _NODULE_DENSITY * opacities
    plate.soft *= _HARD_BEAM
    return DrawnChest(exposed(plate, unit, rng), lungs, opacities.astype(np.float32))


class _Body:
    """Where things lie in one chest, in mm of the plate."""

    def __init__(self, plate: Plate, variation: ChestVariation) -> None:
        self.plate, self.one = plate, variation
        rows, columns = plate.shape
        self.down: Numbers = ((np.arange(rows) + 0.5) * plate.spacing_mm)[:, None]
        self.across: Numbers = ((np.arange(columns) + 0.5) * plate.spacing_mm)[None, :]
        self.middle = 180.0 + variation.shift_mm[1]
        self.top = 45.0 + variation.shift_mm[0]

    def at(self, down: float, across: float) -> Point:
        """A point from the top of the lungs and the middle line, of a chest of middle size."""
        return self.top + down * self.one.size, self.middle + across * self.one.size

    def lungs(self) -> tuple[npt.NDArray[np.uint8], Numbers]:
        """Outlines, and mm of air along the beam."""
        size = self.one.size
        outline = np.zeros(self.plate.shape, dtype=np.uint8)
        air = np.zeros(self.plate.shape)
        heart = self._heart() > 0.0
        for value, side in ((RIGHT_LUNG, -1.0), (LEFT_LUNG, 1.0)):
            middle = self.middle + side * 72.0 * size
            part = np.clip((self.down - self.top) / (150.0 * size), 0.0, 1.0)
            half = 58.0 * size * np.sqrt(1.0 - (1.0 - part) ** 2)
            aside = np.abs(self.across - middle) / np.maximum(half, 1e-6)
            base = self.top + (250.0 * self.one.breath + (8.0 if side > 0 else 0.0)) * size
            dome = base - 38.0 * size * (
                1.0 - np.clip((self.across - middle + side * 12.0) / (70.0 * size), -1.2, 1.2) ** 2
            )
            inside = (aside < 1.0) & (self.down > self.top) & (self.down < dome)
            inside &= np.abs(self.across - self.middle) > 22.0 * size
            deep = 85.0 * size * np.sqrt(np.clip(1.0 - aside**2, 0.0, None))
            air += np.where(inside & ~heart, deep, np.where(inside, 0.35 * deep, 0.0))
            outline[inside & ~heart] = value
        return outline, air

    def _heart(self) -> Numbers:
        down, across = self.at(185.0, 22.0)
        half = (62.0 * self.one.size * self.one.heart, 58.0 * self.one.size * self.one.heart)
        reach = ((self.down - down) / half[0]) ** 2 + ((self.across - across) / half[1]) ** 2
        return np.asarray(np.sqrt(np.clip(1.0 - reach, 0.0, None)))

    def flesh(self) -> Numbers:
        """Mm of soft tissue, with the air still in it."""
        size, thick = self.one.size, 150.0 * self.one.flesh
        wide = np.clip((self.down + 60.0) / 140.0, 0.25, 1.0) * 172.0 * size
        aside = np.clip(np.abs(self.across - self.middle) / wide, 0.0, 1.0)
        spine = np.exp(-(((self.across - self.middle) / (20.0 * size)) ** 2))
        return np.asarray(
            thick * (1.0 - aside**4) + 30.0 * spine + 25.0 * self._heart()
        )

    def bones(self, rng: np.random.Generator) -> None:
        """Spine, ribs from behind and in front, collar bones."""
        for number in range(14):
            middle = self.at(-30.0 + 24.0 * number, 0.0)
            self.plate.lump(middle, (10.0 * self.one.size, 17.0 * self.one.size), 0.0, _RIB)
        for side in (-1.0, 1.0):
            for number in range(10):
                drop = 14.0 + 4.0 * number + float(rng.normal(0.0, 1.5))
                wide = 66.0 + 54.0 * min(number, 5) / 5.0
                start = -22.0 + 25.0 * number + float(rng.normal(0.0, 1.0))
                bent = [
                    self.at(start + drop * share**1.6, side * (16.0 + wide * share))
                    for share in np.linspace(0.0, 1.0, 7)
                ]
                for first, second in itertools.pairwise(bent):
                    self.plate.tube(first, second, 5.2 * self.one.size, _RIB, waist=0.0)
            self.plate.tube(self.at(8.0, side * 14.0), self.at(-12.0, side * 120.0),
                            5.5 * self.one.size, _RIB, waist=0.2)

    def vessels(self, rng: np.random.Generator) -> None:
        """From both hila outwards, thinner and thinner."""
        for side in (-1.0, 1.0):
            hilum = (105.0, side * 32.0)
            for _ in range(int(rng.integers(11, 17))):
                angle = float(rng.uniform(-1.35, 1.35))
                self._branch(rng, hilum, angle, side, 3.2, 4)

    def _branch(
        self, rng: np.random.Generator, start: Point, angle: float, side: float, radius: float,
        left: int,
    ) -> None:
        length = float(rng.uniform(14.0, 26.0))
        stop = (start[0] + length * np.sin(angle), start[1] + side * length * np.cos(angle))
        self.plate.tube(self.at(*start), self.at(*stop), radius * self.one.size, _VESSEL, waist=0.0)
        if left > 1:
            for turn in (-0.35, 0.3)[: 1 + int(rng.random() < 0.55)]:
                self._branch(rng, stop, angle + turn + float(rng.normal(0.0, 0.2)), side,
                             radius * 0.68, left - 1)


def _opacities(
    lungs: npt.NDArray[np.uint8], variation: ChestVariation, spacing_mm: float,
    rng: np.random.Generator,
) -> Numbers:
    """Mm of opacities along the beam; more of them in the upper zones."""
    thick = np.zeros(lungs.shape)
    fewest, most = _COUNTS[variation.category]
    count = int(rng.integers(fewest, most + 1))
    rows, columns = np.nonzero(lungs)
    if count == 0 or not len(rows):
        return thick
    height = (rows - rows.min()) / max(int(np.ptp(rows)), 1)
    likely = 1.4 - height
    chosen = rng.choice(len(rows), count, p=likely / likely.sum())
    low, high = _DIAMETERS_MM[variation.kind]
    sizes = rng.integers(0, 4, count)
    for size in range(4):
        diameter = low + (high - low) * (size + 0.5) / 4.0
        points = np.zeros(lungs.shape)
        np.add.at(points, (rows[chosen[sizes == size]], columns[chosen[sizes == size]]), 1.0)
        # Of a ball the mean chord times its shadow is its volume, whatever the raster.
        volume = np.pi * diameter**3 / 6.0 / spacing_mm**2
        thick += ndimage.gaussian_filter(points, diameter / 3.6 / spacing_mm) * volume
    return thick
