"""Sentences on two findings at once, true and false: what is said of which one."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ai_models.drafting.evidence import EvidenceItem, EvidenceList
from ai_models.drafting.trials.faithful import Said, of_entity, plain


@dataclass(frozen=True)
class Pair:
    """A sentence on two findings, whether it is true, and in what it is false."""

    said: Said
    kind: str = ""


def pairs_of(evidence: EvidenceList, chance: random.Random) -> Iterator[Pair]:
    """Sentences on two findings of one scene, where it has two."""
    by_entity: dict[tuple[str, str], EvidenceItem] = {}
    for item in evidence:
        if item.kind not in ("count", "limitation"):
            by_entity.setdefault(item.entity, item)
    heads = list(by_entity.values())
    if len(heads) < 2:
        return
    one, two = chance.sample(heads, 2)
    for quantity in ("Long axis", "Volume"):
        yield from _numbers(evidence, quantity, one, two)
    yield from _changes(evidence, one, two)
    yield from _scores(one, two)
    yield from _sides(evidence, chance)


def _far(one: EvidenceItem, two: EvidenceItem) -> bool:
    return abs((one.value or 0) - (two.value or 0)) > 0.2 * abs(one.value or 0)


def _numbers(
    evidence: EvidenceList, quantity: str, first: EvidenceItem, second: EvidenceItem
) -> Iterator[Pair]:
    one, two = of_entity(evidence, first).get(quantity), of_entity(evidence, second).get(quantity)
    if one is None or two is None or not _far(one, two) or not one.finding[-1].isdecimal():
        return
    word = "measures" if quantity == "Long axis" else "has a volume of"
    about = (one, two)
    for kind, values in (("", (one, two)), ("numbers swapped", (two, one))):
        a, b = (f"{plain(item.value or 0, item.decimals)} {item.unit}" for item in values)
        name, other = one.finding, two.finding.lower()
        for text in (
            f"{name} {word} {a} and {other} {word} {b}.", f"{name} {word} {a}, {other} {b}.",
            f"{name} {word} {a}; {other} {word} {b}.",
            f"{name} {word} {a}, whereas {other} {word} {b}.",
        ):
            yield Pair(Said(text, about), kind)
        if quantity == "Long axis":
            yield Pair(Said(f"{name} ({a}) and {other} ({b}) are seen.", about), kind)
    if quantity == "Long axis":
        both = f"{one.finding} and {two.finding.lower()} measure {plain(one.value or 0, 1)} mm."
        yield Pair(Said(both, about), "number said of both")


def _changes(evidence: EvidenceList, first: EvidenceItem, second: EvidenceItem) -> Iterator[Pair]:
    one = of_entity(evidence, first).get("comparison")
    two = of_entity(evidence, second).get("comparison")
    if one is None or two is None:
        return
    words = {"grown": "has grown", "shrunk": "has shrunk", "steady": "is unchanged",
             "new": "is new"}
    if one.status not in words or two.status not in words:
        return
    about = (one, two)
    name, other = one.finding, two.finding.lower()
    if one.status == two.status:
        many = words[one.status].replace("has", "have").replace("is ", "are ")
        yield Pair(Said(f"{name} and {other} {many}.", about))
        return
    for kind, (a, b) in (("", (one, two)), ("changes swapped", (two, one))):
        for joint in (", whereas ", " and ", "; ", ", while ", ", but "):
            yield Pair(
                Said(f"{name} {words[a.status]}{joint}{other} {words[b.status]}.", about), kind
            )
    for status in (one.status, two.status):
        many = words[status].replace("has", "have").replace("is ", "are ")
        yield Pair(Said(f"{name} and {other} {many}.", about), "change said of both")
        yield Pair(Said(f"Both {name.lower()} and {other} {many}.", about), "change said of both")


def _scores(one: EvidenceItem, two: EvidenceItem) -> Iterator[Pair]:
    if one.kind != "score" or two.kind != "score":
        return
    about = (one, two)
    a, b = one.finding.lower(), two.finding.lower()
    words = {"present": "is present", "absent": "is absent", "undetermined": "is undetermined"}
    title = a.capitalize()
    if one.status == two.status:
        return
    for kind, (s, t) in (("", (one, two)), ("statuses swapped", (two, one))):
        for joint in (", and ", " and ", "; ", ", but ", ", while ", ". "):
            second = b.capitalize() if joint == ". " else b
            yield Pair(
                Said(f"{title} {words[s.status]}{joint}{second} {words[t.status]}.", about), kind
            )
    for status in {one.status, two.status}:
        yield Pair(Said(f"{title} and {b} are {status}.", about), "status said of both")
    yield from (Pair(said, "negation of both") for said in _denied(a, b, about))


def _denied(a: str, b: str, about: Sequence[EvidenceItem]) -> Iterator[Said]:
    for text in (
        f"No {a} or {b}.", f"No {a}, {b} or other finding.", f"There is no {a} and {b}.",
        f"Neither {a} nor {b} is present.", f"No {a}, and {b} is absent.",
        f"{a.capitalize()} and {b} are not seen.", f"No evidence of {a} or {b}.",
    ):
        yield Said(text, tuple(about))


def _sides(evidence: EvidenceList, chance: random.Random) -> Iterator[Pair]:
    volumes: dict[str, EvidenceItem] = {
        one.side: one for one in evidence
        if one.quantity == "Volume" and one.finding.lower().startswith(("left ", "right "))
    }
    if set(volumes) != {"left", "right"} or not _far(volumes["left"], volumes["right"]):
        return
    organ = volumes["left"].finding.split()[1]
    about = (volumes["left"], volumes["right"])
    for kind, (left, right) in (("", ("left", "right")), ("sides swapped", ("right", "left"))):
        a, b = (f"{plain(volumes[side].value or 0, 1)} ml" for side in (left, right))
        for text in (
            f"The left {organ} has a volume of {a} and the right {organ} has a volume of {b}.",
            f"Left {organ} volume is {a}, right {organ} volume is {b}.",
            f"The volume of the left {organ} is {a} and the volume of the right {organ} is {b}.",
            f"Left {organ}: {a}; right {organ}: {b}.",
        ):
            yield Pair(Said(text, about), kind)
