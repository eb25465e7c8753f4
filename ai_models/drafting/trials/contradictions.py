"""False sentences: faithful ones of which one fact was made another.

Two ways. The evidence is changed in one place and a faithful sentence is written on the changed
evidence, so that it reads as well as the true one; or words of the true sentence are changed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ai_models.drafting.evidence import EvidenceItem, EvidenceList
from ai_models.drafting.guard import DraftSentence
from ai_models.drafting.trials.faithful import Said, sentences_of
from ai_models.drafting.trials.scenes import RADIOGRAPH_FINDINGS, changed

INVENTED = (
    "rib fracture", "aortic aneurysm", "lymphadenopathy", "pericardial effusion", "cavitation",
    "abscess", "metastasis", "haemorrhage", "calcification", "spiculation", "bowel obstruction",
    "foreign body",
)
_OTHER_PLACES = ("liver", "kidney", "spleen", "brain", "pancreas", "lung", "breast", "bladder")


@dataclass(frozen=True)
class Contradiction:
    """A false sentence, and in what."""

    kind: str
    sentence: DraftSentence
    true: str


def contradictions_of(
    evidence: EvidenceList, item: EvidenceItem, seed: int
) -> Iterator[Contradiction]:
    """False sentences that begin from one item."""
    chance = random.Random(seed)
    true = sentences_of(evidence, item, seed)
    known = {said.text for further in range(6) for said in sentences_of(evidence, item, further)}
    known |= {said.text for said in true}
    for kind, other in _changed_evidence(evidence, item, chance):
        now = other.by_id[item.id]
        for before, after in zip(true, sentences_of(other, now, seed), strict=False):
            # Of a score's own number, what else the sentence tells is only written anew.
            is_rewritten = item.kind == "score" and kind == "number" and len(after.about) > 1
            same = before.sentence.evidence == after.sentence.evidence
            if same and after.text not in known and not is_rewritten:
                yield Contradiction(kind, after.sentence, before.text)
    for said in true:
        for kind, change in _WORDS.items():
            text = change(said, item, chance)
            if text and text != said.text:
                yield Contradiction(kind, DraftSentence(text, said.sentence.evidence), said.text)
        yield from _citations(evidence, said, chance)


def _changed_evidence(
    evidence: EvidenceList, item: EvidenceItem, chance: random.Random
) -> Iterator[tuple[str, EvidenceList]]:
    def other(**told: Any) -> EvidenceList:
        return changed(evidence, item, **told)

    value = item.value
    if item.kind == "measurement" and value:
        further = round(value * chance.choice((0.5, 0.7, 1.3, 1.6, 2.0)), item.decimals)
        if abs(further - value) > 0.15 * abs(value):
            yield "number", other(value=further)
        yield "decimal point", other(value=round(value * chance.choice((10.0, 0.1)), item.decimals))
        twins = [
            one for one in evidence if one.quantity == item.quantity and one is not item
            and one.value is not None and abs(one.value - value) > 0.15 * abs(value)
        ]
        if twins:
            yield "number of another finding", other(value=chance.choice(twins).value)
        own = [
            one for one in evidence if one.entity == item.entity and one.unit == item.unit
            and one is not item and one.value is not None
            and abs(one.value - value) > 0.15 * abs(value)
        ]
        if own and item.unit != "1":
            yield "number of another quantity", other(value=chance.choice(own).value)
    if item.kind == "count" and value:
        yield "count", other(value=value + chance.choice((1, 2) if value < 2 else (-1, 1, 2)))
    if item.kind == "term":
        terms = [one for one in ("Solid", "Part-solid", "Ground glass opacity") if one != item.term]
        yield "term", other(term=chance.choice(terms))
    if item.kind == "score":
        yield from _scores(item, chance, other)
    if item.kind == "comparison":
        yield from _comparisons(item, chance, other)
    if item.side:
        yield "side", other(side="left" if item.side == "right" else "right", **_sided(item))
    if item.site:
        places = [one for one in _OTHER_PLACES if one != item.site.lower()]
        yield "anatomy", other(site=chance.choice(places).capitalize())
    if item.kind == "score":
        names = [
            one for one, _ in RADIOGRAPH_FINDINGS
            if all(one != known.finding for known in evidence)
        ]
        yield "invented finding", other(finding=chance.choice(names))


def _sided(item: EvidenceItem) -> dict[str, str]:
    """A name with the other side, where the name has the side in it."""
    swapped = {"Left": "Right", "Right": "Left"}
    first, _, rest = item.finding.partition(" ")
    return {"finding": f"{swapped[first]} {rest}"} if first in swapped else {}


def _scores(
    item: EvidenceItem, chance: random.Random, other: Callable[..., EvidenceList]
) -> Iterator[tuple[str, EvidenceList]]:
    value = item.value or 0.0
    for status in ("present", "absent", "undetermined"):
        if status != item.status:
            kind = "certainty" if "undetermined" in (status, item.status) else "negation"
            yield kind, other(status=status)
    further = round((value + chance.uniform(0.2, 0.6)) % 1.0, 3)
    if abs(further - value) > max(0.05, 0.15 * value):
        yield "number", other(value=further)


def _comparisons(
    item: EvidenceItem, chance: random.Random, other: Callable[..., EvidenceList]
) -> Iterator[tuple[str, EvidenceList]]:
    measured = ("grown", "shrunk", "steady")
    if item.status in measured:
        yield "comparison", other(status=chance.choice([
            one for one in measured if one != item.status
        ]))
        yield "comparison", other(status="new")
        if abs((item.before_ml or 0) - (item.after_ml or 0)) > 0.15 * (item.after_ml or 1):
            yield "before and after", other(before_ml=item.after_ml, after_ml=item.before_ml)
        yield "number", other(percent=(item.percent or 0) + chance.choice((11.0, 25.0, 60.0)))
    else:
        yield "comparison", other(
            status=chance.choice(measured), before_ml=1.0, after_ml=2.0, percent=100.0
        )
    days = item.days or 1
    yield "interval", other(days=round(days * chance.choice((0.5, 1.4, 2))) + 20)


_WITHOUT_NEGATION = (
    (" not ", " "), ("There is no evidence of", "There is evidence of"),
    ("No evidence of", "Evidence of"), ("No sign of ", "Sign of "), ("There is no ", "There is "),
    ("Neither ", ""), ("show no ", "show "), ("no longer ", ""), ("without ", "with "),
    ("Negative for", "Positive for"), ("No ", ""),
)
_WITH_NEGATION = (
    (" is present", " is not present"), (" was detected", " was not detected"),
    (" were found", " were not found"), (" was found", " was not found"),
    (" is seen", " is not seen"), ("There is ", "There is no "),
    (" detected ", " did not detect "), (" has grown", " has not grown"),
    (" is solid", " is not solid"), (" is new", " is not new"), ("Positive for", "Negative for"),
)


def _negation(said: Said, item: EvidenceItem, chance: random.Random) -> str:
    """A negation dropped, or one put in."""
    text = said.text
    for old, new in _WITHOUT_NEGATION:
        if old in text:
            told = text.replace(old, new, 1)
            return told[0].upper() + told[1:]
    for old, new in _WITH_NEGATION:
        if old in text and "undetermined" not in text:
            return text.replace(old, new, 1)
    return ""


def _overclaim(said: Said, item: EvidenceItem, chance: random.Random) -> str:
    more = chance.choice((
        ", most likely malignant", " and is benign", ", consistent with metastasis",
        "; biopsy is recommended", ", otherwise normal", " and is severe",
    ))
    return f"{said.text[:-1]}{more}."


def _invented(said: Said, item: EvidenceItem, chance: random.Random) -> str:
    what = chance.choice(INVENTED)
    return f"{said.text[:-1]}{chance.choice((' with ', ' and ', '; there is also '))}{what}."


_OTHER_UNITS = (
    (r"(?<=\d) ?mm\b", " cm"), (r"(?<=\d) ?cm\b", " mm"), (r"(?<=\d) m[lL]\b", " mm3"),
    (r"(?<=\d) HU\b", " mm"), (r"\bdays\b", "weeks"), (r"\bmonths\b", "days"),
)


def _unit(said: Said, item: EvidenceItem, chance: random.Random) -> str:
    if item.value == 0:
        return ""
    for old, new in _OTHER_UNITS:
        if re.search(old, said.text):
            return re.sub(old, new, said.text)
    return ""


def _side_put_in(said: Said, item: EvidenceItem, chance: random.Random) -> str:
    """A side of something that has none in the evidence."""
    if item.side or item.kind == "count":
        return ""
    name = item.finding.lower()
    at = said.text.lower().find(name)
    side = chance.choice(("left", "right"))
    return "" if at < 0 else f"{said.text[:at]}{side} {name}{said.text[at + len(name):]}"


def _certainty(said: Said, item: EvidenceItem, chance: random.Random) -> str:
    for old, new in ((" is present", " may be present"), (" is absent", " is possible"),
                     (" was detected", " is suspected"), ("cannot be excluded", "is excluded"),
                     (" is undetermined", " is present"), ("Possible ", "Definite "),
                     (" may be present", " is present"), ("No evidence of", "Possible")):
        if old in said.text:
            return said.text.replace(old, new, 1)
    return ""


def _other_instance(said: Said, item: EvidenceItem, chance: random.Random) -> str:
    """``Nodule 7`` where there is none."""
    name, _, number = item.finding.rpartition(" ")
    if not number.isdecimal() or item.finding.lower() not in said.text.lower():
        return ""
    return re.sub(rf"(?i)({name}) {number}\b", rf"\1 {int(number) + 5}", said.text, count=1)


_WORDS: dict[str, Callable[[Said, EvidenceItem, random.Random], str]] = {
    "negation": _negation, "overclaim": _overclaim, "invented finding": _invented, "unit": _unit,
    "side": _side_put_in, "certainty": _certainty, "finding that is not there": _other_instance,
}


def _citations(
    evidence: EvidenceList, said: Said, chance: random.Random
) -> Iterator[Contradiction]:
    if chance.random() < 0.7 or said.about[0].kind == "count":
        return
    ids = said.sentence.evidence
    # Another nodule may have the same size, and "a nodule" be any: then both are true.
    names = {about.finding.rpartition(" ")[0] or about.finding for about in said.about}
    has_number = any(about.finding.lower() in said.text.lower() for about in said.about)
    others = [
        one.id for one in evidence
        if one.entity not in {about.entity for about in said.about} and one.kind != "count"
        and (has_number or (one.finding.rpartition(" ")[0] or one.finding) not in names)
    ]
    if others:
        for cited in ((chance.choice(others),), (*ids, chance.choice(others))):
            yield Contradiction("citation", replace(said.sentence, evidence=cited), said.text)
    yield Contradiction("citation", replace(said.sentence, evidence=()), said.text)
