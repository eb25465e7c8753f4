from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_node.errors import GateRefused
from dicom_node.results.gate_selection import check_key_objects, check_rejection_note
from dicom_node.results.key_objects import build_key_objects
from dicom_node.results.rejection_note import build_rejection_note
from dicom_node.results.request import Reference
from tests.results import samples

FRAMES = [1] * 10


@pytest.fixture(scope="module")
def datasets() -> list[Dataset]:
    return samples.ct()


def encoded(document: Dataset | None) -> bytes:
    assert document is not None
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, document, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def selection(datasets: list[Dataset]) -> bytes:
    return encoded(
        build_key_objects(samples.request_for(datasets), samples.lungs(), series_number=9007)
    )


def rejected(datasets: list[Dataset]) -> list[Reference]:
    study = str(datasets[0].StudyInstanceUID)
    return [
        Reference("1.2.840.10008.5.1.4.1.1.66.4", "2.25.11", "2.25.1", study),
        Reference("1.2.840.10008.5.1.4.1.1.88.34", "2.25.21", "2.25.2", study),
    ]


@pytest.fixture(scope="module")
def note(datasets: list[Dataset]) -> bytes:
    request = samples.request_for(datasets)
    return encoded(build_rejection_note(request, rejected(datasets), series_number=9011))


def test_a_selection_of_the_images_with_findings_passes(
    datasets: list[Dataset], selection: bytes
) -> None:
    check_key_objects(selection, datasets, FRAMES, samples.lungs())


def test_a_selection_of_frames_passes() -> None:
    source = samples.enhanced([3, 1, 2, 0, 4, 5, 6, 7, 8, 9])
    frames = [4, 2, 3, 1, 5, 6, 7, 8, 9, 10]
    request = samples.request_for([source], frame_numbers=frames)
    document = encoded(build_key_objects(request, samples.lungs(), series_number=9007))
    check_key_objects(document, [source], frames, samples.lungs())
    with pytest.raises(GateRefused) as refused:
        check_key_objects(document, [source], [*frames[2:], 4, 2], samples.lungs())
    assert refused.value.reason == "gate.labels"


def test_a_selection_of_images_without_findings_is_refused(
    datasets: list[Dataset], selection: bytes
) -> None:
    with pytest.raises(GateRefused) as refused:
        check_key_objects(selection, datasets, FRAMES, np.roll(samples.lungs(), 1, axis=0))
    assert refused.value.reason == "gate.labels"


def _drop_the_left_lung(document: Dataset) -> None:
    items = document.ContentSequence
    document.ContentSequence = [item for item in items if item.ValueType != "IMAGE"] + [
        item for item in items if item.ValueType == "IMAGE"
    ][:1]
    series = document.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    series.ReferencedSOPSequence = series.ReferencedSOPSequence[:1]


def _drop_evidence(document: Dataset) -> None:
    series = document.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    del series.ReferencedSOPSequence[0]


def _set_patient(document: Dataset) -> None:
    document.PatientID = "ANOTHER"


def _reject(document: Dataset) -> None:
    document.ConceptNameCodeSequence[0].CodeValue = "113001"


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (_drop_the_left_lung, "gate.labels"),
        (_drop_evidence, "gate.reference"),
        (_set_patient, "gate.reference"),
        (_reject, "gate.reference"),
    ],
)
def test_a_selection_that_was_damaged_is_refused(
    datasets: list[Dataset], selection: bytes, break_it: Callable[[Dataset], None], expected: str
) -> None:
    broken = pydicom.dcmread(io.BytesIO(selection))
    break_it(broken)
    with pytest.raises(GateRefused) as refused:
        check_key_objects(broken, datasets, FRAMES, samples.lungs())
    assert refused.value.reason == expected


def test_a_selection_on_other_images_is_refused(datasets: list[Dataset], selection: bytes) -> None:
    with pytest.raises(GateRefused) as refused:
        check_key_objects(selection, datasets[3:], FRAMES[3:], samples.lungs()[3:])
    assert refused.value.reason == "gate.reference"


def test_a_note_that_rejects_what_it_should_passes(datasets: list[Dataset], note: bytes) -> None:
    check_rejection_note(note, datasets, rejected(datasets))


def test_a_note_that_rejects_more_or_less_is_refused(datasets: list[Dataset], note: bytes) -> None:
    wanted = rejected(datasets)
    for other in (wanted[:1], [*wanted, Reference("1.2", "2.25.3", "2.25.3", "2.25.4")]):
        with pytest.raises(GateRefused) as refused:
            check_rejection_note(note, datasets, other)
        assert refused.value.reason == "gate.reference"


def test_a_note_that_rejects_the_images_of_a_modality_is_refused(datasets: list[Dataset]) -> None:
    images = [
        Reference(
            str(datasets[0].SOPClassUID),
            str(datasets[0].SOPInstanceUID),
            str(datasets[0].SeriesInstanceUID),
            str(datasets[0].StudyInstanceUID),
        )
    ]
    document = build_rejection_note(samples.request_for(datasets), images, series_number=9011)
    with pytest.raises(GateRefused, match="did not make"):
        check_rejection_note(document, datasets, images)


def test_a_selection_is_no_rejection(datasets: list[Dataset], selection: bytes) -> None:
    with pytest.raises(GateRefused) as refused:
        check_rejection_note(selection, datasets, [])
    assert refused.value.reason == "gate.reference"
