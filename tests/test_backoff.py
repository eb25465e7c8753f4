from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.backoff import FIRST_DELAY_S, LONGEST_DELAY_S, delay_s


def test_first_delay_is_at_most_five_seconds_and_no_less_than_half_of_it() -> None:
    assert delay_s(1, 1.0) == FIRST_DELAY_S == 5.0
    assert delay_s(1, 0.0) == 2.5


def test_delay_doubles_until_fifteen_minutes() -> None:
    delays_s = [delay_s(attempt, 1.0) for attempt in range(1, 12)]
    assert delays_s[:8] == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0]
    assert set(delays_s[8:]) == {LONGEST_DELAY_S} == {900.0}


@given(st.integers(1, 10**9), st.floats(0, 1))
def test_delay_never_leaves_its_bounds(attempt: int, random: float) -> None:
    assert FIRST_DELAY_S / 2 <= delay_s(attempt, random) <= LONGEST_DELAY_S


def test_random_spreads_deliveries_that_failed_together() -> None:
    assert len({delay_s(5, tenth / 10) for tenth in range(10)}) == 10


def test_four_days_of_a_dead_peer_are_some_hundred_attempts_not_thousands() -> None:
    waited_s = itertools.accumulate(delay_s(attempt, 0.5) for attempt in itertools.count(1))
    attempts = sum(1 for _ in itertools.takewhile(lambda s: s < 96 * 3600, waited_s))
    assert 300 < attempts < 700


@pytest.mark.parametrize(("attempt", "random"), [(0, 0.5), (-1, 0.5), (1, -0.1), (1, 1.1)])
def test_impossible_arguments_are_refused(attempt: int, random: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        delay_s(attempt, random)
