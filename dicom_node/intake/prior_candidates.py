"""Which series may be the earlier examination that a job asks for: here, and at a peer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dicom_node.errors import NotUnderstood
from dicom_node.intake.prior_query import FoundSeries, Patient, PriorQuery, day_of, patient_of
from dicom_node.records import Instance, SeriesState

if TYPE_CHECKING:
    from datetime import date

    from pydicom.dataset import Dataset

    from dicom_node.config_conditions import Condition
    from dicom_node.config_rules import RuleInput
    from dicom_node.ledger.ledger import Ledger

LEAST_IMAGES = 3
SETTLED = (SeriesState.ROUTED, SeriesState.DECLINED)
_MOST_STUDIES = 10
_MOST_KEPT = 5000


@dataclass(frozen=True)
class Wanted:
    """Before which examination of whom another one is looked for, and what it must be like."""

    patient: Patient
    day: date
    study_instance_uid: str
    rule_input: RuleInput = field(repr=False)

    def is_in_time(self, day: date | None) -> bool:
        """Whether an examination of this day is before it, and not too long."""
        return day is not None and 1 <= (self.day - day).days <= self.rule_input.within_d


class Candidates:
    """Looks through what is here, and through what a peer says.

    Parameters
    ----------
    matches
        Whether the headers of an image hold a condition.
    header_of
        The header that speaks for a series; raises `NotUnderstood`.
    """

    def __init__(
        self, ledger: Ledger, matches: Callable[[Condition, Dataset], bool],
        header_of: Callable[[Sequence[Instance]], Dataset],
    ) -> None:
        self._ledger = ledger
        self._matches = matches
        self._header_of = header_of

    def header_at(self, series_instance_uid: str) -> Dataset | None:
        """The header that speaks for a series that is here; ``None`` of one that has none."""
        try:
            return self._header_of(self._ledger.receipts.instances(series_instance_uid))
        except NotUnderstood:
            return None

    def fits(self, series_instance_uid: str, wanted: Wanted) -> bool:
        """Whether a series that is here is what is wanted, by its own headers."""
        header = self.header_at(series_instance_uid)
        return (
            header is not None and wanted.patient.is_same(patient_of(header))
            and wanted.is_in_time(examined_on(header))
            and self._matches(wanted.rule_input.when, header)
        )

    def kept(self, wanted: Wanted) -> list[FoundSeries]:
        """Series that are here, whatever they came for."""
        studies: dict[str, bool] = {wanted.study_instance_uid: False}
        found = []
        for one in self._ledger.receipts.recent_series(_MOST_KEPT):
            if one.state not in SETTLED or one.instance_count < LEAST_IMAGES:
                continue
            if one.study_instance_uid not in studies:
                first = self.header_at(one.series_instance_uid)
                studies[one.study_instance_uid] = first is not None and wanted.patient.is_same(
                    patient_of(first)
                )
            if not studies[one.study_instance_uid]:
                continue
            header = self.header_at(one.series_instance_uid)
            day = examined_on(header) if header is not None else None
            if header is not None and day is not None and self.fits(
                one.series_instance_uid, wanted
            ):
                found.append(FoundSeries(
                    one.study_instance_uid, one.series_instance_uid, day, one.instance_count,
                    header,
                ))
        return found

    def listed(self, association: PriorQuery, wanted: Wanted) -> list[FoundSeries]:
        """Series of the latest studies that a peer has, as far as its answers tell.

        Raises
        ------
        PeerUnavailable, PeerBusy, PeerRefused
        """
        parts = _simple_parts(wanted.rule_input.when)
        studies = association.studies_of(wanted.patient, wanted.day, wanted.rule_input.within_d)
        others = [one for one in studies if one[1] != wanted.study_instance_uid]
        found = [
            series
            for day, uid in others[:_MOST_STUDIES]
            for series in association.series_of(uid, day, list(parts))
        ]
        return [
            one for one in found
            if (one.images >= LEAST_IMAGES or not one.images) and all(
                self._matches(part, one.said) for keyword, part in parts.items()
                if one.said.get(keyword) not in (None, "")
            )
        ]


def _simple_parts(when: Condition) -> dict[str, Condition]:
    """The tests on single elements that must all hold: a peer's answer can be held against them."""
    from dicom_node.config_conditions import AllOf, Condition, Element

    return {
        part.keyword: Condition(AllOf((part,)), {})
        for part in when.root.parts
        if isinstance(part, Element) and part.vr != "SQ"
    }


def examined_on(header: Dataset) -> date | None:
    """Of the study, as archives are asked for it; else of the acquisition."""
    for keyword in ("StudyDate", "AcquisitionDate", "SeriesDate"):
        found = day_of(str(header.get(keyword) or "").strip())
        if found is not None:
            return found
    return None
