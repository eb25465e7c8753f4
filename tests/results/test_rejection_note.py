from __future__ import annotations

from dataclasses import replace

import pytest
from pydicom.dataset import Dataset

from dicom_node.errors import UnsuitableInput
from dicom_node.results.rejection_note import build_rejection_note
from dicom_node.results.request import Reference
from tests.results import samples

SEGMENTATION, REPORT = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"


@pytest.fixture(scope="module")
def datasets() -> list[Dataset]:
    return samples.ct()


def rejected(datasets: list[Dataset]) -> list[Reference]:
    """A segmentation and two reports of one series."""
    study = str(datasets[0].StudyInstanceUID)
    return [
        Reference(SEGMENTATION, "2.25.11", "2.25.1", study),
        Reference(REPORT, "2.25.21", "2.25.2", study),
        Reference(REPORT, "2.25.22", "2.25.2", study),
    ]


def note(datasets: list[Dataset]) -> Dataset:
    return build_rejection_note(
        samples.request_for(datasets), rejected(datasets), series_number=9011
    )


def test_the_title_is_the_reason_and_the_text_says_that_a_newer_version_exists(
    datasets: list[Dataset],
) -> None:
    document = note(datasets)
    title = document.ConceptNameCodeSequence[0]
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("113001", "DCM")
    text = samples.named(document, "113012")[0].TextValue
    assert text.startswith("DEMONSTRATION, NOT FOR CLINICAL USE. Replaced by a newer version")


def test_images_and_documents_are_rejected_by_items_of_their_kind(datasets: list[Dataset]) -> None:
    items = [
        (item.ValueType, item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for item in note(datasets).ContentSequence
        if "ReferencedSOPSequence" in item
    ]
    assert items == [("IMAGE", "2.25.11"), ("COMPOSITE", "2.25.21"), ("COMPOSITE", "2.25.22")]


def test_the_evidence_lists_every_object_by_its_series(datasets: list[Dataset]) -> None:
    (study,) = note(datasets).CurrentRequestedProcedureEvidenceSequence
    assert study.StudyInstanceUID == datasets[0].StudyInstanceUID
    listed = {
        series.SeriesInstanceUID: [
            (item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID)
            for item in series.ReferencedSOPSequence
        ]
        for series in study.ReferencedSeriesSequence
    }
    assert listed == {
        "2.25.1": [(SEGMENTATION, "2.25.11")],
        "2.25.2": [(REPORT, "2.25.21"), (REPORT, "2.25.22")],
    }


def test_the_note_belongs_to_the_patient_of_the_source(datasets: list[Dataset]) -> None:
    document = note(datasets)
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDescription"):
        assert document[keyword].value == datasets[0][keyword].value
    assert "ImagePositionPatient" not in document


def test_other_objects_are_rejected_by_another_note(datasets: list[Dataset]) -> None:
    request = samples.request_for(datasets)
    fewer = build_rejection_note(request, rejected(datasets)[:2], series_number=9011)
    shuffled = build_rejection_note(request, rejected(datasets)[::-1], series_number=9011)
    assert fewer.SOPInstanceUID != note(datasets).SOPInstanceUID
    assert shuffled == note(datasets)


def test_objects_of_another_study_are_not_rejected(datasets: list[Dataset]) -> None:
    moved = [replace(rejected(datasets)[0], study_instance_uid="2.25.99")]
    with pytest.raises(UnsuitableInput) as refused:
        build_rejection_note(samples.request_for(datasets), moved, series_number=9011)
    assert refused.value.reason == "input.mixed_studies"


def test_a_note_that_rejects_nothing_is_not_written(datasets: list[Dataset]) -> None:
    with pytest.raises(UnsuitableInput) as refused:
        build_rejection_note(samples.request_for(datasets), [], series_number=9011)
    assert refused.value.reason == "input.empty"
