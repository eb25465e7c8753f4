"""Lungs, airways, vessels, heart and disease of the chest phantom."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ai_models.array.phantom_body import Frame, cavity_axes, level
from ai_models.array.phantom_canvas import BoolArray, Canvas, FloatArray, Point

RIGHT_LUNG = 1
LEFT_LUNG = 2
MUSCLE_MM = 4.0
LabelMap = npt.NDArray[np.uint8]


def diaphragm_height(canvas: Canvas, frame: Frame) -> FloatArray:
    """Height z of the diaphragm in mm over every (row, column), ``(1, rows, columns)``."""
    width = frame.half_width_mm - frame.fat_mm - frame.wall_mm
    depth = frame.half_depth_mm - frame.fat_mm - frame.wall_mm
    domes = []
    for side, top in ((-1.0, frame.dome_right_z_mm), (1.0, frame.dome_left_z_mm)):
        away = ((canvas.x - side * 0.5 * width) / (0.62 * width)) ** 2
        away = away + ((canvas.y + 0.2 * depth) / (0.95 * depth)) ** 2
        domes.append(top - frame.dome_height_mm * np.minimum(away, 2.2))
    return np.asarray(np.where(canvas.x < 0.0, domes[0], domes[1]), dtype=np.float32)


def thoracic_cavity(canvas: Canvas, frame: Frame) -> tuple[BoolArray, BoolArray]:
    """Inside of the ribs above the diaphragm, and inside of the wall below it."""
    width, depth = cavity_axes(canvas, frame)
    inside = level(canvas, frame, width, depth) < 1.0
    away = ((np.abs(canvas.x) - 52.0) / 45.0) ** 2 + ((canvas.y - 8.0) / 62.0) ** 2
    cap = frame.apex_z_mm - 24.0 * away
    diaphragm = diaphragm_height(canvas, frame)
    above = canvas.z > diaphragm
    return inside & above & (canvas.z < cap), inside & (canvas.z < diaphragm - MUSCLE_MM)


def paint_mediastinum(
    canvas: Canvas,
    frame: Frame,
    rng: np.random.Generator,
    cavity: BoolArray,
    enhancement_hu: float,
) -> BoolArray:
    """Heart, great vessels, hila and fat between the lungs; returns their mask."""
    middle = np.zeros(canvas.hu.shape, dtype=bool)
    depth = frame.half_depth_mm - frame.fat_mm - frame.wall_mm
    centred = np.exp(-(((canvas.y - 0.05 * depth) / (0.5 * depth)) ** 2))
    upper = 1.0 / (1.0 + np.exp(-(canvas.z - 30.0) / 12.0))
    half = float(rng.uniform(2.5, 7.0)) + centred * (13.0 + float(rng.uniform(8.0, 20.0)) * upper)
    shift = float(rng.uniform(-4.0, 6.0)) + 6.0 * (1.0 - upper)
    middle |= np.abs(canvas.x - shift) < half
    canvas.hu[middle & cavity] = -80.0
    blood = 40.0 + enhancement_hu
    size = float(rng.uniform(0.85, 1.25))
    tilt = float(rng.uniform(14.0, 32.0))
    solids: list[tuple[Point, Point, float]] = [
        ((tilt, -0.3 * depth, -45.0), (60.0 * size, 46.0 * size, 58.0 * size), blood),
        ((-14.0, -0.2 * depth, -30.0), (38.0 * size, 42.0 * size, 50.0 * size), blood),
        ((tilt + 18.0, -0.25 * depth, -62.0), (42.0, 40.0, 40.0), 60.0 + 0.4 * enhancement_hu),
    ]
    for side in (-1.0, 1.0):
        hilum = (side * 40.0 + 4.0, 8.0, float(rng.uniform(-8.0, 14.0)))
        solids.append((hilum, (14.0, 15.0, 20.0), blood))
    for centre, radii, hu in solids:
        found = canvas.ellipsoid(centre, radii)
        if found is not None:
            box, mask = found
            middle[box] |= mask
            canvas.hu[box][mask & cavity[box]] = hu
    _paint_great_vessels(canvas, frame, rng, cavity, middle, blood)
    return middle


def _paint_great_vessels(
    canvas: Canvas,
    frame: Frame,
    rng: np.random.Generator,
    cavity: BoolArray,
    middle: BoolArray,
    blood_hu: float,
) -> None:
    spine = frame.spine_y_mm
    arch = float(rng.uniform(45.0, 62.0))
    radius = float(rng.uniform(11.0, 16.0))
    back: Point = (26.0, spine - 18.0, arch)
    tubes: list[tuple[Point, Point, float]] = [
        (back, (18.0, spine - 24.0, -320.0), radius),
        ((-10.0, -25.0, -15.0), (-8.0, -22.0, arch), radius + 3.0),
        ((-8.0, -22.0, arch), back, radius),
        ((-27.0, -15.0, -5.0), (-24.0, -12.0, 110.0), 9.0),
        ((-20.0, -5.0, -30.0), (-18.0, 0.0, -110.0), 12.0),
        ((12.0, -28.0, -5.0), (20.0, -8.0, 22.0), 14.0),
        ((18.0, -5.0, arch), (26.0, 5.0, 150.0), 7.0),
        ((-2.0, -14.0, arch), (-22.0, -4.0, 150.0), 8.0),
    ]
    for start, end, size in tubes:
        found = canvas.capsule_distance(start, end, size + 3.0)
        if found is not None:
            box, distance = found
            middle[box] |= (distance < size + 2.0) & cavity[box]
            canvas.hu[box][distance < size] = blood_hu
    gullet: Point = (8.0, spine - 22.0, 200.0)
    canvas.paint_capsule(gullet, (8.0, spine - 22.0, -100.0), 8.0, 40.0)
    if rng.random() < 0.5:
        height = float(rng.uniform(-60.0, 100.0))
        canvas.paint_capsule(
            (8.0, spine - 22.0, height), (8.0, spine - 22.0, height + 25.0), 4.0, -950.0
        )


def paint_airways(canvas: Canvas, rng: np.random.Generator) -> BoolArray:
    """Trachea and main bronchi with their wall; returns the mask of both."""
    radius = float(rng.uniform(7.0, 10.0))
    carina = float(rng.uniform(22.0, 40.0))
    y = float(rng.uniform(2.0, 12.0))
    split: Point = (0.0, y, carina)
    hila: list[Point] = [(-42.0, y + 4.0, carina - 25.0), (46.0, y + 6.0, carina - 32.0)]
    tubes: list[tuple[Point, Point, float]] = [((2.0, y - 8.0, 320.0), split, radius)]
    tubes += [(split, end, 0.72 * radius) for end in hila]
    airway = np.zeros(canvas.hu.shape, dtype=bool)
    for start, end, size in tubes:
        found = canvas.capsule_distance(start, end, size + 4.0)
        if found is not None:
            box, distance = found
            wall = distance < size + 2.0
            airway[box] |= wall
            canvas.hu[box][wall] = 30.0
    for start, end, size in tubes:
        found = canvas.capsule_distance(start, end, size)
        if found is not None:
            box, distance = found
            canvas.hu[box][distance < size] = -1000.0
    return airway


def paint_lung_tissue(
    canvas: Canvas, rng: np.random.Generator, labels: LabelMap, mean_hu: float, prone: bool
) -> None:
    """Aerated lung: gravity gradient, slow texture and fine grain."""
    lungs = labels > 0
    sign = -1.0 if prone else 1.0
    gradient = sign * float(rng.uniform(0.1, 0.6)) * canvas.y
    coarse_shape = tuple(max(2, n // 8) for n in canvas.hu.shape)
    coarse = rng.normal(0.0, 25.0, coarse_shape).astype(np.float32)
    zoom = [n / c for n, c in zip(canvas.hu.shape, coarse_shape, strict=True)]
    texture = ndimage.zoom(coarse, zoom, order=1, grid_mode=True, mode="nearest")
    grain = rng.normal(0.0, 18.0, canvas.hu.shape).astype(np.float32)
    tissue = mean_hu + gradient + texture + grain
    canvas.hu[lungs] = np.clip(tissue, -990.0, -500.0)[lungs]


def paint_vessel_trees(
    canvas: Canvas, rng: np.random.Generator, labels: LabelMap, enhancement_hu: float
) -> None:
    """Branching vessels from both hila into the lungs, thinner at every branching."""
    for label, side in ((RIGHT_LUNG, -1.0), (LEFT_LUNG, 1.0)):
        lung = labels == label
        root = np.array([side * 42.0, 8.0, 4.0])
        for _ in range(14):
            aim = rng.normal(0.0, 1.0, 3) + np.array([side * 0.9, 0.1, 0.0])
            _grow_branch(
                canvas, rng, lung, root, aim, float(rng.uniform(2.6, 5.0)), 0, 40.0 + enhancement_hu
            )


def _grow_branch(
    canvas: Canvas,
    rng: np.random.Generator,
    lung: BoolArray,
    start: npt.NDArray[np.float64],
    aim: npt.NDArray[np.float64],
    radius: float,
    depth: int,
    hu: float,
) -> None:
    if depth > 5 or radius < 0.5:
        return
    direction = aim / max(float(np.linalg.norm(aim)), 1e-6)
    end = start + direction * float(rng.uniform(18.0, 34.0)) * 0.88**depth
    canvas.paint_capsule(
        (float(start[0]), float(start[1]), float(start[2])),
        (float(end[0]), float(end[1]), float(end[2])),
        radius,
        hu,
        lung,
    )
    for _ in range(2):
        turn = direction + rng.normal(0.0, 0.45, 3)
        _grow_branch(
            canvas, rng, lung, end, turn, radius * float(rng.uniform(0.62, 0.82)), depth + 1, hu
        )


def _point_in(rng: np.random.Generator, canvas: Canvas, lungs: BoolArray) -> Point | None:
    indices = np.flatnonzero(lungs)
    if indices.size == 0:
        return None
    s, r, c = np.unravel_index(int(rng.choice(indices)), lungs.shape)
    return (float(canvas.x[0, 0, c]), float(canvas.y[0, r, 0]), float(canvas.z[s, 0, 0]))


def paint_disease(
    canvas: Canvas,
    rng: np.random.Generator,
    labels: LabelMap,
    *,
    nodules: int,
    consolidations: int,
    emphysema: int,
    effusion: bool,
) -> None:
    """Nodules, consolidation and emphysema (still lung), and effusion (no longer lung)."""
    lungs = labels > 0
    plans = [("nodule", (3.0, 12.0))] * nodules + [("dense", (8.0, 26.0))] * consolidations
    plans += [("bulla", (6.0, 26.0))] * emphysema
    for kind, sizes in plans:
        centre = _point_in(rng, canvas, lungs)
        if centre is None:
            return
        radii = rng.uniform(*sizes) * rng.uniform(0.7, 1.3, 3)
        hu = {"nodule": 30.0, "bulla": -975.0}.get(kind, float(rng.uniform(-600.0, 20.0)))
        canvas.paint_ellipsoid(
            centre, (float(radii[0]), float(radii[1]), float(radii[2])), hu, lungs
        )
    if effusion:
        side = int(rng.integers(RIGHT_LUNG, LEFT_LUNG + 1))
        rows = canvas.y.ravel()
        lung = labels == side
        if lung.any():
            deepest = float(rows[np.flatnonzero(lung.any(axis=(0, 2)))[-1]])
            surface = deepest - float(rng.uniform(8.0, 45.0)) + 0.15 * (canvas.z + 60.0)
            fluid = lung & (canvas.y > surface)
            canvas.hu[fluid] = float(rng.uniform(0.0, 20.0))
            labels[fluid] = 0
