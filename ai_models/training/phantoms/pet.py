"""Pairs of PET and CT of a chest with a lesion in a lung, and what the headers say of the patient.

Whether the lesion is malignant is drawn first; size, calcium and outline in the CT, uptake in the
PET, age and smoking follow from it with overlap, so that each tells something and none tells all.
The numbers are invented for that and describe no population.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ai_models.array.phantom import chest_phantom
from ai_models.array.phantom_canvas import BoolArray, Canvas, FloatArray, Point
from ai_models.training.phantoms.scanners import SCANNERS, Scanner, seen_by
from ai_models.types import Affine

LabelMap = npt.NDArray[np.uint8]
FWHM_TO_DEVIATION = 2.3548


@dataclass(frozen=True)
class PetScanner:
    """An invented PET: grid, resolution and noise of its images."""

    name: str
    manufacturer: str
    model: str
    spacing_mm: tuple[float, float, float]
    fwhm_mm: float
    noise: float


PET_SCANNERS = (
    PetScanner("PET fine", "Phantom Works", "Positron 400", (3.0, 3.2, 3.2), 5.0, 0.10),
    PetScanner("PET coarse", "Example Imaging", "Annihil 20", (5.0, 5.3, 5.3), 7.5, 0.18),
)


@dataclass(frozen=True)
class Patient:
    """What is told of the patient; None where it is not."""

    age_y: float | None = 60.0
    sex: str | None = "F"
    smokes: bool | None = False
    weight_kg: float = 70.0


@dataclass(frozen=True)
class PetCtVariation:
    """What may differ between phantoms.

    Attributes
    ----------
    lesion
        Whether there is one.
    malignant
        What it is; without a lesion False.
    radius_mm, lesion_hu, lobulated
        Of the lesion in the CT.
    lesion_suv
        Its uptake, SUVbw before the scanner's blur.
    liver_suv
        Uptake of the liver, with which that of the rest goes.
    patient
        What the headers say.
    """

    lesion: bool = True
    malignant: bool = True
    radius_mm: float = 12.0
    lesion_hu: float = 35.0
    lobulated: bool = True
    lesion_suv: float = 8.0
    liver_suv: float = 2.2
    size: float = 1.0
    fat_mm: float = 14.0
    patient: Patient = Patient()


@dataclass(frozen=True)
class PetCtPhantom:
    """A PET-CT and its truth.

    Attributes
    ----------
    volume_hu, ct_affine_lps
        int16 ``(slices, rows, columns)``, and its place (index to mm in LPS).
    suv, pet_affine_lps
        float32 SUVbw ``(slices, rows, columns)`` in g/ml on the grid of the PET, and its place.
    lesion
        uint8 mask on the grid of the CT.
    """

    volume_hu: npt.NDArray[np.int16]
    ct_affine_lps: Affine
    suv: FloatArray
    pet_affine_lps: Affine
    lesion: LabelMap
    variation: PetCtVariation


def petct_phantom(
    seed: int,
    shape: tuple[int, int, int] = (80, 112, 112),
    spacing_mm: tuple[float, float, float] = (3.5, 3.5, 3.5),
    variation: PetCtVariation | None = None,
    scanner: Scanner = SCANNERS[0],
    pet_scanner: PetScanner = PET_SCANNERS[0],
) -> PetCtPhantom:
    """Draw a PET-CT from ``seed``; at most 288 columns of CT.

    Raises
    ------
    ValueError
        An empty or too large shape, or a spacing that is not positive.
    """
    if shape[2] > 288:
        raise ValueError("a grid of at most 288 columns is drawn with exact lesions")
    chosen = variation or PetCtVariation()
    body = _Uptake(chosen)
    chest = chest_phantom(
        seed, shape, spacing_mm, paint=body.paint, enhancement_hu=0.0, size=chosen.size,
        fat_mm=chosen.fat_mm, nodules=0, noise_hu=0.0, blur_px=0.0, padding_hu=None,
    )
    rng = np.random.default_rng((seed, 1))
    volume = seen_by(scanner, chest.volume_hu.astype(np.float32), spacing_mm, rng)
    suv, affine = _measured(body.suv, chest.affine_lps, pet_scanner, rng)
    return PetCtPhantom(
        np.rint(volume).astype(np.int16), chest.affine_lps, suv, affine,
        body.lesion.astype(np.uint8), chosen,
    )


def random_petct(rng: np.random.Generator, *, malignant: bool) -> PetCtVariation:
    """Draw a variation: lesion and patient as the truth makes them likely."""
    lesion = malignant or bool(rng.random() < 0.7)
    inflamed = bool(rng.random() < 0.15)
    calcified = bool(not malignant and rng.random() < 0.35)
    radius = rng.normal(13.0, 3.5) if malignant else rng.normal(9.5, 3.0)
    uptake = rng.lognormal(np.log(7.0), 0.45) if malignant else rng.lognormal(np.log(1.4), 0.4)
    if inflamed and not malignant:
        uptake = rng.uniform(3.0, 7.0)
    smokes = bool(rng.random() < (0.75 if malignant else 0.35))
    age = rng.normal(67.0, 8.0) if malignant else rng.normal(55.0, 12.0)
    known = rng.random(3) > 0.15
    return PetCtVariation(
        lesion=lesion, malignant=malignant, radius_mm=float(np.clip(radius, 5.0, 22.0)),
        lesion_hu=float(rng.uniform(250.0, 600.0) if calcified else rng.uniform(15.0, 60.0)),
        lobulated=bool(rng.random() < (0.8 if malignant else 0.25)),
        lesion_suv=float(np.clip(uptake, 0.6, 22.0)),
        liver_suv=float(rng.uniform(1.7, 2.8)),
        size=float(rng.uniform(0.86, 1.12)), fat_mm=float(rng.uniform(6.0, 34.0)),
        patient=Patient(
            float(round(np.clip(age, 20.0, 95.0))) if known[0] else None,
            str(rng.choice(["F", "M"])) if known[1] else None,
            smokes if known[2] else None,
            float(round(rng.uniform(50.0, 105.0))),
        ),
    )


@dataclass
class _Uptake:
    """Paints the lesion, and the uptake of everything on the grid of the CT."""

    variation: PetCtVariation
    suv: FloatArray = field(default_factory=lambda: np.zeros((0, 0, 0), dtype=np.float32))
    lesion: BoolArray = field(default_factory=lambda: np.zeros((0, 0, 0), dtype=bool))

    def paint(self, canvas: Canvas, rng: np.random.Generator, labels: LabelMap) -> None:
        """A `Painter`."""
        chosen = self.variation
        self.lesion = np.zeros(canvas.hu.shape, dtype=bool)
        if chosen.lesion:
            self._paint_lesion(canvas, rng, labels)
        self.suv = _uptake(canvas, rng, labels, chosen.liver_suv)
        self.suv[self.lesion] = chosen.lesion_suv

    def _paint_lesion(
        self, canvas: Canvas, rng: np.random.Generator, labels: LabelMap
    ) -> None:
        chosen = self.variation
        lungs = labels > 0
        # A lesion lies in a lung with most of itself, away from the lung's border.
        steps = [chosen.radius_mm * 0.6 / step for step in canvas.spacing_mm]
        inner = ndimage.minimum_filter(lungs, [2 * round(step) + 1 for step in steps])
        place = np.flatnonzero(inner if inner.any() else lungs)
        s, r, c = np.unravel_index(int(rng.choice(place)), lungs.shape)
        centre = np.array([canvas.x[0, 0, c], canvas.y[0, r, 0], canvas.z[s, 0, 0]], np.float64)
        for number in range(6 if chosen.lobulated else 1):
            aside = rng.normal(0.0, 0.4 * chosen.radius_mm, 3) if number else np.zeros(3)
            share = rng.uniform(0.4, 0.65) if number else 0.85 if chosen.lobulated else 1.0
            radii = chosen.radius_mm * share * rng.uniform(0.9, 1.1, 3)
            found = canvas.ellipsoid(_point(centre + aside), _point(radii))
            if found is not None:
                box, mask = found
                self.lesion[box] |= mask & lungs[box]
        canvas.hu[self.lesion] = chosen.lesion_hu


def _uptake(
    canvas: Canvas, rng: np.random.Generator, labels: LabelMap, liver_suv: float
) -> FloatArray:
    """SUVbw of a chest without a lesion, by tissue."""
    hu = canvas.hu
    part = liver_suv / 2.2
    suv = np.full(hu.shape, 0.05, dtype=np.float32)
    suv[(hu > -200.0) & (hu <= -20.0)] = 0.3 * part
    suv[(hu > -20.0) & (hu <= 110.0)] = 0.75 * part
    suv[hu > 110.0] = 1.2 * part
    suv[labels > 0] = 0.4 * part
    soft = (hu > -20.0) & (hu <= 110.0)
    heart = float(rng.uniform(1.4, 4.5)) * part
    solids: list[tuple[Point, Point, float]] = [
        ((-70.0, 0.0, -130.0), (90.0, 90.0, 70.0), liver_suv),
        ((20.0, -28.0, -45.0), (60.0, 46.0, 60.0), 1.6 * part),
        ((38.0, -26.0, -55.0), (40.0, 38.0, 38.0), heart),
        ((0.0, -10.0, 30.0), (45.0, 40.0, 60.0), 1.6 * part),
    ]
    for centre, radii, value in solids:
        found = canvas.ellipsoid(centre, radii)
        if found is not None:
            box, mask = found
            suv[box][mask & soft[box] & (labels[box] == 0)] = value
    return suv


def _measured(
    suv: FloatArray, affine_lps: Affine, scanner: PetScanner, rng: np.random.Generator
) -> tuple[FloatArray, Affine]:
    """What the PET makes of an uptake: blur, its own grid, noise that grows with the signal."""
    steps = np.linalg.norm(affine_lps[:3, :3], axis=0)
    deviation = [scanner.fwhm_mm / FWHM_TO_DEVIATION / step for step in steps]
    seen = ndimage.gaussian_filter(suv, deviation)
    ratio = np.array(scanner.spacing_mm) / steps
    extents = np.array(suv.shape) - 1.0
    counts = np.floor(extents / ratio).astype(int) + 1
    first = (extents - (counts - 1) * ratio) / 2.0
    axes = [
        start + step * np.arange(n) for start, step, n in zip(first, ratio, counts, strict=True)
    ]
    here = ndimage.map_coordinates(
        seen, np.meshgrid(*axes, indexing="ij"), order=1, mode="nearest"
    ).astype(np.float32)
    grain = ndimage.gaussian_filter(rng.standard_normal(here.shape), 0.7)
    grain /= max(float(grain.std()), 1e-6)
    noisy = here + scanner.noise * np.sqrt(np.maximum(here, 0.0)) * grain
    affine = affine_lps.copy()
    affine[:3, :3] = affine_lps[:3, :3] * ratio
    affine[:3, 3] = (affine_lps @ np.array([*first, 1.0]))[:3]
    return np.asarray(np.maximum(noisy, 0.0), dtype=np.float32), affine


def _point(values: npt.NDArray[np.float64]) -> Point:
    return (float(values[0]), float(values[1]), float(values[2]))
