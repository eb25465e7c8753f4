"""Group 0002 of a received file (PS3.10 section 7.1), written before its data set arrives."""

from __future__ import annotations

import hashlib
import struct
from functools import lru_cache

from dicom_node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_SHORT_FORM = struct.Struct("<HH2sH")
_PREAMBLE = bytes(128) + b"DICM"
_VERSION = b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01"
_VALUE_LIMIT_BYTES = 1024


def build_file_meta(
    sop_class_uid: bytes,
    sop_instance_uid: bytes,
    transfer_syntax_uid: str,
    calling_ae_title: str,
    receiving_ae_title: str,
) -> bytes:
    """Preamble, prefix and file meta of an instance received by C-STORE.

    UIDs are those of the request, as bytes, because a peer may send what is no UID; a value too
    long for any UID is kept as its SHA-256. The sender stands as Source (0002,0016) and Sending
    (0002,0017), we as Receiving (0002,0018) Application Entity Title.
    """
    body = b"".join(
        (
            _VERSION,
            _element(0x0002, b"UI", sop_class_uid, b"\0"),
            _element(0x0003, b"UI", sop_instance_uid, b"\0"),
            _rest(transfer_syntax_uid, calling_ae_title, receiving_ae_title),
        )
    )
    return _PREAMBLE + _SHORT_FORM.pack(2, 0, b"UL", 4) + struct.pack("<L", len(body)) + body


@lru_cache(maxsize=256)
def _rest(transfer_syntax_uid: str, calling_ae_title: str, receiving_ae_title: str) -> bytes:
    """What is the same for all instances of one presentation context."""
    calling = _ae_title(calling_ae_title)
    return b"".join(
        (
            _element(0x0010, b"UI", transfer_syntax_uid.encode("ascii"), b"\0"),
            _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii"), b"\0"),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii"), b" "),
            _element(0x0016, b"AE", calling, b" ") if calling else b"",
            _element(0x0017, b"AE", calling, b" ") if calling else b"",
            _element(0x0018, b"AE", _ae_title(receiving_ae_title), b" "),
        )
    )


def _ae_title(title: str) -> bytes:
    return title.strip().encode("ascii", "replace")[:16]


def _element(element: int, vr: bytes, value: bytes, padding: bytes) -> bytes:
    if len(value) > _VALUE_LIMIT_BYTES:
        value = hashlib.sha256(value).hexdigest().encode("ascii")
    if len(value) & 1:
        value += padding
    return _SHORT_FORM.pack(2, element, vr, len(value)) + value
