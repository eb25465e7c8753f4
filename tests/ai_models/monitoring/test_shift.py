"""Like sets of inputs raise no alarm, sets apart do, and the picture is the same each time."""

from __future__ import annotations

import numpy as np
import pytest

from ai_models.monitoring.plane import on_a_plane
from ai_models.monitoring.shift import shift_between, standardised
from ai_models.types import ModelError


def _rows(seed: int, count: int = 40, at: float = 0.0, features: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).normal(at, 1, (count, features))


def test_sets_of_one_kind_raise_no_alarm_but_by_chance() -> None:
    found = [shift_between(_rows(seed), _rows(100 + seed)) for seed in range(20)]
    assert not any(one.is_alarm for one in found)
    assert sum(one.p_value <= 0.05 for one in found) <= 4


def test_a_set_apart_raises_the_alarm() -> None:
    found = shift_between(_rows(1), _rows(2, at=2.0))
    assert found.is_alarm and found.p_value < 0.01 and found.mmd > 5 * found.threshold
    assert found.silhouette > 0.2


def test_sets_of_one_mean_and_another_spread_are_found_apart_by_their_kernel() -> None:
    found = shift_between(_rows(1, 80), 3 * _rows(2, 80))
    assert found.mmd > found.threshold


def test_a_slight_difference_between_many_is_no_alarm() -> None:
    found = shift_between(_rows(1, 400), _rows(2, 400, at=0.2))
    assert found.p_value < 0.01 and not found.is_alarm


def test_the_same_sets_give_the_same_figures() -> None:
    assert shift_between(_rows(1), _rows(2)) == shift_between(_rows(1), _rows(2))


def test_features_that_do_not_vary_are_left_out() -> None:
    first, second = _rows(1), _rows(2, at=2.0)
    first[:, 3] = second[:, 3] = 1e9
    assert shift_between(first, second).is_alarm
    assert not standardised(first)[:, 3].any()
    same = np.ones((8, 3))
    assert not shift_between(same, same).is_alarm


@pytest.mark.parametrize("rows", [
    np.zeros((3, 12)), np.full((9, 12), np.inf), np.zeros(9), np.zeros((9, 5)),
])
def test_what_cannot_be_compared_is_refused(rows: np.ndarray) -> None:
    with pytest.raises(ModelError) as refused:
        shift_between(_rows(1), rows)
    assert refused.value.reason == "model.monitor"


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_two_groups_lie_apart_in_the_picture(method: str) -> None:
    rows = np.concatenate([_rows(1), _rows(2, at=4.0)])
    points = on_a_plane(rows, method)  # type: ignore[arg-type]
    assert points.shape == (80, 2)
    assert np.array_equal(points, on_a_plane(rows, method))  # type: ignore[arg-type]
    between = np.linalg.norm(points[:40].mean(axis=0) - points[40:].mean(axis=0))
    assert between > 2 * points[:40].std()


@pytest.mark.parametrize("rows", [np.zeros((1, 4)), np.zeros((3, 1)), _rows(1, 4)])
def test_few_rows_or_features_give_a_picture_all_the_same(rows: np.ndarray) -> None:
    assert on_a_plane(rows, "tsne").shape == (len(rows), 2)
