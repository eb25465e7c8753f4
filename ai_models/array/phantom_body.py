"""Body wall, bones, arms, abdomen and table of the chest phantom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ai_models.array.phantom_canvas import BoolArray, Canvas, FloatArray

FAT_HU = -100.0
MUSCLE_HU = 50.0
BONE_HU = 320.0


@dataclass(frozen=True)
class Frame:
    """Sizes of one body, in mm about the middle of the chest (x left, y posterior, z superior)."""

    half_width_mm: float
    half_depth_mm: float
    fat_mm: float
    wall_mm: float
    apex_z_mm: float
    dome_right_z_mm: float
    dome_left_z_mm: float
    dome_height_mm: float
    spine_y_mm: float
    exponent: float

    @classmethod
    def draw(cls, rng: np.random.Generator, size: float, fat_mm: float) -> Frame:
        """Draw a body; ``size`` scales the skeleton (1 is an average adult)."""
        wall = float(rng.uniform(14.0, 20.0)) * size
        half_width = float(rng.uniform(138.0, 156.0)) * size + fat_mm
        half_depth = float(rng.uniform(92.0, 112.0)) * size + fat_mm
        dome = float(rng.uniform(-75.0, -45.0)) * size
        inner_depth = half_depth - fat_mm - wall
        return cls(
            half_width_mm=half_width,
            half_depth_mm=half_depth,
            fat_mm=fat_mm,
            wall_mm=wall,
            apex_z_mm=float(rng.uniform(105.0, 135.0)) * size,
            dome_right_z_mm=dome,
            dome_left_z_mm=dome - float(rng.uniform(-4.0, 22.0)),
            dome_height_mm=float(rng.uniform(45.0, 85.0)) * size,
            spine_y_mm=inner_depth - float(rng.uniform(22.0, 32.0)) * size,
            exponent=float(rng.uniform(2.1, 2.7)),
        )


def smoothstep(low: float, high: float, value: npt.NDArray[np.float32]) -> FloatArray:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float32)


def level(
    canvas: Canvas, frame: Frame, half_width: FloatArray, half_depth: FloatArray
) -> FloatArray:
    """Superellipse level, 1 on the curve whose half axes are given per slice."""
    n = frame.exponent
    return np.asarray(
        (np.abs(canvas.x) / half_width) ** n + (np.abs(canvas.y) / half_depth) ** n,
        dtype=np.float32,
    )


def skin_axes(canvas: Canvas, frame: Frame) -> tuple[FloatArray, FloatArray]:
    """Half width and half depth of the skin per slice, ``(slices, 1, 1)``."""
    shoulders = smoothstep(frame.apex_z_mm - 50.0, frame.apex_z_mm, canvas.z)
    neck = smoothstep(frame.apex_z_mm + 25.0, frame.apex_z_mm + 70.0, canvas.z)
    width = frame.half_width_mm + 25.0 * shoulders
    width = width * (1.0 - neck) + 65.0 * neck
    depth = frame.half_depth_mm * (1.0 - 0.25 * shoulders)
    depth = depth * (1.0 - neck) + 62.0 * neck
    return np.asarray(width, dtype=np.float32), np.asarray(depth, dtype=np.float32)


def cavity_axes(canvas: Canvas, frame: Frame) -> tuple[FloatArray, FloatArray]:
    """Half width and half depth of the inner wall of the ribs per slice, ``(slices, 1, 1)``."""
    narrowing = np.clip((canvas.z - 10.0) / (frame.apex_z_mm - 10.0), 0.0, 1.5) ** 1.6
    margin = frame.fat_mm + frame.wall_mm
    width = (frame.half_width_mm - margin) * (1.0 - 0.33 * narrowing)
    depth = (frame.half_depth_mm - margin) * (1.0 - 0.22 * narrowing)
    return np.asarray(width, dtype=np.float32), np.asarray(depth, dtype=np.float32)


def paint_wall(canvas: Canvas, frame: Frame) -> BoolArray:
    """Skin, fat, muscle and ribs; returns the body mask."""
    width, depth = skin_axes(canvas, frame)
    body: BoolArray = level(canvas, frame, width, depth) < 1.0
    canvas.hu[body] = MUSCLE_HU
    canvas.hu[body & (level(canvas, frame, width - 2.0, depth - 2.0) < 1.0)] = FAT_HU
    fat = frame.fat_mm
    canvas.hu[level(canvas, frame, width - fat, depth - fat) < 1.0] = MUSCLE_HU
    inner_width, inner_depth = cavity_axes(canvas, frame)
    _paint_ribs(canvas, frame, inner_width, inner_depth, body)
    return body


def _paint_ribs(
    canvas: Canvas, frame: Frame, width: FloatArray, depth: FloatArray, body: BoolArray
) -> None:
    in_shell = (level(canvas, frame, width + 10.0, depth + 10.0) < 1.0) & (
        level(canvas, frame, width + 2.0, depth + 2.0) > 1.0
    )
    phase = np.mod(canvas.z + 0.45 * canvas.y, 27.0)
    ribs = in_shell & (phase < 10.0) & body & (canvas.z < frame.apex_z_mm + 5.0)
    ribs &= np.abs(canvas.x) > 18.0
    canvas.hu[ribs] = BONE_HU
    canvas.hu[ribs & (phase > 2.5) & (phase < 7.5)] = 180.0
    sternum = (np.abs(canvas.x) < 17.0) & (canvas.z > -60.0) & (canvas.z < frame.apex_z_mm - 20.0)
    sternum = sternum & (canvas.y < -depth - 2.0) & (canvas.y > -depth - 12.0) & body
    canvas.hu[sternum] = 220.0


def paint_spine(canvas: Canvas, frame: Frame) -> BoolArray:
    """Vertebrae with discs, canal and processes; returns the mask that lungs leave free."""
    y = frame.spine_y_mm
    body = ((canvas.x / 18.0) ** 2 + ((canvas.y - y) / 15.0) ** 2 < 1.0) & (canvas.z < 1e4)
    body = np.broadcast_to(body, canvas.hu.shape)
    rim = ((canvas.x / 15.5) ** 2 + ((canvas.y - y) / 12.5) ** 2 > 1.0) & body
    disc = body & (np.mod(canvas.z + 5.0, 24.0) < 5.0)
    canvas.hu[body] = 190.0
    canvas.hu[rim] = 420.0
    canvas.hu[disc] = 80.0
    arch = (np.abs(canvas.x) < 27.0 - 0.35 * (canvas.y - y)) & (canvas.y > y + 8.0)
    arch = np.broadcast_to(arch & (canvas.y < y + 42.0), canvas.hu.shape)
    bony = arch & (np.mod(canvas.z, 24.0) < 13.0) & (np.abs(canvas.x) < 22.0)
    canvas.hu[arch] = np.where(bony[arch], 280.0, MUSCLE_HU)
    canal = (canvas.x / 9.0) ** 2 + ((canvas.y - y - 22.0) / 8.0) ** 2 < 1.0
    canvas.hu[np.broadcast_to(canal, canvas.hu.shape)] = 25.0
    free = ((canvas.x / 23.0) ** 2 + ((canvas.y - y) / 19.0) ** 2 < 1.0) & (canvas.z < 1e4)
    gutter = (np.abs(canvas.x) < 24.0) & (canvas.y > y)
    return np.broadcast_to(free | gutter, canvas.hu.shape)


def paint_shoulders(canvas: Canvas, frame: Frame, body: BoolArray) -> None:
    """Shoulder blades, collar bones and the heads of the upper arms."""
    top = frame.apex_z_mm
    inner = frame.half_depth_mm - frame.fat_mm
    for side in (-1.0, 1.0):
        blade = (side * 95.0, inner * 0.72, top - 55.0)
        tip = (side * 70.0, inner * 0.9, top - 95.0)
        canvas.paint_capsule(blade, tip, 5.0, 260.0, body)
        canvas.paint_capsule(blade, (side * 130.0, 20.0, top - 10.0), 7.0, 300.0, body)
        canvas.paint_capsule(
            (side * 18.0, -inner * 0.62, top - 12.0),
            (side * 120.0, -5.0, top + 22.0),
            6.5,
            330.0,
            body,
        )
        canvas.paint_ellipsoid((side * 142.0, 5.0, top), (22.0, 22.0, 24.0), 300.0, body)


def paint_arms(canvas: Canvas, frame: Frame, arms: str) -> None:
    """Upper arms beside the head (``up``), beside the chest (``down``), or none (``out``)."""
    if arms == "out":
        return
    for side in (-1.0, 1.0):
        shoulder = (side * 140.0, 5.0, frame.apex_z_mm)
        hand = (
            (side * 115.0, 0.0, frame.apex_z_mm + 300.0)
            if arms == "up"
            else (side * (frame.half_width_mm + 46.0), 15.0, frame.apex_z_mm - 420.0)
        )
        outside = canvas.hu < -500.0
        canvas.paint_capsule(shoulder, hand, 44.0, FAT_HU, outside)
        outside = canvas.hu < 0.0
        canvas.paint_capsule(shoulder, hand, 38.0, MUSCLE_HU, outside)
        canvas.paint_capsule(shoulder, hand, 11.0, 450.0)
        canvas.paint_capsule(shoulder, hand, 6.0, 60.0)


def paint_table(
    canvas: Canvas, frame: Frame, rng: np.random.Generator, body: BoolArray, prone: bool
) -> None:
    """Curved couch below the patient: shell, foam, and a thin mattress."""
    down = -canvas.y if prone else canvas.y
    gap = float(rng.uniform(0.0, 8.0))
    curve = float(rng.uniform(0.0, 0.0009))
    top = frame.half_depth_mm + gap - curve * canvas.x**2
    thickness = float(rng.uniform(18.0, 50.0))
    wide = np.abs(canvas.x) < float(rng.uniform(190.0, 260.0))
    free = ~body & wide & (canvas.z < 1e4)
    inside = free & (down > top) & (down < top + thickness)
    shell = inside & ((down < top + 3.0) | (down > top + thickness - 3.0))
    mattress = free & (down > top - float(rng.uniform(0.0, 14.0))) & (down <= top)
    empty = canvas.hu < -500.0
    canvas.hu[inside & empty] = float(rng.uniform(-990.0, -880.0))
    canvas.hu[shell & empty] = float(rng.uniform(-500.0, 150.0))
    canvas.hu[mattress & empty] = float(rng.uniform(-980.0, -700.0))


def paint_abdomen(
    canvas: Canvas,
    frame: Frame,
    rng: np.random.Generator,
    below: BoolArray,
    enhancement_hu: float,
    prone: bool,
) -> None:
    """Liver, spleen, stomach with its bubble, bowel and kidneys under the diaphragm."""
    canvas.hu[below] = FAT_HU + 10.0
    dome = frame.dome_right_z_mm
    scale = frame.half_width_mm / 165.0
    liver_end = dome - float(rng.uniform(110.0, 160.0))
    edge = 35.0 * scale - 0.6 * np.maximum(0.0, dome - 40.0 - canvas.z)
    liver = (
        below & (canvas.x < edge) & (canvas.z > liver_end) & (canvas.y < frame.spine_y_mm + 40.0)
    )
    canvas.hu[liver] = 55.0 + 0.3 * enhancement_hu
    left = frame.dome_left_z_mm
    canvas.paint_ellipsoid(
        (95.0 * scale, 35.0, left - 40.0), (38.0, 45.0, 48.0), 50.0 + 0.4 * enhancement_hu, below
    )
    _paint_gut(canvas, rng, below, left, scale, prone)
    for side in (-1.0, 1.0):
        kidney = (side * 55.0 * scale, frame.spine_y_mm - 5.0, dome - 130.0)
        canvas.paint_ellipsoid(kidney, (28.0, 26.0, 55.0), 35.0 + 0.8 * enhancement_hu, below)


def _paint_gut(
    canvas: Canvas,
    rng: np.random.Generator,
    below: BoolArray,
    left_dome_z: float,
    scale: float,
    prone: bool,
) -> None:
    up = 1.0 if prone else -1.0
    loops = [((55.0 * scale, -25.0, left_dome_z - 32.0), rng.uniform(28.0, 45.0, 3))]
    for _ in range(int(rng.integers(6, 16))):
        centre = rng.uniform([-110.0, -70.0, -260.0], [110.0, 15.0, -70.0])
        loops.append(
            (
                (float(centre[0]), float(centre[1]), left_dome_z + 60.0 + float(centre[2])),
                rng.uniform(12.0, 32.0, 3),
            )
        )
    if rng.random() < 0.5:
        flexure = (85.0 * scale, -20.0, left_dome_z - float(rng.uniform(18.0, 40.0)))
        loops.append((flexure, rng.uniform(16.0, 34.0, 3)))
    for centre_mm, radii in loops:
        found = canvas.ellipsoid(centre_mm, (float(radii[0]), float(radii[1]), float(radii[2])))
        if found is None:
            continue
        box, mask = found
        mask = mask & below[box]
        content = float(rng.choice([20.0, 30.0, -60.0, 200.0], p=[0.4, 0.3, 0.2, 0.1]))
        canvas.hu[box][mask] = content
        gas_above = centre_mm[1] + up * float(rng.uniform(-0.8, 1.0)) * float(radii[1])
        gas = mask & ((up * canvas.y[:, box[1]]) > up * gas_above)
        canvas.hu[box][gas & (canvas.z[box[0]] < 1e4)] = -1000.0
        if rng.random() < 0.25:
            stool = mask & (rng.random(mask.shape) < 0.45)
            canvas.hu[box][stool] = float(rng.uniform(-900.0, -200.0))
