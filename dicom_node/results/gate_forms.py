"""A report in another form, read back and laid beside the report that the node keeps.

It must be of the same patient and study, say the same numbers, codes and sentences, hold nothing
that its document must not hold, and cite only what is sent with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydicom.dataset import Dataset

from dicom_node.results.gate_reading import check_identity, read_back, refused
from dicom_node.results.sop_classes import (
    BASIC_TEXT_SR,
    COMPREHENSIVE_3D_SR,
    COMPREHENSIVE_SR,
    ENHANCED_SR,
)

_TEXT_TYPES = frozenset(
    {"CONTAINER", "TEXT", "CODE", "DATETIME", "DATE", "TIME", "UIDREF", "PNAME", "COMPOSITE",
     "IMAGE", "WAVEFORM"}
)  # fmt: skip
_MORE_TYPES = _TEXT_TYPES | {"NUM", "SCOORD", "TCOORD"}
# PS3.3 A.35.1.3.1, A.35.2.3.1, A.35.3.3.1, A.35.13.3.1: value types of each document.
_VALUE_TYPES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        BASIC_TEXT_SR: _TEXT_TYPES,
        ENHANCED_SR: _MORE_TYPES,
        COMPREHENSIVE_SR: _MORE_TYPES,
        COMPREHENSIVE_3D_SR: _MORE_TYPES | {"SCOORD3D", "TABLE"},
    }
)
_IMAGE_LIBRARY = "111028"
_COMMENT = "121106"


def check_report_form(
    form: Dataset | bytes | Path,
    kept: Dataset,
    cited: Sequence[Dataset],
    not_sent: Collection[str],
) -> None:
    """Refuse a form of the report ``kept`` that says something else, or cites what is not there.

    Parameters
    ----------
    form
        What will be sent.
    cited
        Objects that the form may cite besides what ``kept`` cites.
    not_sent
        SOP Instance UIDs of what ``kept`` cites and what does not go where the form goes.

    Raises
    ------
    GateRefused
        ``gate.unreadable``, ``gate.reference``, or ``gate.form`` for contents.
    """
    decoded = read_back(form)
    check_identity(decoded, [kept])
    if decoded.SOPInstanceUID == kept.SOPInstanceUID:
        raise refused("reference", "a form has the UID of what it was made from")
    if decoded.get("VerificationFlag") != "UNVERIFIED":
        raise refused("form", "the report is not unverified")
    _check_value_types(decoded)
    _check_citations(decoded, _evidence(kept) - set(not_sent), cited)
    _check_contents(decoded, kept)


def _check_value_types(decoded: Dataset) -> None:
    sop_class = str(decoded.SOPClassUID)
    allowed = _VALUE_TYPES.get(sop_class)
    if allowed is None:
        raise refused("form", "the document is no report")
    for item in _items(decoded, library=True):
        if item.get("ValueType") not in allowed:
            raise refused("form", "the report holds what its document must not hold")


def _check_citations(decoded: Dataset, cited_by_kept: set[str], cited: Sequence[Dataset]) -> None:
    segments = {
        str(one.SOPInstanceUID): {int(s.SegmentNumber) for s in one.get("SegmentSequence", [])}
        for one in cited
    }
    known = cited_by_kept | set(segments)
    evidence = _evidence(decoded)
    if not evidence <= known:
        raise refused("reference", "the evidence lists an object that is not sent with the report")
    for item in _items(decoded, library=True):
        for reference in item.get("ReferencedSOPSequence", []):
            uid = str(reference.ReferencedSOPInstanceUID)
            if uid not in known or uid not in evidence:
                raise refused("reference", "the report cites an object that is not sent with it")
            numbers = _as_set(reference.get("ReferencedSegmentNumber"))
            if uid in segments and not numbers <= segments[uid]:
                raise refused("reference", "the report cites a segment that does not exist")


def _check_contents(decoded: Dataset, kept: Dataset) -> None:
    if _comments(decoded) != _comments(kept):
        raise refused("form", "the sentences of the report changed")
    numbers = _numbers(kept)
    if decoded.SOPClassUID != BASIC_TEXT_SR:
        if _numbers(decoded) != numbers or _codes(decoded) != _codes(kept):
            raise refused("form", "the numbers or the codes of the report changed")
        return
    words = " ".join(str(item.TextValue) for item in _items(decoded) if item.ValueType == "TEXT")
    if not all(value in words for _, value, _ in numbers):
        raise refused("form", "a number of the report is not in its text")


def _items(item: Dataset, *, library: bool = False) -> Iterator[Dataset]:
    """Every content item below ``item``, with those of the Image Library or without."""
    for child in item.get("ContentSequence", []):
        if library or _name(child) != _IMAGE_LIBRARY:
            yield child
            yield from _items(child, library=library)


def _name(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""


def _comments(report: Dataset) -> list[str]:
    return [str(item.TextValue) for item in _items(report) if _name(item) == _COMMENT]


def _numbers(report: Dataset) -> list[tuple[str, str, str]]:
    """Concept, value and unit of every number; empty value and unit of one that has none."""
    numbers = []
    for item in _items(report):
        if item.ValueType == "NUM":
            measured = item.get("MeasuredValueSequence")
            value = str(measured[0].NumericValue) if measured else ""
            unit = str(measured[0].MeasurementUnitsCodeSequence[0].CodeValue) if measured else ""
            numbers.append((_name(item), value, unit))
    return numbers


def _codes(report: Dataset) -> list[tuple[str, str]]:
    return [
        (_name(item), str(item.ConceptCodeSequence[0].CodeValue))
        for item in _items(report)
        if item.ValueType == "CODE"
    ]


def _evidence(report: Dataset) -> set[str]:
    return {
        str(instance.ReferencedSOPInstanceUID)
        for study in report.get("CurrentRequestedProcedureEvidenceSequence", [])
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }


def _as_set(value: Any) -> set[int]:
    if value is None:
        return set()
    return {int(value)} if isinstance(value, (int, str)) else {int(part) for part in value}
