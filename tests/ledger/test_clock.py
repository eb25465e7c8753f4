"""The time of the ledger."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from dicom_node.ledger import clock, rows


@pytest.fixture(autouse=True)
def by_the_computer() -> Iterator[None]:
    yield
    clock.set_by_computer()


def test_a_time_stays_the_same_as_a_date_and_as_a_number() -> None:
    for _ in range(200):
        at = clock.seconds()
        assert rows.to_seconds(rows.to_datetime(at)) == at


def test_it_is_the_computers_until_a_database_says_otherwise(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    before, at, after = datetime.now(UTC), clock.now(), datetime.now(UTC)
    assert before <= at <= after
    clock.set_by_database(1_000_000.0, time.monotonic() - 5.0)
    assert 1_000_005.0 <= clock.seconds() < 1_000_030.0
    # What the computer's clock is set to no longer counts.
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert clock.seconds() >= 1_000_005.0


def test_a_round_trip_is_no_reason_to_step_and_a_clock_that_was_set_is(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    clock.set_by_database(1_000.0, 100.0)
    clock.set_by_database(1_000.01, 100.0)
    assert clock.seconds() == 1_000.0
    clock.set_by_database(1_060.0, 100.0)
    assert clock.seconds() == 1_060.0
