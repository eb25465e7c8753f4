from __future__ import annotations

import pytest
from pydicom import config
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicom_node.errors import ConfigurationError, UnsuitableInput
from dicom_node.ledger.decisions import CANCELLED
from dicom_node.results import gate
from dicom_node.results.declined import build_not_analysed_report
from tests.results import samples
from tests.results.samples import named
from tests.results.test_report import encoded, texts


def declined(
    datasets: list[Dataset], reason: str = "input.too_few_slices", **changes: object
) -> Dataset:
    request = samples.request_for(datasets, labels=(), frame_numbers=(), input_notes=(), **changes)
    return build_not_analysed_report(request, reason, "3 of 10 slices.", series_number=9002)


def evidence(report: Dataset) -> list[str]:
    return [
        instance.ReferencedSOPInstanceUID
        for study in report.get("CurrentRequestedProcedureEvidenceSequence", [])
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    ]


def reason_of(report: Dataset) -> str:
    return str(named(report, "NOT_ANALYSED_WHY")[0].ConceptCodeSequence[0].CodeValue)


def test_it_says_in_codes_that_no_algorithm_succeeded_and_why() -> None:
    report = declined(samples.ct())
    assert named(report, "111017")[0].ConceptCodeSequence[0].CodeValue == "111245"
    assert reason_of(report) == "110523"
    assert named(report, "125007") == []
    scheme = report.CodingSchemeIdentificationSequence[0]
    assert scheme.CodingSchemeDesignator == "99DCMNODE"
    assert scheme.CodingSchemeName == "DICOM Node concepts"


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("input.modality", "110522"),
        ("input.mixed_studies", "110521"),
        ("input.something_new", "110521"),
        ("model.failed", "110501"),
        ("worker.deadline_exceeded", "110527"),
        ("worker.lost", "110501"),
        ("worker.endpoint_unavailable", "110527"),
        ("model.endpoint_refused", "110527"),
        ("model.no_live_version", "110513"),
        ("model.hash_mismatch", "110513"),
        ("model.unknown", "110513"),
        ("model.unknown_label", "110501"),
        ("input.several_images", "110521"),
        ("gate.centroid", "110501"),
        ("storage.out_of_space", "110527"),
        ("configuration.unknown_name", "110513"),
        ("configuration", "110513"),
        ("unexpected.KeyError", "110513"),
        ("ledger.unavailable", "110513"),
    ],
)
def test_the_longest_beginning_of_the_reason_decides_its_code(reason: str, code: str) -> None:
    assert reason_of(declined(samples.ct(), reason)) == code


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", "NOT ANALYSED"),
        ("de", "NICHT ANALYSIERT"),
        ("fr", "PAS ÉTÉ ANALYSÉES"),
        ("zh", "未经分析"),
    ],
)
def test_the_reader_is_told_that_nothing_was_analysed(language: str, words: str) -> None:
    said = texts(declined(samples.ct(), language=language))
    assert said[0].startswith("DEMONSTRATION, NOT FOR CLINICAL USE")
    assert words in said[1]
    assert "input.too_few_slices" in said[3]
    assert "3 of 10 slices" in said[3]


def two_series() -> list[Dataset]:
    return [*samples.ct()[:2], *samples.ct(shape=(2, 30, 48))]


def without(datasets: list[Dataset], *keywords: str) -> list[Dataset]:
    for dataset in datasets:
        for keyword in keywords:
            dataset.pop(keyword, None)
    return datasets


def loosely(dataset: Dataset, **uids: str) -> Dataset:
    for keyword, uid in uids.items():
        tag = tag_for_keyword(keyword)
        assert tag is not None
        dataset[tag] = DataElement(tag, "UI", uid, validation_mode=config.IGNORE)
    return dataset


BAD = {
    "two series of two studies": two_series,
    "one image": lambda: samples.ct()[:1],
    "no frame of reference": lambda: without(samples.ct(), "FrameOfReferenceUID"),
    "no pixel spacing": lambda: without(samples.ct()[:4], "PixelSpacing", "SliceThickness"),
    "no matrix": lambda: without(samples.ct()[:1], "Rows", "Columns"),
    "no modality": lambda: without(samples.ct()[:1], "Modality"),
    "no patient": lambda: without(
        samples.ct()[:1], "PatientID", "PatientName", "PatientBirthDate", "PatientSex"
    ),
    "malformed position": lambda: samples.ct(ImagePositionPatient=["1", "2"]),
    "SOP class of a vendor": lambda: samples.ct(SOPClassUID="1.3.12.2.1107.5.9.1"),
    "UIDs made of dates": lambda: [
        loosely(one, StudyInstanceUID="1.2.20260105.093012", SeriesInstanceUID="1.2.09")
        for one in samples.ct()[:2]
    ],
}


@pytest.mark.parametrize("name", BAD)
def test_the_answer_is_possible_precisely_when_the_input_is_bad(name: str) -> None:
    datasets = BAD[name]()
    report = declined(datasets)
    encoded(report)
    assert evidence(report) == [dataset.SOPInstanceUID for dataset in datasets]
    assert report.StudyInstanceUID == datasets[0].StudyInstanceUID
    gate.check_report(report, datasets)


def test_an_image_without_uids_is_not_evidence() -> None:
    datasets = samples.ct()[:3]
    request = samples.request_for(datasets, labels=())
    del datasets[0].SOPInstanceUID
    del datasets[1].SOPClassUID
    report = build_not_analysed_report(request, "input.invalid_uid", "", series_number=9002)
    assert evidence(report) == [datasets[2].SOPInstanceUID]
    library = named(report, "260753009")
    assert [i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in library] == evidence(
        report
    )


def test_of_all_images_but_the_first_their_uids_are_enough() -> None:
    datasets = samples.ct()
    keywords = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    for dataset in datasets[1:]:
        for element in list(dataset):
            if element.keyword not in keywords:
                del dataset[element.tag]
    report = declined(datasets)
    assert len(evidence(report)) == len(named(report, "260753009")) == 10


def test_what_is_no_image_is_evidence_and_not_in_the_image_library() -> None:
    document = without(samples.ct()[:1], "Rows", "Columns")
    assert named(declined(document, "input.not_an_image"), "260753009") == []


def test_a_uid_that_cannot_be_written_is_no_evidence_and_stays_as_it_is() -> None:
    datasets = [loosely(samples.ct()[0], SeriesInstanceUID="abc")]
    assert evidence(declined(datasets)) == []
    assert datasets[0].SeriesInstanceUID == "abc"


def test_a_report_of_no_study_is_refused() -> None:
    datasets = samples.ct()[:2]
    request = samples.request_for(datasets)
    with pytest.raises(UnsuitableInput, match="StudyInstanceUID"):
        without(datasets, "StudyInstanceUID")
        build_not_analysed_report(request, "input.empty", "", series_number=1)


def test_a_language_without_sentences_is_a_fault_of_the_configuration() -> None:
    with pytest.raises(ConfigurationError, match="en, de, fr, zh"):
        declined(samples.ct(), language="es")


def test_the_same_failure_makes_the_same_object_and_another_one_another() -> None:
    datasets = samples.ct()
    first = declined(datasets)
    assert encoded(first) == encoded(declined(datasets))
    assert first.SOPInstanceUID != declined(datasets, "model.failed").SOPInstanceUID


@pytest.mark.parametrize("reason", [CANCELLED, "worker.cancelled"])
def test_of_a_cancelled_job_the_reader_is_told_that_a_person_cancelled_it(reason: str) -> None:
    said = texts(declined(samples.ct(), reason, language="de"))
    assert "Grund: Ein Mensch hat die Berechnung abgebrochen." in said


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("model.no_live_version", "war auf diesem System nicht zu starten"),
        ("model.refused", "war auf diesem System nicht zu starten"),
        ("model.unknown_label", "für die er nicht gemacht ist"),
        ("worker.endpoint_unavailable", "antwortete nicht"),
        ("input.several_images", "mehrere Bilder"),
    ],
)
def test_the_reader_is_not_told_that_an_algorithm_failed_that_never_ran(
    reason: str, words: str
) -> None:
    said = " ".join(texts(declined(samples.ct(), reason, language="de")))
    assert words in said and "ist gescheitert" not in said


@pytest.mark.parametrize("reason", ["gate.centroid", "model.failed", "input.too_few_slices"])
def test_it_never_says_that_the_algorithm_did_not_look(reason: str) -> None:
    said = " ".join(texts(declined(samples.ct(), reason)))
    assert "gave no result for them" in said and "look" not in said


def test_a_reason_without_details_is_named_once() -> None:
    request = samples.request_for(samples.ct(), labels=(), frame_numbers=(), input_notes=())
    report = build_not_analysed_report(request, CANCELLED, "", series_number=9002)
    assert f"Technical detail: {CANCELLED}." in texts(report)


def test_the_kind_of_report_is_legible_in_a_list_of_series_whatever_the_model_is_called() -> None:
    report = declined(samples.ct())
    described = str(report.SeriesDescription)
    assert described.startswith("DEMONSTRATION, NOT FOR CLINICAL USE - Not analysed SR ")
