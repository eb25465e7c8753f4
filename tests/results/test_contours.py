from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from dicom_node.results.contours import border, largest_section, outline, outlines


def area(points: np.ndarray) -> float:
    x, y = points[:-1, 0], points[:-1, 1]
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def test_the_outline_of_one_pixel_is_its_square_from_its_outer_corner() -> None:
    plane = np.zeros((4, 5), bool)
    plane[2, 3] = True
    assert outline(plane).tolist() == [[3, 2], [4, 2], [4, 3], [3, 3], [3, 2]]


def test_a_rectangle_needs_four_corners_and_closes() -> None:
    plane = np.zeros((6, 8), bool)
    plane[1:4, 2:7] = True
    assert outline(plane).tolist() == [[2, 1], [7, 1], [7, 4], [2, 4], [2, 1]]


@settings(max_examples=60, deadline=None)
@given(arrays(bool, (7, 9)))
def test_the_outline_encloses_exactly_the_pixels_of_its_part(plane: np.ndarray) -> None:
    parts, count = ndimage.label(plane)
    for number in range(1, count + 1):
        points = outline(parts == number)
        assert points[0].tolist() == points[-1].tolist()
        filled = ndimage.binary_fill_holes(np.pad(parts == number, 1), np.ones((3, 3)))
        assert area(points) == filled.sum()
        assert points.min() >= 0
        assert points[:, 0].max() <= 9
        assert points[:, 1].max() <= 7


def filled_even_odd(loops: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre an odd number of outline edges lies to the left of."""
    crossings = np.zeros((shape[0], shape[1] + 1), int)
    for points in loops:
        for (x0, y0), (x1, y1) in zip(points[:-1].astype(int), points[1:].astype(int), strict=True):
            assert (x0 == x1) != (y0 == y1)
            crossings[min(y0, y1) : max(y0, y1), x0] += x0 == x1
    return np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1


@settings(max_examples=100, deadline=None)
@given(arrays(bool, (7, 9)))
def test_all_outlines_filled_by_the_even_odd_rule_are_the_mask(plane: np.ndarray) -> None:
    loops = outlines(plane)
    assert (filled_even_odd(loops, plane.shape) == plane).all()
    parts = ndimage.label(plane)[1]
    holes = ndimage.label(~np.pad(plane, 1), np.ones((3, 3)))[1] - 1
    assert len(loops) == parts + holes
    assert all(points[0].tolist() == points[-1].tolist() for points in loops)


def test_pixels_that_touch_at_a_corner_have_outlines_of_their_own() -> None:
    plane = np.zeros((4, 4), bool)
    plane[0, 1] = plane[1, 0] = plane[2, 2] = plane[3, 3] = True
    assert [area(points) for points in outlines(plane)] == [1, 1, 1, 1]


def test_a_border_is_the_rim_of_the_mask_and_stays_inside_it() -> None:
    plane = np.zeros((9, 9), bool)
    plane[1:8, 0:7] = True
    plane[4, 3] = False
    assert border(plane).sum() == 24 + 4
    assert not border(plane)[~plane].any()
    assert border(plane)[3, 0]
    assert border(plane, 2).sum() == 48


def test_the_largest_section_is_measured_in_millimetres() -> None:
    mask = np.zeros((3, 10, 12), bool)
    mask[1, 2:8, 1:5] = True
    mask[2, 2:4, 1:5] = True
    section = largest_section(mask.astype(np.uint8), 1, (2.0, 0.5))
    assert section.slice_index == 1
    assert section.area_mm2 == pytest.approx(6 * 2.0 * 4 * 0.5)
    assert section.long_axis_mm == pytest.approx(np.hypot(12, 2), abs=0.01)


def test_of_several_parts_the_largest_is_outlined() -> None:
    mask = np.zeros((1, 10, 12), bool)
    mask[0, 0:2, 0:2] = True
    mask[0, 5:9, 5:9] = True
    section = largest_section(mask.astype(np.uint8), 1, (1.0, 1.0))
    assert section.area_mm2 == 16
    assert section.points.min() == 5


@settings(max_examples=40, deadline=None)
@given(arrays(bool, (8, 8)), st.sampled_from([(1.0, 1.0), (0.7, 0.9)]))
def test_the_long_axis_is_the_largest_distance_of_two_corners(
    plane: np.ndarray, spacing_mm: tuple[float, float]
) -> None:
    if not plane.any():
        return
    section = largest_section(plane[None].astype(np.uint8), 1, spacing_mm)
    corners = section.points * np.asarray(spacing_mm[::-1])
    distances = np.linalg.norm(corners[:, None] - corners[None], axis=-1)
    assert section.long_axis_mm == pytest.approx(distances.max(), rel=1e-3)
