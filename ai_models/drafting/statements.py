"""Marks of a sentence as statements: what it says of each finding that it names.

A sentence that can be read in two ways is refused here. ``no A, and B is present`` denies B or
asserts it, and a guard that guesses is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ai_models.drafting.clauses import CLAIMS, Group, Unclear, clauses_of, read_clause
from ai_models.drafting.misleading import refuse_misleading
from ai_models.drafting.numbers_said import OF_THEN, TIMES, NumberSaid, numbers_said
from ai_models.drafting.reading import Mark, Stems

_UNLIKELY = frozenset({"unlikely", "improbable"})
_PLURAL_VERBS = frozenset({"are", "were", "have", "measure", "show"})


@dataclass(frozen=True)
class Statement:
    """What a sentence says of one finding that it names.

    ``status`` is ``present``, ``absent``, ``not_found``, ``undetermined``, ``not_analysed``, or
    empty where only a number of it is told.
    """

    base: Stems
    ordinal: int | None
    is_plural: bool
    status: str
    changes: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    sides: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    numbers: tuple[NumberSaid, ...] = ()
    quantities: tuple[str, ...] = ()
    relation: str = ""

    @property
    def is_of_change(self) -> bool:
        """Whether it says what became of the finding, or what it was."""
        return bool(self.changes) or any(
            one.role in ("before", "after", "percent") or one.unit in TIMES for one in self.numbers
        )


def statements_of(marks: Sequence[Mark], only: Stems | None) -> list[Statement]:
    """What the marks say.

    Parameters
    ----------
    marks
        Of one sentence, as `Reader.marks` gives them.
    only
        The name of the one finding that the cited evidence is about, where it is about one: a
        sentence need not name it.

    Raises
    ------
    Unclear
        A word is not known, there is no finding, or the sentence can be read in two ways.
    """
    for mark in marks:
        if mark.kind == "unknown":
            raise Unclear("unknown_word", f"the guard does not know {mark.text!r}")
        if mark.kind == "overclaim":
            raise Unclear("overclaim", f"no evidence says {mark.text or mark.value!r}")
    refuse_misleading(marks)
    _refuse_probability_of_status(marks)
    groups: list[Group] = []
    for clause in clauses_of(marks):
        read_clause(clause, groups, only)
    if not groups:
        raise Unclear("no_finding", "no finding of the evidence is named")
    return [one for position, group in enumerate(groups) for one in _told(group, groups[:position])]


def _told(group: Group, earlier: Sequence[Group]) -> list[Statement]:
    """The statements of a group."""
    shared, negated = _without_negations(group)
    status = _status(shared, negated)
    _refuse_unclear(group, shared, status, negated, has_earlier=bool(earlier))
    changes = _values(shared, "change")
    if status == "present" and "gone" in changes:
        raise Unclear("ambiguous", "there, and not there any more")
    if status == "not_found" and any(mark.kind == "earlier" for mark in shared):
        _refuse_not_found_then(shared)
        status, changes = "present", (*changes, "gone")
    _refuse_likeness(group, shared)
    found = []
    for position, one in enumerate(group.named):
        own = [*one.before, *one.after]
        if any(mark.kind in ("not", "status", "change", "found") for mark in own):
            raise Unclear("ambiguous", "a finding of several has a status of its own")
        head = group.before if position == 0 else one.before
        marks = [*head, *one.after, *group.after]
        numbers, left = numbers_said(marks, has_change=bool(changes), head=len(head))
        _refuse_unsaid(shared, changes, numbers)
        told = tuple(number for number in numbers if not number.is_count)
        # Of a finding that is not named only the number is told.
        is_unnamed = not one.mark.text and bool(told)
        is_neutral = not status and not changes and (is_unnamed or _is_neutral(group, told))
        found.append(Statement(
            one.mark.stems, one.ordinal, one.mark.is_plural,
            "" if is_neutral else status or "present", changes,
            _values(marks, "term"), _values(marks, "site"), _values(marks, "side"),
            (
                *(int(mark.value) for mark in head if mark.kind == "count"),
                *(int(number.value) for number in numbers if number.is_count),
            ),
            told, left, next(iter(_values(marks, "relation")), ""),
        ))
    return found


def _refuse_unclear(
    group: Group, shared: Sequence[Mark], status: str, negated: bool, *, has_earlier: bool
) -> None:
    """Refuse what can be read in two ways."""
    joints = [joint for one in group.named for joint in one.joints]
    by_or = any(one in ("or", "nor") for one in joints)
    if negated and len(group.named) > 1 and (not by_or or "and" in joints):
        raise Unclear("ambiguous", "how far the negation reaches is not clear")
    if by_or and status not in ("absent", "not_found"):
        raise Unclear("ambiguous", "one or the other is no statement")
    if not has_earlier:
        return
    first = group.named[0].mark
    verbs = any(mark.kind == "filler" and mark.text in _PLURAL_VERBS for mark in group.after)
    if verbs and len(group.named) == 1 and not first.is_plural:
        raise Unclear("ambiguous", "of how many findings this is said is not clear")
    if not negated and not any(mark.kind in CLAIMS for mark in shared):
        raise Unclear("ambiguous", "what is said of the last finding is not clear")


def _refuse_both(shared: Sequence[Mark]) -> None:
    """``undetermined and considered present`` is not ``undetermined whether it is present``."""
    first = next(at for at, mark in enumerate(shared) if mark.kind in ("status", "found"))
    joined = next((at for at, mark in enumerate(shared) if at > first and mark.kind == "joint"), 0)
    if joined and any(mark.kind in ("status", "found") for mark in shared[joined:]):
        raise Unclear("ambiguous", "undetermined and present")


def _refuse_not_found_then(shared: Sequence[Mark]) -> None:
    """``not found 90 days ago`` is not ``not found any more``."""
    at = next(at for at, mark in enumerate(shared) if mark.value == "not_found")
    if any(mark.kind == "earlier" and mark.value in OF_THEN for mark in shared[at:]):
        raise Unclear("comparison", "not found then, and not now, are two things")


def _refuse_likeness(group: Group, shared: Sequence[Mark]) -> None:
    """``nodules of the same size`` are as large as each other, and may have changed."""
    several = len(group.named) > 1 or any(one.mark.is_plural for one in group.named)
    alike = any(
        mark.kind == "change" and mark.text.startswith(("same", "similar")) for mark in shared
    )
    if several and alike:
        raise Unclear("ambiguous", "as large as before, or as each other, is not said")


def _refuse_probability_of_status(marks: Sequence[Mark]) -> None:
    """Refuse a probability that could be one of absence: ``absent with a probability of 0.03``."""
    absent = any(
        mark.kind == "not"
        or (mark.kind == "status" and mark.value == "absent" and mark.text not in _UNLIKELY)
        for mark in marks
    )
    for at, mark in enumerate(marks):
        if mark.kind != "quantity" or mark.value != "probability" or mark.in_brackets:
            continue
        following = marks[at + 1] if at + 1 < len(marks) else mark
        if following.kind == "filler" and following.value == "that":
            raise Unclear("ambiguous", "of what the probability is, is not clear")
        if absent and "score" not in mark.text and _follows_with(marks, at):
            raise Unclear("ambiguous", "a probability of absence is in no evidence")


def _follows_with(marks: Sequence[Mark], at: int) -> bool:
    last = marks[max(0, at - 2) : at]
    return any(mark.kind == "filler" and mark.value == "with" for mark in last)


def _refuse_unsaid(
    marks: Sequence[Mark], changes: Sequence[str], numbers: Sequence[NumberSaid]
) -> None:
    """Refuse words on an earlier examination that do not say what became of the finding."""
    if any(mark.kind == "change_noun" for mark in marks):
        raise Unclear("comparison", "how it has changed is not said")
    of_then = any(one.role == "before" or one.unit in TIMES for one in numbers)
    if any(mark.kind == "earlier" for mark in marks) and not changes and not of_then:
        raise Unclear("comparison", "what was earlier is not said")


def _values(marks: Sequence[Mark], kind: str) -> tuple[str, ...]:
    return tuple(mark.value for mark in marks if mark.kind == kind)


def _is_neutral(group: Group, numbers: Sequence[NumberSaid]) -> bool:
    """Whether only a probability is told: ``probability of A: 0.03``, ``A: probability 0.03``."""
    if not numbers or any(one.quantity != "probability" for one in numbers):
        return False
    first = next((mark for mark in group.after if mark.kind != "filler"), None)
    return any(mark.value.startswith(("probability", "likelihood", "score"))
               and mark.kind == "quantity" for mark in group.before) or (
        first is not None and first.kind == "quantity" and not first.in_brackets
    )


def _without_negations(group: Group) -> tuple[list[Mark], bool]:
    """The marks with negations carried out, and whether the findings themselves are negated."""
    name = Mark("name")
    marks = [*group.before, name, *group.after]
    found: list[Mark] = []
    negated = False
    skip: set[int] = set()
    for at, mark in enumerate(marks):
        if at in skip or mark is name:
            continue
        if mark.kind != "not":
            found.append(mark)
            continue
        target = next(
            (to for to in range(at + 1, len(marks))
             if marks[to].kind not in ("filler", "site", "side", "joint", "earlier")),
            None,
        )
        goal = marks[target] if target is not None else None
        if goal is None or target is None:
            raise Unclear("negation", "a negation that belongs to nothing")
        if goal is name:
            if negated:
                raise Unclear("negation", "two negations")
            negated = True
        elif goal.kind in ("change_noun", "found", "status") or goal.value in ("grown", "shrunk"):
            skip.add(target)
            found.append(_negative(goal))
        else:
            what = goal.value or goal.kind
            raise Unclear("negation", f"a negation of {what!r} is not understood")
    return found, negated


def _negative(mark: Mark) -> Mark:
    if mark.kind in ("change_noun", "change"):
        # Of what has not grown the evidence must say that it is steady: shrunk is another thing.
        return Mark("change", "steady")
    if mark.kind == "found":
        return Mark("status", "not_found")
    if mark.value == "present":
        return Mark("status", "absent")
    raise Unclear("negation", f"two negations: not {mark.value}")


def _status(shared: Sequence[Mark], negated: bool) -> str:
    """The one status that the marks amount to; empty where there is none."""
    said = {mark.value for mark in shared if mark.kind == "status"}
    if any(mark.kind == "found" for mark in shared):
        said.add("found")
    if any(mark.kind == "not_analysed" for mark in shared):
        said.add("not_analysed")
    if negated:
        if said - {"present", "found"}:
            raise Unclear("negation", "two negations")
        return "not_found" if "found" in said else "absent"
    if any(mark.kind == "whether" for mark in shared):
        if "undetermined" not in said:
            raise Unclear("ambiguous", "a question is no statement")
        said -= {"present"}
    if "not_analysed" in said and said <= {"not_analysed", "undetermined"}:
        return "not_analysed"
    said = {"present" if one == "found" else one for one in said}
    if said == {"undetermined", "present"}:
        _refuse_both(shared)
        return "undetermined"
    if said == {"absent", "not_found"}:
        return "absent"
    if len(said) > 1:
        raise Unclear("ambiguous", "two statuses of one finding")
    return said.pop() if said else ""
