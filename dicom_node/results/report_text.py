"""What a structured report says, as text for people: its findings, numbers and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_IMAGE_LIBRARY, _FINDING, _SITE = "111028", "121071", "363698007"
_LATERALITY, _DERIVATION = "272741003", "121401"
_CONTAINERS_OF_FINDINGS = frozenset({"125007"})
# What identifies a finding or an algorithm to machines (PS3.16 TID 1501, TID 4019).
_FOR_MACHINES = frozenset(
    {"112039", "112040", "276214006", "111001", "111002", "111003", "122405", "111000", "121049"}
)
_UNIT_SIGNS = {"[hnsf'U]": "HU", "mm2": "mm²", "cm2": "cm²", "mm3": "mm³", "cm3": "cm³", "1": "",
               "d": "days", "mo": "months", "a": "years"}  # fmt: skip


@dataclass(frozen=True)
class FindingText:
    """One measurement group: what and where, and its numbers and terms as (name, value)."""

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ReportText:
    """One report: its title, its findings, and its sentences in the order in which it has them."""

    title: str
    findings: tuple[FindingText, ...]
    sentences: tuple[str, ...]


def report_text(report: Dataset) -> ReportText:
    """The text of a report of TID 1500, or of any tree of containers, codes, numbers and texts."""
    findings: list[FindingText] = []
    rows: list[tuple[str, str]] = []
    sentences: list[str] = []
    _collect(report.get("ContentSequence", []), findings, rows, sentences)
    if rows:
        findings.insert(0, FindingText("", tuple(rows)))
    return ReportText(_name(report)[1], tuple(findings), tuple(dict.fromkeys(sentences)))


def _collect(
    items: Sequence[Dataset],
    findings: list[FindingText],
    rows: list[tuple[str, str]],
    sentences: list[str],
) -> None:
    for item in items:
        code, _ = _name(item)
        children: Sequence[Dataset] = item.get("ContentSequence", [])
        machines = code == _IMAGE_LIBRARY or code in _FOR_MACHINES
        if machines or item.get("RelationshipType") == "HAS OBS CONTEXT":
            continue
        if code in _CONTAINERS_OF_FINDINGS:
            findings.append(finding_text(item))
        elif item.ValueType == "CONTAINER":
            _collect(children, findings, rows, sentences)
        elif item.ValueType == "TEXT":
            sentences.append(str(item.TextValue))
        elif value := value_text(item):
            rows.append((_row_name(item), value))


def finding_text(group: Dataset) -> FindingText:
    """The text of one measurement group.

    Finding and site are one title where they are the same organ, as they mostly are.
    """
    shown = [item for item in group.ContentSequence if _name(item)[0] not in _FOR_MACHINES]
    named = {_name(item)[0]: value_text(item) for item in shown}
    finding, site = named.get(_FINDING, ""), named.get(_SITE, "")
    is_organ = site.split(", ")[0] == finding
    left_out = {_FINDING, _SITE} if is_organ else {_FINDING}
    rows = [
        (_row_name(item), value)
        for item in shown
        if _name(item)[0] not in left_out and (value := value_text(item))
    ]
    return FindingText(site if is_organ else finding, tuple(rows))


def _row_name(item: Dataset) -> str:
    """The concept with its derivation: two attenuations of one lung are mean and deviation."""
    derivations = [
        value_text(child)
        for child in item.get("ContentSequence", [])
        if _name(child)[0] == _DERIVATION
    ]
    return ", ".join([_name(item)[1], *derivations])


def value_text(item: Dataset) -> str:
    """A code with the laterality that modifies it, a number with its unit, a text; else nothing."""
    if item.ValueType == "CODE":
        modifiers = [value_text(child) for child in item.get("ContentSequence", [])
                     if _name(child)[0] == _LATERALITY]  # fmt: skip
        return ", ".join([str(item.ConceptCodeSequence[0].CodeMeaning), *modifiers])
    if item.ValueType == "NUM":
        measured: Sequence[Dataset] = item.get("MeasuredValueSequence", [])
        return _number(measured[0]) if measured else ""
    return str(item.TextValue) if item.ValueType == "TEXT" else ""


def _number(measured: Dataset) -> str:
    unit = measured.MeasurementUnitsCodeSequence[0]
    code = str(unit.CodeValue)
    sign = _UNIT_SIGNS.get(code, code if code.isalpha() or code == "%" else str(unit.CodeMeaning))
    return f"{measured.NumericValue} {sign}".rstrip()


def _name(item: Dataset) -> tuple[str, str]:
    names: Sequence[Dataset] = item.get("ConceptNameCodeSequence", [])
    if not names:
        return "", ""
    return str(names[0].get("CodeValue", "")), str(names[0].get("CodeMeaning", ""))
