"""C-STORE command sets by hand: decoding the request, encoding the response (PS3.7 section 9.3.1).

A command set is implicit VR little endian, group 0000 only, even lengths (PS3.7 section 6.3.1).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

C_STORE_RQ = 0x0001
C_STORE_RSP = 0x8001
NO_DATA_SET = 0x0101
COMMAND_LIMIT_BYTES = 1 << 16

_HEADER = struct.Struct("<HHL")
_SHORT = struct.Struct("<H")
_PDU_AND_PDV = struct.Struct(">BxLLBB")
_COMMENT_LIMIT = 64


class ProtocolViolation(Exception):
    """Bytes that no state of PS3.8 allows: the association is aborted (Evt19)."""


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """One C-STORE-RQ; UIDs as sent, without padding."""

    context_id: int
    message_id: int
    sop_class_uid: bytes
    sop_instance_uid: bytes
    has_data_set: bool


def decode_command(data: bytes) -> dict[int, bytes]:
    """Element number to raw value of a command set; raises `ProtocolViolation`."""
    values: dict[int, bytes] = {}
    offset, end = 0, len(data)
    while offset < end:
        if end - offset < 8:
            raise ProtocolViolation("a command set ends within an element")
        group, element, length = _HEADER.unpack_from(data, offset)
        offset += 8
        if group != 0 or length & 1 or length > end - offset or element in values:
            raise ProtocolViolation("not an implicit VR command set")
        values[element] = data[offset : offset + length]
        offset += length
    return values


def command_field(values: dict[int, bytes]) -> int:
    """The Command Field (0000,0100); raises `ProtocolViolation` without one."""
    return _unsigned_short(values, 0x0100)


def has_data_set(values: dict[int, bytes]) -> bool:
    """Whether a data set follows, by Command Data Set Type (0000,0800)."""
    return _unsigned_short(values, 0x0800) != NO_DATA_SET


def store_request(values: dict[int, bytes], context_id: int) -> StoreRequest:
    """A C-STORE-RQ from its elements; raises `ProtocolViolation` where a mandatory one lacks."""
    sop_class_uid = values.get(0x0002, b"").rstrip(b"\0 ")
    sop_instance_uid = values.get(0x1000, b"").rstrip(b"\0 ")
    if not sop_class_uid or not sop_instance_uid:
        raise ProtocolViolation("a C-STORE request names no SOP class or instance")
    return StoreRequest(
        context_id,
        _unsigned_short(values, 0x0110),
        sop_class_uid,
        sop_instance_uid,
        has_data_set(values),
    )


def _unsigned_short(values: dict[int, bytes], element: int) -> int:
    value = values.get(element, b"")
    if len(value) != 2:
        raise ProtocolViolation(f"a command set lacks element (0000,{element:04X})")
    return int(_SHORT.unpack(value)[0])


def encode_store_response(
    request: StoreRequest, status: int, comment: str, maximum_pdu_bytes: int
) -> bytes:
    """The C-STORE-RSP as P-DATA-TF PDUs that the requestor takes.

    `comment` becomes the Error Comment (0000,0902) of a refusal; it holds no patient data.
    `maximum_pdu_bytes` 0 means no limit (PS3.8 annex D.1).
    """
    elements = [
        _element(0x0002, request.sop_class_uid, b"\0"),
        _element(0x0100, _SHORT.pack(C_STORE_RSP)),
        _element(0x0120, _SHORT.pack(request.message_id)),
        _element(0x0800, _SHORT.pack(NO_DATA_SET)),
        _element(0x0900, _SHORT.pack(status)),
    ]
    if status and comment:
        elements.append(_element(0x0902, comment[:_COMMENT_LIMIT].encode("ascii", "replace")))
    elements.append(_element(0x1000, request.sop_instance_uid, b"\0"))
    body = b"".join(elements)
    command = _element(0x0000, struct.pack("<L", len(body))) + body
    step = max(1, maximum_pdu_bytes - 6) if maximum_pdu_bytes else len(command)
    pieces = []
    for start in range(0, len(command), step):
        piece = command[start : start + step]
        control = 3 if start + step >= len(command) else 1
        size = len(piece)
        pieces.append(_PDU_AND_PDV.pack(4, size + 6, size + 2, request.context_id, control) + piece)
    return b"".join(pieces)


def _element(element: int, value: bytes, padding: bytes = b" ") -> bytes:
    if len(value) & 1:
        value += padding
    return _HEADER.pack(0, element, len(value)) + value
