"""Deliveries: what each destination answered, once for each object."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dicom_node.ledger.ledger import Ledger
from dicom_node.records import DeliveryState, SendOutcome, SeriesState
from tests.ledger.conftest import START, delivery, instance, job, result

LATER = START + timedelta(minutes=2)


@pytest.fixture
def routed(ledger: Ledger) -> Ledger:
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    assert ledger.jobs.route("1.2.3", [job()], "rule: lungs", seen=START)
    return ledger


def _made(ledger: Ledger, *numbers: int) -> None:
    ledger.jobs.start("job-1", 1)
    ledger.jobs.succeed(
        "job-1", [result(n) for n in numbers], [delivery(n) for n in numbers], "result", {}
    )


def _answer(number: int, *, stored: bool, transient: bool = False) -> SendOutcome:
    return SendOutcome(f"2.25.{number}", 0 if stored else 0xA700, stored, transient, "said")


def test_a_delivery_ends_as_the_peer_answered(routed: Ledger) -> None:
    routed.jobs.start("job-1", 1)
    routed.jobs.succeed(
        "job-1", [result(n) for n in (1, 2, 3)], [delivery(n) for n in (1, 2, 3)], "result", {}
    )
    later = START + timedelta(minutes=2)
    first, second, third = routed.deliveries.pending("job-1", "pacs")
    stored = SendOutcome(first.sop_instance_uid, 0x0000, True, False, "stored")
    busy = SendOutcome(second.sop_instance_uid, 0xA700, False, True, "peer.busy")
    refused = SendOutcome(third.sop_instance_uid, 0xC000, False, False, "peer.refused")
    record = routed.deliveries.record
    assert record(first.delivery_id, stored, retry_at=later) is DeliveryState.SENT
    assert record(second.delivery_id, busy, retry_at=later) is DeliveryState.PENDING
    assert record(third.delivery_id, refused, retry_at=later) is DeliveryState.DEAD
    (shipment,) = routed.deliveries.open_shipments()
    assert (shipment.attempt, shipment.not_before) == (2, later)
    assert [d.delivery_id for d in routed.deliveries.pending("job-1", "pacs")] == [
        second.delivery_id
    ]
    assert routed.deliveries.retry_dead("job-1") == 1


def test_what_another_attempt_has_brought_to_an_end_stays_as_it_is(routed: Ledger) -> None:
    _made(routed, 1)
    record = routed.deliveries.record
    assert record("job-1:pacs:01", _answer(1, stored=True), retry_at=LATER) is DeliveryState.SENT
    busy = _answer(1, stored=False, transient=True)
    assert record("job-1:pacs:01", busy, retry_at=LATER) is DeliveryState.SENT
    assert routed.deliveries.open_shipments() == []
    assert [t.to_state for t in routed.history("delivery", "job-1:pacs:01")] == ["pending", "sent"]


def test_a_transient_answer_after_the_time_for_retries_is_the_last(routed: Ledger) -> None:
    _made(routed, 1)
    busy = _answer(1, stored=False, transient=True)
    assert routed.deliveries.record("job-1:pacs:01", busy, retry_at=None) is DeliveryState.DEAD
    assert routed.deliveries.jobs_with_dead() == ["job-1"]


def test_an_operator_gives_dead_deliveries_their_whole_time_again(routed: Ledger) -> None:
    _made(routed, 1, 2)
    routed.deliveries.record("job-1:pacs:01", _answer(1, stored=False), retry_at=None)
    asked_at = routed.deliveries.started_at(routed.deliveries.of_job("job-1")[:1])
    assert routed.deliveries.retry_dead("job-1") == 1
    (again,) = [d for d in routed.deliveries.pending("job-1", "pacs") if d.attempt == 2]
    assert routed.deliveries.started_at([again]) > asked_at
    assert routed.deliveries.jobs_with_dead() == []


def test_a_shipment_that_moved_on_is_not_bumped(routed: Ledger) -> None:
    _made(routed, 1)
    (old,) = routed.deliveries.open_shipments()
    busy = _answer(1, stored=False, transient=True)
    routed.deliveries.record("job-1:pacs:01", busy, retry_at=LATER)
    routed.deliveries.record("job-1:pacs:01", busy, retry_at=LATER)
    routed.deliveries.bump(old)
    (now,) = routed.deliveries.open_shipments()
    assert now.attempt == 3
    routed.deliveries.bump(now)
    assert routed.deliveries.open_shipments()[0].attempt == 4
