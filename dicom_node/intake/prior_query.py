"""What a peer has of a patient: C-FIND by the patient's ID, and the series that may be meant.

An ID is compared letter by letter with what the peer answers: to a peer an asterisk in it may
stand for anybody.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING

from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from dicom_node.intake.query import QueryAssociation

if TYPE_CHECKING:
    from collections.abc import Iterable

_UID = re.compile(r"[0-9.]{1,64}")
_MOST_STUDIES = 500
_MOST_SERIES = 500
_MOST_SEGMENTATIONS = 4


@dataclass(frozen=True)
class Patient:
    """Who is examined, as the headers have it; in memory for as long as a search takes."""

    patient_id: str = field(repr=False)
    issuer: str = field(repr=False)
    character_set: str = ""
    born: date | None = field(default=None, repr=False)
    sex: str = field(default="", repr=False)

    def is_same(self, other: Patient) -> bool:
        """Whether both are the same: by the ID, and by all else that both say.

        IDs are given twice: whoever was born on another day, or is a man and not a woman, is
        somebody else, and so is the same ID of another issuer.
        """
        told = zip(
            (self.issuer, self.born, self.sex), (other.issuer, other.born, other.sex), strict=True
        )
        return bool(self.patient_id) and self.patient_id == other.patient_id and all(
            one == another or not one or not another for one, another in told
        )


@dataclass(frozen=True)
class FoundSeries:
    """A series of an earlier study, what the peer says of it, and how many images it has."""

    study_instance_uid: str
    series_instance_uid: str
    day: date
    images: int
    said: Dataset = field(repr=False)


class PriorQuery(QueryAssociation):
    """An association that asks for the earlier studies of a patient."""

    def studies_of(self, patient: Patient, before: date, within_d: int) -> list[tuple[date, str]]:
        """Day and UID of the patient's studies before a day, the latest first.

        Raises
        ------
        PeerUnavailable, PeerBusy, PeerRefused
        """
        if "\\" in patient.patient_id:
            return []
        first, last = before - timedelta(days=within_d), before - timedelta(days=1)
        query = Dataset()
        query.QueryRetrieveLevel = "STUDY"
        if patient.character_set:
            query.SpecificCharacterSet = patient.character_set
        query.PatientID = patient.patient_id
        query.IssuerOfPatientID = query.PatientBirthDate = query.PatientSex = ""
        query.StudyDate = f"{first:%Y%m%d}-{last:%Y%m%d}"
        query.StudyInstanceUID = ""
        found = {}
        for answer in self._find(query, _MOST_STUDIES):
            other = patient_of(answer)
            day, uid = day_of(_text(answer, "StudyDate")), _text(answer, "StudyInstanceUID")
            is_before = day is not None and first <= day <= last
            if day is not None and is_before and patient.is_same(other) and _UID.fullmatch(uid):
                found[uid] = day
        return sorted(((day, uid) for uid, day in found.items()), reverse=True)

    def series_of(
        self, study_instance_uid: str, day: date, keywords: Collection[str]
    ) -> list[FoundSeries]:
        """The series of a study, with what the peer says under ``keywords``.

        Raises
        ------
        PeerUnavailable, PeerBusy, PeerRefused
        """
        query = Dataset()
        query.QueryRetrieveLevel = "SERIES"
        query.StudyInstanceUID = study_instance_uid
        query.SeriesInstanceUID = ""
        query.NumberOfSeriesRelatedInstances = None
        for keyword in {"Modality", "SeriesDescription", *keywords}:
            if keyword not in query and dictionary_VR(keyword) != "SQ":
                setattr(query, keyword, None)
        found = []
        for answer in self._find(query, _MOST_SERIES):
            uid = _text(answer, "SeriesInstanceUID")
            is_of_study = _text(answer, "StudyInstanceUID") in ("", study_instance_uid)
            if _UID.fullmatch(uid) and is_of_study:
                count = _text(answer, "NumberOfSeriesRelatedInstances")
                images = int(count) if re.fullmatch(r"[0-9]{1,6}", count) else 0
                found.append(FoundSeries(study_instance_uid, uid, day, images, answer))
        return found


def patient_of(header: Dataset) -> Patient:
    """Whom a header names."""
    sets = header.get("SpecificCharacterSet") or ""
    character_set = sets if isinstance(sets, str) else "\\".join(str(one or "") for one in sets)
    sex = _text(header, "PatientSex").upper()
    return Patient(
        _text(header, "PatientID"), _text(header, "IssuerOfPatientID"), str(character_set),
        day_of(_text(header, "PatientBirthDate")), sex if sex in ("F", "M") else "",
    )


def day_of(written: str) -> date | None:
    """The day of a DA value; ``None`` where it is none."""
    if not re.fullmatch(r"[0-9]{8}", written):
        return None
    try:
        return date(int(written[:4]), int(written[4:6]), int(written[6:]))
    except ValueError:
        return None


def likely_first(found: Iterable[FoundSeries], description: str) -> list[FoundSeries]:
    """Series in the order in which they are tried: the latest study, alike in name, most images."""
    return sorted(
        found,
        key=lambda one: (
            -one.day.toordinal(), _text(one.said, "SeriesDescription") != description, -one.images,
            one.series_instance_uid,
        ),
    )


def segmentations_of(found: Iterable[FoundSeries], model_id: str) -> list[FoundSeries]:
    """Small series of Segmentations, those first whose description names the model."""
    marked = [
        one for one in found
        if _text(one.said, "Modality") == "SEG" and one.images <= _MOST_SEGMENTATIONS
    ]
    marked.sort(key=lambda one: model_id not in _text(one.said, "SeriesDescription"))
    return marked[:_MOST_SEGMENTATIONS]


def _text(header: Dataset, keyword: str) -> str:
    try:
        return str(header.get(keyword) or "").strip(" \0")
    # Whatever stands in an element from outside, one that cannot be read is the same as none.
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, LookupError):
        return ""
