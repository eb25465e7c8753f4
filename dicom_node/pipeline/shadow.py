"""A shadow job: the candidate beside the live version on one series, compared and sent nowhere."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ai_models.card import Card, SegmentationCard
from ai_models.types import Label, ModelError, Prediction
from dicom_node.errors import PermanentError, UnknownName
from dicom_node.pipeline.agreement import compare
from dicom_node.pipeline.companions import load_together
from dicom_node.pipeline.loading import Loaded
from dicom_node.pipeline.revocation import Revocation
from dicom_node.pipeline.taken import taken_by
from dicom_node.pipeline.workshop import Workshop
from dicom_node.records import Job, Stage

COMPARED = "compared"


def run_shadow(job: Job, workshop: Workshop) -> str:
    """Run both versions on the same images, keep how far they agree, and end the job.

    Nothing is written to the outbox and nothing is delivered. Where the live version itself cannot
    do the series there is nothing to compare, and the outcome says so: that is no failure of the
    shadow. Returns the outcome.

    Raises
    ------
    UnknownName
        The shadow version, or the live one, is not there any more.
    NodeError
        The shadow failed, as `dicom_node.pipeline.inference` raises it; or something passing did.
    Overtaken
        The job is no longer this attempt's.
    """
    live, shadow = _cards(job, workshop)
    seconds: dict[str, float] = {}
    stages = workshop.ledger.stages.of(job.model_id)
    if not any(one.version == shadow.version and one.stage is Stage.SHADOW for one in stages):
        return _end(job, "not compared: it is no shadow any more", seconds, workshop)
    instances = workshop.ledger.receipts.instances(job.series_instance_uid)
    paths = workshop.spool.resolve_all([instance.path for instance in instances])
    try:
        loaded, expected = _run(job, paths, live, workshop, seconds, "live")
    except PermanentError as error:
        outcome = f"not compared: the live version cannot do it ({error.reason})"
        return _end(job, outcome, seconds, workshop)
    reused = loaded if live.input == shadow.input else None
    _, found = _run(job, paths, shadow, workshop, seconds, "shadow", reused)
    document: dict[str, Any] = {
        **compare(expected, found, (_kinds(live), _kinds(shadow))), "seconds": seconds,
    }
    workshop.ledger.agreements.keep(
        job.job_id, job.model_id, live.version, shadow.version, document
    )
    return _end(job, document.get("why_not", COMPARED), seconds, workshop)


def _kinds(card: Card) -> tuple[Label, ...]:
    """The labels of a card whose findings are parts of them, each with a number."""
    return card.labels if isinstance(card, SegmentationCard) and card.output.instances else ()


def _cards(job: Job, workshop: Workshop) -> tuple[Card, Card]:
    try:
        shadow = workshop.catalog.get(job.model_id, job.model_version)
        return workshop.catalog.get(job.model_id), shadow
    except ModelError as error:
        raise UnknownName(str(error), reason=error.reason) from error


def _run(
    job: Job, paths: list[Path], card: Card, workshop: Workshop, seconds: dict[str, float],
    which: str, loaded: Loaded | None = None,
) -> tuple[Loaded, Prediction]:
    if loaded is None:
        taken = taken_by(job, workshop)
        loaded = load_together(paths, card.input, taken.companions, taken.missing)
    started = time.perf_counter()
    prediction = workshop.pool.predict(
        card, loaded.model_input, deadline_s=min(workshop.deadline_s, card.runtime.deadline_s),
        cancelled=Revocation(job, workshop.ledger),
    )
    seconds[which] = time.perf_counter() - started
    return loaded, prediction


def _end(job: Job, outcome: str, seconds: dict[str, float], workshop: Workshop) -> str:
    workshop.ledger.jobs.succeed(
        job.job_id, [], [], outcome, seconds, attempt=job.attempt,
    )
    return outcome
