"""A job that the canary cannot do is the live version's: the series pays nothing for the trial."""

from __future__ import annotations

from ai_models.types import ModelError
from dicom_node.events import Events
from dicom_node.pipeline.retry import Cause, cause_of
from dicom_node.pipeline.workshop import Workshop
from dicom_node.records import Job, Stage

# Nobody's fault, or the node's: the version is tried again as any other would be.
_NOT_ITS_OWN = frozenset({Cause.NODE, Cause.DISK, Cause.TRANSIENT})
_OF_THE_INPUT = ("input.", "dataset.")


def falls_back(
    job: Job, reason: str, workshop: Workshop, events: Events, *, is_last: bool
) -> bool:
    """Hand a failed job of a canary to the live version, if it can be; whether that was done.

    At the first failure that is the version's or its worker's own, for the live version is there
    and somebody waits; at the last one of another cause (``is_last``). An input that the canary
    declines goes to the live version where that takes other inputs, and is no failure.

    Raises
    ------
    Overtaken, LedgerUnavailable
    """
    live = None if job.shadow else workshop.ledger.stages.live(job.model_id)
    if live is None or job.model_version in ("", live.version):
        return False
    if cause_of(reason) in _NOT_ITS_OWN and not is_last:
        return False
    try:
        ran = workshop.catalog.card_for(job.model_id, job.model_version)
        card = workshop.catalog.get(job.model_id, live=live.version)
    except ModelError:
        return False
    is_input = reason.startswith(_OF_THE_INPUT)
    if ran.version == card.version or (is_input and ran.input == card.input):
        return False
    stages = workshop.ledger.stages.of(job.model_id)
    is_canary = any(
        one.version == job.model_version and one.stage is Stage.CANARY for one in stages
    )
    counts = is_canary and not is_input and cause_of(reason) not in _NOT_ITS_OWN
    code = reason.partition(":")[0]
    ended = workshop.ledger.canaries.fall_back(job, card.version, reason, counts=counts)
    events.job_changed(job.job_id, "failed", code, job.attempt)
    if counts:
        events.model_changed(
            job.model_id, job.model_version, "canary failed", f"job {job.job_id}: {code}"
        )
    if ended:
        events.model_changed(
            job.model_id, job.model_version, "canary ended",
            "it failed on several series in a row: the live version gets them all",
        )
    return True
