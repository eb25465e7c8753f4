"""Which series of a study fills which role of a rule, and what is said about the others."""

from __future__ import annotations

import itertools
from typing import Any

from pydicom import Dataset
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import Tag

from dicom_node.config_rules import RuleInput
from dicom_node.routing.selection import (
    ARRIVING,
    ELSEWHERE,
    NO_FRAME,
    NOT_THERE,
    SOMEBODY_ELSE,
    Candidate,
    as_text,
    select,
)

FRAME = "1.2.840.1"
PT = {"pt": {"when": {"Modality": "PT"}}}


def series(uid: str, *, images: int = 10, is_complete: bool = True, **elements: Any) -> Candidate:
    header = Dataset()
    for keyword, value in {"Modality": "PT", "FrameOfReferenceUID": FRAME, **elements}.items():
        setattr(header, keyword, value)
    return Candidate(uid, "1.2", images, is_complete, header)


CT = series("1.2.1", Modality="CT")


def roles(wanted: dict[str, Any]) -> dict[str, RuleInput]:
    return {role: RuleInput.model_validate(one) for role, one in wanted.items()}


def chosen(wanted: dict[str, Any], *others: Candidate, reference: Candidate = CT) -> dict[str, str]:
    found = select(roles(wanted), reference, others)
    return {
        role: one.series.series_instance_uid if one.series else one.reason
        for role, one in found.items()
    }


def test_the_series_that_fits_fills_the_role() -> None:
    assert chosen(PT, CT, series("1.2.2")) == {"pt": "1.2.2"}


def test_a_series_in_another_frame_of_reference_does_not() -> None:
    assert chosen(PT, series("1.2.2", FrameOfReferenceUID="9.9")) == {"pt": ELSEWHERE}
    assert chosen(PT, series("1.2.2", FrameOfReferenceUID="")) == {"pt": ELSEWHERE}


def test_a_series_of_another_patient_in_the_same_study_is_not_taken_before_the_right_one() -> None:
    ct = series("1.2.1", Modality="CT", PatientID="A")
    other, own = series("1.2.2", images=50, PatientID="B"), series("1.2.3", PatientID="A")
    assert chosen(PT, other, reference=ct) == {"pt": SOMEBODY_ELSE}
    assert chosen(PT, other, own, reference=ct) == {"pt": "1.2.3"}
    assert chosen(PT, series("1.2.4"), reference=ct) == {"pt": SOMEBODY_ELSE}


def test_without_a_frame_of_reference_nothing_has_a_place_beside_it() -> None:
    alone = series("1.2.1", Modality="CT", FrameOfReferenceUID="")
    assert chosen(PT, series("1.2.2", FrameOfReferenceUID=""), reference=alone) == {"pt": NO_FRAME}


def test_what_is_arriving_is_waited_for_and_what_cannot_be_read_is_not_there() -> None:
    assert chosen(PT, series("1.2.2", is_complete=False)) == {"pt": ARRIVING}
    assert chosen(PT, Candidate("1.2.2", "1.2", 3, True, None)) == {"pt": NOT_THERE}
    assert chosen(PT) == {"pt": NOT_THERE}


def test_a_series_that_is_arriving_is_told_before_one_that_lies_elsewhere() -> None:
    elsewhere = series("1.2.2", FrameOfReferenceUID="9.9")
    assert chosen(PT, elsewhere, series("1.2.3", is_complete=False)) == {"pt": ARRIVING}


def test_the_choice_among_several_does_not_depend_on_their_order() -> None:
    several = [
        series("1.2.5", images=20, SeriesNumber=7), series("1.2.6", images=20, SeriesNumber=4),
        series("1.2.2", images=3, SeriesNumber=1), series("1.2.3", images=20),
    ]
    for order in itertools.permutations(several):
        assert chosen(PT, *order) == {"pt": "1.2.6"}


def test_no_series_fills_two_roles_nor_the_place_of_the_one_that_is_analysed() -> None:
    mr = {"t1": {"when": {"Modality": "MR"}}, "t2": {"when": {"Modality": "MR"}}}
    reference = series("1.2.1", Modality="MR")
    assert chosen(mr, reference, series("1.2.2", Modality="MR"), reference=reference) == {
        "t1": "1.2.2", "t2": NOT_THERE
    }


def test_a_role_that_fits_several_leaves_to_another_the_only_one_that_fits_it() -> None:
    mr = {
        "t1": {"when": {"SeriesDescription": {"regex": "T1"}}},
        "t1c": {"when": {"SeriesDescription": {"regex": "T1 contrast"}}},
    }
    plain = series("1.2.2", SeriesDescription="T1", images=5)
    contrast = series("1.2.3", SeriesDescription="T1 contrast", images=9)
    for order in ((plain, contrast), (contrast, plain)):
        assert chosen(mr, *order) == {"t1": "1.2.2", "t1c": "1.2.3"}


def test_an_earlier_examination_is_not_looked_for_in_the_study() -> None:
    assert chosen({"prior": {"when": {"Modality": "PT"}}}, series("1.2.2")) == {}


def test_a_person_is_told_why_the_others_do_not_fit() -> None:
    found = select(roles(PT), CT, [series("1.2.2", Modality="MR"), series("1.2.3", images=1),
                                   series("1.2.4"), series("1.2.5", FrameOfReferenceUID="9")])
    assert as_text(found["pt"]) == [
        "pt: series 1.2.4, one of 2 that fit",
        "    series 1.2.3: fits, but another fits as well and goes before",
        "    series 1.2.5: in another frame of reference",
        "    series 1.2.2: does not fit",
        "        Modality: expected PT, found MR",
    ]
    assert as_text(select(roles(PT), CT, [])["pt"]) == ["pt: no series so far"]


def test_elements_that_cannot_be_read_count_as_not_there() -> None:
    spoiled = series("1.2.2", SeriesNumber=3)
    assert spoiled.header is not None
    for keyword, vr in (("SeriesNumber", "DS"), ("FrameOfReferenceUID", "SQ")):
        tag = Tag(keyword)
        spoiled.header[tag] = RawDataElement(tag, vr, 3, b"x y", 0, False, True)
    assert chosen(PT, spoiled) == {"pt": ELSEWHERE}
    spoiled.header[tag] = DataElement(tag, "UI", FRAME)
    assert chosen(PT, spoiled, series("1.2.9", SeriesNumber=3)) == {"pt": "1.2.9"}


DYNAMIC = {"phases": {"when": {"Modality": "MR"}, "series": 2}}


def phase(number: int) -> Candidate:
    return series(f"1.2.{number}", Modality="MR", SeriesNumber=number)


def test_phases_are_several_series_whatever_their_order() -> None:
    others = [phase(3), phase(4)]
    for order in itertools.permutations(others):
        found = chosen(DYNAMIC, *order, reference=phase(2))
        assert {found["phases 1"], found["phases 2"]} == {"1.2.3", "1.2.4"}
        assert found["phases beyond"] == "no more than the rule names"
    found = chosen(DYNAMIC, phase(3), reference=phase(2))
    assert (found["phases 1"], found["phases 2"]) == ("1.2.3", NOT_THERE)


def test_one_series_of_phases_too_many_is_seen_unless_another_role_takes_it() -> None:
    others = [phase(3), phase(4), phase(5)]
    found = chosen(DYNAMIC, *others, reference=phase(2))
    assert sorted(found.values()) == ["1.2.3", "1.2.4", "1.2.5"]
    t2 = {"t2": {"when": {"Modality": "MR", "SeriesNumber": 4}}}
    for wanted in ({**DYNAMIC, **t2}, {**t2, **DYNAMIC}):
        found = chosen(wanted, *others, reference=phase(2))
        assert (found["t2"], found["phases beyond"]) == ("1.2.4", "no more than the rule names")
