"""What an operator decides about jobs, beside a node that runs or not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.overtaking import Overtaken
from dicom_node.ledger.states import IllegalTransition
from dicom_node.records import DeliveryState, Job, JobState, SeriesState
from tests.ledger.conftest import START, delivery, job, result


def found(ledger: Ledger) -> Job:
    read = ledger.jobs.find("job-1")
    assert read is not None
    return read


def test_a_held_job_does_not_start_until_it_is_released(routed: Ledger) -> None:
    routed.decisions.hold("job-1")
    assert routed.jobs.start("job-1", 1) is None
    assert routed.jobs.waiting(longest_delay_s=60) == []
    released = routed.decisions.release("job-1")
    assert (released.state, released.attempt) == (JobState.QUEUED, 2)
    assert routed.jobs.start("job-1", 1) is None, "what the engine had is the former attempt"
    assert routed.jobs.start("job-1", 2) is not None


@pytest.mark.parametrize("decision", ["hold", "cancel"])
def test_a_running_job_that_was_decided_on_records_no_results(
    routed: Ledger, decision: str
) -> None:
    routed.jobs.start("job-1", 1)
    assert routed.jobs.runs("job-1", 1)
    getattr(routed.decisions, decision)("job-1")
    assert not routed.jobs.runs("job-1", 1)
    with pytest.raises(Overtaken):
        routed.jobs.succeed("job-1", [result(1)], [delivery(1)], "result", {}, attempt=1)
    assert routed.jobs.results("job-1") == []


def test_results_that_were_recorded_first_stay(routed: Ledger) -> None:
    routed.jobs.start("job-1", 1)
    routed.jobs.succeed("job-1", [result(1)], [delivery(1)], "result", {}, attempt=1)
    for decision in (routed.decisions.hold, routed.decisions.cancel, routed.decisions.release):
        with pytest.raises(IllegalTransition):
            decision("job-1")
    assert found(routed).state is JobState.SUCCEEDED


def test_only_a_held_job_is_released(routed: Ledger) -> None:
    with pytest.raises(IllegalTransition):
        routed.decisions.release("job-1")
    routed.decisions.cancel("job-1")
    with pytest.raises(IllegalTransition):
        routed.decisions.release("job-1")
    assert found(routed).state is JobState.CANCELLED


@pytest.mark.parametrize("decision", ["hold", "release", "cancel"])
def test_a_job_that_is_not_there_cannot_be_decided_on(routed: Ledger, decision: str) -> None:
    with pytest.raises(KeyError):
        getattr(routed.decisions, decision)("unheard")


def test_what_an_operator_cancelled_is_not_queued_by_the_same_images(routed: Ledger) -> None:
    routed.decisions.cancel("job-1")
    routed.receipts.change("1.2.3", SeriesState.RECEIVING, "late")
    routed.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    assert routed.jobs.route("1.2.3", [job()], "rule", seen=START)
    assert found(routed).state is JobState.CANCELLED


def test_a_back_off_is_ended_by_hurry_and_nothing_else_is(routed: Ledger) -> None:
    assert not routed.decisions.hurry("job-1"), "it does not wait"
    routed.jobs.start("job-1", 1)
    routed.jobs.fail("job-1", "worker.lost", retry_at=datetime.now(UTC) + timedelta(minutes=5))
    assert routed.jobs.waiting(longest_delay_s=3600) == []
    assert routed.decisions.hurry("job-1")
    assert [one.job_id for one in routed.jobs.waiting(longest_delay_s=3600)] == ["job-1"]
    assert not routed.decisions.hurry("unheard")


def test_stopped_deliveries_are_dead_and_those_that_were_sent_stay_sent(routed: Ledger) -> None:
    routed.jobs.start("job-1", 1)
    routed.jobs.succeed("job-1", [result(1), result(2)], [delivery(1), delivery(2)], "result", {},
                        attempt=1)
    assert routed.decisions.stop_deliveries("job-1") == 2
    assert routed.deliveries.open_shipments() == []
    assert {one.state for one in routed.deliveries.of_job("job-1")} == {DeliveryState.DEAD}
    assert routed.decisions.stop_deliveries("job-1") == 0
    assert routed.deliveries.retry_dead("job-1") == 2


def test_names_that_begin_alike_are_found(routed: Ledger) -> None:
    assert routed.decisions.near("job-77") == ["job-1"]
    assert routed.decisions.near("nothing") == []
    assert routed.decisions.near("job%") == []
