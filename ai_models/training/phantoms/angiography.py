"""Chests with contrast medium in the pulmonary arteries, and clots in them of known place.

The tree is made of capsules from the pulmonary trunk to subsegmental arteries. A clot is a filling
defect: what is darker than the blood around it, or fills an artery. Lymph nodes beside the hila
and branches that the contrast medium has not reached are no clots and look like some.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ai_models.array.phantom import chest_phantom
from ai_models.array.phantom_canvas import BoolArray, Canvas, Point
from ai_models.training.phantoms.scanners import SCANNERS, Scanner, seen_by
from ai_models.types import Affine

LabelMap = npt.NDArray[np.uint8]
MAIN, LOBAR, SEGMENTAL, SUBSEGMENTAL = range(4)
LEVELS = ("main", "lobar", "segmental", "subsegmental")
CLOT_HU = (30.0, 85.0)
# A slice shows a clot where at least so much of it is cut.
LEAST_AREA_MM2 = 20.0


@dataclass(frozen=True)
class Artery:
    """One straight piece of the tree, in mm (LPS, origin in the middle of the chest)."""

    start: Point
    end: Point
    radius_mm: float
    level: int


@dataclass(frozen=True)
class AngiographyVariation:
    """What may differ between phantoms.

    Attributes
    ----------
    clots
        How many; 0 for a chest without embolism.
    level
        Most central level of arteries that they lie in: 0 main, 1 lobar, 2 segmental.
    artery_hu, vein_hu
        Opacified blood of the lungs' arteries; what contrast medium adds to other blood.
    lymph_nodes
        Beside the hila: as dark as clots, and not in an artery.
    consolidations, effusion, size, fat_mm
        As `ai_models.array.phantom.ChestVariation`.
    """

    clots: int = 2
    level: int = MAIN
    artery_hu: float = 350.0
    vein_hu: float = 180.0
    lymph_nodes: int = 1
    consolidations: int = 0
    effusion: bool = False
    size: float = 1.0
    fat_mm: float = 14.0


@dataclass(frozen=True)
class AngiographyPhantom:
    """A CT angiography and its truth.

    Attributes
    ----------
    volume_hu
        int16 ``(slices, rows, columns)``.
    clots, arteries
        uint8 masks, same shape: 1 where there is one.
    affine_lps
        4x4 float64, index (slice, row, column) to mm in LPS.
    levels
        Where the clots lie: numbers of `LEVELS`.
    """

    volume_hu: npt.NDArray[np.int16]
    clots: LabelMap
    arteries: LabelMap
    affine_lps: Affine
    levels: tuple[int, ...] = ()

    @property
    def slices_with_clot(self) -> BoolArray:
        """``(slices,)``: where at least `LEAST_AREA_MM2` of clot is cut."""
        steps = np.linalg.norm(self.affine_lps[:3, 1:3], axis=0)
        area = self.clots.sum(axis=(1, 2)) * float(steps[0] * steps[1])
        return np.asarray(area >= LEAST_AREA_MM2)


def angiography_phantom(
    seed: int,
    shape: tuple[int, int, int] = (72, 192, 192),
    spacing_mm: tuple[float, float, float] = (4.0, 1.8, 1.8),
    variation: AngiographyVariation | None = None,
    scanner: Scanner = SCANNERS[0],
) -> AngiographyPhantom:
    """Draw a CT angiography from ``seed`` as ``scanner`` sees it; at most 288 columns.

    Raises
    ------
    ValueError
        An empty or too large shape, or a spacing that is not positive.
    """
    if shape[2] > 288:
        raise ValueError("a grid of at most 288 columns is drawn with exact clots")
    chosen = variation or AngiographyVariation()
    tree = _Tree(chosen)
    chest = chest_phantom(
        seed, shape, spacing_mm, paint=tree.paint, enhancement_hu=chosen.vein_hu,
        consolidations=chosen.consolidations, effusion=chosen.effusion, size=chosen.size,
        fat_mm=chosen.fat_mm, noise_hu=0.0, blur_px=0.0, padding_hu=None, nodules=0,
    )
    volume = seen_by(
        scanner, chest.volume_hu.astype(np.float32), spacing_mm, np.random.default_rng((seed, 1))
    )
    return AngiographyPhantom(
        np.rint(volume).astype(np.int16), tree.clots.astype(np.uint8),
        tree.arteries.astype(np.uint8), chest.affine_lps, tuple(tree.levels),
    )


def random_angiography(rng: np.random.Generator, *, embolism: bool) -> AngiographyVariation:
    """Draw a variation: bodies, contrast, disease."""
    level = int(rng.choice([MAIN, LOBAR, SEGMENTAL], p=[0.45, 0.45, 0.1]))
    return AngiographyVariation(
        clots=int(rng.integers(2, 7)) if embolism else 0,
        level=level,
        artery_hu=float(rng.uniform(280.0, 480.0)),
        vein_hu=float(rng.uniform(160.0, 320.0)),
        lymph_nodes=int(rng.integers(0, 3)),
        consolidations=int(rng.integers(0, 3)) if rng.random() < 0.3 else 0,
        effusion=bool(rng.random() < 0.15),
        size=float(rng.uniform(0.85, 1.12)),
        fat_mm=float(rng.uniform(6.0, 34.0)),
    )


@dataclass
class _Tree:
    """Paints arteries and clots, and keeps their masks."""

    variation: AngiographyVariation
    levels: list[int] = field(default_factory=list)
    clots: BoolArray = field(default_factory=lambda: np.zeros((0, 0, 0), dtype=bool))
    arteries: BoolArray = field(default_factory=lambda: np.zeros((0, 0, 0), dtype=bool))

    def paint(self, canvas: Canvas, rng: np.random.Generator, labels: LabelMap) -> None:
        """A `Painter`."""
        self.clots = np.zeros(canvas.hu.shape, dtype=bool)
        self.arteries = np.zeros(canvas.hu.shape, dtype=bool)
        arteries = pulmonary_tree(rng, self.variation.size)
        inside = (labels > 0) | (np.abs(canvas.x) < 55.0)
        for _ in range(self.variation.lymph_nodes):
            _paint_lymph_node(canvas, rng)
        for artery in arteries:
            canvas.paint_capsule(
                artery.start, artery.end, artery.radius_mm, self.variation.artery_hu, inside
            )
            self._mark(canvas, artery, artery.radius_mm, self.arteries)
        self.arteries &= inside
        labels[self.arteries] = 0
        for _ in range(self.variation.clots):
            self._paint_clot(canvas, rng, arteries)
        self.clots &= self.arteries

    def _mark(self, canvas: Canvas, artery: Artery, radius: float, mask: BoolArray) -> None:
        found = canvas.capsule_distance(artery.start, artery.end, radius)
        if found is not None:
            box, distance = found
            mask[box] |= distance < radius

    def _paint_clot(
        self, canvas: Canvas, rng: np.random.Generator, arteries: Sequence[Artery]
    ) -> None:
        allowed = [one for one in arteries if self.variation.level <= one.level <= SEGMENTAL]
        central = [one for one in allowed if one.level == self.variation.level]
        # The first lies where the variation says, the others anywhere farther out.
        chosen = central if not self.levels else allowed
        artery = chosen[int(rng.integers(len(chosen)))]
        self.levels.append(artery.level)
        fills = artery.level >= LOBAR and rng.random() < 0.4
        share = 1.05 if fills else float(rng.uniform(0.5, 0.8))
        radius = artery.radius_mm * share
        start, end = np.array(artery.start), np.array(artery.end)
        length = float(np.linalg.norm(end - start))
        extent = float(rng.uniform(12.0, 34.0)) / max(length, 1e-6)
        first = float(rng.uniform(0.0, max(0.0, 1.0 - min(extent, 1.0))))
        aside = rng.normal(0.0, 1.0, 3)
        aside *= (artery.radius_mm - min(radius, artery.radius_mm)) * 0.6 / np.linalg.norm(aside)
        ends = [start + (end - start) * min(at, 1.0) + aside for at in (first, first + extent)]
        clot = Artery(_point(ends[0]), _point(ends[1]), radius, artery.level)
        # Clots reach the artery's wall, not beyond it.
        wall = np.zeros(canvas.hu.shape, dtype=bool)
        self._mark(canvas, artery, artery.radius_mm + 0.5 * max(canvas.spacing_mm[1:]), wall)
        canvas.paint_capsule(clot.start, clot.end, radius, float(rng.uniform(*CLOT_HU)), wall)
        self._mark(canvas, clot, radius, self.clots)


def pulmonary_tree(rng: np.random.Generator, size: float = 1.0) -> list[Artery]:
    """Trunk, both main arteries, and what branches from them; ``size`` scales the body."""
    lift = float(rng.uniform(-4.0, 8.0))
    fork = (12.0 * size, -12.0 * size, 14.0 + lift)
    tree = [Artery((13.0 * size, -28.0 * size, -12.0 + lift), fork, 13.0 * size, MAIN)]
    for side in (-1.0, 1.0):
        hilum = (side * float(rng.uniform(38.0, 46.0)) * size, 6.0 * size, 8.0 + lift)
        main = float(rng.uniform(9.0, 11.5)) * size
        tree.append(Artery(fork, hilum, main, MAIN))
        aims = [(0.7, -0.1, 0.9), (0.9, -0.5, -0.2), (0.55, 0.35, -1.0)]
        for aim in aims:
            lobar = float(rng.uniform(5.5, 7.5)) * size
            _branch(tree, rng, hilum, (side * aim[0], aim[1], aim[2]), lobar, LOBAR)
    return tree


def _branch(
    tree: list[Artery], rng: np.random.Generator, start: Point, aim: Point, radius: float,
    level: int,
) -> None:
    heading = np.array(aim) + rng.normal(0.0, 0.18, 3)
    heading /= np.linalg.norm(heading)
    length = {LOBAR: 30.0, SEGMENTAL: 26.0}.get(level, 20.0) * float(rng.uniform(0.8, 1.25))
    end = _point(np.array(start) + heading * length)
    tree.append(Artery(start, end, radius, level))
    if level == SUBSEGMENTAL:
        return
    for _ in range(3 if level == LOBAR else 2):
        turn = _point(heading + rng.normal(0.0, 0.42, 3))
        _branch(tree, rng, end, turn, radius * float(rng.uniform(0.55, 0.7)), level + 1)


def _paint_lymph_node(canvas: Canvas, rng: np.random.Generator) -> None:
    side = float(rng.choice([-1.0, 1.0]))
    centre = (
        side * float(rng.uniform(22.0, 56.0)), float(rng.uniform(-12.0, 24.0)),
        float(rng.uniform(-28.0, 36.0)),
    )
    radii = rng.uniform(4.0, 10.0, 3)
    canvas.paint_ellipsoid(
        centre, (float(radii[0]), float(radii[1]), float(radii[2])),
        float(rng.uniform(*CLOT_HU)),
    )


def _point(values: npt.NDArray[np.float64]) -> Point:
    return (float(values[0]), float(values[1]), float(values[2]))
