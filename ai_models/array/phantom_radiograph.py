"""A simple radiograph of a chest or of a hand, drawn on any raster: no side of it is like another.
"""

from __future__ import annotations

import numpy as np

from ai_models.types import Image

_Part = tuple[tuple[float, float], tuple[float, float], float, float]
SIZE_MM = (380.0, 340.0)
"""Height and width of what is shown."""
_EDGE_MM = 5.0
# Middle (from the top left) and half axes of an ellipse in mm, and how white it is: the body,
# the lungs (the patient's right one on the left), heart, spine, a nodule and a marker.
_PARTS = (
    ((205.0, 170.0), (220.0, 165.0), 0.75),
    ((180.0, 95.0), (120.0, 55.0), 0.2),
    ((170.0, 245.0), (110.0, 50.0), 0.25),
    ((230.0, 190.0), (60.0, 65.0), 0.8),
    ((190.0, 168.0), (240.0, 18.0), 0.9),
    ((140.0, 100.0), (14.0, 14.0), 0.6),
    ((30.0, 310.0), (10.0, 16.0), 1.0),
)

_HAND_MM = (256.0, 229.0)
# Base from the top left in mm, direction in degrees (to the thumb), length and half width: of each
# ray its flesh and, after a gap each, its bones.
_RAYS = (
    ((150.0, 140.0), 40.0, (40.0, 28.0, 20.0)), ((132.0, 125.0), 9.0, (38.0, 24.0, 16.0)),
    ((130.0, 110.0), 1.0, (42.0, 27.0, 17.0)), ((134.0, 96.0), -7.0, (38.0, 25.0, 16.0)),
    ((142.0, 83.0), -16.0, (30.0, 18.0, 15.0)),
)
_FOREARM = (
    ((190.0, 108.0), (52.0, 40.0), 0.35), ((250.0, 106.0), (70.0, 30.0), 0.4),
    ((165.0, 84.0), (22.0, 4.0), 0.65), ((163.0, 97.0), (25.0, 4.5), 0.65),
    ((160.0, 111.0), (27.0, 4.5), 0.65), ((162.0, 124.0), (26.0, 4.5), 0.65),
    ((196.0, 100.0), (8.0, 9.0), 0.7), ((198.0, 116.0), (9.0, 7.0), 0.7),
    ((209.0, 104.0), (6.0, 10.0), 0.7), ((255.0, 116.0), (38.0, 11.0), 0.85),
    ((255.0, 93.0), (36.0, 6.5), 0.8), ((20.0, 210.0), (10.0, 6.0), 1.0),
)


def radiograph_phantom(shape: tuple[int, int]) -> Image:
    """A chest in ``shape`` (rows, columns): float32, 0 to 1, white high."""
    return _drawn(shape, SIZE_MM, [(middle, half, 0.0, white) for middle, half, white in _PARTS])


def hand_phantom(shape: tuple[int, int]) -> Image:
    """A left hand of a child in ``shape`` (rows, columns), the fingers at the top."""
    parts = [(middle, half, 0.0, white) for middle, half, white in _FOREARM[:2]]
    bones = [(middle, half, 0.0, white) for middle, half, white in _FOREARM[2:]]
    for (down, across), degrees, lengths in _RAYS:
        angle = np.deg2rad(degrees)
        whole = sum(lengths) + 14.0
        middle = (down - np.cos(angle) * whole / 2, across + np.sin(angle) * whole / 2)
        parts.append((middle, (whole / 2, 8.0), degrees, 0.3))
        reached = 0.0
        for length in lengths:
            away = reached + length / 2
            bones.append((
                (down - np.cos(angle) * away, across + np.sin(angle) * away),
                (length / 2, 3.6), degrees, 0.6,
            ))
            reached += length + 3.0
    return _drawn(shape, _HAND_MM, parts + bones)


def _drawn(shape: tuple[int, int], size_mm: tuple[float, float], parts: list[_Part]) -> Image:
    row_mm, column_mm = (length / count for length, count in zip(size_mm, shape, strict=True))
    down = ((np.arange(shape[0]) + 0.5) * row_mm)[:, None]
    across = ((np.arange(shape[1]) + 0.5) * column_mm)[None, :]
    picture = np.full(shape, 0.02)
    for (y, x), (height, width), degrees, white in parts:
        turn = np.deg2rad(degrees)
        along = (down - y) * np.cos(turn) - (across - x) * np.sin(turn)
        aside = (down - y) * np.sin(turn) + (across - x) * np.cos(turn)
        edge_mm = min(_EDGE_MM, min(height, width) / 2)
        reach = np.hypot(along / height, aside / width)
        share = np.clip((1 - reach) * min(height, width) / edge_mm + 0.5, 0.0, 1.0)
        picture += share * (white - picture)
    return Image(picture.astype(np.float32), (row_mm, column_mm))
