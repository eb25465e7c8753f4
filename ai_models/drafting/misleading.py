"""Wordings that are known word by word, and together say more than any evidence has.

``interval effusion`` is a new one, ``marked growth`` a degree, ``one lung`` a place, the left of an
image the right of a patient.
"""

from __future__ import annotations

from collections.abc import Sequence

from ai_models.drafting.clauses import Unclear
from ai_models.drafting.numbers_said import OF_THEN, TIMES
from ai_models.drafting.reading import ADJECTIVE, OR_TERM, Mark

_ARTICLES = frozenset({"the", "a", "an", "this", "that", "side"})
_PICTURES = frozenset({"image", "scan", "radiograph", "x ray", "series", "ct", "mri", "mr"})
_ABOUT = frozenset({
    "up to", "approximately", "about", "around", "roughly", "circa", "ca", "approx",
})  # fmt: skip
_BECOMES = frozenset({"become", "became", "went"})
_REMAINS = frozenset({"remain", "remained", "remaining"})
_VERBS = frozenset({"is", "are", "was", "were", "has", "have", "had", "may", "could", "might"})
_SINCE = frozenset({"now", "currently", "over time"})
_IN_A_NAME = ("site", "side", "term", "filler")
# What may follow such a word, articles and the like passed over.
_FOLLOWS = {
    "interval": ("change", "change_noun", "number"),
    "past": ("number",),
    "equal": ("number",),
    "last": ("number",),
    "total": ("quantity", "number", "count"),
    "combined": ("quantity", "number"),
    "overall": ("quantity", "number"),
}


def refuse_misleading(marks: Sequence[Mark]) -> None:
    """Refuse a sentence with such a wording.

    Raises
    ------
    Unclear
        ``side``, ``count``, ``comparison``, ``overclaim``, ``ambiguous``.
    """
    if any(one.value in _SINCE for one in marks) and not any(
        one.kind in ("number", "change") for one in marks
    ):
        raise Unclear("comparison", "what was otherwise before is not said")
    _refuse_then_alone(marks)
    for at, mark in enumerate(marks):
        if mark.kind == "side":
            _refuse_side_of_picture(marks, at)
        elif mark.kind == "count" or (mark.kind == "number" and not mark.unit):
            _refuse_estimated_count(marks, at)
            if mark.kind == "count":
                _refuse_counted_place(marks, at)
                _refuse_pronoun(marks, at)
        elif mark.kind == "filler":
            _refuse_becoming(marks, at)
            _refuse_alone(marks, at)
            _refuse_taken_for_another(marks, at)
        if mark.kind == "number" and mark.unit in TIMES:
            _refuse_change_of_then(marks, at)
        if mark.kind == "change" and mark.text in ("larger", "bigger", "smaller"):
            _refuse_comparative_name(marks, at)


def _refuse_then_alone(marks: Sequence[Mark]) -> None:
    """``was larger before``, ``grew previously``, ``seen 365 days ago``.

    A word of then belongs to a number of then, or to what the finding is compared with. Beside a
    change it turns the change around, or says when it was; beside a day it says what was there.
    """
    has_change = any(one.kind in ("change", "change_noun") for one in marks)
    for at, mark in enumerate(marks):
        if mark.kind != "earlier" or not (
            mark.value in OF_THEN or (mark.value == "since" and not has_change)
        ):
            continue
        last = next((one for one in reversed(marks[:at]) if one.kind != "filler"), None)
        following = _next(marks, at, ("filler", "mention"))
        of_number = [one for one in (last, following) if one is not None and one.kind == "number"]
        if has_change and not of_number and (last is None or last.kind != "earlier"):
            raise Unclear("comparison", "when it changed is in no evidence")
        if not has_change and of_number and of_number[0].unit in TIMES and not any(
            one.kind == "number" and one.unit and one.unit not in TIMES for one in marks
        ):
            raise Unclear("comparison", "what was there then is not said")


def _refuse_pronoun(marks: Sequence[Mark], at: int) -> None:
    """``but one is likely``: of what there is one is not said."""
    following = _next(marks, at, ())
    verb = following is not None and following.text in _VERBS
    if marks[at].text == "one" and (following is None or verb or following.value == "of"):
        raise Unclear("ambiguous", "of what there is one is not said")


def _next(marks: Sequence[Mark], at: int, passed: Sequence[str] = ("filler",)) -> Mark | None:
    return next((one for one in marks[at + 1 :] if one.kind not in passed), None)


def _refuse_side_of_picture(marks: Sequence[Mark], at: int) -> None:
    """The left of a picture is mostly the right of the patient, and no evidence says which."""
    behind = [one for one in marks[at + 1 : at + 5] if one.value not in _ARTICLES]
    of_picture = (
        len(behind) > 1 and behind[0].value in ("of", "in", "on") and behind[1].value in _PICTURES
    )
    before = marks[at - 1].value if at else ""
    if of_picture or before in ("image", "radiograph", "x ray"):
        raise Unclear("side", "a side of a picture is in no evidence")


def _refuse_estimated_count(marks: Sequence[Mark], at: int) -> None:
    following = _next(marks, at, _IN_A_NAME)
    is_count = marks[at].kind == "count" or (following is not None and following.kind == "mention")
    if at and marks[at - 1].value in _ABOUT and is_count:
        raise Unclear("count", "a count is no estimate")


def _refuse_counted_place(marks: Sequence[Mark], at: int) -> None:
    """``in one lung``: how many places there are is not counted."""
    further = at + 1
    while further < len(marks) and (
        marks[further].kind == "side" or marks[further].value in ("of", "the")
    ):
        further += 1
    if further < len(marks) and marks[further].kind == "site" and marks[further].unit != ADJECTIVE:
        following = _next(marks, further, ("site", "term"))
        if following is None or following.kind != "mention":
            raise Unclear("count", "a count of places is in no evidence")


def _refuse_becoming(marks: Sequence[Mark], at: int) -> None:
    """What became or remains something was otherwise, or was so, before."""
    word, following = marks[at].value, _next(marks, at)
    kind = "" if following is None else following.kind
    value = "" if following is None else following.value
    if word in _BECOMES and not (kind == "change" or value == "from"):
        raise Unclear("comparison", "what it became is no change in the evidence")
    if word in _REMAINS and not (kind == "change" or value == "undetermined" or kind == "not"):
        raise Unclear("comparison", "that it remains so is in no evidence")


def _refuse_alone(marks: Sequence[Mark], at: int) -> None:
    """A word that is harmless before some words and adds a fact before any other."""
    wanted = _FOLLOWS.get(marks[at].value)
    if wanted is None or (marks[at].value == "total" and at and marks[at - 1].value == "in"):
        return
    following = _next(marks, at, ("filler", "site"))
    if following is None or following.kind not in wanted:
        raise Unclear("overclaim", f"no evidence says {marks[at].text!r}")


def _refuse_change_of_then(marks: Sequence[Mark], at: int) -> None:
    """``grown 182 days ago``: evidence says what became of it since, and not when."""
    following = _next(marks, at)
    last = next((one for one in reversed(marks[:at]) if one.kind != "filler"), None)
    of_change = last is not None and (last.kind == "change" or last.unit == "%")
    if of_change and following is not None and following.value in OF_THEN:
        raise Unclear("comparison", "when it changed is in no evidence")


def _refuse_taken_for_another(marks: Sequence[Mark], at: int) -> None:
    """``A, described as B`` and ``two types of A``."""
    following = _next(marks, at)
    is_name = following is not None and following.kind == "mention"
    is_name = is_name and following is not None and following.unit != OR_TERM
    if marks[at].value == "as" and is_name and any(one.kind == "mention" for one in marks[:at]):
        raise Unclear("ambiguous", "a finding is said to be another one")
    has_changed = any(one.kind == "change" for one in marks)
    if marks[at].value == "number" and has_changed and (
        following is None or following.kind != "number"
    ):
        raise Unclear("count", "how many there were is in no evidence")
    if marks[at].value in ("category", "type") and at and marks[at - 1].kind == "mention":
        raise Unclear("count", "kinds of a finding are in no evidence")


def _refuse_comparative_name(marks: Sequence[Mark], at: int) -> None:
    """``the larger nodule`` is larger than another one, and need not have grown."""
    following = _next(marks, at, ("filler", "site", "side", "term"))
    if following is not None and following.kind == "mention":
        raise Unclear("ambiguous", "larger than before, or than another, is not said")
