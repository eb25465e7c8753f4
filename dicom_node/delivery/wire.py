"""Bytes of the DICOM upper layer and of DIMSE commands, as far as a C-STORE SCU needs them.

Encoding A-ASSOCIATE-RQ is left to pynetdicom. What comes from the peer is decoded here, with
every length checked against what holds it. Sources: PS3.8 section 9.3 (PDUs), PS3.8 Annex D.1
(maximum length), PS3.7 sections 9.3.1 and 9.3.5 (C-STORE and C-ECHO), PS3.7 Annex E (commands).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

ASSOCIATE_ACCEPT = 0x02
ASSOCIATE_REJECT = 0x03
P_DATA = 0x04
RELEASE_REQUEST = 0x05
RELEASE_RESPONSE = 0x06
ABORT = 0x07

RELEASE_REQUEST_PDU = struct.pack(">BxII", RELEASE_REQUEST, 4, 0)
RELEASE_RESPONSE_PDU = struct.pack(">BxII", RELEASE_RESPONSE, 4, 0)
# Source 0: the service user; its reason is not significant (PS3.8 9.3.8).
ABORT_PDU = struct.pack(">BxI4x", ABORT, 4)

AFFECTED_SOP_CLASS_UID = 0x0002
COMMAND_FIELD = 0x0100
MESSAGE_ID = 0x0110
MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
PRIORITY = 0x0700
COMMAND_DATA_SET_TYPE = 0x0800
STATUS = 0x0900
AFFECTED_SOP_INSTANCE_UID = 0x1000

C_STORE_REQUEST = 0x0001
C_STORE_RESPONSE = 0x8001
C_ECHO_REQUEST = 0x0030
C_ECHO_RESPONSE = 0x8030

NO_DATA_SET = 0x0101
_DATA_SET_FOLLOWS = 0x0000
_MEDIUM = 0x0000

COMMAND_LAST = 0x03
DATA_SET_MORE = 0x00
DATA_SET_LAST = 0x02


class MalformedPdu(ValueError):
    """Bytes of a peer that contradict PS3.8 or PS3.7."""


@dataclass(frozen=True)
class Acceptance:
    """An A-ASSOCIATE-AC: result and transfer syntax by context ID, and the peer's PDU limit."""

    results: Mapping[int, tuple[int, str]]
    maximum_pdu_bytes: int


def encode_store_request(message_id: int, sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """The command set of a C-STORE-RQ (PS3.7 table 9.3-1)."""
    return _encode_command(
        (AFFECTED_SOP_CLASS_UID, _uid(sop_class_uid)),
        (COMMAND_FIELD, _us(C_STORE_REQUEST)),
        (MESSAGE_ID, _us(message_id)),
        (PRIORITY, _us(_MEDIUM)),
        (COMMAND_DATA_SET_TYPE, _us(_DATA_SET_FOLLOWS)),
        (AFFECTED_SOP_INSTANCE_UID, _uid(sop_instance_uid)),
    )


def encode_echo_request(message_id: int) -> bytes:
    """The command set of a C-ECHO-RQ (PS3.7 table 9.3-12)."""
    return _encode_command(
        (AFFECTED_SOP_CLASS_UID, _uid("1.2.840.10008.1.1")),
        (COMMAND_FIELD, _us(C_ECHO_REQUEST)),
        (MESSAGE_ID, _us(message_id)),
        (COMMAND_DATA_SET_TYPE, _us(NO_DATA_SET)),
    )


def decode_command(command_set: bytes) -> dict[int, bytes]:
    """Element number -> value of a command set (implicit VR little endian, group 0000).

    Raises
    ------
    MalformedPdu
        An element outside group 0000, or longer than the command set.
    """
    elements: dict[int, bytes] = {}
    offset = 0
    while offset < len(command_set):
        if offset + 8 > len(command_set):
            raise MalformedPdu("command set is cut off")
        group, number, length = struct.unpack_from("<HHI", command_set, offset)
        offset += 8
        if group != 0 or length > len(command_set) - offset:
            raise MalformedPdu(f"command element ({group:04X},{number:04X}) of {length} bytes")
        elements[number] = command_set[offset : offset + length]
        offset += length
    return elements


def unsigned_short(elements: Mapping[int, bytes], number: int) -> int:
    """The value of a US command element; MalformedPdu when it is missing or not two bytes."""
    value = elements.get(number, b"")
    if len(value) != 2:
        raise MalformedPdu(f"command element (0000,{number:04X}) is missing or not a US")
    return int.from_bytes(value, "little")


def pdv_pdu(context_id: int, control: int, fragment: bytes) -> bytes:
    """One P-DATA-TF PDU with one presentation data value."""
    return pdv_pdu_header(context_id, control, len(fragment)) + fragment


def pdv_pdu_header(context_id: int, control: int, fragment_bytes: int) -> bytes:
    """The 12 bytes before the fragment of a P-DATA-TF PDU (PS3.8 9.3.5)."""
    return struct.pack(
        ">BxIIBB", P_DATA, fragment_bytes + 6, fragment_bytes + 2, context_id, control
    )


def iterate_pdvs(body: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(context ID, message control header, fragment) of each value of a P-DATA-TF PDU."""
    offset = 0
    while offset < len(body):
        if offset + 6 > len(body):
            raise MalformedPdu("presentation data value is cut off")
        (length,) = struct.unpack_from(">I", body, offset)
        if length < 2 or length > len(body) - offset - 4:
            raise MalformedPdu(f"presentation data value of {length} bytes in a smaller PDU")
        end = offset + 4 + length
        yield body[offset + 4], body[offset + 5], body[offset + 6 : end]
        offset = end


def decode_acceptance(body: bytes) -> Acceptance:
    """Read an A-ASSOCIATE-AC from behind its PDU length field (PS3.8 9.3.3).

    Raises
    ------
    MalformedPdu
        A length that does not fit, or a repeated context ID.
    """
    results: dict[int, tuple[int, str]] = {}
    maximum_pdu_bytes = 0
    if len(body) < 68:
        raise MalformedPdu("A-ASSOCIATE-AC is too short")
    for kind, item in _iterate_items(body[68:]):
        if kind == 0x21:
            context_id, result, transfer_syntax_uid = _presentation_context(item)
            if context_id in results:
                raise MalformedPdu(f"presentation context {context_id} is answered twice")
            results[context_id] = (result, transfer_syntax_uid)
        elif kind == 0x50:
            for sub_kind, sub_item in _iterate_items(item):
                if sub_kind == 0x51 and len(sub_item) == 4:
                    maximum_pdu_bytes = int.from_bytes(sub_item, "big")
    return Acceptance(results, maximum_pdu_bytes)


def _presentation_context(item: bytes) -> tuple[int, int, str]:
    if len(item) < 4:
        raise MalformedPdu("presentation context item is too short")
    context_id, result = item[0], item[2]
    transfer_syntax_uid = ""
    # Behind a rejected context the transfer syntax is not significant, nor always well formed.
    if result == 0:
        for kind, value in _iterate_items(item[4:]):
            if kind == 0x40:
                transfer_syntax_uid = value.rstrip(b"\0 ").decode("ascii", "replace")
    return context_id, result, transfer_syntax_uid


def _iterate_items(items: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset < len(items):
        if offset + 4 > len(items):
            raise MalformedPdu("item is cut off")
        kind, length = struct.unpack_from(">BxH", items, offset)
        if length > len(items) - offset - 4:
            raise MalformedPdu(f"item {kind:02X} of {length} bytes in a smaller PDU")
        yield kind, items[offset + 4 : offset + 4 + length]
        offset += 4 + length


def _encode_command(*elements: tuple[int, bytes]) -> bytes:
    body = b"".join(
        struct.pack("<HHI", 0, number, len(value)) + value for number, value in elements
    )
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def _us(value: int) -> bytes:
    return struct.pack("<H", value)


def _uid(uid: str) -> bytes:
    value = uid.encode("ascii", "replace")
    return value + b"\0" if len(value) % 2 else value
