"""Boxes anywhere in the patient become voxels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ai_models.array.marked_boxes import BoxMask, centre_voxel, marked_box

SHAPE = (12, 40, 48)
Matrix = npt.NDArray[np.float64]


def grid(step_mm: tuple[float, float, float] = (2.5, 1.0, 1.25), turned: float = 0.0) -> Matrix:
    """Slices to Superior, rows to Posterior, columns to Left, turned about z; oblique origin."""
    affine = np.eye(4)
    c, s = np.cos(turned), np.sin(turned)
    directions = np.array([[0, -s, c], [0, c, s], [1, 0, 0]])
    affine[:3, :3] = directions * step_mm
    affine[:3, 3] = (-20.0, -15.0, 100.0)
    return affine


def box_about(
    affine: Matrix, index: tuple[float, float, float], size_mm: tuple[float, float, float]
) -> Matrix:
    """A box along the patient's axes x, y, z whose centre is at an index."""
    centre = (affine @ np.array([*index, 1.0]))[:3]
    box = np.eye(4)
    box[:3, :3] = np.diag(size_mm)
    box[:3, 3] = centre - np.asarray(size_mm) / 2
    return box


def drawn(box: Matrix, affine: Matrix, mask: BoxMask) -> npt.NDArray[np.bool_]:
    found = marked_box(box, affine, SHAPE, mask)
    assert found is not None
    whole = np.zeros(SHAPE, bool)
    whole[found[0]] = found[1]
    return whole


@pytest.mark.parametrize("turned", [0.0, 0.5])
def test_the_marked_voxels_are_those_whose_centres_lie_inside(turned: float) -> None:
    affine = grid(turned=turned)
    size_mm = (14.0, 9.0, 12.0)
    box = box_about(affine, (5.2, 18.3, 20.7), size_mm)
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij")).reshape(3, -1)
    points = (affine @ np.vstack([index, np.ones(index.shape[1])]))[:3]
    offset = (points - (box @ [0.5, 0.5, 0.5, 1])[:3, None]) / np.asarray(size_mm)[:, None]
    in_box = (np.abs(offset) <= 0.5).all(axis=0).reshape(SHAPE)
    in_ellipsoid = ((offset**2).sum(axis=0) <= 0.25).reshape(SHAPE)
    np.testing.assert_array_equal(drawn(box, affine, "box"), in_box)
    np.testing.assert_array_equal(drawn(box, affine, "ellipsoid"), in_ellipsoid)


def test_the_volume_of_a_large_ellipsoid_is_that_of_the_ellipsoid() -> None:
    affine = grid()
    marked = drawn(box_about(affine, (6, 20, 24), (30.0, 24.0, 20.0)), affine, "ellipsoid")
    volume_mm3 = marked.sum() * 2.5 * 1.0 * 1.25
    assert volume_mm3 == pytest.approx(np.pi / 6 * 30 * 24 * 20, rel=0.04)


@pytest.mark.parametrize("mask", ["box", "ellipsoid"])
@pytest.mark.parametrize("size_mm", [(0.2, 0.2, 0.2), (0.0, 0.0, 0.0), (0.0, 0.5, 3.0)])
def test_a_box_smaller_than_a_voxel_marks_the_voxel_at_its_centre(
    mask: BoxMask, size_mm: tuple[float, float, float]
) -> None:
    affine = grid()
    marked = drawn(box_about(affine, (5.4, 18.3, 20.7), size_mm), affine, mask)
    assert marked[5, 18, 21]
    assert marked.sum() <= 4


@pytest.mark.parametrize("along", [5.0, 5.3, 5.5])
def test_what_is_thinner_than_a_slice_is_seen_at_its_width(along: float) -> None:
    affine = grid(step_mm=(5.0, 1.0, 1.0))
    box = box_about(affine, (along, 20, 24), (10.0, 10.0, 2.0))
    assert drawn(box, affine, "box").sum(axis=(1, 2)).max() == 11 * 11
    assert drawn(box, affine, "ellipsoid").sum(axis=(1, 2)).max() > 0.5 * np.pi / 4 * 100


def test_what_reaches_over_the_edge_is_cut_there() -> None:
    affine = grid()
    marked = drawn(box_about(affine, (0.0, 0.2, 47.0), (10.0, 10.0, 10.0)), affine, "box")
    assert marked[0, 0, 47]
    assert marked.sum() < 10 * 10 * 10 / (2.5 * 1.25) / 2


@pytest.mark.parametrize("index", [(-0.6, 5, 5), (12.0, 5, 5), (5, 40.1, 5), (5, 5, -300)])
def test_a_box_whose_centre_is_not_on_the_grid_marks_nothing(
    index: tuple[float, float, float],
) -> None:
    affine = grid()
    box = box_about(affine, index, (20.0, 20.0, 20.0))
    assert marked_box(box, affine, SHAPE, "ellipsoid") is None


def test_a_flipped_grid_has_its_centre_where_it_lies() -> None:
    affine = grid(step_mm=(-2.5, -1.0, 1.25))
    assert centre_voxel(box_about(affine, (3, 7, 9), (2.0, 2.0, 2.0)), affine) == (3, 7, 9)
