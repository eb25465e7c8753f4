"""Holes, stray parts and parts too small to be meant."""

from __future__ import annotations

import numpy as np

from ai_models.array.postprocess import clean_labels


def two_parts() -> np.ndarray:
    labels = np.zeros((12, 12, 12), dtype=np.uint8)
    labels[1:6, 1:6, 1:6] = 1
    labels[8:10, 8:10, 8:10] = 1
    labels[8:11, 1:3, 1:3] = 2
    return labels


def test_nothing_asked_changes_nothing() -> None:
    labels = two_parts()
    assert np.array_equal(clean_labels(labels, 1.0), labels)


def test_largest_part_of_every_label_stays() -> None:
    cleaned = clean_labels(two_parts(), 1.0, largest_component=True)
    assert (cleaned == 1).sum() == 125
    assert (cleaned == 2).sum() == 12


def test_parts_below_the_smallest_volume_go() -> None:
    cleaned = clean_labels(two_parts(), 0.5, min_volume_ml=5.0)
    assert (cleaned == 1).sum() == 125
    assert (cleaned == 2).sum() == 12
    assert not clean_labels(two_parts(), 0.001, min_volume_ml=5.0).any()


def test_enclosed_hole_is_filled_and_another_label_in_it_stays() -> None:
    labels = np.zeros((9, 9, 9), dtype=np.uint8)
    labels[1:8, 1:8, 1:8] = 1
    labels[3:6, 3:6, 3:6] = 0
    labels[4, 4, 4] = 2
    cleaned = clean_labels(labels, 1.0, fill_holes=True)
    assert cleaned[4, 4, 4] == 2
    assert (cleaned == 1).sum() == 7**3 - 1


def test_open_cavity_is_no_hole() -> None:
    labels = np.zeros((9, 9, 9), dtype=np.uint8)
    labels[1:8, 1:8, 1:8] = 1
    labels[4, 4, :5] = 0
    assert np.array_equal(clean_labels(labels, 1.0, fill_holes=True), labels)


def test_parts_touching_at_an_edge_only_are_two() -> None:
    labels = np.zeros((4, 4, 4), dtype=np.uint8)
    labels[0, 0:2, 0:2] = 1
    labels[1, 2, 2] = 1
    assert (clean_labels(labels, 1.0, largest_component=True) == 1).sum() == 4


def test_input_is_left_alone() -> None:
    labels = two_parts()
    clean_labels(labels, 1.0, largest_component=True)
    assert np.array_equal(labels, two_parts())


def test_a_hole_of_an_image_is_one_that_its_plane_encloses() -> None:
    ring = np.zeros((1, 9, 9), dtype=np.uint8)
    ring[0, 2:7, 2:7] = 1
    ring[0, 4, 4] = 0
    assert clean_labels(ring, 1.0, fill_holes=True)[0, 4, 4] == 1
    in_a_volume = np.concatenate([ring, np.zeros_like(ring)])
    assert clean_labels(in_a_volume, 1.0, fill_holes=True)[0, 4, 4] == 0
