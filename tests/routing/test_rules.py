"""Which rules match which headers, and what is said about the others."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from dicom_node.config import Rule
from dicom_node.routing import rules


def rule(when: dict[str, Any], name: str = "lungs on chest CT") -> Rule:
    return Rule.model_validate(
        {"name": name, "when": when, "model": "lungs-ct", "send_to": ["sender"]}
    )


def chest_ct(**elements: Any) -> Dataset:
    dataset = Dataset()
    values = {
        "Modality": "CT",
        "BodyPartExamined": "CHEST",
        "SliceThickness": "1.25",
        "SeriesNumber": 3,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "SeriesDescription": "Lung 1.25mm B70f",
        "PatientAge": "045Y",
        "Rows": 512,
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
    }
    for keyword, value in {**values, **elements}.items():
        setattr(dataset, keyword, value)
    return dataset


def code(scheme: str, value: str) -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator, item.CodeValue, item.CodeMeaning = scheme, value, "a region"
    return item


@pytest.mark.parametrize(
    "when",
    [
        {"Modality": "CT", "BodyPartExamined": ["CHEST", "THORAX"], "SliceThickness": {"max": 5}},
        {"SliceThickness": {"min": 1.25, "max": 1.25}},
        {"SliceThickness": 1.25},
        {"SeriesNumber": [2, 3]},
        {"SeriesNumber": 3.0},
        {"Rows": {"min": 512}},
        {"ImageType": "AXIAL"},
        {"ImageType": {"regex": "^AX"}},
        {"SeriesDescription": {"regex": "(?i)lung"}},
        {"PatientAge": {"min": 18, "max": 90}},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"},
        {"Modality": {"exists": True}},
        {"ContrastBolusAgent": {"exists": False}},
        {"BodyPartExamined": {"not": "HEAD"}},
        {"BodyPartExamined": {"any": ["HEAD", {"regex": "^CHE"}]}},
        {"ImageType": {"all": ["ORIGINAL", "AXIAL", {"not": "LOCALIZER"}]}},
        {"not": {"Modality": "MR"}},
        {"not": {"ContrastBolusAgent": {"regex": "."}}},
        {"any": [{"Modality": "MR"}, {"BodyPartExamined": "CHEST", "SliceThickness": {"max": 2}}]},
        {"all": [{"Modality": "CT"}, {"not": {"BodyPartExamined": "HEAD"}}]},
    ],
)
def test_condition_holds_for_a_chest_ct(when: dict[str, Any]) -> None:
    assert rules.explain(rule(when), chest_ct()).mismatches == ()


@pytest.mark.parametrize(
    ("when", "keyword", "expected", "found"),
    [
        ({"Modality": "MR"}, "Modality", "MR", "CT"),
        ({"Modality": "ct"}, "Modality", "ct", "CT"),
        ({"Modality": ["MR", "PT"]}, "Modality", "one of MR, PT", "CT"),
        ({"SliceThickness": {"max": 1}}, "SliceThickness", "at most 1", "1.25"),
        (
            {"SliceThickness": {"min": 2, "max": 5}},
            "SliceThickness",
            "at least 2 and at most 5",
            "1.25",
        ),
        ({"PatientAge": {"max": 17}}, "PatientAge", "at most 17", "045Y"),
        ({"ContrastBolusAgent": "IOMERON"}, "ContrastBolusAgent", "IOMERON", "nothing"),
        ({"ContrastBolusAgent": {"exists": True}}, "ContrastBolusAgent", "a value", "nothing"),
        ({"Modality": {"exists": False}}, "Modality", "no value", "CT"),
        ({"not": {"Modality": "CT"}}, "Modality", "not CT", "CT"),
        ({"ImageType": {"not": "AXIAL"}}, "ImageType", "not AXIAL", "ORIGINAL, PRIMARY, AXIAL"),
        (
            {"SeriesDescription": {"regex": "^lung"}},
            "SeriesDescription",
            "text that matches '^lung'",
            "Lung 1.25mm B70f",
        ),
        (
            {"any": [{"Modality": "MR"}, {"BodyPartExamined": "HEAD"}]},
            "Modality, BodyPartExamined",
            "(Modality MR or BodyPartExamined HEAD)",
            "Modality CT; BodyPartExamined CHEST",
        ),
    ],
)
def test_mismatch_names_what_was_expected_and_found(
    when: dict[str, Any], keyword: str, expected: str, found: str
) -> None:
    (mismatch,) = rules.explain(rule(when), chest_ct()).mismatches
    assert mismatch == rules.Mismatch(keyword, expected, found)


def test_every_mismatch_is_listed() -> None:
    answer = rules.explain(rule({"Modality": "MR", "SeriesNumber": 9}), chest_ct())
    assert [mismatch.keyword for mismatch in answer.mismatches] == ["Modality", "SeriesNumber"]
    assert not answer.matches


@pytest.mark.parametrize("empty", ["", "  ", None])
def test_empty_value_counts_as_absent(empty: str | None) -> None:
    dataset = chest_ct(BodyPartExamined=empty)
    assert not rules.explain(rule({"BodyPartExamined": {"exists": True}}), dataset).matches
    assert rules.explain(rule({"BodyPartExamined": {"exists": False}}), dataset).matches


def test_outer_spaces_do_not_matter() -> None:
    assert rules.explain(
        rule({"BodyPartExamined": "CHEST"}), chest_ct(BodyPartExamined=" CHEST ")
    ).matches


def test_code_matches_in_any_item_of_the_sequence() -> None:
    dataset = chest_ct(AnatomicRegionSequence=[code("99HOME", "1"), code("SCT", "51185008")])
    assert rules.explain(
        rule({"AnatomicRegionSequence": {"code": ["SCT", "51185008"]}}), dataset
    ).matches
    answer = rules.explain(rule({"AnatomicRegionSequence": {"code": ["SCT", "69536005"]}}), dataset)
    assert answer.mismatches == (
        rules.Mismatch(
            "AnatomicRegionSequence", "code (SCT, 69536005)", "(99HOME, 1), (SCT, 51185008)"
        ),
    )


def test_retired_snomed_rt_code_equals_its_successor() -> None:
    dataset = chest_ct(AnatomicRegionSequence=[code("SRT", "T-D3000")])
    assert rules.explain(
        rule({"AnatomicRegionSequence": {"code": ["SCT", "51185008"]}}), dataset
    ).matches


def test_functional_groups_of_an_enhanced_image_are_looked_into() -> None:
    measures, groups = Dataset(), Dataset()
    measures.SliceThickness = "2"
    groups.PixelMeasuresSequence = [measures]
    dataset = Dataset()
    dataset.SharedFunctionalGroupsSequence = [groups]
    assert rules.explain(rule({"SliceThickness": {"max": 5}}), dataset).matches
    assert not rules.explain(rule({"SliceThickness": {"max": 1}}), dataset).matches


def raw(keyword_tag: int, vr: str, value: bytes) -> Dataset:
    tag = Tag(keyword_tag)
    return Dataset({tag: RawDataElement(tag, vr, len(value), value, 0, False, True)})


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("value", [b"thin", b"1e999", b"nan "])
def test_number_that_cannot_be_read_does_not_match(value: bytes) -> None:
    answer = rules.explain(rule({"SliceThickness": {"max": 5}}), raw(0x00180050, "DS", value))
    assert not answer.matches


def test_sequence_that_is_written_as_text_does_not_match() -> None:
    dataset = raw(0x00082218, "LO", b"51185008")
    answer = rules.explain(rule({"AnatomicRegionSequence": {"code": ["SCT", "51185008"]}}), dataset)
    assert answer.mismatches[0].found == "nothing"


def test_text_that_is_written_as_a_sequence_does_not_match() -> None:
    dataset = Dataset()
    dataset.add_new(0x0008103E, "SQ", Sequence([code("SCT", "1")]))
    assert not rules.explain(rule({"SeriesDescription": {"regex": "."}}), dataset).matches


def test_regex_looks_at_the_first_characters_of_a_long_value() -> None:
    dataset = chest_ct(ImageComments="x" * rules.LONGEST_VALUE + "lung")
    assert not rules.explain(rule({"ImageComments": {"regex": "lung"}}), dataset).matches


def test_first_mode_stops_at_the_first_match_and_all_keeps_the_order() -> None:
    rule_set = [
        rule({"Modality": "MR"}, "one"),
        rule({"Modality": "CT"}, "two"),
        rule({"Rows": 512}, "three"),
    ]
    names = [found.name for found in rules.match(rule_set, chest_ct(), mode="all")]
    assert names == ["two", "three"]
    assert [found.name for found in rules.match(rule_set, chest_ct(), mode="first")] == ["two"]
    assert rules.match(rule_set[:1], chest_ct(), mode="first") == []


def test_text_for_people_says_why_not() -> None:
    answer = rules.explain(rule({"Modality": "MR"}), chest_ct())
    assert rules.as_text(answer) == (
        "lungs on chest CT: does not match\n    Modality: expected MR, found CT"
    )


def test_text_for_people_says_what_a_match_starts() -> None:
    answer = rules.explain(rule({"Modality": "CT"}), chest_ct())
    assert rules.as_text(answer) == (
        "lungs on chest CT: matches, runs lungs-ct (routine), sends to sender"
    )


def test_control_characters_never_reach_the_terminal() -> None:
    dataset = chest_ct(SeriesDescription="\x1b[31mred")
    (mismatch,) = rules.explain(rule({"SeriesDescription": "x"}), dataset).mismatches
    assert mismatch.found == "?[31mred"


def test_a_sequence_that_ends_before_its_items_counts_as_unreadable() -> None:
    dataset = chest_ct()
    tag = Tag("AnatomicRegionSequence")
    dataset[tag] = RawDataElement(tag, "SQ", 3, b"x y", 0, False, True)
    wanted = rule({"AnatomicRegionSequence": {"code": ["SCT", "51185008"]}})
    answer = rules.explain(wanted, dataset)
    assert not answer.matches and answer.mismatches[0].found == "nothing"
