"""Steps over the elements of an encoded data set, without decoding, trusting or recursing.

Elements are read in the order they stand (PS3.5 section 7.1) in every transfer syntax: implicit
and explicit little endian, explicit big endian, deflated, and encapsulated pixel data (whose data
set is explicit little endian). No length is believed before it fits in what holds it, each byte is
looked at once, and what lies behind the head of the pixel data is not looked at.
"""

from __future__ import annotations

import re
import struct

from dicom_node.errors import NotUnderstood
from dicom_node.intake.sources import InflatedTooMuch, Source

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
MOST_DEPTH = 256

_UNDEFINED = 0xFFFFFFFF
_ELEMENT_LIMIT = 5_000_000
_VALUE_LIMIT_BYTES = 4096
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_VR = re.compile(rb"[A-Z]{2}")
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LAST_WANTED = 0x00280011
_PIXEL_DATA = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
# One more level is at least an item and an element in it.
_LEVEL_BYTES = 16


class NestedTooDeeply(NotUnderstood):
    """Sequences within sequences beyond ``intake.max_sequence_depth``."""

    reason = "dataset.too_deep"


class _Malformed(NotUnderstood):
    """What stands in a sequence is none; where its length is known it can be passed over."""


# A sequence or an item that is open: where it ends (None: at its delimiter), whether it is an
# item, and whether it is implicit VR inside.
_Level = tuple[int | None, bool, bool]


class Walker:
    """Steps over the elements of one encoded data set; ``offset`` is that of the next one.

    Sequences within more than ``most_depth`` sequences raise `NestedTooDeeply`.
    """

    def __init__(
        self, source: Source, transfer_syntax_uid: str, most_depth: int = MOST_DEPTH
    ) -> None:
        self._source = source
        self._most_depth = most_depth
        self._implicit = transfer_syntax_uid == IMPLICIT_LITTLE_ENDIAN
        order = ">" if transfer_syntax_uid == EXPLICIT_BIG_ENDIAN else "<"
        self._short = struct.Struct(order + "H")
        self._long = struct.Struct(order + "L")
        self._short_pair = struct.Struct(order + "HH")
        self._implicit_header = struct.Struct(order + "HHL")
        self._explicit_header = struct.Struct(order + "HH2sH")
        self._window = b""
        self._window_at = 0
        self._end = source.size_bytes
        self._steps = 0
        self._is_past_wanted = False
        self.offset = 0

    def unsigned_short(self, value: bytes | None) -> int | None:
        """A US value of this byte order."""
        return int(self._short.unpack_from(value)[0]) if value and len(value) >= 2 else None

    def walk(self, wanted: frozenset[int]) -> dict[int, bytes]:
        """Raw values of the `wanted` elements of the top level, first occurrence of each.

        Goes on to the pixel data, to find elements that reach beyond the end and sequences that
        are nested too deeply.
        """
        values: dict[int, bytes] = {}
        self._skip_short(values, wanted)
        try:
            self._walk_on(values, wanted)
        except InflatedTooMuch:
            # Whoever reads it inflates no more either.
            if not self._is_past_wanted:
                raise
        if not self.offset:
            raise NotUnderstood("the data set is empty")
        return values

    def _walk_on(self, values: dict[int, bytes], wanted: frozenset[int]) -> None:
        while not self._is_at_end():
            tag, vr, length, begin = self._header(self.offset, self._implicit)
            if tag < 0x00040000:
                raise NotUnderstood("the data set holds elements of group 0000 or 0002")
            if tag in wanted and length <= _VALUE_LIMIT_BYTES and tag not in values:
                index = self._ensure(begin, length)
                values[tag] = self._window[index : index + length]
            self._is_past_wanted = tag > _LAST_WANTED
            if tag in _PIXEL_DATA:
                if length != _UNDEFINED:
                    self._within(begin, length, self._end)
                return
            self.offset = self._after(tag, vr, begin, length, self._implicit)

    def _skip_short(self, values: dict[int, bytes], wanted: frozenset[int]) -> None:
        """Take the plain elements of the first window without a call for each of them.

        Stops at anything else, which `walk` then looks at: this is most of the work of most
        data sets, and nothing it takes is judged differently there.
        """
        window = self._window = self._source.window(0, 1)
        order = self._explicit_header if not self._implicit else self._implicit_header
        unpack, explicit, offset = order.unpack_from, not self._implicit, 0
        limit = min(len(window), self._end if self._end is not None else len(window)) - 8
        longest = self._harmless_bytes(1)
        while offset <= limit:
            if explicit:
                group, element, vr, length = unpack(window, offset)
                if vr not in _SHORT_VRS:
                    break
            else:
                group, element, length = unpack(window, offset)
            tag, after = group << 16 | element, offset + 8 + length
            if not 0x00040000 <= tag <= _LAST_WANTED or after > limit:
                break
            if not explicit and length > longest:
                break
            if tag in wanted and length <= _VALUE_LIMIT_BYTES and tag not in values:
                values[tag] = window[offset + 8 : after]
            offset = after
        self.offset = offset

    def walk_file_meta(self, wanted: frozenset[int]) -> dict[int, bytes]:
        """Raw values of the `wanted` elements of group 0002; ends after the group.

        Its group length says where, because what follows may be deflated bytes that look like
        group 0002 again; without one, the first other group ends it.
        """
        values: dict[int, bytes] = {}
        end = self._end
        while end is None or self.offset < end:
            index = self._ensure(self.offset, 8)
            if self._window[index : index + 2] != b"\x02\x00":
                break
            tag, vr, length, begin = self._header(self.offset, False)
            index = self._ensure(begin, min(length, _VALUE_LIMIT_BYTES))
            if tag in wanted:
                values[tag] = self._window[index : index + length]
            if tag == 0x00020000 and length == 4:
                end = begin + 4 + self._long.unpack_from(self._window, index)[0]
            self.offset = self._after(tag, vr, begin, length, False)
        return values

    def _is_at_end(self) -> bool:
        if self._end is not None:
            return self.offset >= self._end
        return not self._source.window(self.offset, 1)

    def _ensure(self, offset: int, length: int) -> int:
        """Index of `offset` in the window, which then holds `length` bytes from there."""
        index = offset - self._window_at
        if index < 0 or index + length > len(self._window):
            self._window = self._source.window(offset, length)
            self._window_at = offset
            if len(self._window) < length:
                raise NotUnderstood("the data set ends within an element")
            return 0
        return index

    def _header(self, offset: int, implicit: bool) -> tuple[int, bytes, int, int]:
        """Tag, VR (empty when implicit), length and offset of the value of the element there."""
        self._steps += 1
        if self._steps > _ELEMENT_LIMIT:
            raise NotUnderstood("the data set has too many elements before its pixel data")
        index = self._ensure(offset, 8)
        if implicit or self._window[index : index + 2] in (b"\xfe\xff", b"\xff\xfe"):
            group, element, length = self._implicit_header.unpack_from(self._window, index)
            return group << 16 | element, b"", length, offset + 8
        group, element, vr, length = self._explicit_header.unpack_from(self._window, index)
        if vr in _LONG_VRS:
            index = self._ensure(offset + 8, 4)
            length = self._long.unpack_from(self._window, index)[0]
            return group << 16 | element, vr, length, offset + 12
        if vr not in _SHORT_VRS and not _VR.fullmatch(vr):
            raise _Malformed("the data set is not explicit VR, as its transfer syntax says")
        return group << 16 | element, vr, length, offset + 8

    def _after(self, tag: int, vr: bytes, begin: int, length: int, implicit: bool) -> int:
        """Offset after the element of the top level whose value begins at `begin`."""
        if length == _UNDEFINED:
            if tag >> 16 == 0xFFFE:
                raise NotUnderstood("an item stands outside a sequence")
            # A UN element of undefined length is implicit VR inside (PS3.5 section 6.2.2).
            return self._after_sequence(begin, None, implicit or vr == b"UN")
        self._within(begin, length, self._end)
        if self._may_nest(vr, begin, length, implicit, 1):
            return self._after_sequence(begin, begin + length, implicit or vr == b"UN")
        return begin + length

    def _within(self, begin: int, length: int, end: int | None) -> None:
        if end is not None and begin + length > end:
            raise _Malformed("an element reaches beyond the end of the data set")

    def _harmless_bytes(self, depth: int) -> int:
        """A sequence at this depth that is no longer cannot be nested too deeply."""
        return _LEVEL_BYTES * (self._most_depth - depth + 1) - 1

    def _may_nest(
        self, vr: bytes, begin: int, length: int, implicit: bool, depth: int
    ) -> bool:
        """Whether a value of known length is a sequence, and long enough to be worth a look."""
        if length <= self._harmless_bytes(depth):
            return False
        if vr == b"SQ":
            return True
        if length < 8 or not (implicit or vr == b"UN"):
            return False
        index = self._ensure(begin, 8)
        group, element = self._short_pair.unpack_from(self._window, index)
        return bool(group << 16 | element == _ITEM)

    def _after_sequence(self, begin: int, end: int | None, implicit: bool) -> int:
        """Offset after a sequence and all that it holds; without recursion, however deep it is."""
        levels: list[_Level] = [(end, False, implicit)]
        offset, depth = begin, 1
        while levels:
            try:
                offset, depth = self._step(levels, offset, depth)
            except _Malformed:
                # What has a length can be stepped over, whatever it is inside.
                known = next((n for n, level in enumerate(levels) if level[0] is not None), None)
                if known is None:
                    raise
                offset = levels[known][0] or offset
                del levels[known:]
                depth = sum(not is_item for _, is_item, _ in levels)
        return offset

    def _step(self, levels: list[_Level], offset: int, depth: int) -> tuple[int, int]:
        """One element, item or end; where the next one is, and at which depth."""
        end, is_item, implicit = levels[-1]
        if end is not None and offset >= end:
            levels.pop()
            return offset, depth if is_item else depth - 1
        tag, vr, length, begin = self._header(offset, implicit or not is_item)
        if tag == (_ITEM_END if is_item else _SEQUENCE_END) and end is None:
            levels.pop()
            return begin, depth if is_item else depth - 1
        if is_item == (tag >> 16 == 0xFFFE) or (not is_item and tag != _ITEM):
            raise _Malformed("a sequence holds something else than items")
        if length != _UNDEFINED:
            self._within(begin, length, self._end if end is None else end)
        if not is_item:
            levels.append((None if length == _UNDEFINED else begin + length, True, implicit))
            return begin, depth
        if length != _UNDEFINED and not self._may_nest(vr, begin, length, implicit, depth + 1):
            return begin + length, depth
        if depth >= self._most_depth:
            raise NestedTooDeeply("sequences are nested too deeply")
        inner = None if length == _UNDEFINED else begin + length
        levels.append((inner, False, implicit or vr == b"UN"))
        return begin, depth + 1
