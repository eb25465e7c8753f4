"""One attempt of one job: run it, and write down how it ended."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from dicom_node.errors import LedgerUnavailable, NodeError, UnsuitableInput
from dicom_node.events import Events
from dicom_node.pipeline.process import Workshop, process
from dicom_node.records import Job, JobState, SeriesState

MAX_ATTEMPTS = 5
_FIRST_DELAY_S = 2.0


def run_attempt(job_id: str, attempt: int, workshop: Workshop, events: Events) -> None:
    """Run one attempt of a job, unless the ledger says that it is not to be run.

    A transient error queues the next attempt with a growing delay, up to `MAX_ATTEMPTS`; a
    permanent one, or the last, makes the job a dead letter. Nothing is raised but
    `LedgerUnavailable`: then nothing is known of the attempt, and it will be made again.
    """
    jobs = workshop.ledger.jobs
    job = jobs.start(job_id, attempt)
    if job is None:
        return
    events.job_changed(job_id, "running", job.reason, attempt)
    try:
        analysis = process(job, workshop)
    except LedgerUnavailable:
        raise
    except NodeError as error:
        _fail(job, error, workshop, events)
    # A boundary: whatever a model's data provokes in a library must end this job, not the node.
    except Exception as error:
        events.unexpected(f"job {job_id}")
        _record_failure(job, f"unexpected.{type(error).__name__}", None, workshop, events)
    else:
        events.job_changed(job_id, "succeeded", analysis.outcome, attempt)


def _fail(job: Job, error: NodeError, workshop: Workshop, events: Events) -> None:
    reason = f"{error.reason}: {error}"
    if error.transient and job.attempt < MAX_ATTEMPTS:
        delay_s = _FIRST_DELAY_S * 2.0**job.attempt * (0.5 + random.random())  # noqa: S311 jitter
        _record_failure(job, reason, datetime.now(UTC) + timedelta(seconds=delay_s), workshop,
                        events)
        return
    _record_failure(job, reason, None, workshop, events)
    if isinstance(error, UnsuitableInput):
        _decline(job, reason, workshop, events)


def _record_failure(
    job: Job, reason: str, retry_at: datetime | None, workshop: Workshop, events: Events
) -> None:
    workshop.ledger.jobs.fail(job.job_id, reason, retry_at=retry_at)
    state = "failed" if retry_at is not None else "dead"
    events.job_changed(job.job_id, state, reason.split(":")[0], job.attempt)


def _decline(job: Job, reason: str, workshop: Workshop, events: Events) -> None:
    """Close the series as declined when no other job of it can still answer."""
    ledger = workshop.ledger
    others = ledger.jobs.of_series(job.series_instance_uid)
    if any(other.state is not JobState.DEAD for other in others):
        return
    series = ledger.receipts.find_series(job.series_instance_uid)
    if series is not None and series.state is SeriesState.ROUTED:
        ledger.receipts.change(job.series_instance_uid, SeriesState.DECLINED, reason)
        events.series_changed(job.series_instance_uid, "declined", reason.split(":")[0])
