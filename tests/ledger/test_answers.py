"""Answers that are owed of jobs without a result: when they arise, end, and are owed anew."""

from __future__ import annotations

import dataclasses

import pytest

from dicom_node.ledger import duties
from dicom_node.ledger.answers import is_answered_for
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.unclean_ends import MOST_ENDS
from dicom_node.records import Job, JobState
from tests.ledger.conftest import START, delivery, result


def die(ledger: Ledger, reason: str = "model.failed: no") -> Job:
    assert ledger.jobs.start("job-1", 1) is not None
    ledger.jobs.fail("job-1", reason, retry_at=None)
    found = ledger.jobs.find("job-1")
    assert found is not None
    return found


def test_a_dead_job_owes_an_answer_and_one_that_is_tried_again_does_not(routed: Ledger) -> None:
    assert routed.jobs.start("job-1", 1) is not None
    routed.jobs.fail("job-1", "worker.lost: gone", retry_at=START)
    assert routed.duties.waiting() == []
    assert routed.jobs.start("job-1", 2) is not None
    routed.jobs.fail("job-1", "model.failed: no", retry_at=None)
    assert [(d.kind, d.key) for d in routed.duties.waiting()] == [(duties.ANSWER, "job-1")]


def test_a_job_that_ended_with_the_node_too_often_owes_an_answer(routed: Ledger) -> None:
    for _ in range(3 * MOST_ENDS):
        found = routed.jobs.find("job-1")
        assert found is not None
        if found.state is JobState.DEAD:
            break
        routed.jobs.start("job-1", found.attempt)
    assert found.state is JobState.DEAD
    assert [d.key for d in routed.duties.waiting(duties.ANSWER)] == ["job-1"]


@pytest.mark.parametrize(("answer", "owed"), [(True, 1), (False, 0)])
def test_a_cancelled_job_owes_an_answer_unless_the_operator_wants_none(
    routed: Ledger, answer: bool, owed: int
) -> None:
    cancelled = routed.decisions.cancel("job-1", answer=answer)
    assert is_answered_for(cancelled)
    assert len(routed.duties.waiting(duties.ANSWER)) == owed


def test_what_late_slices_cancelled_is_answered_by_the_next_job(routed: Ledger) -> None:
    routed.jobs.cancel("job-1", "superseded_by_late_instances")
    found = routed.jobs.find("job-1")
    assert found is not None and not is_answered_for(found)
    assert routed.duties.waiting() == []


def test_an_answer_is_recorded_with_its_deliveries_and_ends_the_duty(routed: Ledger) -> None:
    dead = die(routed)
    (duty,) = routed.duties.waiting()
    answer = dataclasses.replace(result(1), kind="not analysed report")
    assert routed.answers.give(duty, dead, [answer], [delivery(1)])
    assert routed.duties.waiting() == []
    assert [d.sop_instance_uid for d in routed.deliveries.of_job("job-1")] == ["2.25.1"]
    found = routed.jobs.find("job-1")
    assert found is not None and found.state is JobState.DEAD
    assert routed.answers.owe_missing() == 0


def test_a_job_that_was_retried_meanwhile_is_not_answered(routed: Ledger) -> None:
    dead = die(routed)
    (duty,) = routed.duties.waiting()
    routed.jobs.retry("job-1")
    assert not routed.answers.give(duty, dead, [result(1)], [delivery(1)])
    assert routed.duties.waiting() == []
    assert routed.deliveries.of_job("job-1") == [] and routed.jobs.results("job-1") == []


def test_a_ledger_that_forgot_its_duties_owes_the_answers_again(routed: Ledger) -> None:
    die(routed)
    (duty,) = routed.duties.waiting()
    routed.duties.done(duty)
    assert routed.answers.owe_missing() == 1
    assert routed.answers.owe_missing() == 0
    assert [d.key for d in routed.duties.waiting(duties.ANSWER)] == ["job-1"]


def test_a_second_answer_goes_out_behind_the_first(routed: Ledger) -> None:
    """Both were the first delivery of their job: the second met a constraint, for ever."""
    dead = die(routed)
    (duty,) = routed.duties.waiting()
    assert routed.answers.give(duty, dead, [result(1)], [delivery(0, uid=1)])
    again = routed.jobs.retry("job-1")
    assert routed.jobs.start("job-1", again.attempt) is not None
    routed.jobs.fail("job-1", "model.wrong_output: other", retry_at=None)
    (duty,) = routed.duties.waiting()
    dead_again = routed.jobs.find("job-1")
    assert dead_again is not None
    assert routed.answers.give(duty, dead_again, [result(2)], [delivery(0, uid=2)])
    waiting = routed.deliveries.pending("job-1", "pacs")
    assert [(d.delivery_id, d.sop_instance_uid) for d in waiting] == [("job-1:pacs:01", "2.25.2")]
