"""Jobs and deliveries: each attempt, each state, each object once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.states import IllegalTransition
from dicom_node.records import DeliveryState, JobState, SendOutcome, SeriesState
from tests.ledger.conftest import START, delivery, instance, job, result


@pytest.fixture
def routed(ledger: Ledger) -> Ledger:
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    assert ledger.jobs.route("1.2.3", [job()], "rule: lungs", seen=START)
    return ledger


def test_routing_queues_the_jobs_of_a_series_once(routed: Ledger) -> None:
    routed.index([instance(2, at=START + timedelta(seconds=1))])
    routed.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    routed.jobs.route("1.2.3", [job()], "rule: lungs", seen=START + timedelta(seconds=1))
    assert [j.job_id for j in routed.jobs.latest()] == ["job-1"]


def test_a_slice_that_slips_in_before_routing_stops_it(ledger: Ledger) -> None:
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    ledger.index([instance(2, at=START + timedelta(seconds=1))])
    assert not ledger.jobs.route("1.2.3", [job()], "rule: lungs", seen=START)
    assert ledger.jobs.latest() == []


def test_only_the_current_attempt_of_a_job_can_start(routed: Ledger) -> None:
    assert routed.jobs.start("job-1", 2) is None
    started = routed.jobs.start("job-1", 1)
    assert started is not None and started.state is JobState.RUNNING
    again = routed.jobs.start("job-1", 1)
    assert again is not None
    assert routed.history("job", "job-1")[-1].reason == "resumed_after_restart"


def test_a_transient_failure_queues_the_next_attempt(routed: Ledger) -> None:
    routed.jobs.start("job-1", 1)
    routed.jobs.fail("job-1", "worker.lost", retry_at=START + timedelta(minutes=1))
    found = routed.jobs.find("job-1")
    assert found is not None
    assert (found.state, found.attempt) == (JobState.QUEUED, 2)
    assert found.not_before == START + timedelta(minutes=1)


def test_a_permanent_failure_is_a_dead_letter_that_an_operator_can_retry(routed: Ledger) -> None:
    routed.jobs.start("job-1", 1)
    routed.jobs.fail("job-1", "model.failed", retry_at=None)
    found = routed.jobs.find("job-1")
    assert found is not None and found.state is JobState.DEAD
    assert routed.jobs.retry("job-1").attempt == 2
    with pytest.raises(IllegalTransition):
        routed.jobs.retry("job-1")


def test_a_finished_job_cannot_be_started_or_failed(routed: Ledger) -> None:
    routed.jobs.start("job-1", 1)
    routed.jobs.succeed("job-1", [], [], "no_finding", {})
    assert routed.jobs.start("job-1", 1) is None
    with pytest.raises(IllegalTransition):
        routed.jobs.fail("job-1", "late", retry_at=None)


def test_the_same_object_is_delivered_to_a_destination_once(routed: Ledger) -> None:
    routed.jobs.start("job-1", 1)
    routed.jobs.succeed("job-1", [result(1)], [delivery(1)], "result", {"infer": 1.5})
    routed.index([instance(2, at=START + timedelta(seconds=1))])
    routed.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    routed.jobs.route("1.2.3", [job("job-2")], "rule", seen=START + timedelta(seconds=1))
    routed.jobs.start("job-2", 1)
    routed.jobs.succeed("job-2", [result(1, "job-2")], [delivery(1, "job-2")], "result", {})
    assert [s.key for s in routed.deliveries.open_shipments()] == ["job-1:pacs"]
    assert routed.jobs.seconds_by_stage("job-1") == {"infer": 1.5}


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
