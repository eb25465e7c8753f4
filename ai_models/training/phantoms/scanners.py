"""Invented CT scanners: how each of them sees the same patient, and what its headers say.

They differ in what differs between real ones and troubles a network: resolution and noise of the
reconstruction kernel, slice spacing and thickness, and a small error of the HU scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

FloatArray = npt.NDArray[np.float32]
Spacing = tuple[float, float, float]
LOWEST_HU, HIGHEST_HU = -1024.0, 3071.0


@dataclass(frozen=True)
class Scanner:
    """One invented scanner with one protocol.

    Attributes
    ----------
    name
        Of the protocol, as Series Description (0008,103E) has it.
    manufacturer, model, kernel
        Manufacturer (0008,0070), Manufacturer's Model Name (0008,1090), Convolution Kernel
        (0018,1210).
    spacing_mm
        Of its images, (slice, row, column).
    slice_thickness_mm
        Slice Thickness (0018,0050): the width of a slice, which may be more than their distance.
    resolution_mm
        Standard deviation of the kernel's blur in the plane.
    sharpening
        How much of an edge the kernel adds again; 0 of a soft one.
    noise_hu
        Standard deviation of the noise.
    grain_mm
        Standard deviation of the blur of that noise in the plane: sharp kernels have fine grain.
    scale, bias_hu
        What it measures is ``scale * (HU + 1000) - 1000 + bias_hu``.
    """

    name: str
    manufacturer: str
    model: str
    kernel: str
    spacing_mm: Spacing
    slice_thickness_mm: float
    resolution_mm: float
    sharpening: float
    noise_hu: float
    grain_mm: float
    scale: float = 1.0
    bias_hu: float = 0.0


SCANNERS = (
    Scanner("thin soft", "Phantom Works", "Alpha 64", "SOFT", (1.5, 0.9, 0.9), 1.5,
            0.55, 0.0, 14.0, 0.55),
    Scanner("thin sharp", "Phantom Works", "Alpha 64", "LUNG", (1.5, 0.9, 0.9), 1.5,
            0.35, 0.9, 34.0, 0.15),
    Scanner("thick standard", "Example Imaging", "Beta 16", "STANDARD", (2.5, 1.0, 1.0), 3.0,
            0.6, 0.2, 18.0, 0.5, 1.01, 6.0),
    Scanner("low dose", "Example Imaging", "Beta 128", "B40", (2.0, 0.95, 0.95), 2.0,
            0.5, 0.3, 55.0, 0.4, 0.99, -8.0),
)  # fmt: skip
"""Four that held-back phantoms are seen by."""


def random_scanner(rng: np.random.Generator, spacing_mm: Spacing) -> Scanner:
    """A scanner for training, with images on the grid that is asked for."""
    sharp = bool(rng.random() < 0.4)
    return Scanner(
        "training", "Phantom Works", "Any", "SHARP" if sharp else "SOFT", spacing_mm,
        slice_thickness_mm=float(rng.uniform(1.0, 3.0)),
        resolution_mm=float(rng.uniform(0.3, 0.9)),
        sharpening=float(rng.uniform(0.2, 1.2)) if sharp else 0.0,
        noise_hu=float(min(rng.gamma(2.0, 11.0), 80.0)),
        grain_mm=float(rng.uniform(0.1, 0.8)),
        scale=float(rng.uniform(0.98, 1.02)),
        bias_hu=float(rng.normal(0.0, 8.0)),
    )


def seen_by(
    scanner: Scanner, hu: FloatArray, spacing_mm: Spacing, rng: np.random.Generator
) -> FloatArray:
    """What ``scanner`` makes of ``hu`` ``(slices, rows, columns)``: blur, scale, noise, 12 bits.

    ``spacing_mm`` is that of ``hu`` (slice, row, column); float32 HU on the same grid.
    """
    # A slice is a box: its standard deviation is its width by the root of 12.
    along = max(scanner.slice_thickness_mm / np.sqrt(12.0), 0.0) / spacing_mm[0]
    across = [scanner.resolution_mm / step for step in spacing_mm[1:]]
    seen = ndimage.gaussian_filter(hu, (along, *across))
    if scanner.sharpening > 0.0:
        wider = ndimage.gaussian_filter(seen, (0.0, *(1.0 / step for step in spacing_mm[1:])))
        seen = seen + scanner.sharpening * (seen - wider)
    measured = scanner.scale * (seen + 1000.0) - 1000.0 + scanner.bias_hu
    noisy = measured + noise_of(scanner, hu.shape, spacing_mm, rng)
    return np.asarray(np.clip(noisy, LOWEST_HU, HIGHEST_HU), dtype=np.float32)


def noise_of(
    scanner: Scanner, shape: tuple[int, ...], spacing_mm: Spacing, rng: np.random.Generator
) -> FloatArray:
    """Noise of ``scanner`` in HU, with its grain, ``(slices, rows, columns)``."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, (0.0, *(scanner.grain_mm / s for s in spacing_mm[1:])))
    return np.asarray(noise * (scanner.noise_hu / max(float(noise.std()), 1e-6)), dtype=np.float32)
