"""What every job is done with, and how one of its objects is kept."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ai_models.catalog import Catalog
from dicom_node.errors import NotUnderstood, StorageFailed
from dicom_node.imaging.decoded import Decoded
from dicom_node.ledger.ledger import Ledger
from dicom_node.pipeline.destinations import Destinations
from dicom_node.pipeline.inference import InferencePool
from dicom_node.pipeline.made_ready import MadeReady
from dicom_node.pipeline.writer_process import WriterProcess
from dicom_node.records import UNKNOWN_KIND, Job, Result
from dicom_node.results.equipment import Equipment
from dicom_node.results.writing import write_result
from dicom_node.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pydicom.dataset import Dataset

    from ai_models.drafting.impression import Writer
    from dicom_node.pipeline.drafting import Drafts


@dataclass(frozen=True)
class Workshop:
    """What every job is done with.

    ``language`` is that of the sentences in reports; in ``decoded`` are images that were read while
    their series arrived, in ``made_ready`` series that were read as a whole. Of a rule that is
    among ``writers`` that one drafts the impression of reports, of any other ``writer`` does;
    without one nobody does. A job is left to ``drafts`` when only its draft is missing; without
    them it holds its place until it has that.
    """

    ledger: Ledger
    spool: Spool
    catalog: Catalog
    pool: InferencePool
    equipment: Equipment
    destinations: Destinations
    deadline_s: float
    language: str = "en"
    decoded: Decoded | None = None
    writer: Writer | None = None
    writers: Mapping[str, Writer | None] = field(default_factory=dict)
    drafts: Drafts | None = None
    made_ready: MadeReady | None = None

    def writer_for(self, job: Job) -> Writer | None:
        """Who drafts the impression of what a job finds."""
        writer = self.writers.get(job.rule, self.writer)
        return writer.of(job.priority) if isinstance(writer, WriterProcess) else writer


def keep(
    job: Job, kind: str, dataset: Dataset, workshop: Workshop, *, form: str = "",
    made_from: str = "",
) -> Result:
    """Write a result to the outbox, unless the same object is there from an earlier job.

    Raises
    ------
    OutOfSpace, StorageFailed
    """
    uid = str(dataset.SOPInstanceUID)
    known = workshop.ledger.jobs.find_result(uid)
    if known is not None and known.kind == UNKNOWN_KIND:
        return replace(known, kind=kind, form=form, made_from=made_from)
    if known is not None:
        return known
    path = workshop.spool.put_result(job.job_id, uid, lambda file: write_result(dataset, file))
    return Result(
        sop_instance_uid=uid,
        sop_class_uid=str(dataset.SOPClassUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        study_instance_uid=str(dataset.StudyInstanceUID),
        job_id=job.job_id,
        kind=kind,
        path=path,
        created_at=datetime.now(UTC),
        form=form,
        made_from=made_from,
    )


def read_kept(result: Result, workshop: Workshop) -> Dataset:
    """An object that the node keeps, as it is on disk.

    Raises
    ------
    NotUnderstood
        It is not there, or cannot be read.
    """
    import pydicom

    path = workshop.spool.resolve(result.path)
    try:
        return pydicom.dcmread(path)
    except (OSError, pydicom.errors.InvalidDicomError) as error:
        raise NotUnderstood(
            "a kept result cannot be read back", reason="outbox.unreadable"
        ) from error


def check_readable_here(kept: Sequence[str], paths: Sequence[Path], workshop: Workshop) -> None:
    """Blame no series for what this host has lost sight of: another one sees it, or this one soon.

    A copy of a stored object may have had to go, a folder need not be mounted any more.

    Parameters
    ----------
    kept, paths
        The names of images in the spool, and the files that these are here.

    Raises
    ------
    StorageFailed
    """
    # Unlike `Path.exists` it says no where this process may not look.
    absent = [
        name for name, path in zip(kept, paths, strict=True)
        if not os.path.exists(path)  # noqa: PTH110
    ]
    if not absent:
        return
    known = workshop.ledger.places.spool()
    if known and workshop.spool.marker() != known:
        raise StorageFailed("the spool is not where it was")
    if any(map(workshop.spool.has, absent)):
        raise StorageFailed("images that are kept cannot be read on this host")


def drop_twins(results: Sequence[Result], workshop: Workshop) -> None:
    """Remove what another job made at the same time and told the ledger of first.

    Of one SOP Instance UID only the object that may be sent stays on disk.
    """
    known = workshop.ledger.outbox.paths_known(one.sop_instance_uid for one in results)
    for one in results:
        if known.get(one.sop_instance_uid, one.path) != one.path:
            workshop.spool.remove(one.path)
