"""The story of one job, from its inputs in the spool to its results in the outbox."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from ai_models.card import Card
from ai_models.catalog import Catalog
from ai_models.types import ModelError, ModelInput, Prediction
from dicom_node.errors import ModelFailed, PermanentError, UnknownName
from dicom_node.imaging.unreadable import UnreadableInstances, named
from dicom_node.ledger.versions import Version
from dicom_node.pipeline.analysis import Analysis, Writing, analyse, with_draft
from dicom_node.pipeline.earlier import earlier_of
from dicom_node.pipeline.impressions import takes_a_draft
from dicom_node.pipeline.packing import Packed, pack, predecessors
from dicom_node.pipeline.retry import Cause, cause_of
from dicom_node.pipeline.revocation import Revocation
from dicom_node.pipeline.scanner import scanner_of
from dicom_node.pipeline.summary import summary, without_text
from dicom_node.pipeline.taken import taken_by
from dicom_node.pipeline.workshop import Workshop, check_readable_here, drop_twins
from dicom_node.records import Job
from dicom_node.results.draft_record import draft_record
from dicom_node.spool import Spool


@dataclass(frozen=True)
class Computed:
    """A job whose model has answered: ``analysis`` has everything but a draft."""

    job: Job
    card: Card
    analysis: Analysis
    previous: Version | None
    images: int


def process(job: Job, workshop: Workshop) -> Analysis:
    """Do a job: inputs, inference, objects, gate, draft, forms, outbox, ledger; in this order.

    The results are on disk before the ledger says that they exist, and nothing is sent before
    the ledger does. A card that was updated since the job was asked for is used as it is now,
    and the ledger says so. Raises what `dicom_node.pipeline.analysis.analyse` raises, and
    `Overtaken` when the job is no longer this attempt's.
    """
    return finish(compute(job, workshop), workshop)


def process_or_leave(job: Job, workshop: Workshop) -> Analysis | None:
    """`process`, but for a draft: of a job that wants one `finish` is left to do, and ``None`` says
    so. Its device is free meanwhile."""
    computed = compute(job, workshop)
    is_wanted = workshop.writer_for(job) is not None and takes_a_draft(computed.analysis.objects)
    if workshop.drafts is None or not is_wanted:
        return finish(computed, workshop)
    workshop.drafts.leave(computed)
    return None


def compute(job: Job, workshop: Workshop) -> Computed:
    """The first part of `process`: all that takes a device."""
    card = card_of(job, workshop.catalog)
    instances = workshop.ledger.receipts.instances(job.series_instance_uid)
    kept = [instance.path for instance in instances]
    paths = workshop.spool.resolve_all(kept)

    def predict(card: Card, source: ModelInput) -> Prediction:
        deadline_s = min(workshop.deadline_s, card.runtime.deadline_s)
        try:
            return workshop.pool.predict(
                card, source, deadline_s=deadline_s, cancelled=Revocation(job, workshop.ledger),
                job_id=job.job_id, priority=job.priority,
            )
        except ModelFailed as error:
            if cause_of(error.reason) is Cause.ABSENT:
                # Damaged since it was looked through: the next jobs need not find that out.
                workshop.catalog.doubt(card)
            raise

    previous = workshop.ledger.versions.previous(job)
    writing = Writing(
        workshop.equipment, datetime.now(UTC), workshop.language, predecessors(previous),
    )
    taken = taken_by(job, workshop)
    ready = None
    if workshop.made_ready is not None:
        ready = workshop.made_ready.take(job.series_instance_uid, paths, card.input)
    try:
        analysis = analyse(
            paths, card, predict, writing, workshop.decoded, companions=taken.companions,
            missing=taken.missing, earlier=earlier_of(job, workshop),
            made_ready=ready,
        )
    except PermanentError as error:
        check_readable_here(kept, paths, workshop)
        if isinstance(error, UnreadableInstances):
            raise error.below(workshop.spool.root) from error
        raise
    finally:
        if workshop.made_ready is not None and ready is not None:
            workshop.made_ready.let_go(ready)
    if analysis.loaded.unreadable:
        check_readable_here(kept, paths, workshop)
    return Computed(job, card, analysis, previous, len(paths))


def finish(computed: Computed, workshop: Workshop) -> Analysis:
    """The second part of `process`: the draft where a writer is asked, and all that is kept."""
    job, card = computed.job, computed.card
    analysis = with_draft(computed.analysis, workshop.writer_for(job))
    packed = pack(
        job, analysis.objects, analysis.source(), workshop, analysis.request, computed.previous
    )
    said = {"task": card.task, "model_version": card.version, **without_text(summary(analysis))}
    if analysis.impression is not None:
        said["impression"] = draft_record(analysis.impression)
    try:
        workshop.ledger.predictions.keep(job.job_id, said, attempt=job.attempt)
        _keep_features(job, card, analysis, workshop)
        workshop.ledger.jobs.succeed(
            job.job_id, packed.results, packed.deliveries,
            _reason(job, packed, analysis, computed.images, workshop.spool),
            analysis.seconds_by_stage, attempt=job.attempt, model_version=card.version,
        )
    finally:
        # Also of an attempt that was overtaken: what it wrote may not be taken up later.
        drop_twins(packed.results, workshop)
    return analysis


def _keep_features(job: Job, card: Card, analysis: Analysis, workshop: Workshop) -> None:
    """How the input looked to the model, by the scanner that it is from."""
    if features := getattr(analysis.prediction, "features", ()):
        scanner = scanner_of(analysis.loaded.source_images[0])
        workshop.ledger.features.keep(job.job_id, card.id, card.version, scanner, features)


def _reason(job: Job, packed: Packed, analysis: Analysis, images: int, spool: Spool) -> str:
    """The outcome, what was left out, and whose objects they are when an earlier job made them."""
    parts = [analysis.outcome, *packed.notes]
    if analysis.loaded.unreadable:
        parts.append(named(analysis.loaded.unreadable, images, spool.root))
    earlier = sorted({result.job_id for result in packed.results} - {job.job_id})
    if earlier:
        parts.append(f"same objects as job {', '.join(earlier)}")
    return ", ".join(parts)


def card_of(job: Job, catalog: Catalog) -> Card:
    """The card that a job runs: of its version, or of the live one where that is not to run now.

    Raises
    ------
    UnknownName
        There is none any more, or it is not valid.
    """
    try:
        return catalog.card_for(job.model_id, job.model_version)
    except ModelError as error:
        raise UnknownName(str(error), reason=error.reason) from error
