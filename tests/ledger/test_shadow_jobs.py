"""A shadow job says nothing to anybody: it owes no answer and supersedes nothing."""

from __future__ import annotations

import dataclasses
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dicom_node.ledger.ledger import Ledger
from dicom_node.records import Job, JobState, SeriesState
from tests.ledger.conftest import START, delivery, instance, job, result


def shadow(job_id: str = "shadow") -> Job:
    return dataclasses.replace(job(job_id), shadow=True, model_version="2", destinations=())


@pytest.fixture
def both(ledger: Ledger) -> Ledger:
    """A series with the job of its live version and that of a shadow."""
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    assert ledger.jobs.route("1.2.3", [job("live"), shadow()], "rules", seen=START)
    return ledger


def test_a_shadow_is_known_as_one(both: Ledger) -> None:
    found = both.jobs.of_series("1.2.3")
    assert {one.job_id: one.shadow for one in found} == {"live": False, "shadow": True}


def test_a_shadow_that_dies_owes_no_answer(both: Ledger) -> None:
    both.jobs.start("shadow", 1)
    both.jobs.fail("shadow", "model.failed: no", retry_at=None)
    assert both.duties.waiting() == []
    assert both.answers.owe_missing() == 0
    dead = both.jobs.find("shadow")
    assert dead is not None and dead.state is JobState.DEAD and not both.answers.is_owed(dead)


def test_a_shadow_that_is_cancelled_owes_no_answer(both: Ledger) -> None:
    assert not both.answers.is_owed(both.decisions.cancel("shadow"))
    assert both.duties.waiting() == []
    both.decisions.cancel("live")
    assert [one.key for one in both.duties.waiting()] == ["live"]


def test_a_shadow_that_succeeds_leaves_the_results_of_the_live_version_alone(
    both: Ledger,
) -> None:
    both.jobs.start("live", 1)
    both.jobs.succeed("live", [result(1, "live")], [delivery(1, "live")], "result", {})
    running = both.jobs.start("shadow", 1)
    both.jobs.succeed("shadow", [], [], "compared", {}, attempt=1)
    assert [one.state for one in both.deliveries.of_job("live")] == ["pending"]
    assert running is not None and both.versions.previous(running) is None


def test_a_shadow_that_succeeded_excuses_no_dead_job_from_its_answer(both: Ledger) -> None:
    both.jobs.start("shadow", 1)
    both.jobs.succeed("shadow", [], [], "compared", {}, attempt=1)
    both.jobs.start("live", 1)
    both.jobs.fail("live", "model.failed: no", retry_at=None)
    dead = both.jobs.find("live")
    assert dead is not None and both.answers.is_owed(dead)


def test_an_older_ledger_has_no_shadows(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger.open(path)
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    ledger.jobs.route("1.2.3", [job("live")], "rules", seen=START)
    ledger.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE jobs DROP COLUMN shadow")
        for table in ("model_stages", "model_problems", "predictions", "agreements"):
            connection.execute(f"DROP TABLE {table}")
        connection.commit()
    ledger = Ledger.open(path)
    (found,) = ledger.jobs.of_series("1.2.3")
    assert not found.shadow and ledger.stages.begin("lungs-ct", "1")
    ledger.close()
