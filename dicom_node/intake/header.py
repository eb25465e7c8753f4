"""What must be known of a data set to keep and index it, read without decoding the rest.

The walker reads elements in the order they stand (PS3.5 section 7.1) in every transfer syntax:
implicit and explicit little endian, explicit big endian, deflated, and encapsulated pixel data
(whose data set is explicit little endian). It never trusts a length, skips sequences of
undefined length, and stops at the pixel data.

Absence is not contradiction: SOP Class UID and SOP Instance UID may be absent or empty (the
C-STORE request or the file meta names them; real archives do this). Study and Series Instance
UID may not: without them an instance has no place.
"""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import NotUnderstood
from dicom_node.intake.sources import BytesSource, DeflatedSource, FileSource, Source

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = frozenset({"1.2.840.10008.1.2.1.99"})

_UNDEFINED = 0xFFFFFFFF
_ELEMENT_LIMIT = 1_000_000
_DEPTH_LIMIT = 64
_VALUE_LIMIT_BYTES = 4096
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_VR = re.compile(rb"[A-Z]{2}")
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LAST_WANTED = 0x00280011
_PIXEL_DATA = 0x7FE00010
_WANTED = frozenset(
    {
        0x00080016, 0x00080018, 0x00080060, 0x0020000D, 0x0020000E, 0x00200013, 0x00200032,
        0x00200037, 0x00201002, 0x00201209, 0x00280008, 0x00280010, 0x00280011,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Head:
    """What the index knows of one instance.

    ``position_mm`` and ``orientation`` are Image Position and Image Orientation (Patient), LPS,
    None where absent or unreadable. ``expected_instances`` is Number of Series Related Instances
    (0020,1209), ``images_in_acquisition`` is (0020,1002). ``transfer_syntax_uid`` and
    ``calling_ae_title`` come from the file meta and are empty without one.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    position_mm: tuple[float, float, float] | None
    orientation: tuple[float, ...] | None
    instance_number: int | None
    number_of_frames: int
    expected_instances: int | None
    images_in_acquisition: int | None
    rows: int | None
    columns: int | None
    transfer_syntax_uid: str
    calling_ae_title: str = ""


def read_head(path_or_bytes: Path | str | bytes) -> Head:
    """Head of a Part 10 file (path or bytes).

    SOP class and instance come from the data set, and from the file meta where it has none.

    Raises
    ------
    NotUnderstood
        Not Part 10, not readable in its transfer syntax, or Study or Series UID is missing.
    OSError
    """
    if isinstance(path_or_bytes, bytes):
        return _read_part_10(BytesSource, path_or_bytes)
    fd = os.open(path_or_bytes, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _read_part_10(lambda _: FileSource(fd, 0), b"")
    finally:
        os.close(fd)


def _read_part_10(make: Callable[[bytes], Source], data: bytes) -> Head:
    source = make(data)
    if source.window(0, 132)[128:132] != b"DICM":
        raise NotUnderstood("not a DICOM Part 10 file")
    meta = _Walker(_Shifted(source, 132), EXPLICIT_LITTLE_ENDIAN)
    values = meta.walk_file_meta(_META_WANTED)
    transfer_syntax_uid = _text(values.get(0x00020010, b""))
    if not transfer_syntax_uid:
        raise NotUnderstood("the file meta names no transfer syntax")
    return read_data_set_head(
        _Shifted(source, 132 + meta.offset),
        transfer_syntax_uid,
        sop_class_uid=_text(values.get(0x00020002, b"")),
        sop_instance_uid=_text(values.get(0x00020003, b"")),
        calling_ae_title=_text(values.get(0x00020017, b"") or values.get(0x00020016, b"")),
    )


_META_WANTED = frozenset({0x00020002, 0x00020003, 0x00020010, 0x00020016, 0x00020017})


class _Shifted:
    """A source that begins later in another one."""

    def __init__(self, source: Source, start: int) -> None:
        self._source = source
        self._start = start
        size_bytes = source.size_bytes
        self.size_bytes = None if size_bytes is None else max(0, size_bytes - start)

    def window(self, offset: int, length: int) -> bytes:
        return self._source.window(self._start + offset, length)


def read_data_set_head(
    source: Source,
    transfer_syntax_uid: str,
    *,
    sop_class_uid: str = "",
    sop_instance_uid: str = "",
    calling_ae_title: str = "",
) -> Head:
    """Head of a bare data set; the given UIDs stand in where it has none.

    Raises
    ------
    NotUnderstood
        Not readable in this transfer syntax, or Study or Series Instance UID is missing.
    """
    if source.window(0, 132)[128:132] == b"DICM":
        raise NotUnderstood("the data set begins with a Part 10 preamble")
    if transfer_syntax_uid in DEFLATED:
        source = DeflatedSource(source)
    walker = _Walker(source, transfer_syntax_uid)
    values = walker.walk(_WANTED)
    text = {tag: _text(values.get(tag, b"")) for tag in _TEXTS}
    if not text[0x0020000D] or not text[0x0020000E]:
        raise NotUnderstood("the data set has no Study or no Series Instance UID")
    position = _numbers(text[0x00200032], 3)
    return Head(
        sop_class_uid=text[0x00080016] or sop_class_uid,
        sop_instance_uid=text[0x00080018] or sop_instance_uid,
        study_instance_uid=text[0x0020000D],
        series_instance_uid=text[0x0020000E],
        modality=text[0x00080060],
        position_mm=(position[0], position[1], position[2]) if position else None,
        orientation=_numbers(text[0x00200037], 6),
        instance_number=_integer(text[0x00200013]),
        number_of_frames=max(1, _integer(text[0x00280008]) or 1),
        expected_instances=_integer(text[0x00201209]),
        images_in_acquisition=_integer(text[0x00201002]),
        rows=walker.unsigned_short(values.get(0x00280010)),
        columns=walker.unsigned_short(values.get(0x00280011)),
        transfer_syntax_uid=transfer_syntax_uid,
        calling_ae_title=calling_ae_title,
    )


_TEXTS = sorted(_WANTED - {0x00280010, 0x00280011})


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace").strip(" \0")


def _numbers(text: str, how_many: int) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(part) for part in text.split("\\"))
    except ValueError:
        return None
    return numbers if len(numbers) == how_many and all(map(math.isfinite, numbers)) else None


def _integer(text: str) -> int | None:
    try:
        number = int(text)
    except ValueError:
        return None
    return number if abs(number) < 1 << 31 else None


class _Walker:
    """Steps over the elements of one encoded data set; ``offset`` is that of the next one."""

    def __init__(self, source: Source, transfer_syntax_uid: str) -> None:
        self._source = source
        self._implicit = transfer_syntax_uid == IMPLICIT_LITTLE_ENDIAN
        order = ">" if transfer_syntax_uid == EXPLICIT_BIG_ENDIAN else "<"
        self._short = struct.Struct(order + "H")
        self._long = struct.Struct(order + "L")
        self._implicit_header = struct.Struct(order + "HHL")
        self._explicit_header = struct.Struct(order + "HH2sH")
        self._window = b""
        self._window_at = 0
        self._end = source.size_bytes
        self._steps = 0
        self.offset = 0

    def unsigned_short(self, value: bytes | None) -> int | None:
        """A US value of this byte order."""
        return int(self._short.unpack_from(value)[0]) if value and len(value) >= 2 else None

    def walk(self, wanted: frozenset[int]) -> dict[int, bytes]:
        """Raw values of the `wanted` elements of the top level, first occurrence of each.

        Goes on to the pixel data, only to find elements that reach beyond the end.
        """
        values: dict[int, bytes] = {}
        self._skip_short(values, wanted)
        while not self._is_at_end():
            tag, length, begin = self._header(self.offset, self._implicit)
            if tag < 0x00040000:
                raise NotUnderstood("the data set holds elements of group 0000 or 0002")
            if tag in wanted and length <= _VALUE_LIMIT_BYTES and tag not in values:
                index = self._ensure(begin, length)
                values[tag] = self._window[index : index + length]
            if tag > _LAST_WANTED and (length == _UNDEFINED or self._end is None):
                break
            self.offset = self._after(tag, begin, length, self._implicit, 0)
            if tag == _PIXEL_DATA:
                break
        if not self.offset:
            raise NotUnderstood("the data set is empty")
        return values

    def _skip_short(self, values: dict[int, bytes], wanted: frozenset[int]) -> None:
        """Take the plain elements of the first window without a call for each of them.

        Stops at anything else, which `walk` then looks at: this is most of the work of most
        data sets, and nothing it takes is judged differently there.
        """
        window = self._window = self._source.window(0, 1)
        order = self._explicit_header if not self._implicit else self._implicit_header
        unpack, explicit, offset = order.unpack_from, not self._implicit, 0
        limit = min(len(window), self._end if self._end is not None else len(window)) - 8
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
            tag, length, begin = self._header(self.offset, False)
            index = self._ensure(begin, min(length, _VALUE_LIMIT_BYTES))
            if tag in wanted:
                values[tag] = self._window[index : index + length]
            if tag == 0x00020000 and length == 4:
                end = begin + 4 + self._long.unpack_from(self._window, index)[0]
            self.offset = self._after(tag, begin, length, False, 0)
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

    def _header(self, offset: int, implicit: bool) -> tuple[int, int, int]:
        """Tag, length and offset of the value of the element at `offset`."""
        self._steps += 1
        if self._steps > _ELEMENT_LIMIT:
            raise NotUnderstood("the data set has too many elements before its pixel data")
        index = self._ensure(offset, 8)
        if implicit or self._window[index : index + 2] in (b"\xfe\xff", b"\xff\xfe"):
            group, element, length = self._implicit_header.unpack_from(self._window, index)
            return group << 16 | element, length, offset + 8
        group, element, vr, length = self._explicit_header.unpack_from(self._window, index)
        if vr in _LONG_VRS:
            index = self._ensure(offset + 8, 4)
            length = self._long.unpack_from(self._window, index)[0]
            return group << 16 | element, length, offset + 12
        if not _VR.fullmatch(vr):
            raise NotUnderstood("the data set is not explicit VR, as its transfer syntax says")
        return group << 16 | element, length, offset + 8

    def _after(self, tag: int, begin: int, length: int, implicit: bool, depth: int) -> int:
        """Offset after the element whose value begins at `begin`."""
        if length == _UNDEFINED:
            if tag >> 16 == 0xFFFE:
                raise NotUnderstood("an item stands outside a sequence")
            # A UN element of undefined length is implicit VR inside (PS3.5 section 6.2.2).
            vr = b"" if implicit else self._vr_before(begin)
            return self._skip_sequence(begin, implicit or vr == b"UN", depth + 1)
        if self._end is not None and begin + length > self._end:
            raise NotUnderstood("an element reaches beyond the end of the data set")
        return begin + length

    def _vr_before(self, begin: int) -> bytes:
        index = begin - 8 - self._window_at
        return self._window[index : index + 2] if index >= 0 else b""

    def _skip_sequence(self, offset: int, implicit: bool, depth: int) -> int:
        if depth > _DEPTH_LIMIT:
            raise NotUnderstood("sequences are nested too deeply")
        while True:
            tag, length, begin = self._header(offset, True)
            if tag == _SEQUENCE_END:
                return begin
            if tag != _ITEM:
                raise NotUnderstood("a sequence holds something else than items")
            if length == _UNDEFINED:
                offset = self._skip_item(begin, implicit, depth)
            else:
                offset = self._after(tag, begin, length, implicit, depth)

    def _skip_item(self, offset: int, implicit: bool, depth: int) -> int:
        while True:
            tag, length, begin = self._header(offset, implicit)
            if tag == _ITEM_END:
                return begin
            offset = self._after(tag, begin, length, implicit, depth)
