"""Jobs and deliveries: each attempt, each state, each object once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.overtaking import SUPERSEDED, Overtaken
from dicom_node.ledger.states import IllegalTransition
from dicom_node.records import Job, JobState, Priority, SeriesState
from tests.ledger.conftest import START, delivery, instance, job, result


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


def test_an_attempt_that_was_overtaken_records_nothing(routed: Ledger) -> None:
    routed.jobs.start("job-1", 1)
    routed.jobs.bump("job-1", 1, "engine_lost_it")
    assert routed.jobs.start("job-1", 1) is None
    assert routed.jobs.start("job-1", 2) is not None
    with pytest.raises(Overtaken):
        routed.jobs.succeed("job-1", [result(1)], [delivery(1)], "result", {}, attempt=1)
    with pytest.raises(Overtaken):
        routed.jobs.fail("job-1", "worker.lost", retry_at=None, attempt=1)
    found = routed.jobs.find("job-1")
    assert found is not None and (found.state, found.attempt) == (JobState.RUNNING, 2)
    assert routed.jobs.results("job-1") == []
    routed.jobs.succeed("job-1", [result(1)], [delivery(1)], "result", {}, attempt=2,
                        model_version="2")
    found = routed.jobs.find("job-1")
    assert found is not None and found.model_version == "2"


def test_bumping_an_old_attempt_or_an_ended_job_changes_nothing(routed: Ledger) -> None:
    routed.jobs.bump("job-1", 7, "engine_lost_it")
    routed.jobs.start("job-1", 1)
    routed.jobs.succeed("job-1", [], [], "no_finding", {}, attempt=1)
    before = routed.jobs.find("job-1")
    routed.jobs.bump("job-1", 1, "engine_lost_it")
    assert routed.jobs.find("job-1") == before


def test_a_job_that_has_begun_is_not_bumped_where_only_waiting_ones_are_to_be(
    routed: Ledger
) -> None:
    routed.jobs.bump("job-1", 1, "by_its_age", if_running=False)
    assert routed.jobs.start("job-1", 2) is not None
    routed.jobs.bump("job-1", 2, "by_its_age", if_running=False)
    assert routed.jobs.runs("job-1", 2)


def test_a_superseded_job_is_queued_again_when_the_same_images_are_routed(routed: Ledger) -> None:
    routed.jobs.cancel("job-1", SUPERSEDED)
    routed.receipts.change("1.2.3", SeriesState.RECEIVING, "late")
    routed.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    assert routed.jobs.route("1.2.3", [job()], "rule", seen=START)
    found = routed.jobs.find("job-1")
    assert found is not None and (found.state, found.attempt) == (JobState.QUEUED, 2)
    assert routed.jobs.start("job-1", 2) is not None


def queue(ledger: Ledger, *jobs: Job) -> None:
    for number, one in enumerate(jobs, start=10):
        series = f"1.2.{number}"
        ledger.index([instance(1, series=series)])
        ledger.receipts.change(series, SeriesState.COMPLETE, "quiet_period")
        assert ledger.jobs.route(
            series, [replace(one, series_instance_uid=series)], "rule", seen=START
        )


def names(jobs: list[Job]) -> list[str]:
    return [one.job_id for one in jobs]


def test_what_waits_is_what_is_queued_and_due_and_of_a_model_that_is_asked_for(
    ledger: Ledger
) -> None:
    later = datetime.now(UTC) + timedelta(minutes=30)
    queue(
        ledger, job("due"), replace(job("later"), not_before=later), job("runs"), job("held"),
        replace(job("big"), model_id="big"),
    )
    ledger.jobs.start("runs", 1)
    ledger.decisions.hold("held")
    assert names(ledger.jobs.waiting(longest_delay_s=3600)) == ["due", "big"]
    assert names(ledger.jobs.waiting(longest_delay_s=3600, without_models=["big"])) == ["due"]
    assert names(ledger.jobs.running()) == ["runs"]


def test_what_is_to_wait_longer_than_anything_may_is_due_because_the_clock_was_set_back(
    ledger: Ledger
) -> None:
    queue(ledger, replace(job("from the future"), not_before=datetime.now(UTC) + timedelta(days=3)))
    assert names(ledger.jobs.waiting(longest_delay_s=3600)) == ["from the future"]


def test_each_priority_has_its_own_share_of_what_waits(ledger: Ledger) -> None:
    routine = [job(f"routine-{n}") for n in range(5)]
    queue(ledger, *routine, replace(job("stat"), priority=Priority.STAT))
    assert names(ledger.jobs.waiting(longest_delay_s=60, limit=2)) == [
        "stat", "routine-0", "routine-1"
    ]
    assert ledger.jobs.count_waiting_by_priority() == {"stat": 1, "routine": 5}


def test_failures_are_counted_since_the_job_was_asked_for_again(routed: Ledger) -> None:
    for attempt, reason in enumerate(("worker.lost: a", "storage.failed: b"), start=1):
        assert routed.jobs.start("job-1", attempt) is not None
        routed.jobs.fail("job-1", reason, retry_at=START, attempt=attempt)
    assert routed.jobs.failures("job-1") == ["worker.lost: a", "storage.failed: b"]
    routed.decisions.cancel("job-1")
    routed.jobs.retry("job-1")
    assert routed.jobs.failures("job-1") == []


def test_a_job_beyond_the_share_of_its_model_stays_queued_for_another_attempt(
    ledger: Ledger
) -> None:
    queue(ledger, job("one"), job("two"), replace(job("other"), model_id="other"))
    share = {"lungs-ct": 1}
    assert ledger.jobs.start("one", 1, share) is not None
    assert ledger.jobs.start("two", 1, share) is None
    found = ledger.jobs.find("two")
    assert found is not None and (found.state, found.attempt) == (JobState.QUEUED, 2)
    assert ledger.jobs.start("other", 1, share) is not None
    assert ledger.jobs.start("one", 1, share) is not None, "what runs already is resumed"
    ledger.jobs.succeed("one", [], [], "no_finding", {}, attempt=1)
    assert ledger.jobs.start("two", 2, share) is not None
