"""The text of a language model as a report that is never more than a draft."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from dicom_node.errors import GateRefused
from dicom_node.results import gate
from dicom_node.results.form_builders import Workbench
from dicom_node.results.gate_report import check_text
from dicom_node.results.report import build_text_report
from sr_templates.entries import LANGUAGES
from sr_templates.narrative import pieces
from tests.conformance import validators
from tests.dicom_samples import radiograph
from tests.results import kept_samples, samples
from tests.results.samples import named

TEXT = """The lungs are clear.  No pleural effusion.

Impression:
1. Normal heart size; 12\\10 comparison.
"""
COMMENT = "121106"
CT = samples.headers(samples.ct())


def draft(text: str = TEXT, **changes: object) -> Dataset:
    request = samples.request_for(CT, labels=(), template="draft", **changes)
    return build_text_report(request, text, series_number=9012)


def comments(report: Dataset) -> list[str]:
    return [str(one.TextValue) for one in named(report, COMMENT)]


def test_the_lines_of_the_text_stand_behind_what_they_are() -> None:
    said = comments(draft())
    assert said[0] == "DEMONSTRATION, NOT FOR CLINICAL USE."
    assert said[1].startswith("Computed by Lungs in CT (demonstration) version 1.0.0")
    assert said[2] == "Drafted by a language model, not verified."
    assert said[3:6] == [
        "The lungs are clear.  No pleural effusion.", "Impression:",
        "1. Normal heart size; 12\\10 comparison.",
    ]
    assert said[6:] == ["Technical note: gantry tilt of 12 degrees corrected."]


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_is_said_in_every_language_that_nobody_verified_it(
    language: str, tmp_path: Path
) -> None:
    report = draft(language=language)
    expected = {
        "en": "language model", "de": "Sprachmodell", "fr": "modèle de langage", "zh": "语言模型",
    }
    assert expected[language] in comments(report)[2]
    report.save_as(tmp_path / "draft.dcm", enforce_file_format=True)
    try:
        complaints = validators.dsrdump(tmp_path / "draft.dcm")
        complaints += validators.dciodvfy(tmp_path / "draft.dcm")
    except validators.ToolMissing as missing:
        pytest.skip(str(missing))
    assert validators.unexplained(complaints) == []


def test_it_is_preliminary_and_unverified_even_when_the_result_was_released() -> None:
    report = draft(is_final=True)
    assert report.PreliminaryFlag == "PRELIMINARY"
    assert report.VerificationFlag == "UNVERIFIED"


def test_it_never_says_that_nothing_was_found_or_looked_for() -> None:
    report = draft()
    assert not named(report, "111017")
    assert not named(report, "126010")
    assert not any("found nothing" in one or "looked for" in one for one in comments(report))


def test_it_passes_its_gate_and_its_evidence_is_every_image() -> None:
    report = draft()
    gate.check_report(report, CT)
    check_text(report, TEXT)
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    assert len(study.ReferencedSeriesSequence[0].ReferencedSOPSequence) == len(CT)


def test_a_radiograph_can_be_drafted_on() -> None:
    images = samples.headers([radiograph(modality="DX")])
    request = samples.request_for(images, labels=(), template="draft")
    report = build_text_report(request, TEXT, series_number=9012)
    gate.check_report(report, images)
    check_text(report, TEXT)


@pytest.mark.parametrize("text", ["", " \n\t ", "\x00\x1b"])
def test_a_text_without_words_is_refused(text: str) -> None:
    with pytest.raises(GateRefused) as caught:
        draft(text)
    assert caught.value.reason == "gate.empty"


@pytest.mark.parametrize(
    "change",
    [
        lambda report: setattr(report, "PreliminaryFlag", "FINAL"),
        lambda report: setattr(named(report, COMMENT)[3], "TextValue", "The lungs are not clear."),
        lambda report: setattr(
            named(report, COMMENT)[5], "TextValue", "2."
        ),
    ],
)
def test_a_draft_that_poses_as_final_or_says_something_else_is_refused(change: object) -> None:
    report = pydicom.dcmread(io.BytesIO(kept_samples.encoded(draft())))
    assert callable(change)
    change(report)
    with pytest.raises(GateRefused) as caught:
        check_text(report, TEXT)
    assert caught.value.reason == "gate.text"


def test_a_report_with_findings_is_no_draft() -> None:
    for kind, report in [*kept_samples.lungs(CT)[1:], *kept_samples.negative(CT)]:
        with pytest.raises(GateRefused) as caught:
            check_text(report, comments(report)[-1])
        assert caught.value.reason == "gate.text", kind


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.text(max_size=4000))
def test_every_text_is_split_into_comments_without_losing_a_character(text: str) -> None:
    parts = pieces(text)
    assert all(0 < len(one) <= 1024 and one.isprintable() for one in parts)

    def squeezed(words: str) -> str:
        return "".join(one for one in words if one.isprintable() and not one.isspace())

    assert squeezed("".join(parts)) == squeezed(text)


def test_long_lines_are_split_where_a_sentence_or_a_word_ends() -> None:
    sentence = "The heart is of normal size. "
    assert all(one.endswith(".") for one in pieces(sentence * 200))
    words = pieces("opacity " * 500)
    assert set(" ".join(words).split()) == {"opacity"}
    assert [len(one) for one in pieces("双肺清晰" * 300)] == [1024, 176]


def test_any_text_survives_the_encoding() -> None:
    strange = "Größe 5 µm \ud800 \x00 ^=\\ 双肺 " + "x" * 3000
    report = draft(strange)
    gate.check_report(report, CT)
    check_text(report, strange)


@pytest.mark.parametrize(
    "wish",
    [
        ("text report", "comprehensive"), ("text report", "enhanced"), ("text report", "text"),
        ("secondary capture", "notice"), ("pdf", "pdf"),
    ],
)
def test_every_form_of_a_draft_is_built_and_passes_its_gate(wish: tuple[str, str]) -> None:
    kept = [("text report", draft())]
    bench = Workbench(kept, kept_samples.source_of(CT))
    (built, made_from), *_ = bench.build(wish)
    assert made_from == kept[0][1].SOPInstanceUID
    if wish[0] == "text report":
        check_text(built, TEXT)


def test_weights_of_another_host_are_said_not_to_have_been_checked() -> None:
    algorithm = replace(samples.ALGORITHM, weights_sha256="")
    report = draft(algorithm=algorithm)
    said = [str(one.get("ContributionDescription")) for one in report.ContributingEquipmentSequence]
    assert any("weights sha256 not checked by this node" in one for one in said)
    bench = Workbench([("text report", report)], kept_samples.source_of(CT))
    assert bench.request.algorithm.weights_sha256 == ""
    assert bench.request.algorithm.model_id == "lungs-ct"
