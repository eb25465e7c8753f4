"""Clipping, scaling and the foreground box."""

from __future__ import annotations

import numpy as np

from ai_models.array.intensity import (
    bounds_of,
    foreground_box,
    normalise,
    scale_intensity,
    zscore_of,
)


def test_range_is_clipped_and_mapped_to_its_ends() -> None:
    image = np.array([[[-3000.0, -1000.0, -300.0, 400.0, 3000.0]]], dtype=np.float32)
    scaled = scale_intensity(image, (-1000, 400), (-1, 1))
    np.testing.assert_allclose(scaled, [[[-1, -1, 0, 1, 1]]], atol=1e-6)
    assert scaled.dtype == np.float32


def test_box_holds_the_largest_part_with_its_margin() -> None:
    image = np.full((40, 40, 40), -1000, dtype=np.float32)
    image[10:20, 12:30, 5:9] = 0
    image[35, 35, 35] = 0
    box, voxels = foreground_box(image, -500, 4.0, (2.0, 1.0, 4.0))
    assert box == (slice(8, 22), slice(8, 34), slice(4, 10))
    assert voxels == 10 * 18 * 4


def test_margin_stops_at_the_border() -> None:
    image = np.zeros((4, 5, 6), dtype=np.float32)
    box, _ = foreground_box(image, -500, 40.0, (1.0, 1.0, 1.0))
    assert box == (slice(0, 4), slice(0, 5), slice(0, 6))


def test_image_without_foreground_is_looked_at_whole() -> None:
    image = np.full((4, 5, 6), -1000, dtype=np.float32)
    box, voxels = foreground_box(image, -500, 1.0, (1.0, 1.0, 1.0))
    assert box == (slice(0, 4), slice(0, 5), slice(0, 6))
    assert voxels == 0


def test_image_of_one_value_maps_to_the_lower_end() -> None:
    image = np.full((2, 2, 2), 7, dtype=np.float32)
    assert (scale_intensity(image, bounds_of(image), (-1, 1)) == -1).all()


def test_bounds_are_the_extremes_or_percentiles() -> None:
    image = np.arange(101, dtype=np.float32).reshape(1, 1, 101)
    assert bounds_of(image) == (0, 100)
    assert bounds_of(image, (5, 90)) == (5, 90)


def test_normalised_image_has_mean_zero_and_deviation_one() -> None:
    image = np.random.default_rng(0).normal(300, 40, (8, 9, 10)).astype(np.float32)
    normal = normalise(image, *zscore_of(image, nonzero=False))
    assert abs(float(normal.mean())) < 1e-4
    assert abs(float(normal.std()) - 1) < 1e-4


def test_zeros_stay_zero_and_do_not_count() -> None:
    image = np.array([[[0, 0, 0, 10, 20]]], dtype=np.float32)
    mean, deviation = zscore_of(image, nonzero=True)
    assert (mean, deviation) == (15, 5)
    assert normalise(image, mean, deviation, nonzero=True).ravel().tolist() == [0, 0, 0, -1, 1]


def test_nothing_to_normalise_is_not_divided_by_zero() -> None:
    assert zscore_of(np.full((2, 2, 2), 5, np.float32), nonzero=False) == (5, 1)
    assert zscore_of(np.zeros((2, 2, 2), np.float32), nonzero=True) == (0, 1)
