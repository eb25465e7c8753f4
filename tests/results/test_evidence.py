from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_node.results.evidence import references_to, set_evidence
from dicom_node.results.request import Reference
from tests.results import samples


def listed(studies: list[Dataset]) -> list[tuple[str, str, list[str]]]:
    return [
        (
            study.StudyInstanceUID,
            series.SeriesInstanceUID,
            [instance.ReferencedSOPInstanceUID for instance in series.ReferencedSOPSequence],
        )
        for study in studies
        for series in study.ReferencedSeriesSequence
    ]


def test_instances_stand_once_under_their_series_and_study_in_the_order_given() -> None:
    first, second = (samples.ct(shape=(2, 40, 48)) for _ in range(2))
    mixed = [first[0], second[0], first[1], second[1], first[0]]
    report = Dataset()
    set_evidence(report, references_to(mixed))
    assert listed(report.CurrentRequestedProcedureEvidenceSequence) == [
        (
            images[0].StudyInstanceUID,
            images[0].SeriesInstanceUID,
            [image.SOPInstanceUID for image in images],
        )
        for images in (first, second)
    ]
    assert "PredecessorDocumentsSequence" not in report


def test_what_was_collected_before_is_replaced_and_no_evidence_is_no_sequence() -> None:
    report = Dataset()
    report.PertinentOtherEvidenceSequence = [Dataset()]
    report.CurrentRequestedProcedureEvidenceSequence = [Dataset()]
    set_evidence(report, [], [Reference("1.2", "1.3", "1.4", "1.5")])
    assert "PertinentOtherEvidenceSequence" not in report
    assert "CurrentRequestedProcedureEvidenceSequence" not in report
    assert listed(report.PredecessorDocumentsSequence) == [("1.5", "1.4", ["1.3"])]
