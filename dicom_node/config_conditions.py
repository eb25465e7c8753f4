"""The language of ``rules[].when``: checked when it is loaded, data and nothing to evaluate.

A condition is a mapping; every entry must hold. Its keys are DICOM keywords, or::

    not: CONDITION       any: [CONDITION, ...]       all: [CONDITION, ...]

The value beside a keyword is a test::

    CT                        equal              {exists: true}            has a value, or not
    [CHEST, THORAX]           one of             {code: [SCT, "39607008"]} a code of a sequence
    {min: 0.5, max: 5}        inclusive range    {not: TEST}
    {regex: "(?i)lung"}       found anywhere     {any: [TEST, ...]}, {all: [TEST, ...]}

`dicom_node.routing.rules` says what each means for a data set.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

from dicom_node.config_yaml import KeyPath

NUMBER_VRS = frozenset({"DS", "IS", "FD", "FL", "US", "SS", "UL", "SL", "UV", "SV", "US or SS"})
TEXT_VRS = frozenset(
    {"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
)
LONGEST_PATTERN = 256
MOST_OPEN_REPEATS = 4
MOST_OPTIONS = 8
MOST_TESTS = 200


@dataclass(frozen=True)
class Equal:
    """One of the values equals one of these; numbers where the element's VR is a number."""

    values: tuple[str | int | float, ...]


@dataclass(frozen=True)
class Within:
    """A number in the inclusive range, in the element's own unit (ages, VR AS, in years)."""

    low: float | None
    high: float | None


@dataclass(frozen=True)
class Matches:
    """The pattern is found anywhere in a value."""

    pattern: re.Pattern[str]


@dataclass(frozen=True)
class Exists:
    """The element has a value (``wanted``), or has none."""

    wanted: bool


@dataclass(frozen=True)
class HasCode:
    """An item of the code sequence carries this code (PS3.3 section 8.8)."""

    scheme: str
    value: str


@dataclass(frozen=True)
class Element:
    """A test on the element with this DICOM keyword and VR."""

    keyword: str
    vr: str
    test: Equal | Within | Matches | Exists | HasCode


@dataclass(frozen=True)
class Not:
    """The opposite."""

    part: Node


@dataclass(frozen=True)
class AnyOf:
    """At least one holds."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class AllOf:
    """Every one holds."""

    parts: tuple[Node, ...]


Node = Element | Not | AnyOf | AllOf


@dataclass(frozen=True)
class Condition:
    """A checked ``when``: the tree to match with, and the plain values it was written as."""

    root: AllOf
    written: Mapping[str, Any] = field(compare=False)


class ConditionError(Exception):
    """A mistake in a condition at ``path`` below it."""

    def __init__(self, path: KeyPath, message: str) -> None:
        super().__init__(message)
        self.path = path


def parse_condition(written: object) -> Condition:
    """Check a ``when`` mapping as YAML gave it.

    Raises
    ------
    ConditionError
        What was found and what was expected, at the key path below ``when``.
    """
    root = _condition(written, ())
    if _count(root) > MOST_TESTS:
        raise ConditionError((), f"has more than {MOST_TESTS} tests, expected fewer")
    return Condition(root, cast(Mapping[str, Any], written))


def _count(node: Node) -> int:
    if isinstance(node, AnyOf | AllOf):
        return sum(_count(part) for part in node.parts)
    return _count(node.part) if isinstance(node, Not) else 1


def _condition(written: object, path: KeyPath) -> AllOf:
    if not isinstance(written, Mapping) or not written:
        raise ConditionError(
            path, f"found {_shown(written)}, expected at least one line `DicomKeyword: test`"
        )
    return AllOf(tuple(_entry(key, value, (*path, key)) for key, value in written.items()))


def _entry(key: str, value: object, path: KeyPath) -> Node:
    if key == "not":
        return Not(_condition(value, path))
    if key in ("any", "all"):
        parts = tuple(_condition(item, (*path, i)) for i, item in enumerate(_items(value, path)))
        return AnyOf(parts) if key == "any" else AllOf(parts)
    return _test(key, _vr(key, path), value, path)


def _items(value: object, path: KeyPath) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ConditionError(path, f"found {_shown(value)}, expected a list with at least one item")
    return value


def _test(keyword: str, vr: str, value: object, path: KeyPath) -> Node:
    if isinstance(value, Mapping):
        return _operator(keyword, vr, value, path)
    if isinstance(value, list):
        items = _items(value, path)
        values = tuple(_plain(vr, item, (*path, i)) for i, item in enumerate(items))
        return Element(keyword, vr, Equal(values))
    return Element(keyword, vr, Equal((_plain(vr, value, path),)))


def _operator(keyword: str, vr: str, test: Mapping[str, Any], path: KeyPath) -> Node:
    names = set(test)
    if names and names <= {"min", "max"}:
        return Element(keyword, vr, _within(vr, test, path))
    if len(names) != 1:
        raise ConditionError(
            path, f"found {_shown(dict(test))}, expected one operator ({_OPERATOR_NAMES})"
        )
    (name,) = names
    value, here = test[name], (*path, name)
    if name == "not":
        return Not(_test(keyword, vr, value, here))
    if name in ("any", "all"):
        parts = tuple(
            _test(keyword, vr, item, (*here, i)) for i, item in enumerate(_items(value, here))
        )
        return AnyOf(parts) if name == "any" else AllOf(parts)
    if name not in _TESTS:
        raise ConditionError(
            here,
            f"unknown operator, expected one of {_OPERATOR_NAMES}{suggestion(name, _OPERATORS)}",
        )
    return Element(keyword, vr, _TESTS[name](vr, value, here))


def _within(vr: str, test: Mapping[str, Any], path: KeyPath) -> Within:
    if vr not in NUMBER_VRS and vr != "AS":
        raise ConditionError(
            path, f"found a range for an element of VR {vr}, expected a number's (DS, IS, US, ...)"
        )
    for name, bound in test.items():
        if isinstance(bound, bool) or not isinstance(bound, int | float):
            raise ConditionError((*path, name), f"found {_shown(bound)}, expected a number")
    low, high = test.get("min"), test.get("max")
    if low is not None and high is not None and low > high:
        raise ConditionError(path, f"found min {low} above max {high}, expected min <= max")
    return Within(low, high)


def _matches(vr: str, value: object, path: KeyPath) -> Matches:
    if vr not in TEXT_VRS:
        raise ConditionError(path, f"found a regex for an element of VR {vr}, expected a text's")
    if not isinstance(value, str) or not value:
        raise ConditionError(
            path, f"found {_shown(value)}, expected a regular expression in quotes"
        )
    if len(value) > LONGEST_PATTERN:
        raise ConditionError(path, f"is longer than {LONGEST_PATTERN} characters")
    try:
        pattern = re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConditionError(
            path, f"found {_shown(value)}, expected a regular expression: {error}"
        ) from error
    _refuse_slow(value, path)
    return Matches(pattern)


def _refuse_slow(pattern: str, path: KeyPath) -> None:
    """Refuse what can take exponential time: a repeat or a choice inside an open repeat, or many
    options and choices side by side, each of which doubles what is tried.

    The values come from outside, and one hung match would stop the node's routing.
    """
    bare = re.sub(r"\\.", "x", pattern, flags=re.DOTALL)
    bare = re.sub(r"\[\^?\]?[^\]]*\]", "x", bare)
    repeat = r"(?:[*+]|\{\d*,\d*\})"
    if len(re.findall(repeat, bare)) > MOST_OPEN_REPEATS:
        raise ConditionError(
            path, f"found more than {MOST_OPEN_REPEATS} open repeats (* + {{m,n}}), expected fewer"
        )
    options = len(re.findall(r"(?<![(*+?}])\?", bare)) + len(re.findall(r"\([^()]*\|", bare))
    if options > MOST_OPTIONS:
        raise ConditionError(
            path, f"found more than {MOST_OPTIONS} options (a? or (a|b)), expected fewer"
        )
    stack: list[int] = []
    for index, character in enumerate(bare):
        if character == "(":
            stack.append(index)
        elif character == ")" and stack:
            body = bare[stack.pop() + 1 : index]
            repeated = re.match(repeat + r"|\{\d+\}", bare[index + 1 :])
            if repeated and re.search(repeat + r"|\|", body):
                raise ConditionError(
                    path,
                    f"found {_shown(pattern)}: a repeat or choice inside a repeated group can run "
                    "for ever, expected no repeat inside a repeat",
                )


def _exists(vr: str, value: object, path: KeyPath) -> Exists:
    del vr
    if not isinstance(value, bool):
        raise ConditionError(path, f"found {_shown(value)}, expected true or false")
    return Exists(value)


def _code(vr: str, value: object, path: KeyPath) -> HasCode:
    if vr != "SQ":
        raise ConditionError(
            path, f"found a code for an element of VR {vr}, expected a code sequence"
        )
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(isinstance(part, str) and part.strip() for part in value)
    ):
        raise ConditionError(
            path, f"found {_shown(value)}, expected [scheme, value] in quotes: [SCT, '39607008']"
        )
    return HasCode(value[0].strip(), value[1].strip())


_TESTS: Mapping[str, Callable[[str, object, KeyPath], Matches | Exists | HasCode]] = {
    "regex": _matches,
    "exists": _exists,
    "code": _code,
}
_OPERATORS = ("min", "max", "regex", "exists", "code", "not", "any", "all")
_OPERATOR_NAMES = "min/max, regex, exists, code, not, any, all"


def _plain(vr: str, value: object, path: KeyPath) -> str | int | float:
    if vr == "SQ":
        raise ConditionError(
            path, f"found {_shown(value)} for a sequence, expected {{code: [scheme, value]}}"
        )
    if vr in NUMBER_VRS:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        raise ConditionError(path, f"found {_shown(value)}, expected a number (VR {vr})")
    if vr not in TEXT_VRS:
        raise ConditionError(path, f"is an element of VR {vr}, expected only {{exists: ...}} on it")
    if isinstance(value, str) and value.strip():
        return value.strip()
    if value is None or value == "":
        raise ConditionError(path, "found nothing, expected a value, or {exists: false}")
    raise ConditionError(path, f"found {_shown(value)}, expected text (put it in quotes)")


def _vr(keyword: str, path: KeyPath) -> str:
    known = dicom_keywords()
    if keyword not in known:
        raise ConditionError(
            path,
            "unknown DICOM keyword, expected one of PS3.6, or not, any, all"
            f"{suggestion(keyword, known)}",
        )
    tag, vr = known[keyword]
    if tag >> 16 == 2:
        raise ConditionError(
            path, "is of the file meta group (0002), expected an element of the data set"
        )
    return vr


@cache
def dicom_keywords() -> Mapping[str, tuple[int, str]]:
    """Every keyword of PS3.6 with its tag and VR, from pydicom's dictionary.

    The dictionary's file is loaded on its own: importing pydicom costs most of the half second
    in which ``dicom-node status`` must answer.
    """
    package = importlib.util.find_spec("pydicom")
    folder = Path((package and package.origin) or "").parent
    spec = importlib.util.spec_from_file_location("_dicom_dict", folder / "_dicom_dict.py")
    if spec is None or spec.loader is None:
        raise ImportError("pydicom's dictionary is not where pydicom 3 keeps it")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    entries = module.DicomDictionary
    return {entry[4]: (tag, entry[0]) for tag, entry in entries.items() if entry[4]}


def suggestion(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'port'?)`` for the nearest known name, or nothing."""
    lowered = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return f" (did you mean {lowered[near[0]]!r}?)" if near else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
