"""Deliveries: what each destination answered, once for each object."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dicom_node.ledger.ledger import Ledger
from dicom_node.records import DeliveryState, SendOutcome
from tests.ledger.conftest import START, delivery, result

LATER = START + timedelta(minutes=2)


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


@pytest.mark.parametrize(
    ("stored", "state"), [(True, DeliveryState.SENT), (False, DeliveryState.DEAD)]
)
def test_the_answer_for_one_that_was_left_failed_is_recorded_and_not_asked_for_for_ever(
    routed: Ledger, stored: bool, state: DeliveryState
) -> None:
    _made(routed, 1)
    with routed._database.write() as connection:
        connection.execute(sa.text("UPDATE deliveries SET state = 'failed'"))
    (one,) = routed.deliveries.pending("job-1", "pacs")
    answered = _answer(1, stored=stored)
    assert routed.deliveries.record(one.delivery_id, answered, retry_at=LATER) is state
    assert routed.deliveries.pending("job-1", "pacs") == []


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


def test_a_shipment_says_whose_study_it_is_who_sent_the_images_and_how_urgent_it_is(
    routed: Ledger,
) -> None:
    _made(routed, 1, 2)
    (shipment,) = routed.deliveries.open_shipments()
    assert (shipment.study_instance_uid, shipment.sender_ae_title) == ("1.2", "CT01")
    assert (shipment.key, shipment.priority) == ("job-1:pacs", "routine")
    assert shipment.created_at == routed.deliveries.started_at(routed.deliveries.of_job("job-1"))
    assert routed.deliveries.open_shipments(besides={"pacs"}) == []
    assert routed.deliveries.open_shipments(besides={"other"}) == [shipment]


def test_what_was_not_tried_is_put_off_without_a_failure(routed: Ledger) -> None:
    _made(routed, 1, 2)
    routed.deliveries.put_off("job-1:pacs:01", LATER)
    first, second = routed.deliveries.of_job("job-1")
    assert (first.state, first.attempt, first.not_before) == (DeliveryState.PENDING, 2, LATER)
    assert (second.attempt, second.not_before) == (1, START)
    assert [t.to_state for t in routed.history("delivery", "job-1:pacs:01")] == ["pending"]
    stored = _answer(1, stored=True)
    routed.deliveries.record("job-1:pacs:01", stored, retry_at=None)
    routed.deliveries.put_off("job-1:pacs:01", LATER + timedelta(hours=1))
    assert routed.deliveries.of_job("job-1")[0].not_before == LATER


def test_only_what_was_asked_for_too_long_ago_is_given_up(routed: Ledger) -> None:
    _made(routed, 1, 2, 3)
    routed.deliveries.record("job-1:pacs:01", _answer(1, stored=True), retry_at=None)
    routed.deliveries.record("job-1:pacs:02", _answer(2, stored=False), retry_at=None)
    (shipment,) = routed.deliveries.open_shipments()
    routed.deliveries.retry_dead("job-1")
    assert routed.deliveries.give_up(shipment, shipment.created_at, "peer.unreachable") == 1
    sent, again, given_up = routed.deliveries.of_job("job-1")
    assert (sent.state, again.state) == (DeliveryState.SENT, DeliveryState.PENDING)
    assert (given_up.state, given_up.reason) == (DeliveryState.DEAD, "peer.unreachable")
    history = routed.history("delivery", "job-1:pacs:03")
    assert [t.to_state for t in history] == ["pending", "failed", "dead"]


def test_an_operator_hurries_what_waits_and_nothing_else(routed: Ledger) -> None:
    _made(routed, 1, 2)
    routed.deliveries.record("job-1:pacs:01", _answer(1, stored=True), retry_at=None)
    routed.deliveries.put_off("job-1:pacs:02", LATER + timedelta(days=3650))
    before = datetime.now(UTC)
    assert routed.deliveries.hurry("job-1") == 1
    sent, waiting = routed.deliveries.of_job("job-1")
    assert sent.not_before == START
    assert before - timedelta(seconds=1) <= waiting.not_before <= datetime.now(UTC)
    assert routed.deliveries.hurry("job-2") == 0


def test_what_is_asked_for_anew_keeps_its_place_before_what_belongs_to_it(routed: Ledger) -> None:
    _made(routed, 1, 2)
    routed.deliveries.record("job-1:pacs:01", _answer(1, stored=False), retry_at=None)
    routed.deliveries.retry_dead("job-1")
    waiting = routed.deliveries.pending("job-1", "pacs")
    assert [one.delivery_id for one in waiting] == ["job-1:pacs:01", "job-1:pacs:02"]


def test_what_is_sent_is_not_looked_at_to_find_what_waits(routed: Ledger) -> None:
    _made(routed, 1)
    said: list[tuple[str, Any]] = []
    database = routed._database

    def listen(_c: Any, _u: Any, statement: str, parameters: Any, *_: Any) -> None:
        said.append((statement, parameters))

    sa.event.listen(database._reading, "before_cursor_execute", listen)
    routed.deliveries.open_shipments(besides={"away"})
    sa.event.remove(database._reading, "before_cursor_execute", listen)
    ((statement, parameters),) = said
    if not database.is_sqlite:
        with database.write() as connection:
            # It would rather read a table of one page as a whole.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            plan = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).all()
        assert any("deliveries_by_state" in row[0] for row in plan)
        return
    with database.read() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    steps = [row[3] for row in plan]
    assert any("SEARCH deliveries USING INDEX deliveries_by_state" in step for step in steps)
    assert not [step for step in steps if step.startswith("SCAN") and "deliveries" in step]
