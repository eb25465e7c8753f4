"""Jobs that wait for further series: what makes them due, and what comes too late."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dicom_node.ledger import tables
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.overtaking import Superseded
from dicom_node.records import Job, JobInput, JobState, SeriesState
from tests.ledger.conftest import START, instance, job

LATER = datetime.now(UTC) + timedelta(hours=5)
PT = JobInput("pt", "1.2.4", "1.2", "the only series that fits")
NO_PT = JobInput("pt", "", "", "not there within 15 minutes", waits=True)
NO_T2 = JobInput("t2", "", "", "not there within 15 minutes", waits=True)


def route(ledger: Ledger, *inputs: JobInput, wait_until: datetime = LATER) -> Job:
    """The CT series 1.2.3 with a job that takes these inputs, beside the PET series 1.2.4."""
    ledger.index([instance(1), instance(1, series="1.2.4")])
    for series in ("1.2.3", "1.2.4"):
        ledger.receipts.change(series, SeriesState.COMPLETE, "quiet_period")
    ledger.receipts.change("1.2.4", SeriesState.DECLINED, "no_rule_matched")
    asked = replace(job(), not_before=wait_until)
    assert ledger.jobs.route(
        "1.2.3", [asked], "rule: pet", seen=START, inputs={asked.job_id: inputs}
    )
    found = ledger.jobs.find("job-1")
    assert found is not None
    return found


def due(ledger: Ledger) -> list[str]:
    return [one.job_id for one in ledger.jobs.waiting(longest_delay_s=7200.0)]


def state(ledger: Ledger) -> tuple[JobState, str]:
    found = ledger.jobs.find("job-1")
    assert found is not None
    return found.state, found.reason


def arrives_again(ledger: Ledger, series: str = "1.2.4") -> None:
    ledger.index([instance(2, series=series, at=START + timedelta(hours=1))])


def test_a_job_waits_until_the_last_of_its_series_is_there(ledger: Ledger) -> None:
    route(ledger, NO_PT, NO_T2)
    assert due(ledger) == []
    assert [one.job_id for one in ledger.inputs.waiting()] == ["job-1"]
    assert ledger.inputs.fill("job-1", PT)
    assert due(ledger) == [] and state(ledger)[1] == "has pt, waits for t2"
    assert ledger.inputs.fill("job-1", replace(PT, role="t2"))
    assert due(ledger) == ["job-1"] and ledger.inputs.waiting() == []
    assert [(one.role, one.series_instance_uid, one.waits) for one in ledger.inputs.of("job-1")] \
        == [("pt", "1.2.4", False), ("t2", "1.2.4", False)]


def test_what_is_known_not_to_come_is_not_waited_for(ledger: Ledger) -> None:
    route(ledger, NO_PT)
    assert ledger.inputs.fill("job-1", JobInput("pt", "", "", "no earlier examination"))
    assert due(ledger) == ["job-1"] and state(ledger)[1] == "goes without pt"
    (pt,) = ledger.inputs.of("job-1")
    assert (pt.waits, pt.reason) == (False, "no earlier examination")
    assert not ledger.inputs.fill("job-1", JobInput("pt", "", "", "no earlier examination"))


def test_when_its_time_is_over_it_starts_without(ledger: Ledger) -> None:
    route(ledger, NO_PT, wait_until=datetime.now(UTC) - timedelta(seconds=1))
    assert due(ledger) == ["job-1"]
    assert ledger.jobs.start("job-1", 1) is not None
    (pt,) = ledger.inputs.of("job-1")
    assert (pt.series_instance_uid, pt.waits) == ("", False)


def test_a_series_that_comes_after_the_start_waits_for_another_job(ledger: Ledger) -> None:
    route(ledger, NO_PT, wait_until=datetime.now(UTC) - timedelta(seconds=1))
    ledger.jobs.start("job-1", 1)
    assert ledger.inputs.overtaken() == []
    assert ledger.inputs.fill("job-1", PT)
    assert [one.job_id for one in ledger.inputs.overtaken()] == ["job-1"]
    assert state(ledger) == (JobState.RUNNING, "started")
    assert not ledger.inputs.fill("job-1", PT)


def test_a_wait_of_a_day_is_no_clock_that_was_set_back_and_one_of_a_year_is(
    ledger: Ledger,
) -> None:
    route(ledger, NO_PT, wait_until=datetime.now(UTC) + timedelta(hours=24))
    assert due(ledger) == []
    assert ledger.inputs.limit_wait("job-1", datetime.now(UTC) + timedelta(hours=1))
    assert not ledger.inputs.limit_wait("job-1", datetime.now(UTC) + timedelta(hours=2))
    found = ledger.jobs.find("job-1")
    assert found is not None and found.not_before < datetime.now(UTC) + timedelta(hours=2)


def test_a_job_that_waits_for_a_year_is_due(ledger: Ledger) -> None:
    route(ledger, NO_PT, wait_until=datetime.now(UTC) + timedelta(days=365))
    assert due(ledger) == ["job-1"]


def test_a_job_does_not_start_on_half_of_a_series_that_is_arriving_again(ledger: Ledger) -> None:
    waiting = route(ledger, PT, wait_until=START)
    arrives_again(ledger)
    assert ledger.jobs.start("job-1", waiting.attempt) is None
    found = ledger.jobs.find("job-1")
    assert found is not None and found.state is JobState.QUEUED
    assert found.attempt == waiting.attempt + 1 and found.not_before > datetime.now(UTC)


def test_results_on_half_of_a_series_are_not_recorded(ledger: Ledger) -> None:
    route(ledger, PT, wait_until=START)
    assert ledger.jobs.start("job-1", 1) is not None
    arrives_again(ledger)
    with pytest.raises(Superseded):
        ledger.jobs.succeed("job-1", [], [], "result", {}, attempt=1)


def test_what_stands_for_a_series_changes_with_its_images(ledger: Ledger) -> None:
    route(ledger, PT, wait_until=START)
    (pt,) = ledger.inputs.of("job-1")
    assert pt.content and pt.content == ledger.inputs.content("1.2.4")
    arrives_again(ledger)
    assert ledger.inputs.content("1.2.4") != pt.content
    assert ledger.inputs.content("1.2.99") == ""


def test_a_role_is_waited_for_again_only_before_the_job_starts(ledger: Ledger) -> None:
    route(ledger, PT)
    assert ledger.inputs.wait_for("job-1", "pt", "still arriving after 15 minutes")
    assert ledger.inputs.of("job-1") == [replace(
        NO_PT, reason="still arriving after 15 minutes"
    )]
    assert not ledger.inputs.wait_for("job-1", "pt", "still arriving after 15 minutes")


def test_a_held_job_gets_what_it_waits_for_and_stays_held(ledger: Ledger) -> None:
    route(ledger, NO_PT)
    ledger.decisions.hold("job-1")
    assert ledger.inputs.fill("job-1", PT)
    assert state(ledger) == (JobState.HELD, "held_by_operator")
    ledger.decisions.release("job-1")
    assert due(ledger) == ["job-1"]


def test_a_job_that_is_released_goes_on_waiting_and_one_that_is_hurried_does_not(
    ledger: Ledger,
) -> None:
    route(ledger, NO_PT)
    ledger.decisions.hold("job-1")
    ledger.decisions.release("job-1")
    assert due(ledger) == []
    assert ledger.decisions.hurry("job-1")
    assert due(ledger) == ["job-1"]


def test_who_takes_a_series_is_known_and_is_forgotten_with_the_job(ledger: Ledger) -> None:
    route(ledger, PT)
    assert [one.job_id for one in ledger.inputs.taking("1.2.4")] == ["job-1"]
    assert [one.job_id for one in ledger.inputs.of_study("1.2")] == ["job-1"]
    assert ledger.inputs.studies() == ["1.2"]
    for series in ("1.2.3", "1.2.4"):
        ledger.receipts.change(series, SeriesState.REMOVED, "delivered")
    assert ledger.inputs.studies() == []
    ledger.pruning.removed_series(datetime.now(UTC) + timedelta(days=1), 10)
    assert ledger.inputs.of("job-1") == []


def test_a_held_job_of_which_no_inputs_are_known_any_more_gets_them_again(ledger: Ledger) -> None:
    route(ledger, NO_PT)
    ledger.decisions.hold("job-1")
    with ledger._database.write() as connection:
        connection.execute(tables.job_inputs.delete())
    ledger.index([instance(2, at=START + timedelta(hours=1))])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    ledger.jobs.route(
        "1.2.3", [job()], "rule: pet", seen=START + timedelta(hours=2), inputs={"job-1": [NO_PT]}
    )
    assert ledger.inputs.of("job-1") == [NO_PT]
    assert state(ledger) == (JobState.HELD, "held_by_operator")
