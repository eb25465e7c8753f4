"""One attempt of one job: run it, and write down how it ended."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from dicom_node.errors import (
    LedgerUnavailable,
    NodeError,
    OutOfSpace,
    StorageFailed,
    UnsuitableInput,
)
from dicom_node.events import Events
from dicom_node.ledger.jobs import SUPERSEDED, Overtaken
from dicom_node.pipeline.process import Workshop, process
from dicom_node.records import Job, JobState, SeriesState

MAX_ATTEMPTS = 5
SCRATCH_FAILED = "worker.storage_failed"
_FIRST_DELAY_S = 2.0
# How `InferencePool` answers when the node is being stopped: no fault of the job.
_STOPPING = frozenset({"worker.stopping", "worker.cancelled"})


def run_attempt(job_id: str, attempt: int, workshop: Workshop, events: Events) -> None:
    """Run one attempt of a job, unless the ledger says that it is not to be run.

    A transient error queues the next attempt with a growing delay, up to `MAX_ATTEMPTS` (and as
    many again when an operator retries), and one of the disk without end: it is full for hours,
    and all jobs would die of it. A permanent one, or the last, makes the job a dead
    letter. A job whose series is being received again is cancelled: routing the whole series
    makes another. Nothing is raised but `LedgerUnavailable`: then nothing is known of the
    attempt, and it will be made again.
    """
    jobs = workshop.ledger.jobs
    job = jobs.start(job_id, attempt)
    if job is None:
        return
    events.job_changed(job_id, "running", job.reason, attempt)
    if _is_superseded(job, workshop):
        jobs.cancel(job_id, SUPERSEDED)
        events.job_changed(job_id, "cancelled", SUPERSEDED, attempt)
        return
    try:
        _process(job, workshop, events)
    except Overtaken:
        events.job_changed(job_id, "overtaken", "another attempt decided", attempt)


def _is_superseded(job: Job, workshop: Workshop) -> bool:
    series = workshop.ledger.receipts.find_series(job.series_instance_uid)
    return series is not None and series.state in (SeriesState.RECEIVING, SeriesState.COMPLETE)


def _process(job: Job, workshop: Workshop, events: Events) -> None:
    try:
        analysis = process(job, workshop)
    except (LedgerUnavailable, Overtaken):
        raise
    except NodeError as error:
        _fail(job, error, workshop, events)
    # A boundary: whatever a model's data provokes in a library must end this job, not the node.
    except Exception as error:  # noqa: BLE001
        events.unexpected(f"job {job.job_id}")
        _record_failure(job, f"unexpected.{type(error).__name__}", None, workshop, events)
    else:
        events.job_changed(job.job_id, "succeeded", analysis.outcome, job.attempt)


def _fail(job: Job, error: NodeError, workshop: Workshop, events: Events) -> None:
    reason = f"{error.reason}: {error}"
    if error.reason in _STOPPING:
        _record_failure(job, reason, datetime.now(UTC), workshop, events)
        return
    tried = (job.attempt - 1) % MAX_ATTEMPTS + 1
    if error.transient and (tried < MAX_ATTEMPTS or _is_of_the_disk(error)):
        delay_s = _FIRST_DELAY_S * 2.0**tried * (0.5 + random.random())
        _record_failure(job, reason, datetime.now(UTC) + timedelta(seconds=delay_s), workshop,
                        events)
        return
    _record_failure(job, reason, None, workshop, events)
    if isinstance(error, UnsuitableInput):
        _decline(job, reason, workshop, events)


def _is_of_the_disk(error: NodeError) -> bool:
    return isinstance(error, OutOfSpace | StorageFailed) or error.reason == SCRATCH_FAILED


def _record_failure(
    job: Job, reason: str, retry_at: datetime | None, workshop: Workshop, events: Events
) -> None:
    workshop.ledger.jobs.fail(job.job_id, reason, retry_at=retry_at, attempt=job.attempt)
    state = "failed" if retry_at is not None else "dead"
    events.job_changed(job.job_id, state, reason.partition(":")[0], job.attempt)


def _decline(job: Job, reason: str, workshop: Workshop, events: Events) -> None:
    """Close the series as declined when every job of its last routing was declined its input."""
    ledger = workshop.ledger
    series = ledger.receipts.find_series(job.series_instance_uid)
    if series is None or series.state is not SeriesState.ROUTED:
        return
    asked = [
        other for other in ledger.jobs.of_series(job.series_instance_uid)
        if other.created_at >= series.changed_at
    ]
    if any(one.state is not JobState.DEAD or not _is_declined(one.reason) for one in asked):
        return
    declined = ledger.receipts.change(
        job.series_instance_uid, SeriesState.DECLINED, reason,
        unless_received_after=series.last_received_at, only_from=SeriesState.ROUTED,
    )
    if declined:
        events.series_changed(job.series_instance_uid, "declined", reason.partition(":")[0])


def _is_declined(reason: str) -> bool:
    return reason.startswith("input.")
