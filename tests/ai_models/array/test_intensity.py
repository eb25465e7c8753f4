"""Clipping, scaling and the foreground box."""

from __future__ import annotations

import numpy as np

from ai_models.array.intensity import foreground_box, scale_intensity


def test_range_is_clipped_and_mapped_to_its_ends() -> None:
    image = np.array([[[-3000.0, -1000.0, -300.0, 400.0, 3000.0]]], dtype=np.float32)
    scaled = scale_intensity(image, (-1000, 400), (-1, 1))
    np.testing.assert_allclose(scaled, [[[-1, -1, 0, 1, 1]]], atol=1e-6)
    assert scaled.dtype == np.float32


def test_box_holds_the_largest_part_with_its_margin() -> None:
    image = np.full((40, 40, 40), -1000, dtype=np.float32)
    image[10:20, 12:30, 5:9] = 0
    image[35, 35, 35] = 0
    box = foreground_box(image, -500, 4.0, (2.0, 1.0, 4.0))
    assert box == (slice(8, 22), slice(8, 34), slice(4, 10))


def test_margin_stops_at_the_border() -> None:
    image = np.zeros((4, 5, 6), dtype=np.float32)
    assert foreground_box(image, -500, 40.0, (1.0, 1.0, 1.0)) == (
        slice(0, 4), slice(0, 5), slice(0, 6))


def test_image_without_foreground_is_looked_at_whole() -> None:
    image = np.full((4, 5, 6), -1000, dtype=np.float32)
    assert foreground_box(image, -500, 1.0, (1.0, 1.0, 1.0)) == (
        slice(0, 4), slice(0, 5), slice(0, 6))
