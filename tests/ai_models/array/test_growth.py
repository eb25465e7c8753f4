from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_models.array.growth import volume_doubling_time_d


@pytest.mark.parametrize(
    ("volume_ml", "prior_volume_ml", "interval_d", "expected_d"),
    [(2.0, 1.0, 90.0, 90.0), (4.0, 1.0, 90.0, 45.0), (1.25, 1.0, 100.0, 310.628)],
)
def test_the_doubling_time_is_that_of_exponential_growth(
    volume_ml: float, prior_volume_ml: float, interval_d: float, expected_d: float
) -> None:
    found = volume_doubling_time_d(volume_ml, prior_volume_ml, interval_d)
    assert found == pytest.approx(expected_d, abs=1e-3)


@pytest.mark.parametrize("volume_ml", [1.0, 0.5])
def test_what_did_not_grow_has_no_doubling_time(volume_ml: float) -> None:
    assert volume_doubling_time_d(volume_ml, 1.0, 90.0) is None


@given(st.floats(0.01, 1000), st.floats(1, 5000), st.floats(0.1, 8))
def test_growing_for_some_doubling_times_gives_them_back(
    prior_volume_ml: float, doubling_time_d: float, doublings: float
) -> None:
    volume_ml = prior_volume_ml * 2**doublings
    found = volume_doubling_time_d(volume_ml, prior_volume_ml, doublings * doubling_time_d)
    assert found == pytest.approx(doubling_time_d)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_volume_or_interval_is_refused(bad: float) -> None:
    for arguments in ((bad, 1.0, 1.0), (2.0, bad, 1.0), (2.0, 1.0, bad)):
        with pytest.raises(ValueError, match="positive and finite"):
            volume_doubling_time_d(*arguments)
