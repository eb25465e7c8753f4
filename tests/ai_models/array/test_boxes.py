"""Boxes in one form, and of those that overlap only the best."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_models.array.boxes import best_of_overlapping, clipped, corners_of, overlaps
from ai_models.types import FloatArray, ModelError


def boxes(*values: list[float]) -> FloatArray:
    return np.array(values, dtype=np.float32)


def test_corners_stay_and_centres_become_corners() -> None:
    corners = boxes([1, 2, 3, 5, 8, 11])
    np.testing.assert_array_equal(corners_of(corners, "corners"), corners)
    np.testing.assert_array_equal(
        corners_of(boxes([3, 5, 7, 4, 6, 8]), "center_size"), corners)
    np.testing.assert_array_equal(
        corners_of(boxes([3, 5, 4, 6]), "center_size"), boxes([1, 2, 5, 8]))


def test_sizes_taken_for_corners_are_an_error() -> None:
    with pytest.raises(ModelError, match="not corners") as caught:
        corners_of(boxes([30, 50, 70, 4, 6, 8]), "corners")
    assert caught.value.reason == "model.wrong_output"


def test_boxes_end_with_the_input() -> None:
    np.testing.assert_array_equal(
        clipped(boxes([-1, 2, 3, 50, 8, 11]), (10, 10, 10)), boxes([0, 2, 3, 10, 8, 10]))


def test_overlap_is_intersection_over_union() -> None:
    one = boxes([0, 0, 0, 2, 2, 2])[0]
    found = overlaps(one, boxes(
        [0, 0, 0, 2, 2, 2], [1, 0, 0, 3, 2, 2], [2, 0, 0, 4, 2, 2], [0, 0, 0, 2, 2, 1]))
    np.testing.assert_allclose(found, [1, 1 / 3, 0, 0.5], atol=1e-6)


def test_box_without_extent_overlaps_nothing() -> None:
    point = boxes([1, 1, 1, 1, 1, 1])
    assert overlaps(point[0], point).tolist() == [0.0]


def test_better_one_of_two_stays() -> None:
    corners = boxes([0, 0, 0, 4, 4, 4], [1, 0, 0, 5, 4, 4], [20, 0, 0, 24, 4, 4])
    kept = best_of_overlapping(corners, np.array([0.6, 0.9, 0.7], np.float32), 0.22, 64)
    assert kept.tolist() == [1, 2]


def test_of_equal_scores_the_first_stays() -> None:
    corners = boxes([0, 0, 0, 4, 4, 4], [0, 0, 0, 4, 4, 4])
    kept = best_of_overlapping(corners, np.array([0.9, 0.9], np.float32), 0.5, 64)
    assert kept.tolist() == [0]


def test_nothing_found_is_an_answer() -> None:
    empty = np.zeros((0, 6), np.float32)
    assert best_of_overlapping(empty, np.zeros(0, np.float32), 0.2, 64).size == 0


def test_as_many_as_allowed_are_no_noise_and_one_more_is() -> None:
    starts = np.arange(5, dtype=np.float32)[:, None] * 10
    corners = np.concatenate([np.repeat(starts, 3, 1), np.repeat(starts + 4, 3, 1)], axis=1)
    scores = np.full(5, 0.8, np.float32)
    assert len(best_of_overlapping(corners, scores, 0.2, 5)) == 5
    with pytest.raises(ModelError, match="more than 4") as caught:
        best_of_overlapping(corners, scores, 0.2, 4)
    assert caught.value.reason == "model.too_many_findings"


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_what_stays_never_overlaps_and_what_goes_overlaps_a_better_one(
    seed: int, share: float
) -> None:
    random = np.random.default_rng(seed)
    low = random.uniform(0, 20, (12, 3)).astype(np.float32)
    corners = np.concatenate([low, low + random.uniform(1, 8, (12, 3))], 1).astype(np.float32)
    scores = random.random(12, dtype=np.float32)
    kept = best_of_overlapping(corners, scores, share, 64)
    for position, one in enumerate(kept):
        assert (overlaps(corners[one], corners[kept[:position]]) <= share).all()
    for gone in set(range(12)) - set(kept.tolist()):
        better = [one for one in kept if scores[one] >= scores[gone]]
        assert (overlaps(corners[gone], corners[better]) > share).any()
