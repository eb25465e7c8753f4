"""Findings of two examinations paired by their places."""

from __future__ import annotations

import pytest

from ai_models.array.matching import Point, match_places

A, B, C = (0.0, 0.0, 0.0), (0.0, 0.0, 20.0), (50.0, 0.0, 0.0)


def near(point: Point, mm: float) -> Point:
    return (point[0] + mm, point[1], point[2])


@pytest.mark.parametrize(
    ("present", "earlier", "expected"),
    [
        ([A, B], [near(B, 3), near(A, 4)], {0: 1, 1: 0}),
        ([A], [near(A, 15.1)], {}),
        ([A], [near(A, 15.0)], {0: 0}),
        ([A, B, C], [near(C, 1)], {2: 0}),
        # The nearest pair alone would leave the second without one.
        ([A, near(A, 10)], [near(A, 8), near(A, 24)], {0: 0, 1: 1}),
        ([], [A], {}),
        ([A], [], {}),
    ],
)
def test_each_place_is_paired_once_and_with_none_that_is_far(
    present: list[Point], earlier: list[Point], expected: dict[int, int]
) -> None:
    assert match_places(present, earlier, 15.0) == expected
