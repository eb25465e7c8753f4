"""The head of a Part 10 file: what must be known to send it, and where its data set begins.

Reads the file meta information (PS3.10 section 7.1) and nothing after it, so that an object of
any size and transfer syntax is sent without being decoded.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

from dicom_node.errors import NotUnderstood

_LONG_VRS = frozenset((b"OB", b"OW", b"UN", b"UT", b"SQ", b"OF", b"OD", b"OL", b"UC", b"UR"))
# File meta information is some hundred bytes; private information may make it longer.
_LONGEST_META_BYTES = 1 << 20
_MEDIA_STORAGE_SOP_CLASS_UID = 0x0002
_MEDIA_STORAGE_SOP_INSTANCE_UID = 0x0003
_TRANSFER_SYNTAX_UID = 0x0010
# PS3.5 section 9.1, less its rule on leading zeros, which devices break.
_UID = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True)
class FileHead:
    """Who a file says it is; ``data_set_offset_bytes`` is where its data set begins."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set_offset_bytes: int


def read_file_head(file: BinaryIO) -> FileHead:
    """Read the file meta information of an open Part 10 file.

    Raises
    ------
    NotUnderstood
        Not a Part 10 file, or one without the UIDs that sending needs.
    OSError
        The file cannot be read.
    """
    if file.read(132)[128:] != b"DICM":
        raise NotUnderstood("not a DICOM Part 10 file: no DICM prefix")
    elements: dict[int, str] = {}
    offset = 132
    while offset < _LONGEST_META_BYTES:
        element = _read_element(file)
        if element is None:
            break
        number, value, length_bytes = element
        elements[number] = value
        offset += length_bytes
    try:
        head = FileHead(
            elements[_MEDIA_STORAGE_SOP_CLASS_UID],
            elements[_MEDIA_STORAGE_SOP_INSTANCE_UID],
            elements[_TRANSFER_SYNTAX_UID],
            offset,
        )
    except KeyError as missing:
        raise NotUnderstood(f"file meta information lacks (0002,{missing.args[0]:04X})") from None
    for uid in (head.sop_class_uid, head.sop_instance_uid, head.transfer_syntax_uid):
        if not _UID.fullmatch(uid):
            raise NotUnderstood("file meta information has an impossible UID")
    return head


def _read_element(file: BinaryIO) -> tuple[int, str, int] | None:
    """Element number, value and whole length of the next group 2 element; None after the last."""
    header = file.read(8)
    if len(header) < 8:
        return None
    group, number, vr, length = struct.unpack("<HH2sH", header)
    if group != 0x0002:
        return None
    header_bytes = 8
    if vr in _LONG_VRS:
        long_length = file.read(4)
        if len(long_length) < 4:
            raise NotUnderstood("file meta information is cut off")
        (length,) = struct.unpack("<I", long_length)
        header_bytes = 12
    if length > _LONGEST_META_BYTES:
        raise NotUnderstood(f"file meta element (0002,{number:04X}) is {length} bytes long")
    value = file.read(length)
    if len(value) < length:
        raise NotUnderstood("file meta information is cut off")
    text = value.rstrip(b"\0 ").decode("ascii", "replace") if vr == b"UI" else ""
    return number, text, header_bytes + length
