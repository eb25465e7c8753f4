"""A label map on another grid has the labels it had, where they were."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage

from ai_models.array.relabel import nearest_labels


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flipped", [(), (0,), (1, 2), (0, 1, 2)])
def test_turning_and_flipping_is_exact(order: tuple[int, ...], flipped: tuple[int, ...]) -> None:
    labels = np.random.default_rng(1).integers(0, 250, (5, 6, 7)).astype(np.uint8)
    turned = np.flip(labels.transpose(order), flipped)
    to_labels = np.zeros((4, 4))
    to_labels[3, 3] = 1
    for axis, source in enumerate(order):
        sign = -1 if axis in flipped else 1
        to_labels[source, axis] = sign
        to_labels[source, 3] = labels.shape[source] - 1 if sign < 0 else 0
    assert np.array_equal(nearest_labels(labels, turned.shape, to_labels), turned)


def test_bit_fields_are_moved_whole() -> None:
    labels = np.full((3, 3, 3), (1 << 63) + 1, dtype=np.uint64)
    moved = nearest_labels(labels, (6, 3, 3), np.diag([0.5, 1, 1, 1]))
    assert moved.dtype == np.uint64
    assert set(moved.ravel().tolist()) == {(1 << 63) + 1}


def test_outside_is_background() -> None:
    shift = np.eye(4)
    shift[0, 3] = -2
    moved = nearest_labels(np.ones((3, 3, 3), np.uint8), (8, 3, 3), shift)
    assert moved[:, 0, 0].tolist() == [0, 0, 1, 1, 1, 0, 0, 0]


def test_an_oblique_grid_is_sampled_at_its_own_places() -> None:
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[10:15, 4:8, 4:8] = 9
    angle = np.radians(20)
    index_map = np.eye(4)
    index_map[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    moved = nearest_labels(labels, (20, 20, 20), index_map)
    assert set(np.unique(moved)) == {0, 9}
    centre = np.array([*ndimage.center_of_mass(moved == 9), 1.0])
    assert np.abs((index_map @ centre)[:3] - [12, 5.5, 5.5]).max() < 0.5
