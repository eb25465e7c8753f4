"""Clauses of a sentence: which findings each names, and which of its words belong to them.

What stands right before a name belongs to it, all else to the name or names before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ai_models.drafting.reading import ADJECTIVE, OR_TERM, Mark, Stems

_ARTICLES = frozenset({"the", "a", "an"})
_INSIDE = frozenset({"in", "within", "of", "on", "at"})
_COPULAS = frozenset({"is", "was", "as", ":", "are"})
_BEFORE_A_NAME = frozenset({
    "number", "count", "side", "term", "site", "change", "status", "not", "quantity", "word",
})  # fmt: skip
_EXPLAINS = frozenset({
    "suggestive of", "indicative of", "consistent with", "compatible with", "in keeping with",
})  # fmt: skip
CLAIMS = frozenset({
    "number", "count", "side", "term", "site", "change", "status", "not", "quantity", "found",
    "not_analysed", "relation", "change_noun",
})  # fmt: skip


class Unclear(Exception):
    """A sentence cannot be read in one way; ``kind`` is the reason under which it is struck."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass
class Named:
    """A finding that is named in a clause, and what stands between the last name and it."""

    mark: Mark
    ordinal: int | None
    before: list[Mark] = field(default_factory=list)
    after: list[Mark] = field(default_factory=list)
    joints: list[str] = field(default_factory=list)


@dataclass
class Group:
    """Findings that a clause says the same of: ``A, B and C``."""

    named: list[Named]
    before: list[Mark] = field(default_factory=list)
    after: list[Mark] = field(default_factory=list)


def clauses_of(marks: Sequence[Mark]) -> Iterator[list[Mark]]:
    """The parts between full stops, semicolons and words as ``but`` and ``while``."""
    clause: list[Mark] = []
    for mark in marks:
        if mark.kind == "break":
            yield clause
            clause = []
        else:
            clause.append(mark)
    yield clause


def read_clause(clause: Sequence[Mark], groups: list[Group], only: Stems | None) -> None:
    """Add the groups of a clause to ``groups``, or what it says to the last of them."""
    own: list[Group] = []
    pending: list[Mark] = []
    for item in _names(_places(clause)):
        if isinstance(item, Mark):
            pending.append(item)
            continue
        before, joints, start = _before(pending)
        if own and joints and start == 0 and not any(one.kind == "not" for one in before):
            item.before, item.joints = before, joints
            own[-1].named[-1].after += [one for one in pending if one.in_brackets]
            own[-1].named.append(item)
        else:
            _refuse_beside(pending, has_earlier=bool(own))
            rest = pending[:start]
            _refuse_number_of_place(rest)
            if own:
                _close(own[-1], rest)
            own.append(Group([item], before if own else [*rest, *before]))
        pending = []
    _refuse_number_of_place(pending)
    if own:
        _close(own[-1], pending)
        groups += own
    elif any(mark.kind in CLAIMS for mark in pending):
        if groups:
            _refuse_status_again(groups[-1], pending)
            groups[-1].after += [Mark("break"), *pending]
        elif only is not None:
            _refuse_status_of_nothing(pending)
            groups.append(Group([Named(Mark("mention", stems=only), None)], [], list(pending)))
        else:
            raise Unclear("no_finding", "what is said is said of no finding")


_OF_STATUS = frozenset({"status", "found", "not", "not_analysed"})


def _refuse_status_again(group: Group, pending: Sequence[Mark]) -> None:
    """``No A is seen, yet it is likely``: a negation reaches no further than its clause."""
    said = [*group.before, *group.after, *(m for one in group.named for m in one.before)]
    if any(one.kind in _OF_STATUS for one in pending) and any(
        one.kind in _OF_STATUS for one in said
    ):
        raise Unclear("ambiguous", "of one finding two things are said, one after the other")


def _refuse_status_of_nothing(pending: Sequence[Mark]) -> None:
    """``The examination is negative`` is said of more than of the one finding that it cites."""
    if any(one.kind in _OF_STATUS for one in pending):
        raise Unclear("no_finding", "of what that is said is not clear")


def _close(group: Group, rest: Sequence[Mark]) -> None:
    """Give a group what follows it; brackets right behind the last of several are of that one."""
    own = 0
    while len(group.named) > 1 and own < len(rest) and rest[own].in_brackets:
        own += 1
    group.named[-1].after += rest[:own]
    group.after += rest[own:]


def _places(clause: Sequence[Mark]) -> list[Mark]:
    """The clause with those names made places that only say where another finding is."""
    found = list(clause)
    named = [at for at, mark in enumerate(found) if mark.kind == "mention"]
    for at in named:
        if at > named[0] and found[at].unit == OR_TERM and _is_predicate(found, at):
            found[at] = Mark("term", " ".join(found[at].stems), in_brackets=found[at].in_brackets)
            continue
        back = at - 1
        while back >= 0 and (
            found[back].kind in ("side", "site")
            or (found[back].kind == "filler" and found[back].value in _ARTICLES)
        ):
            back -= 1
        inside = back >= 0 and found[back].kind == "filler" and found[back].value in _INSIDE
        of_a_number = back > 0 and found[back - 1].kind in ("quantity", "change")
        if not inside or (found[back].value == "of" and of_a_number):
            continue
        others = [
            one for one in named
            if found[one].kind == "mention" and found[one].stems != found[at].stems
        ]
        if others:
            found[at] = Mark("site", " ".join(found[at].stems),
                             in_brackets=found[at].in_brackets)
    return found


def _is_predicate(clause: Sequence[Mark], at: int) -> bool:
    """Whether a name stands where a term does: ``is a meningioma``, ``: meningioma``."""
    back = at - 1
    while back >= 0 and clause[back].kind == "filler" and clause[back].value in _ARTICLES:
        back -= 1
    return back >= 0 and clause[back].kind == "filler" and clause[back].value in _COPULAS


def _names(clause: Sequence[Mark]) -> list[Mark | Named]:
    """The clause with its mentions and their numbers (``Nodule 3``) taken together."""
    found: list[Mark | Named] = []
    last: Named | None = None
    at = 0
    while at < len(clause):
        mark = clause[at]
        if mark.kind == "mention":
            if mark.in_brackets and last is not None:
                if mark.stems != last.mark.stems:
                    raise Unclear("ambiguous", "another finding is named in brackets")
                at += 1
                continue
            number = at + 1
            while number < len(clause) and clause[number].value in ("number", "#", "no"):
                number += 1
            ordinal = _ordinal(clause, number)
            last = Named(mark, ordinal)
            found.append(last)
            at = at + 1 if ordinal is None else number + 1
            # "Nodules 1 and 2"
            while mark.is_plural and ordinal is not None:
                joints = at
                while joints < len(clause) and clause[joints].kind == "joint":
                    joints += 1
                further = _ordinal(clause, joints) if joints > at else None
                if further is None:
                    break
                found += [*clause[at:joints], Named(mark, further)]
                at = joints + 1
            continue
        found.append(mark)
        at += 1
    return found


def _ordinal(clause: Sequence[Mark], at: int) -> int | None:
    if at >= len(clause) or clause[at].kind != "number":
        return None
    mark = clause[at]
    if mark.unit or mark.decimals or mark.number is None or mark.in_brackets or mark.number < 1:
        return None
    return int(mark.number)


def _before(pending: Sequence[Mark]) -> tuple[list[Mark], list[str], int]:
    """What belongs to the name that follows, the joints before it, and where both begin."""
    at = len(pending)
    while at > 0:
        mark = pending[at - 1]
        filler = mark.kind == "filler" and (
            mark.value in _ARTICLES
            or mark.value.endswith((" of", " for"))
            or (mark.value == "of" and at > 1 and pending[at - 2].kind in ("quantity", "change"))
        )
        if mark.in_brackets or not (mark.kind in _BEFORE_A_NAME or filler):
            break
        at -= 1
    before = list(pending[at:])
    joints = []
    while at > 0 and (pending[at - 1].kind == "joint" or pending[at - 1].in_brackets):
        if pending[at - 1].kind == "joint" and not pending[at - 1].in_brackets:
            joints.append(pending[at - 1].value)
        at -= 1
    return before, joints, at


def _refuse_number_of_place(marks: Sequence[Mark]) -> None:
    """Refuse a number that is said of a place: ``the right lung measures 12 mm``."""
    of_place = False
    for at, mark in enumerate(marks):
        if mark.kind == "site" and mark.unit != ADJECTIVE and not mark.in_brackets:
            back = at - 1
            while back >= 0 and (
                marks[back].kind in ("side", "site")
                or (marks[back].kind == "filler" and marks[back].value in _ARTICLES)
            ):
                back -= 1
            of_place = back < 0 or not (
                marks[back].kind == "filler" and marks[back].value in _INSIDE
            )
        elif mark.kind == "number" and of_place and not mark.in_brackets:
            raise Unclear("anatomy", "a number is said of a place")


def _refuse_beside(pending: Sequence[Mark], has_earlier: bool) -> None:
    """Refuse a finding that another one is held against, or that another is said to be in."""
    rest = [
        one for one in pending
        if one.kind not in ("side", "site")
        and not (one.kind == "filler" and one.value in _ARTICLES)
    ]
    if not rest:
        return
    last = rest[-1]
    was_there = last.value.startswith(("previously", "known"))
    if last.kind in ("earlier", "relation") and not was_there:
        raise Unclear("comparison", "a finding is compared with another one")
    if has_earlier and last.text in _EXPLAINS:
        raise Unclear("ambiguous", "a finding is said to be explained by another one")
    if has_earlier and last.kind == "filler" and last.value in _INSIDE - {"of"}:
        raise Unclear("ambiguous", "a finding is said to be in another one")
