"""Which process has which job, and what becomes of the jobs of a process that is gone."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from dicom_node.ledger import host_tables
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.overtaking import Overtaken
from dicom_node.records import JobState, SeriesState
from tests.ledger.conftest import START, instance, job

SEEN = {
    "roles": '["work"]', "devices": "[]", "models": "[]", "version": "1", "started_at": 0.0,
    "seen_at": 0.0, "waiting_s": 0.0, "to_index": 0, "clock_ahead_s": 0.0,
}


def host(ledger: Ledger, process_id: str, gone: str = "") -> None:
    with ledger._database.write() as connection:
        table = host_tables.hosts
        connection.execute(sa.delete(table).where(table.c.process_id == process_id))
        connection.execute(
            sa.insert(table).values(process_id=process_id, host_name=process_id, gone=gone, **SEEN)
        )


@pytest.fixture
def queued(ledger: Ledger) -> Ledger:
    """A ledger with one job, and two hosts that live."""
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    assert ledger.jobs.route("1.2.3", [job()], "rule", seen=START)
    host(ledger, "a")
    host(ledger, "b")
    return ledger


def test_of_two_processes_one_gets_an_attempt_and_keeps_it(queued: Ledger) -> None:
    claims = queued.claims
    assert claims.claim("job-1", 1, "a")
    assert not claims.claim("job-1", 1, "b")
    assert claims.claim("job-1", 1, "a")
    assert claims.has("job-1", 1, "a") and not claims.has("job-1", 1, "b")
    assert claims.of() == {("job-1", 1): "a"}
    is_known = not queued.url.startswith("sqlite")
    assert claims.host_of("job-1", 1) == ("a" if is_known else "")
    assert claims.host_of("job-1", 2) == ""


def test_an_attempt_that_is_not_the_jobs_cannot_be_claimed(queued: Ledger) -> None:
    assert not queued.claims.claim("job-1", 2, "a")
    assert not queued.claims.claim("no job", 1, "a")


def test_a_new_attempt_makes_a_claim_void_and_is_anybodys(queued: Ledger) -> None:
    assert queued.claims.claim("job-1", 1, "a")
    queued.jobs.bump("job-1", 1, "engine_lost_it")
    assert queued.claims.of() == {}
    assert queued.claims.claim("job-1", 2, "b")
    assert not queued.claims.has("job-1", 1, "a")
    assert not queued.claims.claim("job-1", 1, "a")


def test_a_job_that_a_host_had_not_begun_is_free_when_it_is_gone(queued: Ledger) -> None:
    queued.claims.claim("job-1", 1, "a")
    assert queued.claims.release() == []
    host(queued, "a", gone="silent")
    assert queued.claims.release() == ["job-1"]
    found = queued.jobs.find("job-1")
    assert found is not None and (found.state, found.attempt) == (JobState.QUEUED, 2)
    assert queued.jobs.start("job-1", 1) is None
    assert queued.claims.release() == []


def test_what_runs_at_a_host_that_falls_silent_gets_a_new_attempt_and_the_old_one_counts_no_more(
    queued: Ledger,
) -> None:
    queued.claims.claim("job-1", 1, "a")
    assert queued.jobs.start("job-1", 1) is not None
    assert queued.claims.release() == []
    host(queued, "a", gone="silent")
    assert queued.claims.release() == ["job-1"]
    found = queued.jobs.find("job-1")
    assert found is not None
    assert (found.state, found.attempt, found.reason) == (
        JobState.QUEUED, 2, "node.ended_while_running"
    )
    # It comes back, and has its result after all.
    host(queued, "a")
    with pytest.raises(Overtaken):
        queued.jobs.succeed("job-1", [], [], "found", {}, attempt=1)
    assert queued.claims.claim("job-1", 2, "b")


def test_a_job_at_whose_host_nobody_did_anything_wrong_is_not_suspected(queued: Ledger) -> None:
    for attempt in range(1, 6):
        queued.claims.claim("job-1", attempt, "a")
        assert queued.jobs.start("job-1", attempt) is not None
        host(queued, "a", gone="ended")
        assert queued.claims.release() == ["job-1"]
        host(queued, "a")
    found = queued.jobs.find("job-1")
    assert found is not None and found.reason == "host_left"
    assert queued.claims.claim("job-1", found.attempt, "b")


def test_a_job_that_runs_at_the_silence_of_one_host_after_another_waits_longer_each_time(
    queued: Ledger,
) -> None:
    waits = []
    for _ in range(4):
        found = queued.jobs.find("job-1")
        assert found is not None
        queued.claims.claim("job-1", found.attempt, "a")
        assert queued.jobs.start("job-1", found.attempt) is not None
        host(queued, "a", gone="silent")
        queued.claims.release()
        host(queued, "a")
        found = queued.jobs.find("job-1")
        assert found is not None
        waits.append((found.not_before - found.changed_at).total_seconds())
    assert waits[0] == waits[1] == 0 < waits[2] < waits[3]


def test_claims_of_jobs_at_an_end_are_forgotten_after_a_day(queued: Ledger) -> None:
    queued.claims.claim("job-1", 1, "a")
    queued.jobs.start("job-1", 1)
    queued.jobs.succeed("job-1", [], [], "found", {}, attempt=1)
    assert queued.claims.forget_old() == 0
    with queued._database.write() as connection:
        connection.execute(sa.update(host_tables.job_claims).values(claimed_at=0.0))
    assert queued.claims.forget_old() == 1
