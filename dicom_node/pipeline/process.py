"""The story of one job, from its inputs in the spool to its results in the outbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ai_models.card import Card
from ai_models.catalog import Catalog
from ai_models.types import ModelError, SegmentationPrediction, Volume
from dicom_node.errors import UnknownName
from dicom_node.imaging.unreadable import UnreadableInstances, named
from dicom_node.ledger.ledger import Ledger
from dicom_node.pipeline.analysis import Analysis, analyse
from dicom_node.pipeline.inference import InferencePool
from dicom_node.pipeline.revocation import Revocation
from dicom_node.records import Delivery, DeliveryState, Job, Result
from dicom_node.results.equipment import Equipment
from dicom_node.spool import Spool

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class Workshop:
    """What every job is done with."""

    ledger: Ledger
    spool: Spool
    catalog: Catalog
    pool: InferencePool
    equipment: Equipment
    deadline_s: float


def process(job: Job, workshop: Workshop) -> Analysis:
    """Do a job: inputs, inference, objects, gate, outbox, ledger; in this order.

    The results are on disk before the ledger says that they exist, and nothing is sent before
    the ledger does. A card that was updated since the job was asked for is used as it is now,
    and the ledger says so. Raises what `dicom_node.pipeline.analysis.analyse` raises, and
    `Overtaken` when the job is no longer this attempt's.
    """
    card = _card(job, workshop.catalog)
    instances = workshop.ledger.receipts.instances(job.series_instance_uid)
    paths = [workshop.spool.resolve(instance.path) for instance in instances]

    def predict(card: Card, volume: Volume) -> SegmentationPrediction:
        deadline_s = min(workshop.deadline_s, card.runtime.deadline_s)
        return workshop.pool.predict(
            card.id, volume, deadline_s=deadline_s, cancelled=Revocation(job, workshop.ledger)
        )

    try:
        analysis = analyse(paths, card, predict, workshop.equipment, datetime.now(UTC))
    except UnreadableInstances as error:
        raise error.below(workshop.spool.root) from error
    results = [_keep(job, kind, dataset, workshop) for kind, dataset in analysis.objects]
    try:
        workshop.ledger.jobs.succeed(
            job.job_id, results, _deliveries(job, results),
            _reason(job, results, analysis, len(paths), workshop.spool),
            analysis.seconds_by_stage, attempt=job.attempt, model_version=card.version,
        )
    finally:
        # Also of an attempt that was overtaken: what it wrote may not be taken up later.
        _drop_twins(results, workshop)
    return analysis


def _drop_twins(results: Sequence[Result], workshop: Workshop) -> None:
    """Remove what another job made at the same time and told the ledger of first.

    Of one SOP Instance UID only the object that may be sent stays on disk.
    """
    known = workshop.ledger.outbox.paths_known(one.sop_instance_uid for one in results)
    for one in results:
        if known.get(one.sop_instance_uid, one.path) != one.path:
            workshop.spool.remove(one.path)


def _reason(
    job: Job, results: Sequence[Result], analysis: Analysis, images: int, spool: Spool
) -> str:
    """The outcome, what was left out, and whose objects they are when an earlier job made them."""
    parts = [analysis.outcome]
    if analysis.loaded.unreadable:
        parts.append(named(analysis.loaded.unreadable, images, spool.root))
    earlier = sorted({result.job_id for result in results} - {job.job_id})
    if earlier:
        parts.append(f"same objects as job {', '.join(earlier)}")
    return ", ".join(parts)


def _card(job: Job, catalog: Catalog) -> Card:
    try:
        card = catalog.get(job.model_id)
    except ModelError as error:
        raise UnknownName(str(error), reason=error.reason) from error
    return card


def _keep(job: Job, kind: str, dataset: Dataset, workshop: Workshop) -> Result:
    """Write a result to the outbox, unless the same object is there from an earlier job."""
    uid = str(dataset.SOPInstanceUID)
    known = workshop.ledger.jobs.find_result(uid)
    if known is not None:
        return known
    path = workshop.spool.put_result(
        job.job_id, uid, lambda file: dataset.save_as(file, enforce_file_format=True)
    )
    return Result(
        sop_instance_uid=uid,
        sop_class_uid=str(dataset.SOPClassUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        study_instance_uid=str(dataset.StudyInstanceUID),
        job_id=job.job_id,
        kind=kind,
        path=path,
        created_at=datetime.now(UTC),
    )


def _deliveries(job: Job, results: Sequence[Result]) -> list[Delivery]:
    """One delivery per object and destination, named so that they sort in sending order."""
    now = datetime.now(UTC)
    return [
        Delivery(
            delivery_id=f"{job.job_id}:{destination}:{position:02d}",
            job_id=job.job_id,
            sop_instance_uid=result.sop_instance_uid,
            destination=destination,
            state=DeliveryState.PENDING,
            reason="produced",
            attempt=1,
            status=None,
            not_before=now,
            changed_at=now,
        )
        for destination in job.destinations
        for position, result in enumerate(results)
    ]
