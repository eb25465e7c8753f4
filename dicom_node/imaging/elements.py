"""Single values out of a data set: quick on elements still in raw form, tolerant of bad ones.

A value that cannot be read is the same as one that is absent; the geometry checks decide what
its absence means.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

_TEXT_VRS = frozenset(("DS", "IS", "CS", "UI", "LO", "SH", "DA", "TM", "DT", "AS", "PN"))


@functools.cache
def _tag(keyword: str) -> BaseTag:
    return BaseTag(tag_for_keyword(keyword) or 0)


@functools.cache
def _is_text(keyword: str) -> bool:
    """Whether the data dictionary gives the element a text VR."""
    return dictionary_VR(_tag(keyword)) in _TEXT_VRS


def _stored(dataset: Dataset, keyword: str) -> Any:
    """The element as it is held: raw, converted, or ``None``."""
    return dataset.get_item(_tag(keyword))


def text(dataset: Dataset, keyword: str) -> str:
    """The element as text, values joined by a backslash; empty when absent."""
    raw = _stored(dataset, keyword)
    if raw is None:
        return ""
    if isinstance(raw, RawDataElement) and isinstance(raw.value, bytes):
        return raw.value.decode("latin-1").strip(" \0")
    value: Any = raw.value
    if value is None:
        return ""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return str(value).strip()
    return "\\".join(str(item).strip() for item in value)


def numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """Decimal or integer strings or binary floats as finite floats; empty when unreadable."""
    raw = _stored(dataset, keyword)
    if raw is None:
        return ()
    try:
        as_text = isinstance(raw, RawDataElement) and (
            raw.VR in _TEXT_VRS if raw.VR else _is_text(keyword)
        )
        if as_text:
            values = [float(part) for part in text(dataset, keyword).split("\\")]
        else:
            value: Any = dataset[_tag(keyword)].value
            many = not isinstance(value, str) and isinstance(value, Iterable)
            values = [float(part) for part in (value if many else (value,))]
    # pydicom raises several kinds on an unreadable value; all mean "not there".
    except (ValueError, TypeError, OverflowError, KeyError, AttributeError, NotImplementedError):
        return ()
    return tuple(values) if all(math.isfinite(value) for value in values) else ()


def number(dataset: Dataset, keyword: str) -> float | None:
    """The single number of an element, or ``None``."""
    values = numbers(dataset, keyword)
    return values[0] if len(values) == 1 else None


def unsigned(dataset: Dataset, keyword: str, default: int = 0) -> int:
    """A US (or UL) element as an integer; ``default`` when absent or unreadable."""
    raw = _stored(dataset, keyword)
    if isinstance(raw, RawDataElement) and isinstance(raw.value, bytes):
        if len(raw.value) not in (2, 4):
            return default
        return int.from_bytes(raw.value, "little" if raw.is_little_endian else "big")
    value = number(dataset, keyword)
    return default if value is None or value < 0 else int(value)


def sequence(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; empty when absent or unreadable."""
    if _tag(keyword) not in dataset:
        return []
    try:
        value = dataset[_tag(keyword)].value
        return list(value) if value is not None else []
    except (ValueError, TypeError, OSError, KeyError, EOFError, NotImplementedError):
        return []
