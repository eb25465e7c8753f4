"""Jobs that were running when the node was killed."""

from __future__ import annotations

from datetime import timedelta

from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.unclean_ends import ENDED, MOST_ENDS
from dicom_node.records import Job, JobState


def now(ledger: Ledger) -> Job:
    found = ledger.jobs.find("job-1")
    assert found is not None
    return found


def end_while_running(ledger: Ledger) -> None:
    """The node starts the job and is killed; the next one finds it running."""
    if now(ledger).state == JobState.QUEUED:
        assert ledger.jobs.start("job-1", now(ledger).attempt) is not None
    ledger.jobs.start("job-1", now(ledger).attempt)


def test_a_job_goes_on_at_once_after_the_first_ends_of_the_node(routed: Ledger) -> None:
    for _ in range(2):
        end_while_running(routed)
        assert now(routed).state == JobState.RUNNING
    assert now(routed).attempt == 1


def test_a_job_that_was_running_again_and_again_waits_for_the_others(routed: Ledger) -> None:
    waits = []
    for _ in range(6):
        end_while_running(routed)
        found = now(routed)
        if found.state == JobState.QUEUED:
            waits.append(found.not_before - found.changed_at)
    assert len(waits) == 4
    assert waits == sorted(waits)
    assert waits[0] >= timedelta(seconds=7)
    assert now(routed).reason == ENDED


def test_a_job_that_was_running_at_ten_ends_of_the_node_is_a_dead_letter(routed: Ledger) -> None:
    for number in range(1, MOST_ENDS):
        end_while_running(routed)
        assert now(routed).state != JobState.DEAD, f"after {number} ends"
    end_while_running(routed)
    assert (now(routed).state, now(routed).reason) == (JobState.DEAD, ENDED)


def test_an_operators_retry_begins_the_count_anew(routed: Ledger) -> None:
    for _ in range(MOST_ENDS):
        end_while_running(routed)
    routed.jobs.retry("job-1")
    end_while_running(routed)
    assert now(routed).state == JobState.RUNNING
