"""One attempt of one job: run it, and write down how it ended."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dicom_node.errors import LedgerUnavailable, NodeError, UnsuitableInput
from dicom_node.events import Events, about_study
from dicom_node.ledger import clock
from dicom_node.ledger.overtaking import ROUTED_AGAIN, SUPERSEDED, Overtaken, Superseded
from dicom_node.pipeline.analysis import Analysis
from dicom_node.pipeline.canary import falls_back
from dicom_node.pipeline.process import finish, process_or_leave
from dicom_node.pipeline.retry import last_words, next_delay_s
from dicom_node.pipeline.shadow import run_shadow
from dicom_node.pipeline.workshop import Workshop
from dicom_node.records import Job, JobState, SeriesState


@dataclass(frozen=True)
class AttemptRules:
    """How often a job is tried, and how many of a model run at once in all processes."""

    max_attempts: int = 5
    per_model: Mapping[str, int] = field(default_factory=dict)


DEFAULT_RULES = AttemptRules()


def run_attempt(
    job_id: str,
    attempt: int,
    workshop: Workshop,
    events: Events,
    rules: AttemptRules = DEFAULT_RULES,
) -> None:
    """Run one attempt of a job, unless the ledger says that it is not to be run.

    What it fails of decides whether and when the next attempt is queued, as
    `dicom_node.pipeline.retry` has it; an operator's retry gives it all its attempts again. A job
    whose series is being received again is cancelled, also when that began while it ran: routing
    the whole series makes another. What a canary fails of goes to the live version at once
    (`dicom_node.pipeline.canary`).
    What an operator cancelled or held meanwhile stays as he left it. Nothing is raised but
    `LedgerUnavailable`: then nothing is known of the attempt, and it will be made again.
    """
    job = workshop.ledger.jobs.start(job_id, attempt, rules.per_model)
    if job is not None:
        with about_study(job.study_instance_uid):
            _run(job, attempt, workshop, events, rules)


def _run(
    job: Job, attempt: int, workshop: Workshop, events: Events, rules: AttemptRules
) -> None:
    events.job_changed(job.job_id, "running", job.reason, attempt)

    def work() -> str:
        if _is_superseded(job, workshop):
            raise Superseded(f"attempt {attempt} of job {job.job_id}")
        if job.shadow:
            return run_shadow(job, workshop)
        return _outcome(job, process_or_leave(job, workshop), events)

    _to_its_end(job, work, workshop, events, rules)


def _to_its_end(
    job: Job, work: Callable[[], str], workshop: Workshop, events: Events, rules: AttemptRules,
) -> None:
    """Do ``work``, which answers the outcome, or nothing where another is left to go on."""
    job_id, attempt = job.job_id, job.attempt
    try:
        try:
            _process(job, work, workshop, events, rules)
        except Superseded:
            is_over = workshop.ledger.jobs.give_way(job_id, attempt)
            state, reason = ("cancelled", SUPERSEDED) if is_over else ("queued", ROUTED_AGAIN)
            events.job_changed(job_id, state, reason, attempt)
    except Overtaken:
        events.job_changed(job_id, "overtaken", "another attempt decided", attempt)


def run_draft(
    job_id: str,
    attempt: int,
    workshop: Workshop,
    events: Events,
    rules: AttemptRules = DEFAULT_RULES,
) -> None:
    """Go on with an attempt that was left to its draft (`dicom_node.pipeline.drafting`).

    It ends as `run_attempt` says. Where it was left in a process that is gone, the job is queued
    again.
    """
    drafts = workshop.drafts
    computed = drafts.take(job_id, attempt) if drafts is not None else None
    if drafts is None or computed is None:
        if workshop.ledger.drafts.begin_anew(job_id, attempt):
            events.job_changed(job_id, "queued", "its draft ended with the node", attempt)
        return
    job = computed.job
    try:
        with about_study(job.study_instance_uid):
            _to_its_end(job, lambda: _outcome(job, finish(computed, workshop), events), workshop,
                        events, rules)
    finally:
        drafts.done(job_id, attempt)


def _is_superseded(job: Job, workshop: Workshop) -> bool:
    series = workshop.ledger.receipts.find_series(job.series_instance_uid)
    return series is not None and series.state in (SeriesState.RECEIVING, SeriesState.COMPLETE)


def _process(
    job: Job, work: Callable[[], str], workshop: Workshop, events: Events, rules: AttemptRules,
) -> None:
    try:
        outcome = work()
    except (LedgerUnavailable, Overtaken):
        raise
    except NodeError as error:
        _fail(job, error, workshop, events, rules)
    # A boundary: whatever a model's data provokes in a library must end this job, not the node.
    except Exception as error:  # noqa: BLE001
        events.unexpected(f"job {job.job_id}")
        reason = f"unexpected.{type(error).__name__}"
        if not falls_back(job, reason, workshop, events, is_last=True):
            _record_failure(job, reason, None, workshop, events)
    else:
        if outcome:
            events.job_changed(job.job_id, "succeeded", outcome, job.attempt)


def _outcome(job: Job, analysis: Analysis | None, events: Events) -> str:
    if analysis is None:
        return ""
    made = analysis.impression
    if made is not None:
        events.impression_drafted(
            job.job_id, made.writer.id, made.fallback,
            kept=sum(one.source == "writer" for one in made.sentences),
            struck=Counter(one.reason for one in made.struck),
        )
    return analysis.outcome


def _fail(
    job: Job, error: NodeError, workshop: Workshop, events: Events, rules: AttemptRules
) -> None:
    reason = f"{error.reason}: {error}"
    earlier = workshop.ledger.jobs.failures(job.job_id)
    delay_s = next_delay_s(
        reason, earlier, max_attempts=rules.max_attempts, chance=random.random()
    )
    if falls_back(job, reason, workshop, events, is_last=delay_s is None):
        return
    if delay_s is not None:
        retry_at = clock.now() + timedelta(seconds=delay_s)
        _record_failure(job, reason, retry_at, workshop, events)
        return
    _record_failure(job, last_words(reason, earlier), None, workshop, events)
    if isinstance(error, UnsuitableInput) and not job.shadow:
        _decline(job, reason, workshop, events)


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
        if other.created_at >= series.changed_at and not other.shadow
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
