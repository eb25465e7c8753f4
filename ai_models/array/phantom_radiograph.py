"""A simple chest radiograph, drawn on any raster: no side of it is like another."""

from __future__ import annotations

import numpy as np

from ai_models.types import Image

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


def radiograph_phantom(shape: tuple[int, int]) -> Image:
    """The picture in ``shape`` (rows, columns): float32, 0 to 1, white high."""
    row_mm, column_mm = (length / count for length, count in zip(SIZE_MM, shape, strict=True))
    down = ((np.arange(shape[0]) + 0.5) * row_mm)[:, None]
    across = ((np.arange(shape[1]) + 0.5) * column_mm)[None, :]
    picture = np.full(shape, 0.02)
    for (y, x), (height, width), white in _PARTS:
        reach = np.hypot((down - y) / height, (across - x) / width)
        share = np.clip((1 - reach) * min(height, width) / _EDGE_MM + 0.5, 0.0, 1.0)
        picture += share * (white - picture)
    return Image(picture.astype(np.float32), (row_mm, column_mm))
