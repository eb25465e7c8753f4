"""Drawn T1 MR of a head after contrast medium, with one of three kinds of tumour or none.

Kinds are told apart by where they lie and how they take up contrast medium, as in patients
(Louis et al., WHO Classification of Tumours of the Central Nervous System): a meningioma sits with
a broad base on the dura and is bright all over; a glioma lies in the white matter, bright at its
rim, dark inside and about it; a pituitary tumour fills the sella in the middle of the base. Sizes
and shapes are invented.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.uid import MRImageStorage
from scipy import ndimage

from ai_models.training.phantoms.dicom_files import PhantomStudy, SeriesHeader, write_slices
from ai_models.training.phantoms.dynamic import MrScanner
from ai_models.types import Affine

LabelMap = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.float64]
KINDS = ("none", "glioma", "meningioma", "pituitary")
HEAD_SCANNERS = (
    MrScanner("head 1.5 T", "Phantom Works", "Spin 15", 1.5, (5.5, 2.2, 2.2), 9.0, 0.15, 1.0),
    MrScanner("head 3 T", "Phantom Works", "Spin 30", 3.0, (4.5, 2.0, 2.0), 6.0, 0.3, 3.0),
    MrScanner("head coarse", "Example Imaging", "Tesla One", 1.5, (6.5, 2.5, 2.5), 14.0, 0.2, 0.6),
)  # fmt: skip
"""Three that held-back phantoms are seen by."""
LEAST_MM2 = {"glioma": 60.0, "meningioma": 60.0, "pituitary": 130.0}
"""Of less a slice shows only an edge: a normal gland, which is bright as well, has up to 90 mm2."""
# Half axes to Left, Posterior and Superior in mm: skin, skull, brain.
_SKIN, _SKULL, _BRAIN = (76.0, 94.0, 88.0), (70.0, 88.0, 82.0), (65.0, 83.0, 77.0)
# Signal: air, fat, bone, fluid, grey and white matter, uptake.
_AIR, _FAT, _BONE, _FLUID, _GREY, _WHITE, _BRIGHT = 4.0, 420.0, 45.0, 70.0, 210.0, 265.0, 520.0
_SELLA = (0.0, -14.0, -46.0)


@dataclass(frozen=True)
class BrainVariation:
    """What may differ between heads.

    Attributes
    ----------
    kind
        One of `KINDS`.
    radius_mm
        Of the tumour.
    uptake
        How bright contrast medium makes it; 1 is the middle.
    size, turn_degrees
        Of the head; how it is turned in the plane.
    place
        Two numbers 0 to 1 that say where the tumour lies among the places of its kind.
    ventricles
        Size of the ventricles; 1 is the middle.
    """

    kind: str = "none"
    radius_mm: float = 14.0
    uptake: float = 1.0
    size: float = 1.0
    turn_degrees: float = 0.0
    place: tuple[float, float] = (0.3, 0.4)
    ventricles: float = 1.0


@dataclass(frozen=True)
class BrainPhantom:
    """A series and its truth.

    ``signal`` int16 ``(slices, rows, columns)``, axial from below; ``tumour`` uint8 mask of the
    same shape, and ``swelling`` of what swells about it; ``affine_lps`` index to mm.
    """

    signal: npt.NDArray[np.int16]
    tumour: LabelMap
    swelling: LabelMap
    affine_lps: Affine
    kind: str

    def slice_kinds(self) -> npt.NDArray[np.int8]:
        """For each slice the number of its kind in `KINDS`; -1 where only an edge is seen, or what
        swells about a tumour without it: such a slice is not normal, and does not say the kind."""
        pixel_mm2 = float(np.linalg.norm(self.affine_lps[:3, 1])
                          * np.linalg.norm(self.affine_lps[:3, 2]))
        area = self.tumour.sum(axis=(1, 2)) * pixel_mm2
        is_touched = (area > 0) | self.swelling.any(axis=(1, 2))
        is_shown = area >= LEAST_MM2.get(self.kind, 0.0)
        kinds = np.where(is_shown & (area > 0), KINDS.index(self.kind), np.where(is_touched, -1, 0))
        return np.asarray(kinds, dtype=np.int8)


def random_brain(rng: np.random.Generator, kind: str) -> BrainVariation:
    """Any head of a kind."""
    radius = {"glioma": (12.0, 24.0), "meningioma": (9.0, 20.0), "pituitary": (8.5, 15.0)}
    low, high = radius.get(kind, (10.0, 11.0))
    return BrainVariation(
        kind, float(rng.uniform(low, high)), float(rng.uniform(0.8, 1.25)),
        float(rng.uniform(0.93, 1.06)), float(rng.uniform(-9.0, 9.0)),
        (float(rng.uniform()), float(rng.uniform())), float(rng.uniform(0.6, 1.7)),
    )


def random_head_scanner(rng: np.random.Generator) -> MrScanner:
    """Any scanner, for training."""
    step = float(rng.uniform(2.0, 2.6))
    return MrScanner(
        "training", "Phantom Works", "Any", 1.5, (float(rng.uniform(4.5, 7.0)), step, step),
        float(rng.uniform(5.0, 16.0)), float(rng.uniform(0.05, 0.35)), float(rng.uniform(0.5, 3.0)),
    )


def brain_phantom(
    seed: int, variation: BrainVariation, scanner: MrScanner = HEAD_SCANNERS[0]
) -> BrainPhantom:
    """Draw an axial series of the whole head.

    Raises
    ------
    ValueError
        An unknown kind.
    """
    if variation.kind not in KINDS:
        raise ValueError(f"{variation.kind!r}: one of {', '.join(KINDS)} expected")
    rng = np.random.default_rng(seed)
    affine, shape = _grid(scanner.spacing_mm)
    grid = np.indices(shape, dtype=np.float64).reshape(3, -1)
    z, y, x = (affine[2, 0] * grid[0] + affine[2, 3], affine[1, 1] * grid[1] + affine[1, 3],
               affine[0, 2] * grid[2] + affine[0, 3])
    turn = np.deg2rad(variation.turn_degrees)
    points = np.stack([
        (x * np.cos(turn) + y * np.sin(turn)), (-x * np.sin(turn) + y * np.cos(turn)), z,
    ]).reshape(3, *shape) / variation.size
    signal = _tissue(points, variation, rng)
    mask, swelling = _paint_tumour(signal, points, variation, rng)
    wide = [0.4 * 5.0 / scanner.spacing_mm[0], 0.45, 0.45]
    shown = ndimage.gaussian_filter(signal, wide) * _coil(points, scanner.bias, rng) * scanner.gain
    noise = rng.normal(0.0, scanner.noise * scanner.gain, (2, *shape))
    # Magnitude images have Rician noise (Gudbjartsson and Patz, Magn Reson Med 1995;34:910).
    stored = np.clip(np.rint(np.hypot(shown + noise[0], noise[1])), 0, 32767).astype(np.int16)
    return BrainPhantom(
        stored, mask.astype(np.uint8), swelling.astype(np.uint8), affine, variation.kind
    )


def _grid(spacing_mm: tuple[float, float, float]) -> tuple[Affine, tuple[int, int, int]]:
    shape = (round(150.0 / spacing_mm[0]), round(212.0 / spacing_mm[1]),
             round(212.0 / spacing_mm[2]))
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm
    affine[:3, 3] = (-106.0 + spacing_mm[2] / 2, -106.0 + spacing_mm[1] / 2, -62.0)
    affine[3, 3] = 1.0
    return affine, shape


def _reach(points: Numbers, half: tuple[float, float, float],
           middle: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Numbers:
    """Below 1 inside of an ellipsoid."""
    centred = (points - np.reshape(middle, (3, 1, 1, 1))) / np.reshape(half, (3, 1, 1, 1))
    return np.asarray(np.sqrt((centred**2).sum(axis=0)))


def _smooth(rng: np.random.Generator, shape: tuple[int, ...], wide: float) -> Numbers:
    field = ndimage.gaussian_filter(rng.standard_normal(shape), (wide / 2, wide, wide))
    return np.asarray(field / max(float(field.std()), 1e-9))


def _tissue(points: Numbers, variation: BrainVariation, rng: np.random.Generator) -> Numbers:
    """A head without a tumour: with vessels, plexus and a small gland, which are bright as well."""
    shape = points.shape[1:]
    folds = _smooth(rng, shape, 2.2)
    signal = np.full(shape, _AIR)
    signal[_reach(points, _SKIN) < 1] = _FAT * float(rng.uniform(0.7, 1.1))
    signal[_reach(points, _SKULL) < 1] = _BONE
    brain = _reach(points, _BRAIN) + 0.012 * folds
    signal[brain < 1] = _FLUID
    signal[brain < 0.975] = _GREY
    signal[brain < 0.87 + 0.035 * folds] = _WHITE
    signal[(np.abs(points[0]) < 2.0) & (brain < 1) & (points[2] > 5)] = _FLUID
    wide = variation.ventricles
    for side in (-1.0, 1.0):
        horn = _reach(points, (7.0 * wide, 34.0 * wide**0.5, 12.0 * wide), (side * 13.0, 4.0, 12.0))
        signal[horn < 1] = _FLUID
        plexus = _reach(points, (2.5, 7.0, 4.0), (side * 15.0, 18.0, 8.0))
        signal[(plexus < 1) & (horn < 1)] = _BRIGHT * 0.8
        # Large vessels and the eyes.
        signal[_reach(points, (3.0, 3.0, 6.0), (side * 14.0, -14.0, -48.0)) < 1] = _BRIGHT * 0.9
        signal[_reach(points, (12.0, 12.0, 12.0), (side * 30.0, -76.0, -42.0)) < 1] = _FLUID
    sinus = (_reach(points, (4.0, 78.0, 74.0), (0.0, 4.0, 3.0)) > 0.93) & (brain < 1.0)
    signal[sinus & (np.abs(points[0]) < 3.5) & (points[1] > -20) & (points[2] > -20)] = _BRIGHT
    base = (points[2] < -44) & (_reach(points, _SKULL) < 1) & (points[1] < 12)
    signal[base & (signal != _FAT)] = np.where(
        folds[base & (signal != _FAT)] > 0.7, _GREY, _BONE * 2)
    signal[_reach(points, (5.5, 4.5, 4.0), _SELLA) < 1] = _BRIGHT * 0.85
    return np.asarray(signal * (1.0 + 0.03 * _smooth(rng, shape, 3.0)))


def _paint_tumour(
    signal: Numbers, points: Numbers, variation: BrainVariation, rng: np.random.Generator
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Draw it into the signal; returns where it is, and where what swells about it is."""
    kind, radius = variation.kind, variation.radius_mm
    nothing = np.zeros(signal.shape, dtype=bool)
    if kind == "none":
        return nothing, nothing
    bright = _BRIGHT * variation.uptake
    uneven = _smooth(rng, signal.shape, 2.5)
    first, second = variation.place
    if kind == "pituitary":
        middle = (float(rng.normal(0.0, 1.5)), _SELLA[1], _SELLA[2] + 0.5 * radius)
        reach = _reach(points, (radius, 0.85 * radius, 1.05 * radius), middle) + 0.05 * uneven
        mask = reach < 1
        signal[mask] = 0.8 * bright * (1.0 + 0.05 * uneven[mask])
        return mask, nothing
    angle = 2.0 * np.pi * first
    if kind == "meningioma":
        height = -25.0 + 75.0 * second
        on = np.array([np.cos(angle), np.sin(angle), height / _BRAIN[2]])
        flat = np.sqrt(max(1.0 - on[2] ** 2, 0.05))
        middle = (0.93 * _BRAIN[0] * flat * on[0], 0.93 * _BRAIN[1] * flat * on[1], 0.93 * height)
        reach = _reach(points, (radius, radius, radius), middle) + 0.05 * uneven
        mask = (reach < 1) & (_reach(points, _BRAIN) < 0.995)
        signal[mask] = bright * (1.0 + 0.03 * uneven[mask])
        return mask, nothing
    side = 1.0 if first < 0.5 else -1.0
    away = 24.0 + 14.0 * second
    middle = (side * away, 60.0 * (first * 2.0 % 1.0) - 34.0, 2.0 + 34.0 * second)
    reach = _reach(points, (radius, 1.15 * radius, radius), middle) + 0.12 * uneven
    inside = _reach(points, _BRAIN) < 0.94
    swollen = (reach < 1.5) & inside
    signal[swollen] = 0.72 * _GREY
    mask = (reach < 1.0) & inside
    signal[mask] = bright * (0.9 + 0.1 * uneven[mask])
    signal[(reach < 0.68) & inside] = 0.55 * _GREY
    return mask, swollen & ~mask


def _coil(points: Numbers, bias: float, rng: np.random.Generator) -> Numbers:
    """How unequally the coil sees: a slope and a bowl."""
    slope = rng.normal(0.0, 0.5, 3).reshape(3, 1, 1, 1)
    bowl = float(rng.uniform(-0.5, 0.8)) * (points**2).sum(axis=0) / 90.0**2
    return np.asarray(np.exp(bias * ((slope * points / 90.0).sum(axis=0) + bowl)))


def write_brain(
    folder: Path, study: PhantomStudy, phantom: BrainPhantom, scanner: MrScanner, number: int = 1
) -> list[Path]:
    """The series as MR images (PS3.3 A.4), one file for each slice."""
    header = SeriesHeader(
        number, f"T1 after contrast, {scanner.name}", "MR", MRImageStorage, {
            "Manufacturer": scanner.manufacturer, "ManufacturerModelName": scanner.model,
            "MagneticFieldStrength": f"{scanner.field_t:g}", "BodyPartExamined": "HEAD",
            "ImageType": ["ORIGINAL", "PRIMARY", "M", "SE"],
            "ScanningSequence": "SE", "SequenceVariant": "NONE", "ScanOptions": "",
            "MRAcquisitionType": "2D", "RepetitionTime": "550", "EchoTime": "12",
            "EchoTrainLength": "1", "ContrastBolusAgent": "GADOLINIUM",
            "SliceThickness": f"{scanner.spacing_mm[0]:g}",
        },
    )
    return write_slices(folder, study, header, phantom.signal, phantom.affine_lps)
