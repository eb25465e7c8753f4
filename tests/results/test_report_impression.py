"""A drafted impression stands in the report as what was kept of it, and as no more than a draft."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydicom.dataset import Dataset

from ai_models.drafting.guard import DraftSentence
from ai_models.drafting.impression import Impression, impression
from dicom_node.errors import GateRefused
from dicom_node.results import gate, report
from dicom_node.results.report_forms import as_class, as_text
from dicom_node.results.report_impression import (
    Segments,
    check_impression,
    drafted_impression,
    impression_document,
    with_impression,
)
from dicom_node.results.request import ResultRequest
from dicom_node.results.sop_classes import BASIC_TEXT_SR
from tests.ai_models.drafting.test_impression import TOLD, Scripted
from tests.dicom_samples import radiograph
from tests.results import samples
from tests.results.samples import named

OUTPUTS = {"pneumothorax": 0.02, "pleural_effusion": 0.91}
DRAFT = (
    DraftSentence("Pleural effusion is present.", ("E2",)),
    DraftSentence("Left pleural effusion.", ("E2",)),
    DraftSentence("No pneumothorax.", ("E1",)),
)
IMAGE = radiograph()
ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"


def chest(
    sentences: tuple[DraftSentence, ...] = DRAFT, **changes: object
) -> tuple[Dataset, Dataset, Impression, ResultRequest]:
    """A report, the same with an impression, that impression, and the request."""
    request = samples.request_for(
        [IMAGE], template="chest_radiograph", labels=(), outputs=OUTPUTS, **changes
    )
    plain = report.build_image_report(request, series_number=9002)
    made = drafted_impression(request, Scripted(sentences))
    return plain, with_impression(plain, made, request), made, request


def sentences_of(document: Dataset) -> list[str]:
    return [str(one.TextValue) for one in named(document, "121073")]


def test_each_sentence_refers_to_the_measurement_group_that_it_is_made_from() -> None:
    _, drafted, made, request = chest()
    gate.check_report(drafted, request.all_images)
    check_impression(drafted, made)
    assert sentences_of(drafted) == ["Pleural effusion is present.", "No pneumothorax."]
    groups = {
        str(named(group, "121071")[0].ConceptCodeSequence[0].CodeMeaning):
        str(named(group, "112040")[0].UID)
        for group in named(drafted, "125007")
    }
    (reference,) = named(drafted, "121073")[0].ContentSequence
    assert (reference.RelationshipType, reference.UID) == (
        "INFERRED FROM", groups["Pleural effusion"],
    )


def test_section_says_that_it_is_a_draft_by_whom_and_how_much_was_struck() -> None:
    _, drafted, made, _ = chest()
    (section,) = named(drafted, "121072")
    told = [str(one.TextValue) for one in named(section, "121106")]
    assert told[0] == "AI draft, not reviewed."
    assert told[1] == (
        "Written by Scripted 1.0 (llama, SHA-256 abababababababab) from the measurements of this "
        "report."
    )
    assert told[2].endswith("struck, as the measurements do not say them: 1.")
    assert "Left pleural effusion." not in str(drafted)
    assert [one["reason"] for one in impression_document(made)["struck"]] == ["side"]
    assert (drafted.PreliminaryFlag, drafted.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")


def test_another_draft_is_another_object_and_the_same_one_the_same() -> None:
    plain, one, _, _ = chest()
    _, again, _, _ = chest()
    _, other, _, _ = chest(DRAFT[:1])
    assert one.SOPInstanceUID == again.SOPInstanceUID
    assert len({plain.SOPInstanceUID, one.SOPInstanceUID, other.SOPInstanceUID}) == 3


def test_section_that_says_anything_else_is_in_another_object() -> None:
    _, two_struck, made, request = chest((*DRAFT, DraftSentence("All is normal.", ("E1",))))
    plain, one_struck, _, _ = chest()
    assert sentences_of(two_struck) == sentences_of(one_struck)
    assert two_struck.SOPInstanceUID != one_struck.SOPInstanceUID
    other = replace(made, writer=replace(made.writer, version="2"))
    by_another = with_impression(plain, other, request)
    assert by_another.SOPInstanceUID != two_struck.SOPInstanceUID


def test_report_is_as_it_was_where_nothing_of_the_draft_is_left() -> None:
    plain, drafted, made, _ = chest((DRAFT[1],))
    assert drafted is plain
    assert made.fallback == "all_struck"
    check_impression(drafted, made)


def test_findings_that_the_draft_left_out_stand_in_it_by_the_template() -> None:
    _, drafted, _, _ = chest((DRAFT[2],))
    assert sentences_of(drafted) == [
        "No pneumothorax.", "Pleural effusion: probability 0.910, present.",
    ]


def test_report_of_more_than_a_draft_is_made_of_is_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ai_models.drafting.evidence._MOST_ITEMS", 1)
    plain, drafted, made, _ = chest()
    assert drafted is plain
    assert (made.fallback, made.why) == ("evidence", "more than 1 items of evidence")


def test_section_is_in_other_forms_of_the_report() -> None:
    _, drafted, _, _ = chest()
    assert sentences_of(as_class(drafted, ENHANCED_SR)) == sentences_of(drafted)
    text = as_text(drafted)
    assert text.SOPClassUID == BASIC_TEXT_SR
    assert "No pneumothorax." in sentences_of(text)


def test_segments_are_drafted_from_what_was_measured_on_them() -> None:
    datasets = samples.headers(samples.ct())
    request = samples.request_for(datasets)
    segmentation = samples.segmentation_of(samples.ct(), samples.lungs())
    segments = Segments(segmentation, samples.lungs(), samples.MEASUREMENTS)
    built = report.build_volumetric_report(
        request, segmentation, samples.lungs(), samples.MEASUREMENTS, series_number=9002
    )
    made = drafted_impression(request, Scripted((
        DraftSentence("The right lung has a volume of 2400.2 ml.", ("E1",)),
        DraftSentence("The left lung has a volume of 2400.2 ml.", ("E1",)),
    )), segments)
    drafted = with_impression(built, made, request)
    gate.check_report(drafted, datasets, [segmentation])
    check_impression(drafted, made)
    assert sentences_of(drafted)[0] == "The right lung has a volume of 2400.2 ml."
    assert [one.reason for one in made.struck] == ["side"]


@pytest.mark.parametrize("change", ["words", "group", "final", "verified", "gone"])
def test_section_that_says_something_else_is_refused(change: str) -> None:
    plain, drafted, made, _ = chest()
    item = named(drafted, "121073")[0]
    if change == "words":
        item.TextValue = "No pleural effusion."
    elif change == "group":
        item.ContentSequence[0].UID = "1.2.3"
        made = replace(made, sentences=tuple(
            replace(one, groups=("1.2.3",) if one is made.sentences[0] else one.groups)
            for one in made.sentences
        ))
    elif change == "final":
        drafted.PreliminaryFlag = "FINAL"
    elif change == "verified":
        drafted.VerificationFlag = "VERIFIED"
    with pytest.raises(GateRefused) as refused:
        check_impression(plain if change == "gone" else drafted, made)
    assert refused.value.reason == "gate.text"


def test_impression_that_nobody_drafted_is_refused() -> None:
    _, drafted, _, _ = chest()
    with pytest.raises(GateRefused):
        check_impression(drafted, impression(TOLD, None, "en"))
