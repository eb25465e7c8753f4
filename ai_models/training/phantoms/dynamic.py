"""Dynamic contrast-enhanced MR of the breasts: the same slices before and after contrast medium.

The signal of a tissue over time is ``S0 * (1 + E(t))`` with

    E(t) = amplitude * (1 - exp(-t / wash_in_s)) * exp(-t * wash_out)

where t counts from the arrival of contrast medium: what washes out falls again, what does not goes
on rising. These are the three types of curve by which lesions are described (Kuhl et al., Radiology
1999;211:101-110): persistent, plateau, wash-out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ai_models.array.phantom_canvas import BoolArray, Canvas, FloatArray, Point
from ai_models.types import Affine

LabelMap = npt.NDArray[np.uint8]
AIR, FAT, GLAND, MUSCLE, HEART, LUNG, LESION = range(7)
KINDS = ("none", "persistent", "plateau", "wash-out")
# Signal before contrast medium, fat-suppressed T1.
_BEFORE = (5.0, 70.0, 160.0, 190.0, 150.0, 12.0, 165.0)


@dataclass(frozen=True)
class Curve:
    """How a tissue enhances; see the head of this file."""

    amplitude: float
    wash_in_s: float
    wash_out: float = 0.0

    def at(self, seconds: float) -> float:
        """Enhancement, 0 before contrast medium arrives."""
        if seconds <= 0.0:
            return 0.0
        risen = 1.0 - float(np.exp(-seconds / self.wash_in_s))
        return self.amplitude * risen * float(np.exp(-seconds * self.wash_out))


@dataclass(frozen=True)
class DynamicVariation:
    """What may differ between phantoms.

    Attributes
    ----------
    kind
        Of the lesion's curve, one of `KINDS`; ``none``: there is no lesion.
    curve
        Of the lesion.
    radius_mm
        Of the lesion; it is irregular where it washes out, and smooth where it does not.
    background
        Enhancement of the glands, which goes on rising.
    times_s
        Of the phases, since the first; contrast medium arrives ``arrival_s`` after it.
    """

    kind: str = "wash-out"
    curve: Curve = Curve(1.6, 35.0, 0.0015)
    radius_mm: float = 9.0
    background: float = 0.2
    times_s: tuple[float, ...] = (0.0, 75.0, 150.0, 225.0, 300.0, 375.0)
    arrival_s: float = 15.0


@dataclass(frozen=True)
class MrScanner:
    """An invented MR scanner with one protocol.

    Attributes
    ----------
    field_t
        Magnetic Field Strength (0018,0087) in tesla.
    spacing_mm
        Of its images, (slice, row, column).
    noise, bias, gain
        Standard deviation of the noise before contrast medium, how unequally the coil sees, and
        what all numbers are multiplied by.
    """

    name: str
    manufacturer: str
    model: str
    field_t: float
    spacing_mm: tuple[float, float, float]
    noise: float = 6.0
    bias: float = 0.15
    gain: float = 1.0


MR_SCANNERS = (
    MrScanner("breast 1.5 T", "Phantom Works", "Spin 15", 1.5, (3.0, 2.2, 2.2), 7.0, 0.12, 1.0),
    MrScanner("breast 3 T", "Phantom Works", "Spin 30", 3.0, (2.5, 1.8, 1.8), 4.0, 0.25, 3.0),
    MrScanner("breast coarse", "Example Imaging", "Tesla One", 1.5, (4.0, 2.8, 2.8), 10.0, 0.2,
              0.6),
)  # fmt: skip
"""Three that held-back phantoms are seen by."""


@dataclass(frozen=True)
class DynamicPhantom:
    """A dynamic series and its truth.

    Attributes
    ----------
    phases
        int16 ``(phases, slices, rows, columns)``, arbitrary units.
    lesion
        uint8 mask ``(slices, rows, columns)``.
    affine_lps
        4x4 float64, index (slice, row, column) to mm in LPS.
    times_s
        Of the phases, since the first.
    kind
        Of the lesion's curve, one of `KINDS`.
    """

    phases: npt.NDArray[np.int16]
    lesion: LabelMap
    affine_lps: Affine
    times_s: tuple[float, ...]
    kind: str


def dynamic_phantom(
    seed: int,
    shape: tuple[int, int, int] = (32, 96, 160),
    spacing_mm: tuple[float, float, float] = (3.5, 2.2, 2.2),
    variation: DynamicVariation | None = None,
    scanner: MrScanner = MR_SCANNERS[0],
) -> DynamicPhantom:
    """Draw a dynamic series from ``seed``: axial slices of both breasts, prone in the coil.

    Raises
    ------
    ValueError
        An empty shape, a spacing that is not positive, or an unknown kind of curve.
    """
    chosen = variation or DynamicVariation()
    if min(shape) < 1 or min(spacing_mm) <= 0.0 or chosen.kind not in KINDS:
        raise ValueError(f"cannot draw {chosen.kind!r} on {shape} of {spacing_mm} mm")
    rng = np.random.default_rng(seed)
    canvas = Canvas(shape, spacing_mm, (0.0, -30.0, 0.0))
    tissue = _tissues(canvas, rng)
    lesion = _paint_lesion(canvas, rng, tissue, chosen)
    curves = _curves(rng, chosen)
    before = np.array(_BEFORE)[tissue] * _texture(rng, tissue.shape)
    coil = scanner.gain * _coil(rng, tissue.shape, scanner.bias)
    phases = []
    for seconds in chosen.times_s:
        enhancement = np.array([curve.at(seconds - chosen.arrival_s) for curve in curves])
        signal = ndimage.gaussian_filter(before * (1.0 + enhancement[tissue]), 0.45) * coil
        noise = rng.normal(0.0, scanner.noise * scanner.gain, (2, *shape))
        # Magnitude images have Rician noise (Gudbjartsson and Patz, Magn Reson Med 1995;34:910).
        phases.append(np.hypot(signal + noise[0], noise[1]))
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm
    affine[:3, 3] = (canvas.x.ravel()[0], canvas.y.ravel()[0], canvas.z.ravel()[0])
    stored = np.clip(np.rint(np.stack(phases)), 0, 32767).astype(np.int16)
    return DynamicPhantom(
        stored, lesion.astype(np.uint8), affine, chosen.times_s, chosen.kind
    )


def random_dynamic(rng: np.random.Generator, kind: str) -> DynamicVariation:
    """Draw a variation: lesion, glands, number and times of phases."""
    curves = {
        "wash-out": Curve(
            float(rng.uniform(1.2, 2.4)), float(rng.uniform(20.0, 45.0)),
            float(rng.uniform(0.0011, 0.0025)),
        ),
        "plateau": Curve(float(rng.uniform(0.9, 1.8)), float(rng.uniform(30.0, 55.0)), 1e-4),
        "persistent": Curve(float(rng.uniform(0.9, 2.2)), float(rng.uniform(130.0, 320.0))),
        "none": Curve(0.0, 60.0),
    }
    count = int(rng.integers(5, 9))
    step = float(rng.uniform(58.0, 85.0))
    return DynamicVariation(
        kind=kind, curve=curves[kind], radius_mm=float(rng.uniform(5.0, 14.0)),
        background=float(rng.uniform(0.05, 0.45)),
        times_s=tuple(round(step * number, 1) for number in range(count)),
        arrival_s=float(rng.uniform(5.0, 40.0)),
    )


def lesion_curve(phantom: DynamicPhantom) -> list[float]:
    """Mean signal in the lesion, one number per phase, relative to the first."""
    where = phantom.lesion > 0
    means = [float(phase[where].mean()) for phase in phantom.phases]
    return [mean / means[0] for mean in means]


def _tissues(canvas: Canvas, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Number of the tissue of every voxel; the chest wall lies at y = 0."""
    tissue = np.full(canvas.hu.shape, AIR, dtype=np.intp)
    wall = 6.0 + (canvas.x / 150.0) ** 2 * 40.0 + 0.0 * canvas.z
    inside = canvas.y > wall
    body = inside & (np.abs(canvas.x) < float(rng.uniform(150.0, 175.0)))
    tissue[body] = MUSCLE
    tissue[body & (canvas.y > wall + 28.0)] = LUNG
    heart = canvas.ellipsoid((28.0, 70.0, 0.0), (45.0, 42.0, 70.0))
    if heart is not None:
        box, mask = heart
        tissue[box][mask & body[box]] = HEART
    size = float(rng.uniform(0.8, 1.15))
    for side in (-1.0, 1.0):
        centre = (side * 78.0, 2.0, float(rng.uniform(-6.0, 6.0)))
        radii = rng.uniform(0.92, 1.08, 3) * size * np.array([60.0, 82.0, 62.0])
        _fill(canvas, tissue, centre, radii, FAT, tissue == AIR)
        gland = radii * rng.uniform(0.5, 0.78, 3)
        lobes = rng.normal(0.0, 0.22, (6, 3)) * gland
        for lobe in lobes:
            middle = np.array(centre) + lobe + np.array([0.0, -0.4 * radii[1], 0.0])
            _fill(canvas, tissue, _point(middle), gland * rng.uniform(0.3, 0.6), GLAND,
                  tissue == FAT)
    return tissue


def _paint_lesion(
    canvas: Canvas, rng: np.random.Generator, tissue: npt.NDArray[np.intp],
    chosen: DynamicVariation,
) -> BoolArray:
    lesion = np.zeros(tissue.shape, dtype=bool)
    if chosen.kind == "none":
        return lesion
    # In the glands, and not cut by the edge of the slices.
    inner = np.abs(canvas.z) < 0.36 * canvas.spacing_mm[0] * tissue.shape[0]
    place = np.flatnonzero((tissue == GLAND) & inner)
    if place.size == 0:
        place = np.flatnonzero(tissue == GLAND)
    s, r, c = np.unravel_index(int(rng.choice(place)), tissue.shape)
    centre = np.array([canvas.x[0, 0, c], canvas.y[0, r, 0], canvas.z[s, 0, 0]], dtype=np.float64)
    within = (tissue == GLAND) | (tissue == FAT)
    irregular = chosen.kind != "persistent"
    parts = 7 if irregular else 1
    for number in range(parts):
        aside = rng.normal(0.0, 0.5 * chosen.radius_mm, 3) if number else np.zeros(3)
        share = rng.uniform(0.35, 0.6) if number else 0.8 if irregular else 1.0
        found = canvas.ellipsoid(
            _point(centre + aside),
            _point(chosen.radius_mm * share * rng.uniform(0.85, 1.15, 3)),
        )
        if found is not None:
            box, mask = found
            lesion[box] |= mask & within[box]
    tissue[lesion] = LESION
    return lesion


def _curves(rng: np.random.Generator, chosen: DynamicVariation) -> Sequence[Curve]:
    """Of every tissue, by its number."""
    return (
        Curve(0.0, 1.0),
        Curve(0.04, 200.0),
        Curve(chosen.background, 250.0),
        Curve(0.25, 120.0),
        Curve(float(rng.uniform(1.6, 2.4)), 12.0, 0.0012),
        Curve(0.3, 30.0),
        chosen.curve,
    )


def _texture(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    grain = ndimage.gaussian_filter(rng.standard_normal(shape).astype(np.float32), 1.2)
    return np.asarray(1.0 + 0.08 * grain / max(float(grain.std()), 1e-6), dtype=np.float32)


def _coil(rng: np.random.Generator, shape: tuple[int, ...], bias: float) -> FloatArray:
    """Smooth sensitivity about 1."""
    nodes = rng.normal(0.0, bias, (3, 4, 4)).astype(np.float32)
    zoom = [n / c for n, c in zip(shape, nodes.shape, strict=True)]
    field = ndimage.zoom(nodes, zoom, order=1, grid_mode=True, mode="nearest")
    return np.asarray(np.exp(field), dtype=np.float32)


def _fill(
    canvas: Canvas, tissue: npt.NDArray[np.intp], centre: Point,
    radii: npt.NDArray[np.float64], value: int, within: BoolArray,
) -> None:
    found = canvas.ellipsoid(centre, _point(radii))
    if found is not None:
        box, mask = found
        tissue[box][mask & within[box]] = value


def _point(values: npt.NDArray[np.float64]) -> Point:
    return (float(values[0]), float(values[1]), float(values[2]))
