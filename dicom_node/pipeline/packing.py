"""What a job's destinations get: objects in the form that each takes, written and addressed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dicom_node.errors import UnsuitableInput
from dicom_node.ledger import clock
from dicom_node.ledger.versions import Version
from dicom_node.pipeline.workshop import Workshop, keep, read_kept
from dicom_node.records import Delivery, DeliveryState, DestinationProfile, Job, Result
from dicom_node.results.forms import Prepared, Source, prepare
from dicom_node.results.gate_selection import check_rejection_note
from dicom_node.results.profile import NOTHING_FITS, Sending, Wanted
from dicom_node.results.rejection_note import build_rejection_note
from dicom_node.results.request import SERIES_NUMBERS, Reference, ResultRequest
from dicom_node.results.sop_classes import KEY_OBJECTS

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

PRODUCED = "produced"
REJECTION_NOTE = "rejection note"
Kept = Sequence[tuple[str, "Dataset"]]
Parcel = tuple[str, Result]
"""Why an object goes to a destination, and the object."""


@dataclass(frozen=True)
class Packed:
    """Everything that was written for a job, and who gets it.

    ``notes`` say what could not be made, free of patient data.
    """

    results: tuple[Result, ...]
    deliveries: tuple[Delivery, ...]
    notes: tuple[str, ...] = ()


def pack(
    job: Job,
    made: Kept,
    source: Source,
    workshop: Workshop,
    request: ResultRequest,
    previous: Version | None = None,
) -> Packed:
    """Write what a job made, and for each destination the forms of it that it takes.

    ``previous`` is the version that ``made`` supersedes: destinations that want so are told that
    what they have of it is no longer to be used.

    Raises
    ------
    OutOfSpace, StorageFailed
        The outbox takes nothing more.
    """
    made = [(kind, _as_on_disk(dataset, workshop)) for kind, dataset in made]
    canonical = [keep(job, kind, dataset, workshop) for kind, dataset in made]
    prepared = prepare(_recipients(job, job.destinations, workshop), made, source)
    parcels, derived = _parcels(job, made, canonical, prepared, workshop)
    notes = list(prepared.failed.values())
    rejections: dict[str, Result] = {}
    new = {one.sop_instance_uid for one in (*canonical, *derived)}
    for name in job.destinations:
        try:
            note = _rejection(job, name, previous, new, workshop, request)
        except UnsuitableInput as error:
            notes.append(f"rejection note could not be built ({error.reason})")
            continue
        if note is not None:
            rejections[note.sop_instance_uid] = note
            parcels[name].append(("supersedes an earlier version", note))
    deliveries = [
        delivery
        for name, ones in parcels.items()
        for delivery in addressed(job, name, ones)
    ]
    results = (*canonical, *derived, *rejections.values())
    return Packed(results, tuple(deliveries), tuple(dict.fromkeys(notes)))


def choose_again(
    job: Job, destination: str, canonical: Sequence[Result], source: Source, workshop: Workshop
) -> list[Parcel]:
    """What a destination gets of objects that were made before, in sending order.

    Raises
    ------
    NotUnderstood
        One of them cannot be read back.
    OutOfSpace, StorageFailed
    """
    kept = [(one.kind, read_kept(one, workshop)) for one in canonical]
    prepared = prepare(_recipients(job, (destination,), workshop), kept, source)
    parcels, _ = _parcels(job, kept, canonical, prepared, workshop)
    return parcels[destination]


def predecessors(previous: Version | None) -> tuple[Reference, ...]:
    """The reports of an earlier version, as a newer report names them."""
    return tuple(_reference(one) for one in previous.reports) if previous else ()


def addressed(job: Job, destination: str, parcels: Sequence[Parcel]) -> list[Delivery]:
    """One delivery per object, named so that they sort in sending order."""
    now = clock.now()
    return [
        Delivery(
            delivery_id=f"{job.job_id}:{destination}:{position:02d}",
            job_id=job.job_id,
            sop_instance_uid=result.sop_instance_uid,
            destination=destination,
            state=DeliveryState.PENDING,
            reason=why,
            attempt=1,
            status=None,
            not_before=now,
            changed_at=now,
        )
        for position, (why, result) in enumerate(parcels)
    ]


def _as_on_disk(dataset: Dataset, workshop: Workshop) -> Dataset:
    """What an earlier job wrote of the same UID, which may have been sent, or ``dataset``.

    Also where that was deleted meanwhile: it is not written a second time, and what was sent of
    it must not be answered for as not analysed.
    """
    known = workshop.ledger.jobs.find_result(str(dataset.SOPInstanceUID))
    if known is None or not workshop.spool.has(known.path):
        return dataset
    return read_kept(known, workshop)


def _recipients(
    job: Job, names: Sequence[str], workshop: Workshop
) -> dict[str, tuple[DestinationProfile | None, Wanted]]:
    found = {name: workshop.destinations.of(job, name) for name in names}
    return {name: (one.profile, one.wanted) for name, one in found.items()}


def _parcels(
    job: Job, kept: Kept, canonical: Sequence[Result], prepared: Prepared, workshop: Workshop
) -> tuple[dict[str, list[Parcel]], list[Result]]:
    """What goes to each destination, and the forms among it, which are written here."""
    derived = [
        keep(
            job, one.sending.kind, one.dataset, workshop,
            form=one.sending.form, made_from=one.made_from,
        )
        for one in prepared.derived
    ]
    by_uid = {one.sop_instance_uid: one for one in (*canonical, *derived)}
    parcels: dict[str, list[Parcel]] = {}
    for name in prepared.plans:
        # What takes nothing at all gets what is kept: its refusal stands in the ledger then.
        chosen = prepared.objects_for(name, kept) or [
            (Sending(kind, "", NOTHING_FITS), dataset) for kind, dataset in kept
        ]
        parcels[name] = [
            (_why(sending), by_uid[str(dataset.SOPInstanceUID)]) for sending, dataset in chosen
        ]
    return parcels, derived


def _why(sending: Sending) -> str:
    if sending.form:
        return f"as {sending.form}: {sending.why}"
    return f"{PRODUCED}: {sending.why}"


def _rejection(
    job: Job,
    destination: str,
    previous: Version | None,
    new: set[str],
    workshop: Workshop,
    request: ResultRequest,
) -> Result | None:
    recipient = workshop.destinations.of(job, destination)
    takes_it = recipient.profile is None or recipient.profile.takes(KEY_OBJECTS)
    if previous is None or not recipient.wanted.rejection_notes or not takes_it:
        return None
    there = workshop.ledger.versions.at(previous, destination)
    # A note speaks for its own study: after the study was corrected, the old one is another.
    study_uid = str(request.source_images[0].StudyInstanceUID)
    rejected = [
        one for one in there
        if one.sop_instance_uid not in new and one.study_instance_uid == study_uid
    ]
    if not rejected:
        return None
    references = [_reference(one) for one in rejected]
    number = SERIES_NUMBERS[REJECTION_NOTE]
    note = build_rejection_note(request, references, series_number=number)
    check_rejection_note(note, request.source_images, references)
    return keep(job, REJECTION_NOTE, note, workshop)


def _reference(result: Result) -> Reference:
    return Reference(
        result.sop_class_uid, result.sop_instance_uid, result.series_instance_uid,
        result.study_instance_uid,
    )
