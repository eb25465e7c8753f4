"""Long sequences of a result as its bytes say them, at a fraction of the time that pydicom takes.

The gate reads some thousand elements of few kinds back: references, codes, positions, numbers.
They are decoded here from explicit VR little endian with items of defined length (PS3.5 7.1.2 and
7.5.2), which is what results are written in; whatever is written otherwise is left to pydicom.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat

_ITEM = 0xFFFEE000
_UNICODE = "ISO_IR 192"
_HEAD, _LENGTH = struct.Struct("<HH2sH"), struct.Struct("<I")
_ITEM_HEAD = struct.Struct("<HHI")
_LONG_VRS = frozenset((
    b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV",
))  # fmt: skip
# Of several values where there is a backslash, and text in which one is a character.
_TEXTS = frozenset((b"AE", b"AS", b"CS", b"DA", b"DT", b"LO", b"PN", b"SH", b"TM", b"UC", b"UI"))
_PROSE = frozenset((b"LT", b"ST", b"UR", b"UT"))
_BINARY = {b"FD": ("d", 8), b"FL": ("f", 4), b"SL": ("i", 4), b"SS": ("h", 2), b"UL": ("I", 4),
           b"US": ("H", 2)}
_VRS = frozenset((*_LONG_VRS, *_TEXTS, *_PROSE, *_BINARY, b"AT", b"DS", b"IS"))
_MAX_NESTING = 32


class _Unusual(Exception):
    """Something that pydicom is to read."""


class Item:
    """An item of a sequence, which answers by keywords as pydicom's data sets do.

    Text comes without what pads it; what is there without a value is ``""`` or ``None``.
    """

    __slots__ = ("_elements",)

    def __init__(self, elements: dict[int, tuple[bytes, Any]]) -> None:
        self._elements = elements

    def __getattr__(self, keyword: str) -> Any:
        try:
            vr, value = self._elements[_tag(keyword)]
        except KeyError:
            raise AttributeError(f"there is no {keyword} in the item") from None
        return value if vr == b"SQ" else _value(vr, value)

    def __contains__(self, keyword: str) -> bool:
        return _tag(keyword) in self._elements

    def get(self, keyword: str, default: Any = None) -> Any:
        """The value of an element, or ``default`` where there is none."""
        found = self._elements.get(_tag(keyword))
        if found is None:
            return default
        return found[1] if found[0] == b"SQ" else _value(*found)


Part = Dataset | Item


def items_of(part: Part, keyword: str) -> Sequence[Any]:
    """The items of a sequence, `Item` where it can be; empty where there is none.

    Raises
    ------
    ValueError and what else pydicom raises
        They cannot be read.
    """
    if isinstance(part, Item):
        found: Sequence[Any] = part.get(keyword, ())
        return found
    element: Any = part.get_item(_tag(keyword))
    if element is None:
        return ()
    is_plain = (
        element.is_raw and element.VR == "SQ" and isinstance(element.value, bytes)
        and not element.is_implicit_VR and element.is_little_endian
    )
    if is_plain and part.get("SpecificCharacterSet") == _UNICODE:
        try:
            return _items(element.value, 0)
        except (_Unusual, struct.error):
            pass
    return part.get(keyword) or ()


@functools.cache
def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise AttributeError(f"no element has the name {keyword}")
    return int(tag)


def _items(content: bytes, depth: int) -> list[Item]:
    items, position, end = [], 0, len(content)
    if depth > _MAX_NESTING:
        raise _Unusual
    while position < end:
        group, element, length = _ITEM_HEAD.unpack_from(content, position)
        position += 8
        # An undefined length is longer than anything.
        if group << 16 | element != _ITEM or position + length > end:
            raise _Unusual
        items.append(Item(_elements(content[position : position + length], depth)))
        position += length
    return items


def _elements(content: bytes, depth: int) -> dict[int, tuple[bytes, Any]]:
    found: dict[int, tuple[bytes, Any]] = {}
    position, end = 0, len(content)
    while position < end:
        group, element, vr, length = _HEAD.unpack_from(content, position)
        position += 8
        if vr in _LONG_VRS:
            [length] = _LENGTH.unpack_from(content, position)
            position += 4
        value: Any = content[position : position + length]
        position += length
        if position > end or vr not in _VRS:
            raise _Unusual
        found[group << 16 | element] = vr, _items(value, depth + 1) if vr == b"SQ" else value
    return found


def _value(vr: bytes, content: bytes) -> Any:
    if vr in _TEXTS:
        text = content.decode("utf-8", "replace").rstrip(" \0")
        return [one.strip(" ") for one in text.split("\\")] if "\\" in text else text
    if vr in _BINARY:
        return _numbers(*_BINARY[vr], content)
    if vr in (b"DS", b"IS"):
        parts = [one for one in content.decode("ascii", "replace").strip(" \0").split("\\") if one]
        if len(parts) == 1:
            # It knows how it was written.
            return DSfloat(parts[0]) if vr == b"DS" else int(parts[0])
        return [float(one) if vr == b"DS" else int(one) for one in parts] or None
    if vr in _PROSE:
        return content.decode("utf-8", "replace").rstrip(" \0")
    return content


def _numbers(code: str, size_bytes: int, content: bytes) -> Any:
    numbers = struct.unpack(f"<{len(content) // size_bytes}{code}", content)
    return numbers[0] if len(numbers) == 1 else list(numbers) or None
