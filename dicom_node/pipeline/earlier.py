"""The earlier examination that a job was given: its files, and what is known of it already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dicom_node.pipeline.follow_up import Earlier
from dicom_node.pipeline.workshop import Workshop, check_readable_here
from dicom_node.records import PRIOR, Job, JobState


def earlier_of(job: Job, workshop: Workshop) -> Earlier | None:
    """The earlier examination of a job, or why it has none; ``None`` where its rule asks for none.
    """
    asked = [one for one in workshop.ledger.inputs.of(job.job_id) if one.role == PRIOR]
    if not asked:
        return None
    uid = asked[0].series_instance_uid
    instances = workshop.ledger.receipts.instances(uid) if uid else []
    if not instances:
        return Earlier(reason=asked[0].reason if not uid else "its images are not kept any more")
    kept = [instance.path for instance in instances]
    paths = workshop.spool.resolve_all(kept)
    check_readable_here(kept, paths, workshop)
    return Earlier(
        paths, said=_said(job, uid, workshop), segmentations=_segmentations(job, uid, workshop)
    )


def _said(job: Job, series_instance_uid: str, workshop: Workshop) -> Mapping[str, Any] | None:
    """What this version of the model said of the series, by the latest job that came to an end."""
    done = [
        one for one in workshop.ledger.jobs.of_series(series_instance_uid)
        if one.state is JobState.SUCCEEDED and not one.shadow
        and (one.model_id, one.model_version) == (job.model_id, job.model_version)
    ]
    if not done:
        return None
    return workshop.ledger.predictions.of(max(done, key=lambda one: one.created_at).job_id)


def _segmentations(job: Job, series_instance_uid: str, workshop: Workshop) -> list[Path]:
    """What the node made of the series with this model, and what came of its study from elsewhere.
    """
    ledger = workshop.ledger
    found = [
        result.path
        for one in ledger.jobs.of_series(series_instance_uid)
        if one.model_id == job.model_id and not one.shadow
        for result in ledger.jobs.results(one.job_id)
        if result.kind == "segmentation" and not result.form
    ]
    series = ledger.receipts.find_series(series_instance_uid)
    for one in ledger.receipts.series_of_study(series.study_instance_uid) if series else ():
        if one.modality == "SEG":
            found += [i.path for i in ledger.receipts.instances(one.series_instance_uid)]
    return workshop.spool.resolve_all([path for path in found if workshop.spool.has(path)])
