"""The numbers of a clause: what each is a number of, and at which examination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ai_models.drafting.reading import Mark

# Behind a number they say that it is one of then; "compared with" introduces another.
OF_THEN = frozenset({
    "previously", "before", "earlier", "prior", "previous", "formerly", "ago", "originally",
    "at the earlier examination", "at the prior examination", "at the previous examination",
    "on the prior", "on the earlier examination", "on the prior examination",
    "on the previous examination",
})
_NOW = frozenset({"now", "currently", "today"})
_OF = ("in", "of", "the", "its", "a", "on", "for")
TIMES = ("d", "day", "week", "month", "year", "yr", "mo")


@dataclass(frozen=True)
class NumberSaid:
    """A number as a sentence has it.

    ``unit`` is the word behind it, ``quantity`` what it is said to be a number of, both empty where
    the sentence does not say. ``role`` is ``before``, ``after``, ``percent``, ``across`` (the
    second of ``8 x 5 mm``, ``across3`` a third), ``bound`` (``less than 8 mm``) or ``now``.
    """

    value: float
    decimals: int
    unit: str
    quantity: str
    role: str
    is_count: bool = False
    in_brackets: bool = False


def numbers_said(
    marks: Sequence[Mark], *, has_change: bool, head: int
) -> tuple[tuple[NumberSaid, ...], tuple[str, ...]]:
    """The numbers of ``marks``, and the quantities that no number belongs to.

    The first ``head`` marks stand before the name of the finding: a whole number there is a count.

    A number belongs to the first quantity before it that has none, to a threshold right before it,
    else to the quantity right behind.
    """
    waiting: list[int] = []
    taken: set[int] = set()
    found: list[NumberSaid] = []
    for at, mark in enumerate(marks):
        if mark.kind == "quantity" and at not in taken:
            waiting.append(at)
        if mark.kind != "number" or mark.number is None:
            continue
        behind = _quantity_behind(marks, at)
        quantity = ""
        if waiting:
            nearest = marks[waiting[-1]].value == "threshold"
            quantity = marks[waiting.pop(-1 if nearest else 0)].value
        elif behind is not None:
            quantity = marks[behind].value
            taken.add(behind)
        found.append(NumberSaid(
            mark.number, mark.decimals, mark.unit, quantity, _role(marks, at, has_change),
            is_count=at < head and _is_count(marks, at, quantity), in_brackets=mark.in_brackets,
        ))
    return tuple(found), tuple(marks[at].value for at in waiting)


def _quantity_behind(marks: Sequence[Mark], at: int) -> int | None:
    for further in range(at + 1, min(at + 4, len(marks))):
        if marks[further].kind == "quantity":
            return further
        if marks[further].kind != "filler" or marks[further].value not in _OF:
            return None
    return None


def _role(marks: Sequence[Mark], at: int, has_change: bool) -> str:
    last = _solid(marks, at, -1)
    following = _solid(marks, at, 1)
    tense = _tense(marks, at)
    if tense:
        return tense
    if last is not None:
        if last.value in ("x", "by") and _is_number_before(marks, at):
            return "across3" if _in_chain(marks, at) > 1 else "across"
        if last.value == "from":
            return "before"
        if last.value == "to":
            after = has_change or any(one.value == "from" for one in marks[:at])
            return "after" if after else ""
        if last.value == "by" and has_change:
            return "percent"
        if last.kind == "earlier":
            return "" if marks[at].unit == "%" else "before"
        if last.kind == "relation" and not (last.text == "over" and marks[at].unit in TIMES):
            return "bound"
    if following is not None and following.kind == "earlier" and following.value in OF_THEN:
        return "before"
    return ""


def _tense(marks: Sequence[Mark], at: int) -> str:
    """``before`` of ``was 8 mm, now 9 mm`` and ``8 mm 90 days ago``, ``now`` of ``now 9 mm``."""
    near = [one.value for one in marks[max(0, at - 2) : at]]
    if _NOW & set(near):
        return "now"
    if any(one.value in _NOW for one in marks) and {"was", "were"} & set(near):
        return "before"
    behind = [one for one in marks[at + 1 :] if one.kind != "filler" and one.value != ","][:2]
    if marks[at].unit in TIMES or len(behind) < 2 or marks[at].unit in ("", "%"):
        return ""
    return "before" if behind[0].unit in TIMES and behind[1].value in OF_THEN else ""


def _solid(marks: Sequence[Mark], at: int, step: int) -> Mark | None:
    """The next mark in a direction; articles, ``approximately`` and the like are passed over."""
    at += step
    while 0 <= at < len(marks):
        mark = marks[at]
        if mark.kind != "filler" or mark.value in ("by",):
            return mark
        at += step
    return None


def _is_number_before(marks: Sequence[Mark], at: int) -> bool:
    return at >= 2 and marks[at - 2].kind == "number"


def _in_chain(marks: Sequence[Mark], at: int) -> int:
    """How many numbers stand before this one in ``a x b x c``."""
    count = 0
    while at >= 2 and marks[at - 1].value in ("x", "by") and marks[at - 2].kind == "number":
        count += 1
        at -= 2
    return count


def _is_count(marks: Sequence[Mark], at: int, quantity: str) -> bool:
    """Whether it says how many: a whole number without unit at the head of a name."""
    mark = marks[at]
    if mark.unit or mark.decimals or quantity or mark.in_brackets or mark.number is None:
        return False
    last = marks[max(0, at - 2) : at]
    return mark.number >= 2 and float(mark.number).is_integer() and not any(
        one.kind in ("quantity", "relation", "earlier", "word") for one in last
    )
