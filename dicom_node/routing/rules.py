"""Which rules a series matches, and on what the others fail: pure functions of rule and headers.

Meaning of a test on an element:

- An element that is absent, empty or unreadable fails every test but ``{exists: false}``; so
  ``not`` around a test holds for it.
- An element with several values passes when any one of them does.
- Text is compared whole and case-sensitive, without outer spaces and NULs; a regex is searched
  in the first `LONGEST_VALUE` characters. Numbers are compared as numbers, ages (VR AS) in years.
- A code matches in any item of its sequence; SNOMED RT codes equal their SNOMED CT successors
  (PS3.16 section 8.1.1).
- In an enhanced multi-frame image an element that is not at the top level is looked up in the
  shared functional groups, then in those of the first frame (PS3.3 section C.7.6.16).

What was found may identify a patient. It is for the operator's terminal and is never logged.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dicom_node.config_conditions import (
    NUMBER_VRS,
    AllOf,
    AnyOf,
    Element,
    Equal,
    Exists,
    HasCode,
    Matches,
    Node,
    Not,
    Within,
)

if TYPE_CHECKING:
    from pydicom import Dataset

    from dicom_node.config import Rule
    from dicom_node.config_conditions import Condition

LONGEST_VALUE = 128
_SHOWN = 80
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
UNREADABLE: tuple[type[Exception], ...] = (
    ValueError, TypeError, KeyError, OverflowError, NotImplementedError,
    # A sequence that ends before its items do.
    OSError, EOFError, struct.error,
)
"""What reading an element raises whose bytes are not what its VR says."""


@dataclass(frozen=True)
class Mismatch:
    """One reason why a rule does not match: the keyword, what it asks for, what is there."""

    keyword: str
    expected: str
    found: str


@dataclass(frozen=True)
class RuleMatch:
    """A rule beside a data set; ``mismatches`` is empty when it matches."""

    rule: Rule
    matches: bool
    mismatches: tuple[Mismatch, ...]


def explain(rule: Rule, dataset: Dataset) -> RuleMatch:
    """Compare the rule's condition with the headers of an image, and keep every difference."""
    mismatches = compare(rule.when, dataset)
    return RuleMatch(rule, not mismatches, mismatches)


def compare(condition: Condition, dataset: Dataset) -> tuple[Mismatch, ...]:
    """Every difference between a condition and the headers of an image; none where it holds."""
    return tuple(_mismatches(condition.root, dataset))


def match(rules: Sequence[Rule], dataset: Dataset, *, mode: Literal["first", "all"]) -> list[Rule]:
    """The rules that match, in their order; with ``first``, at most one."""
    matching = (rule for rule in rules if not any(_mismatches(rule.when.root, dataset)))
    if mode == "all":
        return list(matching)
    return [rule for rule, _ in zip(matching, range(1), strict=False)]


def as_text(answer: RuleMatch) -> str:
    """The answer in lines for a person."""
    head = f"{answer.rule.name}: {'matches' if answer.matches else 'does not match'}"
    targets = ", ".join(answer.rule.send_to)
    if answer.matches:
        return f"{head}, runs {answer.rule.model} ({answer.rule.priority}), sends to {targets}"
    lines = [
        f"    {mismatch.keyword}: expected {mismatch.expected}, found {mismatch.found}"
        for mismatch in answer.mismatches
    ]
    return "\n".join([head, *lines])


def _mismatches(node: Node, dataset: Dataset) -> Iterator[Mismatch]:
    if isinstance(node, AllOf):
        for part in node.parts:
            yield from _mismatches(part, dataset)
    elif isinstance(node, AnyOf):
        if not any(_holds(part, dataset) for part in node.parts):
            yield _mismatch(node, dataset)
    elif not _holds(node, dataset):
        yield _mismatch(node, dataset)


def _holds(node: Node, dataset: Dataset) -> bool:
    if isinstance(node, AllOf):
        return all(_holds(part, dataset) for part in node.parts)
    if isinstance(node, AnyOf):
        return any(_holds(part, dataset) for part in node.parts)
    if isinstance(node, Not):
        return not _holds(node.part, dataset)
    return _passes(node, _values(node, dataset))


def _passes(element: Element, values: list[Any]) -> bool:
    test = element.test
    if isinstance(test, Exists):
        return bool(values) is test.wanted
    if isinstance(test, Equal):
        return any(_plain(value, element.vr) in test.values for value in values)
    if isinstance(test, Within):
        return any(_is_within(_number(value, element.vr), test) for value in values)
    if isinstance(test, Matches):
        return any(test.pattern.search(text_of(value)[:LONGEST_VALUE]) for value in values)
    return any(_has_code(item, test) for item in values)


def _values(element: Element, dataset: Dataset) -> list[Any]:
    """The values of an element, none when it is absent, empty or unreadable."""
    from pydicom import Dataset as Item

    try:
        values = _listed(_element_value(element.keyword, dataset))
    except UNREADABLE:
        return []
    # An element whose VR in the file is not the standard's counts as unreadable.
    values = [value for value in values if isinstance(value, Item) is (element.vr == "SQ")]
    return [value for value in values if isinstance(value, Item | bytes) or text_of(value)]


def _element_value(keyword: str, dataset: Dataset) -> Any:
    if keyword in dataset:
        return dataset[keyword].value
    for groups_keyword in (
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
    ):
        for frame in list(dataset.get(groups_keyword) or ())[:1]:
            for group in frame:
                for item in list(group.value or ())[:1] if group.VR == "SQ" else ():
                    if keyword in item:
                        return item[keyword].value
    return None


def _listed(value: Any) -> list[Any]:
    from pydicom.multival import MultiValue
    from pydicom.sequence import Sequence as DicomSequence

    if value is None:
        return []
    if isinstance(value, list | tuple | MultiValue | DicomSequence):
        return [item for item in value if item is not None]
    if isinstance(value, bytes) and not value:
        return []
    return [value]


def text_of(value: object) -> str:
    """A value as text, without the spaces and NULs that fill it up."""
    return str(value).strip(" \0")


def _plain(value: object, vr: str) -> str | float | None:
    return _number(value, vr) if vr in NUMBER_VRS else text_of(value)


def _number(value: Any, vr: str) -> float | None:
    try:
        if vr == "AS":
            return float(value[:3]) * _YEARS[value[3:].strip()]
        return float(value)
    except UNREADABLE:
        return None


def _is_within(number: float | None, test: Within) -> bool:
    if number is None or number != number:  # noqa: PLR0124 - the only thing unlike itself is NaN
        return False
    return (test.low is None or number >= test.low) and (test.high is None or number <= test.high)


def _has_code(item: Dataset, test: HasCode) -> bool:
    from pydicom.sr.coding import Code

    scheme, value = _code(item)
    return bool(Code(value, scheme, "") == Code(test.value, test.scheme, ""))


def _code(item: Dataset) -> tuple[str, str]:
    """Coding scheme and value of a code item (PS3.3 table 8.8-1); ``"?"`` where there is none."""
    try:
        scheme = text_of(item.get("CodingSchemeDesignator") or "?")
        spellings = (item.get(k) for k in ("CodeValue", "LongCodeValue", "URNCodeValue"))
        return scheme, next((text_of(value) for value in spellings if value), "?")
    except UNREADABLE:
        return "?", "?"


def _mismatch(node: Node, dataset: Dataset) -> Mismatch:
    elements = {element.keyword: element for element in _elements(node)}
    found = {keyword: _found(element, dataset) for keyword, element in elements.items()}
    if len(found) == 1:
        ((keyword, text),) = found.items()
        return Mismatch(keyword, _asked(node), text)
    listed = "; ".join(f"{keyword} {text}" for keyword, text in found.items())
    return Mismatch(", ".join(found), _asked(node, named=True), listed)


def _elements(node: Node) -> Iterator[Element]:
    if isinstance(node, AllOf | AnyOf):
        for part in node.parts:
            yield from _elements(part)
    elif isinstance(node, Not):
        yield from _elements(node.part)
    else:
        yield node


def _asked(node: Node, *, named: bool = False) -> str:
    if isinstance(node, AllOf | AnyOf):
        word = " and " if isinstance(node, AllOf) else " or "
        parts = [_asked(part, named=named) for part in node.parts]
        return parts[0] if len(parts) == 1 else f"({word.join(parts)})"
    if isinstance(node, Not):
        return f"not {_asked(node.part, named=named)}"
    words = _words(node.test)
    return f"{node.keyword} {words}" if named else words


def _words(test: Equal | Within | Matches | Exists | HasCode) -> str:
    if isinstance(test, Equal):
        values = ", ".join(str(value) for value in test.values)
        return values if len(test.values) == 1 else f"one of {values}"
    if isinstance(test, Within):
        bounds = [f"at least {test.low:g}"] if test.low is not None else []
        return " and ".join(bounds + ([f"at most {test.high:g}"] if test.high is not None else []))
    if isinstance(test, Matches):
        return f"text that matches {test.pattern.pattern!r}"
    if isinstance(test, Exists):
        return "a value" if test.wanted else "no value"
    return f"code ({test.scheme}, {test.value})"


def _found(element: Element, dataset: Dataset) -> str:
    values = _values(element, dataset)
    if not values:
        return "nothing"
    if element.vr == "SQ":
        text = ", ".join("({}, {})".format(*_code(item)) for item in values)
    else:
        text = ", ".join(text_of(value) for value in values)
    # Terminals obey control characters, and the values come from outside.
    safe = "".join(character if character.isprintable() else "?" for character in text)
    return safe if len(safe) <= _SHOWN else safe[: _SHOWN - 3] + "..."
