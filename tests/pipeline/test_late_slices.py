"""Slices that come while a job runs: what it found is of half a series, and is never delivered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from dicom_node.events import Events
from dicom_node.ledger.ledger import Ledger
from dicom_node.pipeline import attempts
from dicom_node.pipeline.attempts import run_attempt
from dicom_node.pipeline.workshop import Workshop
from dicom_node.records import Job, JobState, SeriesState
from tests.ledger.conftest import START, delivery, instance, job, result


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "ledger.db")
    opened.index([instance(1)])
    route(opened, job("job-1"))
    yield opened
    opened.close()


def route(ledger: Ledger, made: Job) -> None:
    series = ledger.receipts.find_series("1.2.3")
    assert series is not None
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    assert ledger.jobs.route("1.2.3", [made], "rules", seen=series.last_received_at)


def run(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]
) -> Job:
    def process(running: Job, workshop: Workshop) -> object:
        meanwhile()
        workshop.ledger.jobs.succeed(
            running.job_id, [result(1)], [delivery(1)], "result", {}, attempt=running.attempt
        )
        return SimpleNamespace(outcome="result")

    monkeypatch.setattr(attempts, "process_or_leave", process)
    run_attempt("job-1", 1, cast(Workshop, SimpleNamespace(ledger=ledger)), Events())
    done = ledger.jobs.find("job-1")
    assert done is not None
    return done


def late(ledger: Ledger) -> None:
    ledger.index([instance(2, at=START + timedelta(minutes=1))])


def test_a_slice_that_comes_while_a_job_runs_supersedes_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(ledger, monkeypatch, lambda: late(ledger))
    assert (done.state, done.reason) == (JobState.CANCELLED, "superseded_by_late_instances")
    assert ledger.jobs.results("job-1") == []
    assert ledger.deliveries.count_by_state() == {}


def test_a_job_is_superseded_also_when_the_whole_series_was_routed_before_it_ended(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile() -> None:
        late(ledger)
        route(ledger, replace(job("job-2"), created_at=datetime.now(UTC)))

    done = run(ledger, monkeypatch, meanwhile)
    assert done.state is JobState.CANCELLED
    second = ledger.jobs.find("job-2")
    assert second is not None
    assert second.state is JobState.QUEUED


def test_the_same_slice_sent_again_while_a_job_runs_changes_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(ledger, monkeypatch, lambda: ledger.index([instance(1)]))
    assert done.state is JobState.SUCCEEDED
    assert ledger.deliveries.count_by_state() == {"pending": 1}
