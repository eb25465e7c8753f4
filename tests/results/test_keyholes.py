from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from dicom_node.results.keyholes import polygons

PLANES = arrays(bool, (9, 11), elements=st.sampled_from([True, True, True, False]))


def windings(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """How often a polygon runs around the centre of each pixel."""
    around = np.zeros(shape, int)
    for (column, row), (_, end) in zip(points, np.roll(points, -1, axis=0), strict=True):
        for crossed in range(*sorted((int(row), int(end)))):
            around[crossed, int(np.ceil(column - 0.5)) :] += 1 if end < row else -1
    return around


@settings(max_examples=150, deadline=None)
@given(PLANES)
def test_polygons_give_the_mask_back_by_every_rule_of_filling(plane: np.ndarray) -> None:
    around = [windings(points, plane.shape) for points in polygons(plane)]
    by_winding = np.zeros(plane.shape, int) + sum(np.abs(one) for one in around)
    by_parity = np.zeros(plane.shape, int) + sum(one % 2 for one in around)
    assert np.array_equal(by_winding, plane.astype(int))
    assert np.array_equal(by_parity, plane.astype(int))


@settings(max_examples=50, deadline=None)
@given(PLANES)
def test_every_part_is_one_polygon_whatever_holes_it_has(plane: np.ndarray) -> None:
    assert len(polygons(plane)) == ndimage.label(plane)[1]


def test_a_hole_is_reached_through_a_channel_beside_the_pixel_centres() -> None:
    plane = np.ones((3, 3), bool)
    plane[1, 1] = False
    (points,) = polygons(plane)
    assert points.tolist() == [
        [0, 0], [1.25, 0], [1.25, 1], [1, 1], [1, 2], [2, 2], [2, 1], [1.25, 1], [1.25, 0],
        [3, 0], [3, 3], [0, 3],
    ]  # fmt: skip


def test_nothing_has_no_polygon() -> None:
    assert polygons(np.zeros((4, 4), bool)) == []
