"""Conditions of rules: every mistake is refused at its line and key path."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.config_conditions import (
    MOST_TESTS,
    ConditionError,
    dicom_keywords,
    parse_condition,
)
from tests.config_files import RULE, WHEN_LINE, load, refusal, when

BAD = {
    "unknown keyword": (
        "SliceThicknes: {max: 5}",
        "SliceThicknes",
        "did you mean 'SliceThickness'?",
    ),
    "keyword of the file meta": ("TransferSyntaxUID: 1.2.3", "TransferSyntaxUID", "0002"),
    "number beside a text element": ("Modality: 5", "Modality", "put it in quotes"),
    "text beside a number element": ("SliceThickness: thin", "SliceThickness", "a number"),
    "nothing beside a keyword": ("Modality:", "Modality", "exists"),
    "empty list of values": ("Modality: []", "Modality", "a list"),
    "value in a list that does not fit": ("Modality: [CT, true]", "Modality[1]", "text"),
    "min above max": ("SliceThickness: {min: 5, max: 1}", "SliceThickness", "min <= max"),
    "range of words": ("SliceThickness: {max: thick}", "SliceThickness.max", "a number"),
    "range on a text element": ("Modality: {max: 5}", "Modality", "VR CS"),
    "two operators": ("SliceThickness: {max: 5, exists: true}", "SliceThickness", "one operator"),
    "no operator": ("Modality: {}", "Modality", "one operator"),
    "unknown operator": ("Modality: {regexp: CT}", "Modality.regexp", "did you mean 'regex'?"),
    "regex that does not compile": (
        'Modality: {regex: "(CT"}',
        "Modality.regex",
        "a regular expression",
    ),
    "regex that can run for ever": (
        'SeriesDescription: {regex: "(a+)+$"}',
        "SeriesDescription.regex",
        "no repeat inside a repeat",
    ),
    "regex with a repeated choice": (
        'SeriesDescription: {regex: "^(a|ab)*$"}',
        "SeriesDescription.regex",
        "no repeat inside a repeat",
    ),
    "regex with many repeats": (
        'SeriesDescription: {regex: ".*.*.*.*.*x"}',
        "SeriesDescription.regex",
        "fewer",
    ),
    "regex with many options": (
        f'SeriesDescription: {{regex: "{"a?" * 40}{"a" * 40}"}}',
        "SeriesDescription.regex",
        "fewer",
    ),
    "regex with many choices": (
        f'SeriesDescription: {{regex: "{"(a|a)" * 30}b"}}',
        "SeriesDescription.regex",
        "fewer",
    ),
    "exists with a word": ("Modality: {exists: off}", "Modality.exists", "true or false"),
    "code of a text element": ('Modality: {code: [SCT, "1"]}', "Modality.code", "a code sequence"),
    "code without a scheme": (
        'AnatomicRegionSequence: {code: ["1"]}',
        "AnatomicRegionSequence.code",
        "[scheme, value]",
    ),
    "code value without quotes": (
        "AnatomicRegionSequence: {code: [SCT, 39607008]}",
        "AnatomicRegionSequence.code",
        "in quotes",
    ),
    "text beside a sequence": ("AnatomicRegionSequence: CHEST", "AnatomicRegionSequence", "{code:"),
    "text beside pixels": ("PixelData: x", "PixelData", "{exists: ...}"),
    "any without a list": ("any: {Modality: CT}", "any", "a list"),
}


@pytest.mark.parametrize(("line", "key_path", "said"), BAD.values(), ids=list(BAD))
def test_mistake_in_a_condition_names_line_and_key(
    tmp_path: Path, line: str, key_path: str, said: str
) -> None:
    error = refusal(tmp_path, when(line))
    where = f"{tmp_path / 'node.yaml'}:{WHEN_LINE}: rules[0].when.{key_path}: "
    assert str(error).startswith(where)
    assert (error.line, error.key_path) == (WHEN_LINE, f"rules[0].when.{key_path}")
    assert said in str(error)


def test_mistake_deep_in_a_condition_names_its_own_line(tmp_path: Path) -> None:
    text = when("any:\n        - Modality: CT\n        - not: {Modallity: MR}")
    error = refusal(tmp_path, text)
    assert (error.line, error.key_path) == (WHEN_LINE + 2, "rules[0].when.any[1].not.Modallity")


@pytest.mark.parametrize("empty", ["when: {}\n", "when:\n", "when: CT\n", "when: []\n"])
def test_condition_without_a_line_is_refused(tmp_path: Path, empty: str) -> None:
    error = refusal(tmp_path, RULE.replace("when:\n", empty))
    assert (error.line, error.key_path) == (WHEN_LINE - 1, "rules[0].when")


@pytest.mark.parametrize(
    "pattern", ["(?i)chest|thorax", r"^\(a+\)+$", "[(a+)+]", "(?:LUNG)? B[0-9]{2}f$", "(a|b)c",
                "(?i)^(ax|cor|sag)(ial|onal|ittal)? (thin|thick)? .*?$"]
)
def test_regex_without_a_repeated_repeat_is_taken(tmp_path: Path, pattern: str) -> None:
    settings = load(tmp_path, when(f"SeriesDescription: {{regex: '{pattern}'}}"))
    assert settings.rules[0].when.written == {"SeriesDescription": {"regex": pattern}}


def test_condition_has_a_bounded_number_of_tests() -> None:
    with pytest.raises(ConditionError, match="more than"):
        parse_condition({"any": [{"Modality": "CT"}] * (MOST_TESTS + 1)})


def test_keywords_are_those_of_pydicom() -> None:
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    for keyword in ("Modality", "SliceThickness", "AnatomicRegionSequence", "PatientAge"):
        tag = tag_for_keyword(keyword)
        assert tag is not None
        assert dicom_keywords()[keyword] == (tag, dictionary_VR(tag))
    assert len(dicom_keywords()) > 4000
