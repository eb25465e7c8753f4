"""The small data sets of DIMSE-N messages that list SOP instances, read and written by hand.

They come from whoever may associate, so nothing in them is believed: lengths are checked against
what holds them, depth and number of items are bounded, and only the elements below are kept, so
that millions of empty items cost no memory (a general reader makes an object of each).
Encodings: implicit and explicit VR little endian (PS3.5 section 7).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence

from dicom_node.errors import NotUnderstood

STUDY_INSTANCE_UID = 0x0020000D
SERIES_INSTANCE_UID = 0x0020000E
INSTANCE_AVAILABILITY = 0x00080056
REFERENCED_SERIES_SEQUENCE = 0x00081115
REFERENCED_IMAGE_SEQUENCE = 0x00081140
REFERENCED_SOP_CLASS_UID = 0x00081150
REFERENCED_SOP_INSTANCE_UID = 0x00081155
TRANSACTION_UID = 0x00081195
FAILURE_REASON = 0x00081197
FAILED_SOP_SEQUENCE = 0x00081198
REFERENCED_SOP_SEQUENCE = 0x00081199
REFERENCED_NON_IMAGE_COMPOSITE_SOP_INSTANCE_SEQUENCE = 0x00400220
PERFORMED_PROCEDURE_STEP_STATUS = 0x00400252
SCHEDULED_STEP_ATTRIBUTES_SEQUENCE = 0x00400270
PERFORMED_SERIES_SEQUENCE = 0x00400340

# Storage Commitment Push Model, and its one well-known instance (PS3.4 annex J).
PUSH_MODEL = "1.2.840.10008.1.20.1"
PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1.1"

MOST_ITEMS = 100_000
_DEEPEST = 8
_LONGEST_VALUE_BYTES = 1024
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_VALUES = {
    STUDY_INSTANCE_UID: b"UI",
    SERIES_INSTANCE_UID: b"UI",
    INSTANCE_AVAILABILITY: b"CS",
    REFERENCED_SOP_CLASS_UID: b"UI",
    REFERENCED_SOP_INSTANCE_UID: b"UI",
    TRANSACTION_UID: b"UI",
    FAILURE_REASON: b"US",
    PERFORMED_PROCEDURE_STEP_STATUS: b"CS",
}
_SEQUENCES = frozenset(
    {
        REFERENCED_SERIES_SEQUENCE,
        REFERENCED_IMAGE_SEQUENCE,
        FAILED_SOP_SEQUENCE,
        REFERENCED_SOP_SEQUENCE,
        REFERENCED_NON_IMAGE_COMPOSITE_SOP_INSTANCE_SEQUENCE,
        SCHEDULED_STEP_ATTRIBUTES_SEQUENCE,
        PERFORMED_SERIES_SEQUENCE,
    }
)
_LONG = frozenset(
    [b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"]
)
_UID = re.compile(r"[0-9.]{1,64}")


class TooManyItems(NotUnderstood):
    """More items than any of these messages has in this world."""

    reason = "dataset.too_many_items"


class DataSet:
    """The kept elements of one data set or item, by tag."""

    def __init__(self) -> None:
        self.values: dict[int, bytes] = {}
        self.sequences: dict[int, list[DataSet]] = {}

    def text(self, tag: int) -> str:
        """A value as text without padding; "" when it is missing."""
        return self.values.get(tag, b"").decode("ascii", "replace").strip("\0 ")

    def uid(self, tag: int) -> str:
        """A UID; "" when it is missing or is none."""
        text = self.text(tag)
        return text if _UID.fullmatch(text) else ""

    def number(self, tag: int) -> int | None:
        """An unsigned short; None when it is missing or is none."""
        value = self.values.get(tag, b"")
        return int.from_bytes(value, "little") if len(value) == 2 else None

    def items(self, tag: int) -> list[DataSet]:
        """The items of a sequence; empty when it is missing."""
        return self.sequences.get(tag, [])

    def references(self, tag: int) -> list[tuple[str, str]]:
        """(SOP Class UID, SOP Instance UID) of each item of a sequence; "" for what is none."""
        return [
            (item.uid(REFERENCED_SOP_CLASS_UID), item.uid(REFERENCED_SOP_INSTANCE_UID))
            for item in self.items(tag)
        ]


def decode(data: bytes, *, explicit_vr: bool) -> DataSet:
    """Read a data set in little endian encoding.

    Raises
    ------
    NotUnderstood
        A length that does not fit, too deep, or (`TooManyItems`) too many items.
    """
    reader = _Reader(data, explicit_vr)
    found, _ = reader.data_set(0, len(data), delimited=False, depth=0)
    return found


class _Reader:
    def __init__(self, data: bytes, explicit_vr: bool) -> None:
        self._data = data
        self._explicit_vr = explicit_vr
        self._items = 0

    def data_set(
        self, offset: int, end: int, *, delimited: bool, depth: int
    ) -> tuple[DataSet, int]:
        """The data set from ``offset`` and where it ended."""
        found = DataSet()
        while offset < end:
            tag = self._tag(offset, end)
            if tag == _ITEM_END and delimited:
                return found, offset + 8
            vr, length, start = self._header(offset, end)
            is_sequence = vr == b"SQ" or (vr is None and tag in _SEQUENCES)
            if is_sequence or length == _UNDEFINED:
                if vr not in (None, b"SQ", b"UN"):
                    raise NotUnderstood("an element of undefined length is no sequence")
                items, offset = self._sequence(start, end, length, depth + 1, tag in _SEQUENCES)
                if tag in _SEQUENCES:
                    found.sequences[tag] = items
                continue
            if length > end - start:
                raise NotUnderstood("an element is longer than what holds it")
            if tag in _VALUES and length <= _LONGEST_VALUE_BYTES:
                found.values[tag] = self._data[start : start + length]
            offset = start + length
        if delimited:
            raise NotUnderstood("an item has no end")
        return found, offset

    def _sequence(
        self, offset: int, end: int, length: int, depth: int, keep: bool
    ) -> tuple[list[DataSet], int]:
        if depth > _DEEPEST:
            raise NotUnderstood("sequences are nested too deep")
        delimited = length == _UNDEFINED
        if not delimited:
            if length > end - offset:
                raise NotUnderstood("a sequence is longer than what holds it")
            end = offset + length
        items: list[DataSet] = []
        while offset < end:
            tag = self._tag(offset, end)
            if tag == _SEQUENCE_END and delimited:
                return items, offset + 8
            if tag != _ITEM:
                raise NotUnderstood("a sequence holds something other than items")
            item, offset = self._item(offset, end, depth)
            if keep:
                self._count()
                items.append(item)
        if delimited:
            raise NotUnderstood("a sequence has no end")
        return items, offset

    def _item(self, offset: int, end: int, depth: int) -> tuple[DataSet, int]:
        (length,) = struct.unpack_from("<L", self._data, offset + 4)
        start = offset + 8
        if length == _UNDEFINED:
            return self.data_set(start, end, delimited=True, depth=depth)
        if length > end - start:
            raise NotUnderstood("an item is longer than its sequence")
        return self.data_set(start, start + length, delimited=False, depth=depth)

    def _count(self) -> None:
        self._items += 1
        if self._items > MOST_ITEMS:
            raise TooManyItems(f"more than {MOST_ITEMS} items")

    def _tag(self, offset: int, end: int) -> int:
        if end - offset < 8:
            raise NotUnderstood("a data set ends within an element")
        group, element = struct.unpack_from("<HH", self._data, offset)
        return int(group) << 16 | int(element)

    def _header(self, offset: int, end: int) -> tuple[bytes | None, int, int]:
        """VR (None when implicit), length and where the value starts."""
        if not self._explicit_vr:
            return None, int(struct.unpack_from("<L", self._data, offset + 4)[0]), offset + 8
        vr = self._data[offset + 4 : offset + 6]
        if vr not in _LONG:
            return vr, int(struct.unpack_from("<H", self._data, offset + 6)[0]), offset + 8
        if end - offset < 12:
            raise NotUnderstood("a data set ends within an element")
        return vr, int(struct.unpack_from("<L", self._data, offset + 8)[0]), offset + 12


Value = str | int | Sequence[Mapping[int, "Value"]]


def encode(data_set: Mapping[int, Value], *, explicit_vr: bool) -> bytes:
    """Write a data set of the elements above: UID text, number, or items; tags in any order."""
    return b"".join(
        _element(tag, data_set[tag], explicit_vr=explicit_vr) for tag in sorted(data_set)
    )


def reference(sop_class_uid: str, sop_instance_uid: str) -> dict[int, Value]:
    """An item that refers to one instance."""
    return {
        REFERENCED_SOP_CLASS_UID: sop_class_uid,
        REFERENCED_SOP_INSTANCE_UID: sop_instance_uid,
    }


def _element(tag: int, value: Value, *, explicit_vr: bool) -> bytes:
    if isinstance(value, str):
        vr, encoded = _VALUES[tag], value.encode("ascii")
        encoded += (b"\0" if vr == b"UI" else b" ") * (len(encoded) % 2)
    elif isinstance(value, int):
        vr, encoded = b"US", struct.pack("<H", value)
    else:
        vr, pieces = b"SQ", []
        for item in value:
            content = encode(item, explicit_vr=explicit_vr)
            pieces.append(struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content)
        encoded = b"".join(pieces)
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if not explicit_vr:
        return head + struct.pack("<L", len(encoded)) + encoded
    if vr == b"SQ":
        return head + vr + struct.pack("<HL", 0, len(encoded)) + encoded
    return head + vr + struct.pack("<H", len(encoded)) + encoded
