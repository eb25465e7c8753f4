"""Chest CT phantoms with known lungs: for demonstrations, tests and training.

Everything is computed from a seed; no patient is in it. The anatomy is made of simple solids in
millimetres of the patient (LPS, origin in the middle of the chest), painted on the grid asked for,
then seen through a simple scanner: blur or sharpening, noise, a round field of view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ai_models.array import phantom_body as body_parts
from ai_models.array import phantom_chest as chest_parts
from ai_models.array.phantom_canvas import BoolArray, Canvas, FloatArray

LabelMap = npt.NDArray[np.uint8]
Affine = npt.NDArray[np.float64]

RIGHT_LUNG = 1
LEFT_LUNG = 2
LARGEST_DRAWN_COLUMNS = 288

Painter = Callable[[Canvas, np.random.Generator, LabelMap], None]
"""Paints into a chest before the scanner sees it; the lungs are 1 and 2 in the label map."""


@dataclass(frozen=True)
class ChestVariation:
    """What may differ between phantoms; the defaults make a calm, complete adult chest.

    Attributes
    ----------
    size
        Scale of the skeleton; 1 is an average adult.
    fat_mm
        Thickness of the fat under the skin.
    arms
        ``up``, ``down`` or ``out`` (outside the scan).
    prone, feet_first
        How the patient lies; the arrays follow what scanners write for it.
    table
        Whether a couch is seen.
    enhancement_hu
        What contrast medium adds to blood; 0 without.
    lung_hu
        Mean of aerated lung.
    nodules, consolidations, emphysema
        Number of each; they count as lung.
    effusion
        Fluid behind one lung; it does not count as lung.
    noise_hu, blur_px
        Standard deviation of the noise; width of the kernel, negative sharpens.
    padding_hu
        Value outside the round field of view; None leaves the corners.
    centre_mm
        (x, y, z) of the middle of the volume; z = -200 shows the abdomen, +60 the upper lungs.
    """

    size: float = 1.0
    fat_mm: float = 14.0
    arms: str = "up"
    prone: bool = False
    feet_first: bool = False
    table: bool = True
    enhancement_hu: float = 120.0
    lung_hu: float = -850.0
    nodules: int = 2
    consolidations: int = 0
    emphysema: int = 0
    effusion: bool = False
    noise_hu: float = 14.0
    blur_px: float = 0.6
    padding_hu: int | None = -1024
    centre_mm: tuple[float, float, float] = (0.0, 12.0, -5.0)


@dataclass(frozen=True)
class ChestPhantom:
    """A phantom and its truth.

    Attributes
    ----------
    volume_hu
        int16 ``(slices, rows, columns)``.
    label_map
        uint8, same shape: 1 the patient's right lung, 2 the left, 0 elsewhere.
    affine_lps
        4x4 float64, index (slice, row, column) to mm in LPS.
    """

    volume_hu: npt.NDArray[np.int16]
    label_map: LabelMap
    affine_lps: Affine


def chest_phantom(
    seed: int,
    shape: tuple[int, int, int] = (104, 256, 256),
    spacing_mm: tuple[float, float, float] = (3.0, 1.5, 1.5),
    *,
    paint: Painter | None = None,
    **variation: Any,
) -> ChestPhantom:
    """Draw a chest from ``seed`` on a grid of ``shape`` (slices, rows, columns).

    ``variation`` sets fields of :class:`ChestVariation`. Grids with more than 288 columns are
    drawn at half the in-plane resolution and refined before the noise is added. ``paint`` adds
    what a chest has besides.

    Raises
    ------
    ValueError
        An unknown variation, an empty shape, or a spacing that is not positive.
    """
    if min(shape) < 1 or min(spacing_mm) <= 0:
        raise ValueError(f"shape {shape} and spacing_mm {spacing_mm} must be positive")
    unknown = set(variation) - {field.name for field in fields(ChestVariation)}
    if unknown:
        raise ValueError(f"unknown variation: {', '.join(sorted(unknown))}")
    chosen = replace(ChestVariation(), **variation)
    rng = np.random.default_rng(seed)
    factor = 2 if shape[2] > LARGEST_DRAWN_COLUMNS else 1
    drawn = (shape[0], -(-shape[1] // factor), -(-shape[2] // factor))
    step = (spacing_mm[0], spacing_mm[1] * factor, spacing_mm[2] * factor)
    canvas = Canvas(drawn, step, chosen.centre_mm)
    labels = _paint_patient(canvas, rng, chosen)
    if paint is not None:
        paint(canvas, rng, labels)
    if factor > 1:
        _refine(canvas, shape)
        labels = _refined_labels(labels, shape)
    volume = _scan(canvas.hu, rng, chosen)
    return _oriented(volume, labels, spacing_mm, chosen)


def random_variation(rng: np.random.Generator) -> dict[str, Any]:
    """Draw a variation for training: bodies, positions, disease, scanners."""
    ill = rng.random() < 0.5
    prone = bool(rng.random() < 0.12)
    return {
        "size": float(rng.uniform(0.78, 1.15)),
        "fat_mm": float(rng.uniform(4.0, 45.0)) if rng.random() < 0.7 else 10.0,
        "arms": str(rng.choice(["up", "down", "out"], p=[0.5, 0.25, 0.25])),
        "prone": prone,
        "table": bool(rng.random() < 0.85),
        "enhancement_hu": float(rng.choice([0.0, 60.0, 150.0, 300.0]))
        * float(rng.uniform(0.6, 1.2)),
        "lung_hu": float(rng.uniform(-920.0, -730.0)),
        "nodules": int(rng.integers(0, 10)) if ill else 0,
        "consolidations": int(rng.integers(0, 5)) if ill and rng.random() < 0.5 else 0,
        "emphysema": int(rng.integers(0, 20)) if ill and rng.random() < 0.4 else 0,
        "effusion": bool(ill and rng.random() < 0.2),
        "noise_hu": float(rng.gamma(2.0, 12.0)),
        "blur_px": float(rng.uniform(-0.6, 1.0)),
        "padding_hu": [None, -1024, -2000, -3024][int(rng.integers(0, 4))],
        "centre_mm": (
            float(rng.normal(0.0, 12.0)),
            float(rng.normal(12.0, 12.0)),
            float(rng.choice([-5.0, -200.0, -90.0, 70.0], p=[0.62, 0.1, 0.18, 0.1])),
        ),
    }


def _paint_patient(canvas: Canvas, rng: np.random.Generator, chosen: ChestVariation) -> LabelMap:
    frame = body_parts.Frame.draw(rng, chosen.size, chosen.fat_mm)
    body = body_parts.paint_wall(canvas, frame)
    cavity, below = chest_parts.thoracic_cavity(canvas, frame)
    cavity &= body
    below &= body
    body_parts.paint_abdomen(canvas, frame, rng, below, chosen.enhancement_hu, chosen.prone)
    middle = chest_parts.paint_mediastinum(canvas, frame, rng, cavity, chosen.enhancement_hu)
    middle |= body_parts.paint_spine(canvas, frame) if body.any() else False
    canvas.hu[~body] = -1000.0
    body_parts.paint_shoulders(canvas, frame, body)
    lungs = cavity & ~middle
    labels = np.where(lungs, np.where(canvas.x < 3.0, RIGHT_LUNG, LEFT_LUNG), 0).astype(np.uint8)
    chest_parts.paint_lung_tissue(canvas, rng, labels, chosen.lung_hu, chosen.prone)
    chest_parts.paint_vessel_trees(canvas, rng, labels, chosen.enhancement_hu)
    chest_parts.paint_disease(
        canvas,
        rng,
        labels,
        nodules=chosen.nodules,
        consolidations=chosen.consolidations,
        emphysema=chosen.emphysema,
        effusion=chosen.effusion,
    )
    labels[chest_parts.paint_airways(canvas, rng)] = 0
    canvas.hu[~body] = -1000.0
    if chosen.table:
        body_parts.paint_table(canvas, frame, rng, body, chosen.prone)
    body_parts.paint_arms(canvas, frame, chosen.arms)
    return labels


def _refine(canvas: Canvas, shape: tuple[int, int, int]) -> None:
    fine = canvas.hu.repeat(2, axis=1).repeat(2, axis=2)[:, : shape[1], : shape[2]]
    canvas.hu = ndimage.uniform_filter(fine, (1, 3, 3))


def _refined_labels(labels: LabelMap, shape: tuple[int, int, int]) -> LabelMap:
    fine = np.zeros(shape, dtype=np.uint8)
    for label in (RIGHT_LUNG, LEFT_LUNG):
        share = (labels == label).astype(np.float32)
        share = share.repeat(2, axis=1).repeat(2, axis=2)[:, : shape[1], : shape[2]]
        fine[ndimage.uniform_filter(share, (1, 3, 3)) > 0.5] = label
    return fine


def _scan(hu: FloatArray, rng: np.random.Generator, chosen: ChestVariation) -> FloatArray:
    """Kernel and noise, then what a 12-bit scanner stores."""
    seen = ndimage.gaussian_filter(hu, (0.3, 0.4, 0.4))
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    if chosen.blur_px > 0.0:
        seen = ndimage.gaussian_filter(seen, (0.3 * chosen.blur_px, chosen.blur_px, chosen.blur_px))
        noise = ndimage.gaussian_filter(noise, (0.0, chosen.blur_px, chosen.blur_px))
        noise /= max(float(noise.std()), 1e-6)
    elif chosen.blur_px < 0.0:
        seen = seen - 2.0 * chosen.blur_px * (seen - ndimage.gaussian_filter(seen, (0.0, 1.0, 1.0)))
    return np.asarray(np.clip(seen + chosen.noise_hu * noise, -1024.0, 3071.0))


def _round_field(shape: tuple[int, int, int]) -> BoolArray:
    rows, columns = shape[1], shape[2]
    r = (np.arange(rows) - (rows - 1) / 2.0)[:, None] / (max(rows, columns) / 2.0)
    c = (np.arange(columns) - (columns - 1) / 2.0)[None, :] / (max(rows, columns) / 2.0)
    return np.asarray(r**2 + c**2 <= 1.0)


def _oriented(
    volume: FloatArray,
    labels: LabelMap,
    spacing_mm: tuple[float, float, float],
    chosen: ChestVariation,
) -> ChestPhantom:
    """Affine of the grid, padding outside the round field, and the order of a real scan."""
    shape = (volume.shape[0], volume.shape[1], volume.shape[2])
    affine = np.zeros((4, 4), dtype=np.float64)
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm
    affine[:3, 3] = [
        chosen.centre_mm[2 - i] - (shape[i] - 1) / 2.0 * spacing_mm[i] for i in (2, 1, 0)
    ]
    affine[3, 3] = 1.0
    stored = np.rint(volume).astype(np.int16)
    if chosen.padding_hu is not None:
        outside = ~_round_field(shape)
        stored[:, outside] = chosen.padding_hu
        labels = labels.copy()
        labels[:, outside] = 0
    flips = (chosen.feet_first, chosen.prone, chosen.prone)
    for axis, flip in enumerate(flips):
        if flip:
            stored, labels = np.flip(stored, axis), np.flip(labels, axis)
            affine[:3, 3] += affine[:3, axis] * (shape[axis] - 1)
            affine[:3, axis] *= -1.0
    return ChestPhantom(np.ascontiguousarray(stored), np.ascontiguousarray(labels), affine)
