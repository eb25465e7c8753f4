"""Each destination gets what it takes: forms on disk, in the ledger, and why."""

from __future__ import annotations

from datetime import UTC, datetime

import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_node.pipeline.process import process
from dicom_node.pipeline.workshop import Workshop
from dicom_node.records import (
    Delivery,
    DestinationProfile,
    Result,
    SendOutcome,
    SeriesState,
)
from dicom_node.results import sop_classes as classes
from dicom_node.results.profile import Wanted
from tests.pipeline.conftest import started, wanting

EXPLICIT = "1.2.840.10008.1.2.1"
EVERYTHING = tuple(classes.CLASS_NAMES)


def takes(workshop: Workshop, destination: str, *sop_classes: str) -> None:
    """The destination was asked, and takes these classes only."""
    accepted = dict.fromkeys(sop_classes, (EXPLICIT,))
    asked_at = datetime(2026, 1, 5, tzinfo=UTC)
    workshop.ledger.profiles.put(
        DestinationProfile(destination, accepted, frozenset(), asked_at)
    )


def sent(workshop: Workshop, destination: str = "pacs") -> list[tuple[Delivery, Result]]:
    """What is to go to a destination, in order."""
    found = []
    for delivery in workshop.ledger.deliveries.pending("job-1", destination):
        result = workshop.ledger.jobs.find_result(delivery.sop_instance_uid)
        assert result is not None
        found.append((delivery, result))
    return found


def read(workshop: Workshop, result: Result) -> Dataset:
    return pydicom.dcmread(workshop.spool.resolve(result.path))


def test_a_destination_that_was_never_asked_gets_what_the_node_keeps(workshop: Workshop) -> None:
    process(started(workshop, "job-1"), workshop)
    assert [(r.kind, r.form) for _, r in sent(workshop)] == [
        ("segmentation", ""), ("volumetric report", ""), ("planar report", ""),
    ]
    assert {d.reason for d, _ in sent(workshop)} == {
        "produced: best form; destination not asked what it takes"
    }


def test_destinations_of_one_job_get_different_forms_and_the_node_keeps_the_whole(
    workshop: Workshop,
) -> None:
    takes(workshop, "pacs", *EVERYTHING)
    takes(workshop, "old", classes.BASIC_TEXT_SR, classes.SECONDARY_CAPTURE)
    process(started(workshop, "job-1", destinations=("pacs", "old")), workshop)
    assert {r.form for _, r in sent(workshop)} == {""}
    old = [r for _, r in sent(workshop, "old")]
    assert [r.kind for r in old if r.kind.endswith("report")] == [
        "volumetric report", "planar report",
    ]
    assert {r.sop_class_uid for r in old} == {classes.BASIC_TEXT_SR, classes.SECONDARY_CAPTURE}
    kept = {r.sop_instance_uid for r in workshop.ledger.jobs.results("job-1") if not r.form}
    assert len(kept) == 3 and {r.made_from for r in old} <= kept
    for result in old:
        assert read(workshop, result).SOPInstanceUID == result.sop_instance_uid
    reasons = [d.reason for d, r in sent(workshop, "old") if r.kind == "volumetric report"]
    assert reasons == [
        "as text: destination takes no Comprehensive 3D SR (88.34), Comprehensive SR (88.33), "
        "Enhanced SR (88.22)"
    ]


def test_a_destination_that_takes_nothing_is_offered_what_is_kept_so_that_its_refusal_shows(
    workshop: Workshop,
) -> None:
    takes(workshop, "pacs", "1.2.840.10008.5.1.4.1.1.2")
    process(started(workshop, "job-1"), workshop)
    assert {(d.reason, r.form) for d, r in sent(workshop)} == {
        ("produced: forms.nothing_fits", "")
    }
    assert len(sent(workshop)) == 3


def test_what_is_set_for_a_destination_is_made_for_it(workshop: Workshop) -> None:
    extras = Wanted(key_objects=True, presentation_state=True, pdf=True, secondary_capture="always")
    process(started(workshop, "job-1"), wanting(workshop, pacs=extras))
    made = {r.sop_class_uid for _, r in sent(workshop)}
    assert made >= {
        classes.KEY_OBJECTS, classes.PRESENTATION_STATE, classes.ENCAPSULATED_PDF,
        classes.SECONDARY_CAPTURE, classes.SEGMENTATION, classes.COMPREHENSIVE_3D_SR,
    }


def late_slice(workshop: Workshop) -> None:
    workshop.ledger.receipts.change("1.2.3", SeriesState.RECEIVING, "late_instances")


def test_a_newer_result_names_the_older_reports_and_rejects_what_was_sent_of_it(
    workshop: Workshop,
) -> None:
    notified = wanting(workshop, pacs=Wanted(rejection_notes=True))
    takes(workshop, "pacs", *EVERYTHING)
    process(started(workshop, "job-1"), notified)
    older = {r.sop_instance_uid: r for _, r in sent(workshop)}
    late_slice(workshop)
    path = workshop.spool.resolve(workshop.ledger.receipts.instances("1.2.3")[0].path)
    dataset = pydicom.dcmread(path)
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(path)
    process(started(workshop, "job-2"), notified)
    newer = [
        workshop.ledger.jobs.find_result(d.sop_instance_uid)
        for d in workshop.ledger.deliveries.pending("job-2", "pacs")
    ]
    assert [r.kind for r in newer if r] == [
        "segmentation", "volumetric report", "planar report", "rejection note",
    ]
    report, note = (read(workshop, r) for r in newer[1::2] if r)
    named = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    predecessors = {str(s.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for s in named}
    assert predecessors == {uid for uid, r in older.items() if r.kind.endswith("report")}
    rejected = {
        str(one.ReferencedSOPInstanceUID)
        for series in note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }
    assert rejected == set(older)
    assert workshop.ledger.deliveries.pending("job-1", "pacs") == []


@pytest.mark.parametrize("notes", [True, False])
def test_the_same_objects_again_reject_nothing(workshop: Workshop, notes: bool) -> None:
    notified = wanting(workshop, pacs=Wanted(rejection_notes=notes))
    process(started(workshop, "job-1"), notified)
    late_slice(workshop)
    process(started(workshop, "job-2"), notified)
    assert workshop.ledger.deliveries.pending("job-2", "pacs") == []
    assert len(sent(workshop)) == 3


def test_results_on_a_corrected_study_reject_nothing_of_the_old_one(workshop: Workshop) -> None:
    notified = wanting(workshop, pacs=Wanted(rejection_notes=True))
    process(started(workshop, "job-1"), notified)
    late_slice(workshop)
    for one in workshop.ledger.receipts.instances("1.2.3"):
        path = workshop.spool.resolve(one.path)
        dataset = pydicom.dcmread(path)
        dataset.StudyInstanceUID = "1.2.99"
        dataset.save_as(path)
    process(started(workshop, "job-2"), notified)
    kinds = [
        result.kind
        for d in workshop.ledger.deliveries.pending("job-2", "pacs")
        if (result := workshop.ledger.jobs.find_result(d.sop_instance_uid))
    ]
    assert kinds == ["segmentation", "volumetric report", "planar report"]


def test_what_was_sent_and_deleted_is_not_written_a_second_time(workshop: Workshop) -> None:
    process(started(workshop, "job-1"), workshop)
    results = workshop.ledger.jobs.results("job-1")
    for delivery, result in sent(workshop):
        stored = SendOutcome(result.sop_instance_uid, 0, True, False, "stored")
        workshop.ledger.deliveries.record(delivery.delivery_id, stored, retry_at=None)
        workshop.spool.remove(result.path)
    late_slice(workshop)
    process(started(workshop, "job-2"), workshop)
    again = workshop.ledger.jobs.find("job-2")
    assert again is not None and "same objects as job job-1" in again.reason
    assert workshop.ledger.jobs.results("job-1") == results
    assert workshop.ledger.deliveries.of_job("job-2") == []
    assert list(workshop.spool.results()) == []
