"""Chests with lobes and fissures and nodules of known volume, seen by one of several scanners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ai_models.array.phantom import RIGHT_LUNG, chest_phantom, random_variation
from ai_models.training.phantoms.insertion import InsertedNodule, draw_nodules, insert
from ai_models.training.phantoms.nodules import KINDS, Kind
from ai_models.training.phantoms.scanners import SCANNERS, Scanner, seen_by
from ai_models.types import Affine

LabelMap = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

LOBES = ("right upper", "right middle", "right lower", "left upper", "left lower")
FIELD_MM = (264.0, 290.0, 350.0)
FISSURE_MM = 1.0
FISSURE_HU = -650.0


@dataclass(frozen=True)
class NoduleChest:
    """A chest with its truth, arrays ``(slices, rows, columns)``.

    Attributes
    ----------
    volume_hu
        int16, as the scanner made it.
    label_map
        Number of the nodule in each voxel, 0 where there is none.
    lobes
        1 to 5 in the order of :data:`LOBES`, 0 outside of the lungs.
    affine_lps
        Index to mm in LPS.
    nodules
        What was put in, by number.
    scanner
        Who saw it.
    """

    volume_hu: npt.NDArray[np.int16]
    label_map: LabelMap
    lobes: LabelMap
    affine_lps: Affine
    nodules: tuple[InsertedNodule, ...]
    scanner: Scanner

    def lobe_of(self, nodule: InsertedNodule) -> str:
        """The lobe in which most of a nodule lies."""
        inside = self.lobes[self.label_map == nodule.number]
        counts = np.bincount(inside[inside > 0], minlength=2)
        return LOBES[int(counts.argmax()) - 1] if counts.any() else ""


def nodule_chest(
    seed: int, scanner: Scanner = SCANNERS[0], nodules: int = 5, *,
    kinds: Sequence[Kind] = KINDS, diameters_mm: tuple[float, float] = (5.0, 22.0),
    field_mm: tuple[float, float, float] = FIELD_MM, growth: float = 1.0, **variation: Any,
) -> NoduleChest:
    """A chest drawn from ``seed`` with up to ``nodules`` nodules, seen by ``scanner``.

    ``field_mm`` is what is scanned (slices, rows, columns); ``growth`` multiplies the volume of
    every nodule, so that the same seed is the same patient later; ``variation`` sets fields of
    `ai_models.array.phantom.ChestVariation`. Same arguments, same chest.
    """
    rng = np.random.default_rng((seed, 7))
    hu, lobes, affine = bare_chest(seed, scanner.spacing_mm, field_mm, **variation)
    lungs = lobes > 0
    chosen = draw_nodules(
        rng, lungs, affine, nodules, kinds=kinds, diameters_mm=diameters_mm, hu=hu
    )
    grown = [replace(one, volume_ml=one.volume_ml * growth) for one in chosen]
    inserted = insert(hu, affine, grown, lungs=lungs)
    seen = seen_by(scanner, inserted.hu, scanner.spacing_mm, rng)
    return NoduleChest(
        np.rint(seen).astype(np.int16), inserted.label_map, lobes, affine, inserted.nodules,
        scanner,
    )


def bare_chest(
    seed: int, spacing_mm: tuple[float, float, float],
    field_mm: tuple[float, float, float] = FIELD_MM, **variation: Any,
) -> tuple[FloatArray, LabelMap, Affine]:
    """A chest without nodules as no scanner sees it: HU without noise, lobes, and the affine."""
    shape = tuple(max(1, round(mm / step)) for mm, step in zip(field_mm, spacing_mm, strict=True))
    seen = {"noise_hu": 0.0, "blur_px": 0.0, "padding_hu": None, "nodules": 0}
    phantom = chest_phantom(
        seed, (shape[0], shape[1], shape[2]), spacing_mm, **{**variation, **seen}
    )
    hu = phantom.volume_hu.astype(np.float32)
    lobes = _divide(np.random.default_rng((seed, 5)), hu, phantom.label_map, phantom.affine_lps)
    return hu, lobes, phantom.affine_lps


def healthy_variation(rng: np.random.Generator) -> dict[str, Any]:
    """As `random_variation`, without disease and with the lungs in the middle of the images."""
    well = {"consolidations": 0, "emphysema": 0, "effusion": False, "nodules": 0}
    return {**random_variation(rng), **well, "feet_first": False, "centre_mm": (0.0, 12.0, -5.0)}


def _divide(
    rng: np.random.Generator, hu: FloatArray, lungs: LabelMap, affine_lps: Affine
) -> LabelMap:
    """Lobes of both lungs; paints the fissures between them into ``hu``."""
    index = np.indices(lungs.shape, dtype=np.float32, sparse=True)
    x, y, z = (
        sum(
            (float(affine_lps[row, axis]) * index[axis] for axis in range(3)),
            start=np.float32(affine_lps[row, 3]),
        )
        for row in range(3)
    )
    lobes = np.zeros(lungs.shape, dtype=np.uint8)
    thickness = FISSURE_MM / 2.0
    for side in (1, 2):
        lung = lungs == side
        slope, height = float(rng.uniform(0.75, 1.05)), float(rng.uniform(-25.0, 5.0))
        # The oblique fissure rises to the back; a little curved, as none is a plane.
        oblique = (z - height - slope * y - 0.02 * (x / 10.0) ** 2) / np.sqrt(1.0 + slope**2)
        upper = lung & (oblique > 0.0)
        sheet = lung & (np.abs(oblique) < thickness)
        lobes[lung] = 3 if side == RIGHT_LUNG else 5
        lobes[upper] = 1 if side == RIGHT_LUNG else 4
        if side == RIGHT_LUNG:
            level = z - float(rng.uniform(-25.0, 0.0)) + 0.1 * y
            lobes[upper & (level < 0.0)] = 2
            sheet |= upper & (np.abs(level) < thickness)
        hu[sheet] = np.maximum(hu[sheet], FISSURE_HU)
    return lobes
