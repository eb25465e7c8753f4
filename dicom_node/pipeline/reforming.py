"""Chooses anew what a destination gets of a job's results, after it took less than was thought.

The objects are those that the node keeps; their images are read again where a form shows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dicom_node.errors import UnknownName
from dicom_node.ledger.versions import NOT_ANALYSED
from dicom_node.pipeline.analysis import source_of
from dicom_node.pipeline.answers import answer_source, headers_of
from dicom_node.pipeline.loading import load_input
from dicom_node.pipeline.packing import REJECTION_NOTE, addressed, choose_again
from dicom_node.pipeline.process import card_of
from dicom_node.pipeline.workshop import Workshop, read_kept
from dicom_node.records import DeliveryState, Duty, Job, Result
from dicom_node.results.forms import Source

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def reform(duty: Duty, workshop: Workshop) -> None:
    """Send to a destination what it takes of a job (``duty.key`` is ``job:destination``).

    What is not sent yet and is not of the new choice is replaced. Of a version that a newer one
    has superseded nothing more is sent, so there is nothing to choose.

    Raises
    ------
    NotUnderstood, UnsuitableInput
        What the forms are made from cannot be read back.
    OutOfSpace, StorageFailed, LedgerUnavailable
    """
    job_id, destination = duty.key.split(":", 1)
    job = workshop.ledger.jobs.find(job_id)
    current = _current(job, workshop) if job else ()
    canonical = [one for one in current if not one.form and one.kind != REJECTION_NOTE]
    if job is None or not canonical:
        workshop.ledger.duties.done(duty)
        return
    source = _source(job, canonical, workshop)
    parcels = choose_again(job, destination, canonical, source, workshop)
    workshop.ledger.outbox.add([result for _, result in parcels])
    workshop.ledger.deliveries.replace(
        job_id, destination, _rejections(job, workshop), addressed(job, destination, parcels),
        duty.reason, duty=duty,
    )


def _current(job: Job, workshop: Workshop) -> Sequence[Result]:
    """The newest version, if that is what the job sends, whichever job made its objects."""
    version = workshop.ledger.versions.previous(job)
    sends = {one.sop_instance_uid for one in workshop.ledger.deliveries.of_job(job.job_id)}
    objects = version.objects if version else ()
    return objects if any(one.sop_instance_uid in sends for one in objects) else ()


def _rejections(job: Job, workshop: Workshop) -> list[str]:
    """What is not a form of the result and goes out whatever the choice is."""
    ledger = workshop.ledger
    sends = [
        ledger.jobs.find_result(one.sop_instance_uid)
        for one in ledger.deliveries.of_job(job.job_id) if one.state is not DeliveryState.REPLACED
    ]
    return [one.sop_instance_uid for one in sends if one and one.kind == REJECTION_NOTE]


def _source(job: Job, canonical: Sequence[Result], workshop: Workshop) -> Source:
    report = next(one for one in canonical if one.kind.endswith("report"))
    if report.kind == NOT_ANALYSED:
        return answer_source(headers_of(job, workshop), workshop)
    analysed = _evidence(read_kept(report, workshop))
    paths = workshop.spool.resolve_all([
        one.path for one in workshop.ledger.receipts.instances(job.series_instance_uid)
        if one.sop_instance_uid in analysed
    ])
    try:
        entry = card_of(job, workshop.catalog).input
    except UnknownName:
        entry = None
    return source_of(load_input(paths, entry), workshop.equipment)


def _evidence(report: Dataset) -> set[str]:
    """The images that a report was made from (PS3.3 C.17.2)."""
    return {
        str(instance.ReferencedSOPInstanceUID)
        for study in report.get("CurrentRequestedProcedureEvidenceSequence", [])
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
