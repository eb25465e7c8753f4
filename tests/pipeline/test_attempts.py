"""One attempt of a job: how each kind of failure ends, and what is never done twice."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dicom_node.errors import (
    DeadlineExceeded,
    LedgerUnavailable,
    ModelFailed,
    NodeError,
    OutOfSpace,
    StorageFailed,
    UnknownName,
    UnsuitableInput,
    WorkerLost,
)
from dicom_node.events import Events, configure_logging
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.overtaking import Superseded
from dicom_node.pipeline import attempts
from dicom_node.pipeline.attempts import DEFAULT_RULES, AttemptRules, run_attempt
from dicom_node.pipeline.retry import OUT_OF_MEMORY, SCRATCH_FAILED
from dicom_node.pipeline.workshop import Workshop
from dicom_node.records import Job, JobState, SeriesState
from tests.ledger.conftest import START, delivery, instance, job, result

MAX_ATTEMPTS = DEFAULT_RULES.max_attempts
Process = Callable[[Job, Workshop], Any]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "ledger.db")
    opened.index([instance(1)])
    route(opened, "job-1")
    yield opened
    opened.close()


def route(ledger: Ledger, *job_ids: str) -> None:
    series = ledger.receipts.find_series("1.2.3")
    assert series is not None
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    jobs = [job(job_id) for job_id in job_ids]
    assert ledger.jobs.route("1.2.3", jobs, "rules", seen=series.last_received_at)


@pytest.fixture
def attempt(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, int, Process], None]:
    workshop = cast(Workshop, SimpleNamespace(ledger=ledger))

    def run(
        job_id: str, number: int, process: Process, rules: AttemptRules = DEFAULT_RULES
    ) -> None:
        monkeypatch.setattr(attempts, "process_or_leave", process)
        run_attempt(job_id, number, workshop, Events(), rules)

    return run


def raising(error: Exception) -> Process:
    def process(_job: Job, _workshop: Workshop) -> None:
        raise error

    return process


def never(_job: Job, _workshop: Workshop) -> None:
    raise AssertionError("it must not run")


def found(ledger: Ledger, job_id: str = "job-1") -> Job:
    read = ledger.jobs.find(job_id)
    assert read is not None
    return read


def series_state(ledger: Ledger) -> SeriesState:
    series = ledger.receipts.find_series("1.2.3")
    assert series is not None
    return series.state


@pytest.mark.parametrize(
    ("error", "most"),
    [
        (WorkerLost("no host", reason="worker.endpoint_unavailable"), MAX_ATTEMPTS),
        (WorkerLost("stopped", reason="worker.codec_stalled"), MAX_ATTEMPTS),
        (WorkerLost("16 GiB wanted", reason=OUT_OF_MEMORY), 8),
    ],
)
def test_what_may_pass_is_retried_ever_later_and_ends_as_a_dead_letter(
    ledger: Ledger, attempt: Callable[..., None], error: NodeError, most: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("random.random", lambda: 0.5)
    delays_s = []
    for number in range(1, most):
        attempt("job-1", number, raising(error))
        after = found(ledger)
        assert (after.state, after.attempt) == (JobState.QUEUED, number + 1)
        delays_s.append((after.not_before - after.changed_at).total_seconds())
    attempt("job-1", most, raising(error))
    assert (found(ledger).state, found(ledger).reason) == (
        JobState.DEAD, f"{error.reason}: {error}"
    )
    assert delays_s[-1] > 1.5 * delays_s[0] > 0


def on_device(number: int, error: type[NodeError], reason: str) -> NodeError:
    return error(f"the worker on cuda:{number} is gone", reason=reason)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (WorkerLost, "worker.lost"),
        (WorkerLost, "worker.no_heartbeat"),
        (DeadlineExceeded, "worker.deadline_exceeded"),
    ],
)
def test_a_lost_worker_costs_a_job_one_more_attempt_and_the_dead_letter_names_both(
    ledger: Ledger, attempt: Callable[..., None], error: type[NodeError], reason: str
) -> None:
    attempt("job-1", 1, raising(on_device(0, error, reason)))
    assert (found(ledger).state, found(ledger).attempt) == (JobState.QUEUED, 2)
    attempt("job-1", 2, raising(on_device(1, error, reason)))
    assert (found(ledger).state, found(ledger).reason) == (
        JobState.DEAD,
        f"{reason}: the worker on cuda:1 is gone; "
        f"before that: {reason}: the worker on cuda:0 is gone",
    )


@pytest.mark.parametrize("reason", ["model.hash_mismatch", "model.unknown", "model.refused"])
def test_a_model_that_is_not_there_is_waited_for_about_ten_minutes_and_then_it_is_answered(
    ledger: Ledger, attempt: Callable[..., None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.random", lambda: 0.5)
    waited = timedelta()
    for number in range(1, 14):
        attempt("job-1", number, raising(UnknownName("not there", reason=reason)))
        waiting = found(ledger)
        assert waiting.state is JobState.QUEUED and ledger.duties.waiting() == []
        waited += waiting.not_before - waiting.changed_at
    assert timedelta(minutes=9) < waited < timedelta(minutes=11)
    attempt("job-1", 14, raising(UnknownName("not there", reason=reason)))
    assert (found(ledger).state, found(ledger).reason) == (JobState.DEAD, f"{reason}: not there")
    (owed,) = ledger.duties.waiting()
    assert owed.reason == f"{reason}: not there" and series_state(ledger) is SeriesState.ROUTED


def test_a_model_whose_folder_is_being_changed_is_waited_for(
    ledger: Ledger, attempt: Callable[..., None]
) -> None:
    attempt("job-1", 1, raising(ModelFailed("another card", reason="model.card_changed")))
    assert found(ledger).state is JobState.QUEUED
    assert found(ledger).not_before - found(ledger).changed_at < timedelta(seconds=5)


@pytest.mark.parametrize(
    "error",
    [OutOfSpace("full"), StorageFailed("EROFS"), WorkerLost("full", reason=SCRATCH_FAILED)],
)
def test_a_disk_that_is_full_for_hours_kills_no_job(
    ledger: Ledger, attempt: Callable[..., None], error: NodeError
) -> None:
    for number in range(1, 4 * MAX_ATTEMPTS):
        attempt("job-1", number, raising(error))
    after = found(ledger)
    assert (after.state, after.attempt) == (JobState.QUEUED, 4 * MAX_ATTEMPTS)
    assert after.not_before - after.changed_at < timedelta(minutes=10)


def test_the_attempts_of_one_cause_are_not_counted_for_another(
    ledger: Ledger, attempt: Callable[..., None]
) -> None:
    attempt("job-1", 1, raising(WorkerLost("gone")))
    attempt("job-1", 2, raising(StorageFailed("EROFS")))
    assert found(ledger).state is JobState.QUEUED
    attempt("job-1", 3, raising(WorkerLost("gone")))
    assert found(ledger).state is JobState.DEAD


def test_how_often_a_job_is_tried_is_a_setting(
    ledger: Ledger, attempt: Callable[..., None]
) -> None:
    attempt("job-1", 1, raising(WorkerLost("gone")), AttemptRules(max_attempts=1))
    assert found(ledger).state is JobState.DEAD


@pytest.mark.parametrize("decision", ["cancel", "hold"])
@pytest.mark.parametrize(
    "error", [WorkerLost("killed", reason="worker.cancelled"), ModelFailed("no"), None]
)
def test_what_an_operator_decides_while_it_runs_stands_however_the_attempt_ends(
    ledger: Ledger, attempt: Callable[..., None], decision: str, error: Exception | None
) -> None:
    def process(running: Job, workshop: Workshop) -> None:
        getattr(workshop.ledger.decisions, decision)(running.job_id)
        if error is not None:
            raise error
        workshop.ledger.jobs.succeed(
            running.job_id, [result(1)], [delivery(1)], "result", {}, attempt=running.attempt
        )

    attempt("job-1", 1, process)
    expected = {"cancel": JobState.CANCELLED, "hold": JobState.HELD}[decision]
    assert found(ledger).state is expected
    assert ledger.jobs.results("job-1") == [] and ledger.deliveries.of_job("job-1") == []


def test_a_model_that_has_its_share_of_workers_waits_for_a_later_attempt(
    ledger: Ledger, attempt: Callable[..., None]
) -> None:
    reroute(ledger, "job-2")
    assert ledger.jobs.start("job-2", 1) is not None
    attempt("job-1", 1, never, AttemptRules(per_model={"lungs-ct": 1}))
    assert (found(ledger).state, found(ledger).attempt) == (JobState.QUEUED, 2)
    attempt("job-1", 2, raising(UnsuitableInput("no")), AttemptRules(per_model={"lungs-ct": 2}))
    assert found(ledger).state is JobState.DEAD


def test_an_operator_gives_a_dead_job_all_its_attempts_again(
    ledger: Ledger, attempt: Callable[..., None]
) -> None:
    for number in (1, 2):
        attempt("job-1", number, raising(WorkerLost("gone")))
    assert found(ledger).state is JobState.DEAD
    again = ledger.jobs.retry("job-1")
    attempt("job-1", again.attempt, raising(WorkerLost("gone")))
    assert found(ledger).state is JobState.QUEUED


def test_a_permanent_failure_is_a_dead_letter_at_once(
    ledger: Ledger, attempt: Callable[..., None]
) -> None:
    attempt("job-1", 1, raising(ModelFailed("no", reason="model.wrong_output")))
    assert found(ledger).state is JobState.DEAD
    assert found(ledger).reason.startswith("model.wrong_output")
    assert series_state(ledger) is SeriesState.ROUTED


def test_a_model_that_failed_has_one_more_try(
    ledger: Ledger, attempt: Callable[..., None]
) -> None:
    attempt("job-1", 1, raising(ModelFailed("CUDNN_STATUS_EXECUTION_FAILED")))
    assert found(ledger).state is JobState.QUEUED
    attempt("job-1", 2, raising(ModelFailed("CUDNN_STATUS_EXECUTION_FAILED")))
    assert found(ledger).state is JobState.DEAD


@pytest.mark.parametrize("reason", ["worker.stopping", "worker.cancelled"])
def test_a_node_that_is_stopped_costs_a_job_no_life(
    ledger: Ledger, attempt: Callable[..., None], reason: str
) -> None:
    for number in range(1, MAX_ATTEMPTS + 2):
        attempt("job-1", number, raising(WorkerLost("stopping", reason=reason)))
    after = found(ledger)
    assert after.state is JobState.QUEUED
    assert after.not_before <= datetime.now(UTC)


def test_a_series_is_declined_when_every_job_declined_its_input(
    tmp_path: Path, attempt: Callable[..., None], ledger: Ledger
) -> None:
    reroute(ledger, "job-2", "job-3")
    unsuitable = UnsuitableInput("a hole", reason="input.missing_slices")
    attempt("job-2", 1, raising(unsuitable))
    assert series_state(ledger) is SeriesState.ROUTED
    attempt("job-3", 1, raising(unsuitable))
    series = ledger.receipts.find_series("1.2.3")
    assert series is not None
    assert (series.state, series.reason) == (
        SeriesState.DECLINED, "input.missing_slices: a hole"
    )


def reroute(ledger: Ledger, *job_ids: str) -> None:
    ledger.receipts.change("1.2.3", SeriesState.RECEIVING, "late_instances")
    route(ledger, *job_ids)


@pytest.mark.parametrize("first", ["model", "input"])
def test_a_series_with_a_job_that_died_of_its_model_is_not_declined(
    ledger: Ledger, attempt: Callable[..., None], first: str
) -> None:
    reroute(ledger, "job-2", "job-3")
    failures = [
        ModelFailed("no", reason="model.wrong_output"),
        UnsuitableInput("a hole", reason="input.missing_slices"),
    ]
    if first == "input":
        failures.reverse()
    for job_id, error in zip(("job-2", "job-3"), failures, strict=True):
        attempt(job_id, 1, raising(error))
    assert series_state(ledger) is SeriesState.ROUTED


def test_what_an_earlier_routing_made_does_not_keep_a_series_from_being_declined(
    ledger: Ledger, attempt: Callable[..., None]
) -> None:
    def succeed(done: Job, workshop: Workshop) -> Any:
        workshop.ledger.jobs.succeed(done.job_id, [], [], "no_finding", {}, attempt=done.attempt)
        return SimpleNamespace(outcome="no_finding")

    attempt("job-1", 1, succeed)
    reroute(ledger, "job-2")
    attempt("job-2", 1, raising(UnsuitableInput("a hole", reason="input.missing_slices")))
    assert series_state(ledger) is SeriesState.DECLINED


def test_an_unforeseen_error_ends_the_job_with_its_type_and_tells_no_patient(
    ledger: Ledger, attempt: Callable[..., None], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    configure_logging("debug", "console")
    attempt("job-1", 1, raising(ValueError("invalid literal: 'DOE^JOHN'")))
    assert (found(ledger).state, found(ledger).reason) == (JobState.DEAD, "unexpected.ValueError")
    said = capsys.readouterr().err
    assert "job job-1" in said and "builtins.ValueError" in said and "in process" in said
    assert "DOE" not in said
    assert "DOE" not in str(ledger.history("job", "job-1"))


def test_an_unavailable_ledger_is_nobodys_failure(
    ledger: Ledger, attempt: Callable[..., None]
) -> None:
    with pytest.raises(LedgerUnavailable):
        attempt("job-1", 1, raising(LedgerUnavailable("locked")))
    assert (found(ledger).state, found(ledger).attempt) == (JobState.RUNNING, 1)


@pytest.mark.parametrize("number", [0, 2])
def test_an_attempt_that_is_not_the_ledgers_does_nothing(
    ledger: Ledger, attempt: Callable[..., None], number: int
) -> None:
    attempt("job-1", number, never)
    assert found(ledger).state is JobState.QUEUED
    attempt("unheard", 1, never)


def test_a_job_of_a_series_that_is_received_again_is_cancelled(
    ledger: Ledger, attempt: Callable[..., None]
) -> None:
    ledger.index([instance(2, at=START + timedelta(minutes=1))])
    attempt("job-1", 1, never)
    assert found(ledger).state is JobState.CANCELLED
    assert found(ledger).reason == "superseded_by_late_instances"


def test_a_job_whose_series_was_routed_again_as_the_same_job_is_not_cancelled_by_who_stood_still(
    ledger: Ledger, attempt: Callable[..., None]
) -> None:
    # What it saw a moment ago: its series is being received again.
    attempt("job-1", 1, raising(Superseded("attempt 1 of job job-1")))
    assert (found(ledger).state, found(ledger).attempt) == (JobState.QUEUED, 2)
    assert found(ledger).reason == "routed_again"


def test_who_finds_its_series_arriving_cancels_nothing_that_another_attempt_does(
    ledger: Ledger, attempt: Callable[..., None]
) -> None:
    def process(done: Job, workshop: Workshop) -> None:
        workshop.ledger.index([instance(2, at=START + timedelta(minutes=1))])
        workshop.ledger.jobs.bump(done.job_id, done.attempt, "engine_lost_it")
        raise Superseded("attempt 1 of job job-1")

    attempt("job-1", 1, process)
    assert (found(ledger).state, found(ledger).attempt) == (JobState.QUEUED, 2)


@pytest.mark.parametrize("error", [WorkerLost("gone"), ValueError("odd"), None])
def test_an_attempt_that_was_overtaken_leaves_the_job_to_the_other(
    ledger: Ledger, attempt: Callable[..., None], error: Exception | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def process(done: Job, workshop: Workshop) -> None:
        workshop.ledger.jobs.bump(done.job_id, done.attempt, "engine_lost_it")
        if error is not None:
            raise error
        workshop.ledger.jobs.succeed(done.job_id, [], [], "result", {}, attempt=done.attempt)

    with caplog.at_level(logging.INFO, "dicom_node"):
        attempt("job-1", 1, process)
    assert (found(ledger).state, found(ledger).attempt) == (JobState.QUEUED, 2)
