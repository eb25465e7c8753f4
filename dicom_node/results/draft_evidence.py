"""What a report says in codes and numbers, as evidence that a drafted impression is held to.

Everything comes from the groups of the report itself: names of the card and of the template,
numbers as the report writes them, coded terms, and what became of a finding since an earlier
examination. No header of an image is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ai_models.drafting.evidence import UNITS, EvidenceItem, EvidenceList, Side
from ai_models.types import Code, Label
from dicom_node.results.follow_up import EarlierFinding, FollowUp
from dicom_node.results.report_numbers import ml_text
from dicom_node.results.request import ResultRequest
from sr_templates.entries import Language
from sr_templates.measurement_groups import Finding
from sr_templates.narrative import Narrator
from sr_templates.numbers import Evaluated, Measured, decimals_of
from sr_templates.report_template import ReportTemplate, Step

_PROBABILITY = "122157"
# PS3.16 CID 240
_PRESENCES = {"52101004": "present", "272519000": "absent", "373068000": "undetermined"}
_SIDES: Mapping[str, Side] = {"24028007": "right", "7771000": "left", "51440002": "both"}
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9 ,()/+-]+")
_LONGEST = 64


@dataclass(frozen=True)
class _Gathering:
    """Items so far, and the request that they are of; ids follow the order."""

    request: ResultRequest
    template: ReportTemplate
    narrator: Narrator
    items: list[EvidenceItem]

    def add(self, kind: Any, finding: str, **told: Any) -> None:
        """One more item."""
        self.items.append(EvidenceItem(f"E{len(self.items) + 1}", kind, finding, **told))

    @property
    def language(self) -> Language:
        """Of the report."""
        return self.narrator.language


def evidence_of(
    request: ResultRequest, template: ReportTemplate, narrator: Narrator,
    findings: Sequence[Finding], not_found: Sequence[Label] = (),
) -> EvidenceList:
    """The evidence of one report, in the order of its groups.

    Parameters
    ----------
    request, template, narrator
        As the report is made with them; the narrator tells each item in the report's language.
    findings
        The measurement groups. Totals are left out: they are no finding.
    not_found
        Labels that were looked for and have no group.

    Raises
    ------
    ValueError
        A number is not finite, or there are more than 400 items.
    """
    found = _Gathering(request, template, narrator, [])
    labels = {template.name_of(one.name, narrator.language): one for one in request.labels}
    _add_counts(found, [labels[one.name] for one in findings if one.name in labels])
    for finding in findings:
        if template.volumetric is None or finding.name in labels or not request.labels:
            _add_finding(found, finding, labels.get(finding.name))
    if request.follow_up is not None:
        _add_follow_up(found, request.follow_up, findings, labels)
    _add_not_found(found, findings, not_found)
    return EvidenceList(tuple(found.items))


def plain(name: str, otherwise: str) -> str:
    """``name`` where it is letters, digits and blanks; else ``otherwise`` without what is none."""
    for one in (name, otherwise):
        kept = " ".join(_NOT_PLAIN.sub(" ", one).split())[:_LONGEST].strip()
        if kept and (kept == name or one is otherwise) and kept[0].isalnum():
            return kept
    return "Finding"


def _english(found: _Gathering, finding: Finding, label: Label | None) -> str:
    """What a finding is called in English, with its number."""
    if label is not None:
        return plain(found.template.name_of(label.name, "en"), _numbered(finding.type, label.name))
    for group in found.template.image:
        if group.name.in_language(found.language) == finding.name:
            return plain(group.name.en, finding.type.meaning)
    return plain(finding.name, finding.type.meaning)


def _numbered(code: Code, name: str) -> str:
    number = name.rpartition(" ")[2]
    return f"{code.meaning} {number}" if number.isdecimal() else code.meaning


def _add_counts(found: _Gathering, labels: Sequence[Label]) -> None:
    """How many there are of each kind that is numbered."""
    kinds: dict[str, list[Label]] = {}
    for label in labels:
        kind, _, number = label.name.rpartition(" ")
        if kind and number.isdecimal():
            kinds.setdefault(kind, []).append(label)
    for kind, members in kinds.items():
        name = plain(found.template.name_of(kind, "en"), members[0].type.meaning)
        site = members[0].anatomic_region
        found.add("count", name, value=float(len(members)),
                  site="" if site is None else plain(site.meaning, "Site"))


def _add_finding(found: _Gathering, finding: Finding, label: Label | None) -> None:
    """The numbers and terms of one group; they share the template's sentence on it."""
    name = _english(found, finding, label)
    code = finding.laterality.value if finding.laterality is not None else ""
    site = plain(finding.site.meaning, "Site")
    shared: dict[str, Any] = {
        "site": site, "side": _SIDES.get(code, ""), "group": finding.tracking_uid,
        "told": found.narrator.finding(finding.name, finding.measured, finding.evaluated),
    }
    before = len(found.items)
    if finding.without:
        told = found.narrator.not_answered(finding.name, finding.without)
        found.add("not_analysed", name, **{**shared, "told": told})
        return
    scores = _presences(found.template, finding)
    probability = next((one for one in finding.measured if _is_probability(one)), None)
    for score, status in scores:
        number = {} if probability is None else _number(probability)
        # What its term is worth is told with the term.
        told = shared["told"] if score.term.value.value in _PRESENCES else ""
        found.add(
            "score", name, status=status, bounds=_bounds(found.template, score),
            **{**number, **shared, "told": told},
        )
    for measured in finding.measured:
        is_known = measured.quantity.unit.value in UNITS
        if is_known and not (scores and measured is probability):
            found.add("measurement", name, **_number(measured), **shared)
    for one in finding.evaluated:
        if one.term.value.value not in _PRESENCES:
            found.add("term", name, term=plain(one.term.value.meaning, "Term"), **shared)
    if len(found.items) == before:
        # A unit that no draft may tell, or no number at all: the template tells it itself.
        found.add("limitation", name, **shared)


def _presences(template: ReportTemplate, finding: Finding) -> list[tuple[Evaluated, str]]:
    """The evaluations that say something of presence, and what.

    Without one of CID 240, a scale with a negative step ("Category 0") says absence by that one and
    presence by the others. What is only the likeliest of several says neither.
    """
    known = [
        (one, _PRESENCES[one.term.value.value]) for one in finding.evaluated
        if one.term.value.value in _PRESENCES
    ]
    if known:
        return known
    for one in finding.evaluated:
        for scale in template.scales.values():
            if one.term in scale.steps and any(step.negative for step in scale.steps):
                return [(one, "absent" if one.term.negative else "present")]
        for group in template.image:
            if group.largest_of is not None and one.term in group.largest_of.terms.values():
                return [(one, "undetermined")]
    return []


def _is_probability(one: Measured) -> bool:
    return one.quantity.concept.value == _PROBABILITY


def _number(measured: Measured) -> dict[str, Any]:
    quantity = measured.quantity
    derived = f"{quantity.derivation.meaning} " if quantity.derivation is not None else ""
    return {
        "quantity": plain(f"{derived}{quantity.concept.meaning}".capitalize(), "Number"),
        "value": measured.value, "unit": quantity.unit.value,
        "decimals": decimals_of(measured.value, quantity),
    }


def _bounds(template: ReportTemplate, score: Evaluated) -> tuple[float, ...]:
    """The numbers at which the term of a scale changes."""
    for scale in template.scales.values():
        if isinstance(score.term, Step) and score.term in scale.steps:
            return tuple(one.at_least for one in scale.steps if one.at_least is not None)
    return ()


def _add_follow_up(
    found: _Gathering, known: FollowUp, findings: Sequence[Finding], labels: Mapping[str, Label]
) -> None:
    """What became of each finding, each with the sentence that the report has for it."""
    groups = {labels[one.name].value: one for one in findings if one.name in labels}
    opening = _sentences(found, replace(
        known, followed={}, new=(), beyond_earlier=(), gone=(), beyond_present=()
    ), ())
    words = "Comparison with an earlier examination"
    found.add("limitation", words, told=opening[0])
    if known.problem:
        return
    for label in found.request.labels:
        status, one = _change(known, label)
        group = groups.get(label.value)
        if not status or group is None:
            continue
        code = group.laterality.value if group.laterality is not None else ""
        numbers = {} if one is None else {
            "before_ml": float(ml_text(one.earlier.volume_ml)),
            "after_ml": float(ml_text(one.volume_ml)),
            "percent": float(f"{abs(one.ratio - 1) * 100:.0f}"),
        }
        found.add(
            "comparison", _english(found, group, label), status=status, days=known.days,
            site=plain(group.site.meaning, "Site"), side=_SIDES.get(code, ""),
            group=group.tracking_uid, told=_sentences(found, known, (label,))[1], **numbers,
        )
    for status, several in (("gone", known.gone), ("beyond_present", known.beyond_present)):
        for number, earlier in enumerate(several, start=1):
            _add_earlier(found, known, status, earlier, number)


def _change(known: FollowUp, label: Label) -> tuple[str, Any]:
    one = known.followed.get(label.value)
    if one is not None:
        return one.change, one
    if label.value in known.new:
        return "new", None
    return ("beyond_earlier" if label.value in known.beyond_earlier else ""), None


def _add_earlier(
    found: _Gathering, known: FollowUp, status: str, earlier: EarlierFinding, number: int
) -> None:
    """A finding that there is no more. Its name is from another document: it is not taken over."""
    alone = replace(
        known, followed={}, new=(), beyond_earlier=(), gone=(earlier,) if status == "gone" else (),
        beyond_present=() if status == "gone" else (earlier,),
    )
    found.add(
        "comparison", f"Earlier finding {number}", status=status, days=known.days,
        before_ml=float(ml_text(earlier.volume_ml)), told=_sentences(found, alone, ())[1],
    )


def _sentences(found: _Gathering, known: FollowUp, labels: Sequence[Label]) -> list[str]:
    """What a report says of some labels; the first sentence is on the comparison itself."""
    alone = replace(known, gone=(), beyond_present=()) if labels else known
    return alone.told(
        found.narrator, tuple(labels), lambda name: found.template.name_of(name, found.language)
    )


def _add_not_found(
    found: _Gathering, findings: Sequence[Finding], not_found: Sequence[Label]
) -> None:
    for label, told in _told_not_found(found, not_found, is_negative=not findings):
        name = plain(found.template.name_of(label.name, "en"), label.type.meaning)
        code = label.laterality.value if label.laterality is not None else ""
        site = label.anatomic_region or label.type
        found.add(
            "not_found", name, told=told, side=_SIDES.get(code, ""),
            site=plain(site.meaning, "Site"),
        )


def _told_not_found(
    found: _Gathering, not_found: Sequence[Label], *, is_negative: bool
) -> Iterator[tuple[Label, str]]:
    named = [found.template.name_of(one.name, found.language) for one in not_found]
    if is_negative and named:
        whole = found.narrator.nothing_found(named)
        yield from ((label, whole) for label in not_found)
        return
    yield from zip(not_found, found.narrator.closing(named, ()), strict=True)
