from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicom_node.errors import GateRefused
from dicom_node.results.report import (
    build_negative_report,
    build_planar_report,
    build_volumetric_report,
)
from dicom_node.results.report_forms import (
    as_class,
    as_text,
    citing,
    identified,
    plain,
    without,
)
from dicom_node.results.request import Reference
from dicom_node.results.sop_classes import (
    BASIC_TEXT_SR,
    COMPREHENSIVE_SR,
    ENHANCED_SR,
    LABEL_MAP_SEGMENTATION,
    SEGMENTATION,
)
from tests.conformance import validators
from tests.results import samples
from tests.results.samples import items, named

Transform = Callable[[Dataset], Dataset]
FORMS: dict[str, Transform] = {
    "comprehensive": lambda report: as_class(report, COMPREHENSIVE_SR),
    "enhanced": lambda report: as_class(report, ENHANCED_SR),
    "text": as_text,
    "no_segmentation": lambda report: without(report, [segmentation_uid(report)]),
    "enhanced+no_segmentation": lambda report: as_class(
        without(report, [segmentation_uid(report)]), ENHANCED_SR
    ),
}


@pytest.fixture(scope="module")
def reports() -> dict[str, Dataset]:
    datasets, mask = samples.ct(PatientName="Müller^Zoë=山田^太郎"), samples.lungs()
    request = samples.request_for(datasets)
    segmentation = samples.segmentation_of(datasets, mask)
    planar = build_planar_report(request, mask, series_number=9003)
    assert planar is not None
    return {
        "volumetric": build_volumetric_report(
            request, segmentation, mask, samples.MEASUREMENTS, series_number=9002
        ),
        "planar": planar,
        "negative": build_negative_report(request, series_number=9002),
    }


def segmentation_uid(report: Dataset) -> str:
    found = [
        reference.ReferencedSOPInstanceUID
        for reference in references(report)
        if reference.ReferencedSOPClassUID == SEGMENTATION
    ]
    return str(found[0]) if found else "none"


def references(report: Dataset) -> Iterator[Dataset]:
    for item in items(report):
        yield from item.get("ReferencedSOPSequence", [])


def evidence(report: Dataset) -> set[tuple[str, str, str]]:
    return {
        (series.SeriesInstanceUID, one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID)
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }


def numbers(report: Dataset) -> list[str]:
    return [
        str(item.MeasuredValueSequence[0].NumericValue)
        for item in items(report)
        if item.ValueType == "NUM" and item.RelationshipType == "CONTAINS"
    ]


def comments(report: Dataset) -> list[str]:
    return [str(item.TextValue) for item in named(report, "121106")]


def encoded(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_every_report_satisfies_the_validators(
    reports: dict[str, Dataset], form: str, tmp_path: Path
) -> None:
    complaints = []
    for kind, report in reports.items():
        path = tmp_path / f"{kind}.dcm"
        identified(FORMS[form](report), report, form).save_as(path, enforce_file_format=True)
        try:
            complaints += [*validators.dciodvfy(path), *validators.dsrdump(path)]
        except validators.ToolMissing as missing:
            pytest.skip(str(missing))
    assert validators.unexplained(complaints) == []


@pytest.mark.parametrize("form", [form for form in FORMS if form != "text"])
def test_numbers_and_sentences_are_the_same_in_every_document(
    reports: dict[str, Dataset], form: str
) -> None:
    for report in reports.values():
        derived = FORMS[form](report)
        assert numbers(derived) == numbers(report)
        assert comments(derived) == comments(report)
        assert derived.VerificationFlag == "UNVERIFIED"
        assert str(derived.ContentTime) == str(report.ContentTime)


def test_numbers_become_sentences_in_a_text(reports: dict[str, Dataset]) -> None:
    text = as_text(reports["volumetric"])
    assert text.SOPClassUID == BASIC_TEXT_SR
    assert [item.TextValue for item in named(text, "121071")] == [
        "lungs-ct Right lung (Lung, Right): Volume 2400.2 ml; "
        "Attenuation Coefficient, Mean -812.5 HU; "
        "Attenuation Coefficient, Standard Deviation 120.5 HU",
        "lungs-ct Left lung (Lung, Left): Volume 2100.5 ml; "
        "Attenuation Coefficient, Mean -820.0 HU; "
        "Attenuation Coefficient, Standard Deviation 110.0 HU",
        "lungs-ct Both lungs (Lung, Bilateral): Volume 4500.8 ml; "
        "Attenuation Coefficient, Mean -814.4 HU; "
        "Attenuation Coefficient, Standard Deviation 118.0 HU",
    ]
    assert comments(text) == comments(reports["volumetric"])


def test_a_text_begins_with_the_sentences_and_cites_only_images(
    reports: dict[str, Dataset],
) -> None:
    text = as_text(reports["volumetric"])
    sections = [item for item in text.ContentSequence if item.ValueType == "CONTAINER"]
    assert [one.ConceptNameCodeSequence[0].CodeMeaning for one in sections] == [
        "Qualitative Evaluations",
        "Imaging Measurements",
    ]
    assert SEGMENTATION not in {sop_class for _, sop_class, _ in evidence(text)}
    assert {item.ValueType for item in items(text)} == {"CODE", "TEXT", "UIDREF", "CONTAINER"}


def test_a_text_names_the_images_that_regions_were_drawn_on(reports: dict[str, Dataset]) -> None:
    drawn_on = {
        reference.ReferencedSOPInstanceUID
        for item in named(reports["planar"], "125007")
        for reference in references(item)
    }
    text = as_text(reports["planar"])
    assert {one.ReferencedSOPInstanceUID for one in references(text)} == drawn_on
    assert drawn_on <= {uid for _, _, uid in evidence(text)}


def test_citing_turns_every_reference_and_keeps_segment_numbers(
    reports: dict[str, Dataset],
) -> None:
    report = plain(reports["volumetric"])
    uid = segmentation_uid(report)
    study = str(report.StudyInstanceUID)
    old = Reference(SEGMENTATION, uid, "unused", study)
    new = Reference(LABEL_MAP_SEGMENTATION, "2.25.1", "2.25.2", study)
    derived = citing(report, old, new)
    turned = [
        (one.ReferencedSOPInstanceUID, one.ReferencedSegmentNumber)
        for one in references(derived)
        if one.ReferencedSOPClassUID == LABEL_MAP_SEGMENTATION
    ]
    assert turned == [("2.25.1", 1), ("2.25.1", 2), ("2.25.1", [1, 2])]
    assert ("2.25.2", LABEL_MAP_SEGMENTATION, "2.25.1") in evidence(derived)
    assert uid.encode() not in encoded(derived)


def test_without_its_segments_a_group_measures_the_whole_series(
    reports: dict[str, Dataset],
) -> None:
    report = reports["volumetric"]
    derived = without(report, [segmentation_uid(report)])
    groups = named(derived, "125007")
    assert [one.ContentTemplateSequence[0].TemplateIdentifier for one in groups] == ["1501"] * 3
    assert named(derived, "121191") == named(derived, "121232") == []
    assert segmentation_uid(report).encode() not in encoded(derived)


def test_a_form_is_an_object_of_its_own_and_always_the_same(reports: dict[str, Dataset]) -> None:
    report = reports["volumetric"]
    before = encoded(report)
    forms = [identified(FORMS[form](report), report, form) for form in FORMS]
    for purpose in ("SOPInstanceUID", "SeriesInstanceUID"):
        uids = {str(getattr(one, purpose)) for one in [report, *forms]}
        assert len(uids) == len(FORMS) + 1
    again = identified(FORMS["text"](plain(report)), plain(report), "text")
    assert encoded(again) == encoded(forms[list(FORMS).index("text")])
    assert encoded(report) == before


def test_predecessors_stay(reports: dict[str, Dataset]) -> None:
    report = plain(reports["negative"])
    earlier = Dataset()
    earlier.StudyInstanceUID = report.StudyInstanceUID
    report.PredecessorDocumentsSequence = [earlier]
    assert len(as_text(report).PredecessorDocumentsSequence) == 1


def test_coordinates_in_the_patient_fit_no_other_document(reports: dict[str, Dataset]) -> None:
    report = plain(reports["planar"])
    next(item for item in items(report) if item.ValueType == "SCOORD").ValueType = "SCOORD3D"
    with pytest.raises(GateRefused) as refused:
        as_class(report, ENHANCED_SR)
    assert refused.value.reason == "gate.form"
