"""What a header tells of the patient, and whether two headers are of the same one."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node.imaging.patient import age_in_years, contradicts_age, is_same_patient


def header(**elements: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(("elements", "years"), [
    ({"PatientAge": "067Y"}, 67.0),
    ({"PatientAge": "006M"}, 0.5),
    ({"PatientAge": "000Y"}, None),
    ({"PatientAge": "000Y", "PatientBirthDate": "19600101", "StudyDate": "20260101"}, 66.0),
    ({"PatientAge": "999Y"}, None),
    ({"PatientBirthDate": "1960.01.01", "StudyDate": "2026.01.01"}, 66.0),
    ({}, None),
])
def test_an_age_that_says_nothing_is_not_that_of_a_newborn(
    elements: dict[str, str], years: float | None
) -> None:
    assert age_in_years(header(**elements)) == (
        None if years is None else pytest.approx(years, abs=0.01)
    )


@pytest.mark.parametrize(("age", "born", "contradict"), [
    ("004Y", "19400101", True), ("065Y", "19600101", False), ("066Y", "", False),
    ("", "19400101", False), ("000Y", "19400101", False),
])
def test_an_age_far_from_that_of_the_dates_contradicts_them(
    age: str, born: str, contradict: bool
) -> None:
    one = header(PatientAge=age, PatientBirthDate=born, StudyDate="20260101")
    assert contradicts_age(one) == contradict


@pytest.mark.parametrize(("one", "other", "same"), [
    ({"PatientID": "1"}, {"PatientID": "1"}, True),
    ({"PatientID": "1"}, {"PatientID": ""}, False),
    ({"PatientID": "1", "IssuerOfPatientID": "A"}, {"PatientID": "1"}, True),
    ({"PatientID": "1", "IssuerOfPatientID": "A"}, {"PatientID": "1", "IssuerOfPatientID": "B"},
     False),
    ({"PatientID": "UNKNOWN", "PatientBirthDate": "19600101"},
     {"PatientID": "UNKNOWN", "PatientBirthDate": "19310203"}, False),
    ({"PatientID": "UNKNOWN", "PatientSex": "F"},
     {"PatientID": "UNKNOWN", "PatientSex": "M"}, False),
    ({"PatientID": "1", "PatientSex": "F"}, {"PatientID": "1", "PatientSex": "O"}, True),
    ({"PatientID": "1", "PatientSex": "F"}, {"PatientID": "1"}, True),
    ({"PatientName": "A^B"}, {"PatientName": "C^D"}, False),
    ({"PatientName": "A^B"}, {"PatientName": "A^B"}, True),
])
def test_two_headers_are_of_one_patient_only_as_long_as_nothing_speaks_against_it(
    one: dict[str, str], other: dict[str, str], same: bool
) -> None:
    assert is_same_patient(header(**one), header(**other)) is same
