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


def age_in_years(header: Dataset) -> float | None:
    """Patient's Age (PS3.5 6.2, AS), else from the dates of birth and study; ``None``: unknown."""
    stated = _AGE.fullmatch(text(header, "PatientAge").upper())
    if stated is not None:
        years = int(stated[1]) * _DAYS[stated[2]] / _DAYS_OF_A_YEAR
        return years if 0 <= years <= _OLDEST_YEARS else None
    born = moment(text(header, "PatientBirthDate") + "0000")
    seen = moment(text(header, "StudyDate") + "0000")
    if born is None or seen is None:
        return None
    years = (seen - born).days / _DAYS_OF_A_YEAR
    return years if 0 <= years <= _OLDEST_YEARS else None
