"""Closing series on a real ledger: the reasons it records, and what it never closes over."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.config import CompletenessSettings
from dicom_node.events import Events
from dicom_node.intake.closing import SeriesCloser
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.receipts import Receipts
from dicom_node.records import Association, Instance, Series, SeriesState
from tests.ledger.conftest import instance

LONG_AGO = datetime.now(UTC) - timedelta(days=1)
SETTINGS = CompletenessSettings(quiet_period_s=20, after_release_s=2, give_up_after_s=7 * 86400)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "ledger.db")
    yield opened
    opened.close()


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def closer(ledger: Ledger, clock: Clock | None = None) -> SeriesCloser:
    return SeriesCloser(ledger, SETTINGS, Events(), clock or Clock())


def state(ledger: Ledger) -> tuple[SeriesState, str]:
    found = ledger.receipts.find_series("1.2.3")
    assert found is not None
    return found.state, found.reason


def released(at: datetime) -> Association:
    return Association("one", "CT01", "listener", at, at, "released")


def test_a_released_series_is_closed_with_its_reason_and_count(ledger: Ledger) -> None:
    at = datetime.now(UTC) - timedelta(seconds=5)
    ledger.index([instance(n, at=at) for n in range(3)], [released(at)])
    assert closer(ledger).close_complete() == 1
    assert state(ledger) == (SeriesState.COMPLETE, "association_released, 3 instances")
    assert closer(ledger).close_complete() == 0


def test_a_series_that_still_arrives_is_left_alone(ledger: Ledger) -> None:
    now = datetime.now(UTC)
    ledger.index([instance(1, at=now)], [Association("one", "CT01", "listener", now)])
    assert closer(ledger).close_complete() == 0
    assert state(ledger)[0] is SeriesState.RECEIVING


def test_the_closer_knows_when_it_may_close_what_it_left_open(ledger: Ledger) -> None:
    clock, now = Clock(), datetime.now(UTC)
    looking = SeriesCloser(ledger, SETTINGS, Events(), clock, today=lambda: now)
    assert looking.next_due_in_s() == math.inf
    ledger.index([instance(1, at=now)], [released(now)])
    assert looking.close_complete() == 0
    assert looking.next_due_in_s() == pytest.approx(SETTINGS.after_release_s)
    clock.now_s += 0.5
    assert looking.next_due_in_s() == pytest.approx(SETTINGS.after_release_s - 0.5)
    clock.now_s += looking.next_due_in_s() + 0.001
    assert looking.next_due_in_s() == 0.0
    assert looking.close_complete() == 1
    looking.close_complete()
    assert looking.next_due_in_s() == math.inf


def test_a_series_with_a_hole_waits_and_closes_when_the_slice_comes(ledger: Ledger) -> None:
    slices = [instance(n, at=LONG_AGO) for n in range(20) if n != 7]
    ledger.index(slices, [released(LONG_AGO)])
    looking = closer(ledger)
    assert looking.close_complete() == 0
    assert looking.close_complete() == 0
    ledger.index([instance(7, at=LONG_AGO)])
    assert looking.close_complete() == 1
    assert state(ledger)[1].endswith("20 instances")


def test_the_instances_of_a_waiting_series_are_read_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.index([instance(n, at=LONG_AGO) for n in range(20) if n != 7], [released(LONG_AGO)])
    read = []
    original = Receipts.instances

    def counted(receipts: Receipts, uid: str) -> list[Instance]:
        read.append(uid)
        return original(receipts, uid)

    monkeypatch.setattr(Receipts, "instances", counted)
    looking = closer(ledger)
    for _ in range(5):
        looking.close_complete()
    assert len(read) == 1


def test_a_slice_that_slips_in_during_the_decision_keeps_the_series_open(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.index([instance(1, at=LONG_AGO)], [released(LONG_AGO)])
    original = Receipts.instances

    def late(receipts: Receipts, uid: str) -> list[Instance]:
        found = original(receipts, uid)
        ledger.index([instance(2, at=datetime.now(UTC))])
        return found

    monkeypatch.setattr(Receipts, "instances", late)
    assert closer(ledger).close_complete() == 0
    assert state(ledger)[0] is SeriesState.RECEIVING


def test_a_clock_that_was_set_back_delays_a_series_and_does_not_keep_it_open(
    ledger: Ledger,
) -> None:
    ahead = datetime.now(UTC) + timedelta(days=3650)
    ledger.index([instance(1, at=ahead)], [released(ahead)])
    clock = Clock()
    looking = closer(ledger, clock)
    assert looking.close_complete() == 0
    clock.now_s += 1.0
    assert looking.close_complete() == 0
    clock.now_s += SETTINGS.quiet_period_s
    assert looking.close_complete() == 1


def test_an_arrival_starts_the_wait_anew_whatever_its_clock_said(ledger: Ledger) -> None:
    ahead = datetime.now(UTC) + timedelta(days=1)
    ledger.index([instance(1, at=ahead)])
    clock = Clock()
    looking = closer(ledger, clock)
    looking.close_complete()
    clock.now_s += 15.0
    ledger.index([instance(2, at=ahead - timedelta(hours=2))])
    assert looking.close_complete() == 0
    clock.now_s += 15.0
    assert looking.close_complete() == 0
    clock.now_s += 6.0
    assert looking.close_complete() == 1


def test_one_series_that_another_process_closed_does_not_stop_the_others(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.index([instance(1, at=LONG_AGO)], [released(LONG_AGO)])
    ledger.index([instance(1, series="1.2.4", at=LONG_AGO)])
    both = ledger.receipts.series_in(SeriesState.RECEIVING)
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "another process")

    def stale(_receipts: Receipts, _state: SeriesState) -> list[Series]:
        return both

    monkeypatch.setattr(Receipts, "series_in", stale)
    assert closer(ledger).close_complete() == 1
    assert state(ledger)[1] == "another process"


def test_nothing_is_closed_while_a_listener_holds_what_it_cannot_tell(ledger: Ledger) -> None:
    ledger.index([instance(1, at=LONG_AGO)], [released(LONG_AGO)])
    waiting = [5.0]
    looking = SeriesCloser(ledger, SETTINGS, Events(), waiting_s=lambda: waiting[0])
    assert looking.close_complete() == 0
    waiting[0] = 0.3
    assert looking.close_complete() == 1


def test_what_begins_to_wait_while_the_closer_waits_for_the_ledger_is_not_closed_over(
    ledger: Ledger,
) -> None:
    ledger.index([instance(1, at=LONG_AGO)], [released(LONG_AGO)])
    # Nothing waits when the round begins, and something does when it has the write lock.
    answers = iter([0.0, 30.0])
    looking = SeriesCloser(ledger, SETTINGS, Events(), waiting_s=lambda: next(answers))
    assert looking.close_complete() == 0
    assert state(ledger)[0] is SeriesState.RECEIVING


def test_a_listener_that_can_never_tell_does_not_keep_all_series_open(ledger: Ledger) -> None:
    ledger.index([instance(1, at=LONG_AGO)], [released(LONG_AGO)])
    assert SeriesCloser(ledger, SETTINGS, Events(), waiting_s=lambda: 3600.0).close_complete() == 1


def test_a_clock_that_jumps_ahead_neither_closes_a_series_nor_gives_up_on_it(
    ledger: Ledger,
) -> None:
    at = datetime.now(UTC)
    ledger.index([instance(n, at=at) for n in range(20) if n != 7])
    clock, today = Clock(), [at]
    looking = SeriesCloser(ledger, SETTINGS, Events(), clock, today=lambda: today[0])
    assert looking.close_complete() == 0
    today[0] += timedelta(days=3650)
    assert looking.close_complete() == 0, "a hole is waited for as long as the settings say"
    clock.now_s += SETTINGS.give_up_after_s + 1
    assert looking.close_complete() == 1
    assert "gave_up_waiting" in state(ledger)[1]
