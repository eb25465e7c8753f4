"""The answer of a job that has no result: the series was not analysed, and why.

A job that is dead, or that an operator cancelled, owes it. It is made of one header that can be
read and of what the ledger knows, because whatever spoilt the job may be in the images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from ai_models.card import ARTIFICIAL_INTELLIGENCE
from ai_models.types import Algorithm
from dicom_node.errors import NotUnderstood, UnknownName
from dicom_node.imaging.reading import read_header
from dicom_node.ledger.versions import NOT_ANALYSED
from dicom_node.pipeline.analysis import Writing
from dicom_node.pipeline.packing import pack, predecessors
from dicom_node.pipeline.process import card_of
from dicom_node.pipeline.workshop import Workshop, drop_twins
from dicom_node.records import Duty, Instance, Job
from dicom_node.results import gate
from dicom_node.results.declined import build_not_analysed_report
from dicom_node.results.forms import Source
from dicom_node.results.identity import ResultIdentity
from dicom_node.results.request import SERIES_NUMBERS, ResultRequest

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_WHOSE = (
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "Modality",
    "PatientName", "PatientID", "StudyInstanceUID", "SeriesInstanceUID",
)  # fmt: skip


def answer(duty: Duty, workshop: Workshop) -> None:
    """Make the answer of the job that ``duty.key`` names, unless it is no longer owed.

    Raises
    ------
    NotUnderstood
        No image of the series can be read, so that nobody knows whose it is.
    UnsuitableInput, GateRefused
        Its headers cannot carry an answer.
    OutOfSpace, StorageFailed, LedgerUnavailable
    """
    job = workshop.ledger.jobs.find(duty.key)
    if job is None or not workshop.ledger.answers.is_owed(job):
        workshop.ledger.duties.done(duty)
        return
    source_images = headers_of(job, workshop)
    previous = workshop.ledger.versions.previous(job)
    writing = Writing(
        workshop.equipment, datetime.now(UTC), workshop.language, predecessors(previous)
    )
    digests = {
        one.sop_instance_uid: one.fingerprint
        for one in workshop.ledger.receipts.instances(job.series_instance_uid)
    }
    request = not_analysed_request(
        source_images, _algorithm(job, workshop), digests, writing, job.rule
    )
    request, report = _built(request, job.reason)
    source = answer_source(request.source_images, workshop)
    packed = pack(job, [(NOT_ANALYSED, report)], source, workshop, request, previous)
    try:
        workshop.ledger.answers.give(duty, job, packed.results, packed.deliveries)
    finally:
        drop_twins(packed.results, workshop)


def not_analysed_request(
    source_images: Sequence[Dataset],
    algorithm: Algorithm,
    digests: Mapping[str, str],
    writing: Writing,
    rule: str = "",
) -> ResultRequest:
    """What the answer is built from; ``digests`` maps SOP Instance UIDs to what is known of them.
    """
    identity = ResultIdentity(
        input_digests=digests,
        model_id=algorithm.model_id,
        model_version=algorithm.version,
        weights_sha256=algorithm.weights_sha256,
        effective_configuration={"rule": rule, "language": writing.language},
    )
    return ResultRequest(
        source_images=source_images,
        frame_numbers=[1] * len(source_images),
        labels=(),
        algorithm=algorithm,
        identity=identity,
        equipment=writing.equipment,
        created_at=writing.created_at,
        language=writing.language,
        predecessors=writing.predecessors,
    )


def _built(request: ResultRequest, reason: str) -> tuple[ResultRequest, Dataset]:
    """The answer, and what it was built from: less of the header where that is what breaks it.

    Raises
    ------
    UnsuitableInput, GateRefused
        Not even patient and study can be told.
    """
    try:
        return request, build_answer(request, reason)
    # A boundary: whatever stands in a header that spoilt the job must not spoil the answer too.
    except Exception:  # noqa: BLE001
        first, *others = request.source_images
        bare = replace(request, source_images=[_bare(first), *others])
        return bare, build_answer(bare, reason)


def _bare(header: Dataset) -> Dataset:
    """Whose images they are, and nothing else."""
    from pydicom.datadict import keyword_for_tag
    from pydicom.dataset import Dataset

    bare = Dataset()
    for tag, element in header.items():
        if keyword_for_tag(tag) in _WHOSE:
            bare[tag] = element
    bare.file_meta = header.file_meta
    return bare


def build_answer(request: ResultRequest, reason: str) -> Dataset:
    """The report, checked; ``reason`` is ``code: text``, as the ledger has it.

    Raises
    ------
    UnsuitableInput, GateRefused
        The headers cannot carry an answer.
    """
    code, _, detail = reason.partition(": ")
    number = SERIES_NUMBERS["volumetric report"]
    report = build_not_analysed_report(request, code, detail, series_number=number)
    gate.check_report(report, request.source_images)
    return report


def headers_of(job: Job, workshop: Workshop) -> list[Dataset]:
    """One whole header, and of every other image what a reference to it needs.

    Raises
    ------
    NotUnderstood
        No image can be read, or there is none.
    """
    instances = workshop.ledger.receipts.instances(job.series_instance_uid)
    first, header = _first_readable(instances, workshop)
    return [header, *(_reference_to(one) for one in instances if one is not first)]


def answer_source(source_images: Sequence[Dataset], workshop: Workshop) -> Source:
    """What forms of an answer are built from: no images, for none were looked at."""

    def nothing(_labels: object) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        return np.zeros((1, 1, 1), np.uint8)

    frames = [1] * len(source_images)
    return Source(source_images, frames, nothing, workshop.equipment)


def _first_readable(
    instances: Sequence[Instance], workshop: Workshop
) -> tuple[Instance, Dataset]:
    failure = NotUnderstood("the series has no images any more", reason="input.no_instances")
    for instance in instances:
        try:
            return instance, read_header(workshop.spool.resolve(instance.path)).dataset
        except NotUnderstood as error:
            failure = error
    raise failure


def _reference_to(instance: Instance) -> Dataset:
    from pydicom.dataset import Dataset

    named = Dataset()
    named.SOPClassUID = instance.sop_class_uid
    named.SOPInstanceUID = instance.sop_instance_uid
    named.SeriesInstanceUID = instance.series_instance_uid
    named.StudyInstanceUID = instance.study_instance_uid
    return named


def _algorithm(job: Job, workshop: Workshop) -> Algorithm:
    """The model that should have run; of one that is gone, only what the job knows of it."""
    try:
        return card_of(job, workshop.catalog).algorithm()
    except UnknownName:
        return Algorithm(
            model_id=job.model_id, name=job.model_id, version=job.model_version or "unknown",
            manufacturer="unknown", weights_sha256="unknown", family=ARTIFICIAL_INTELLIGENCE,
            demonstration=False,
        )
