"""What a header tells of the patient, as numbers."""

from __future__ import annotations

import re

from pydicom.dataset import Dataset

from dicom_node.imaging.elements import text
from dicom_node.imaging.times import moment

_AGE = re.compile(r"(\d{1,3})([DWMY])")
_DAYS = {"D": 1.0, "W": 7.0, "M": 365.25 / 12, "Y": 365.25}
_DAYS_OF_A_YEAR = 365.25
_OLDEST_YEARS = 125.0
# An age is rounded, and that of a study may be one that was asked for earlier.
_APART_YEARS = 2.0


def age_in_years(header: Dataset) -> float | None:
    """Patient's Age (PS3.5 6.2, AS), else from the dates of birth and study; ``None``: unknown."""
    own, by_dates = _stated_age(header), _age_by_dates(header)
    return by_dates if own is None else own


def contradicts_age(header: Dataset) -> bool:
    """Whether Patient's Age and the dates of birth and study are more than two years apart."""
    own, by_dates = _stated_age(header), _age_by_dates(header)
    return own is not None and by_dates is not None and abs(own - by_dates) > _APART_YEARS


def _stated_age(header: Dataset) -> float | None:
    stated = _AGE.fullmatch(text(header, "PatientAge").upper())
    # ``000Y`` is what devices write that know of no age; months and days are for infants.
    if stated is not None and int(stated[1]) > 0:
        years = int(stated[1]) * _DAYS[stated[2]] / _DAYS_OF_A_YEAR
        return years if 0 <= years <= _OLDEST_YEARS else None
    return None


def _age_by_dates(header: Dataset) -> float | None:
    # 1940.01.31 is how it was written once, and is to be read still (PS3.5 6.2, DA).
    born = moment(text(header, "PatientBirthDate").replace(".", "") + "0000")
    seen = moment(text(header, "StudyDate").replace(".", "") + "0000")
    if born is None or seen is None:
        return None
    years = (seen - born).days / _DAYS_OF_A_YEAR
    return years if 0 <= years <= _OLDEST_YEARS else None


def is_same_patient(one: Dataset, other: Dataset) -> bool:
    """By Patient ID, with its issuer, the date of birth and the sex where both state one.

    IDs are given twice, and ``UNKNOWN`` is one: whoever was born on another day, or is a man and
    not a woman, is somebody else.
    Two headers without an ID are of one patient only as long as their names do not differ.
    """
    if text(one, "PatientID") != text(other, "PatientID"):
        return False
    keywords = ["IssuerOfPatientID", "PatientBirthDate"]
    if not text(one, "PatientID"):
        keywords.append("PatientName")
    if {text(header, "PatientSex").upper() for header in (one, other)} == {"F", "M"}:
        return False
    return all(
        len({text(header, keyword) for header in (one, other)} - {""}) < 2
        for keyword in keywords
    )
