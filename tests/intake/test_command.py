"""C-STORE command sets by hand against pydicom's reading of them."""

from __future__ import annotations

import struct
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dsutils import decode

from bench.raw_scu import CT, store_command
from dicom_node.intake.command import (
    ProtocolViolation,
    StoreRequest,
    decode_command,
    encode_store_response,
    store_request,
)

REQUEST = StoreRequest(5, 77, CT.encode(), b"1.2.3", True)


def _command(pdus: bytes, maximum: int) -> bytes:
    command, offset = b"", 0
    while offset < len(pdus):
        kind, length = struct.unpack_from(">BxL", pdus, offset)
        size, context_id, control = struct.unpack_from(">LBB", pdus, offset + 6)
        assert (kind, context_id, size + 4) == (4, 5, length)
        assert not maximum or length <= maximum
        command += pdus[offset + 12 : offset + 6 + length]
        offset += 6 + length
        assert (control == 3) == (offset == len(pdus))
    return command


@pytest.mark.parametrize("maximum", [0, 7, 50, 16384])
def test_the_response_is_what_the_standard_says_and_fits_the_peers_maximum(maximum: int) -> None:
    pdus = encode_store_response(REQUEST, 0xA700, "the disk is full", maximum)
    found = decode(BytesIO(_command(pdus, maximum)), True, True)
    assert (found.CommandField, found.MessageIDBeingRespondedTo) == (0x8001, 77)
    assert (found.Status, found.ErrorComment) == (0xA700, "the disk is full")
    assert (found.AffectedSOPClassUID, found.AffectedSOPInstanceUID) == (CT, "1.2.3")
    assert found.CommandDataSetType == 0x0101


def test_success_has_no_comment() -> None:
    assert b"\x02\x09" not in encode_store_response(REQUEST, 0, "ignored", 0)


def test_a_request_is_read_back() -> None:
    values = decode_command(store_command(CT, "1.2.3", 77))
    assert store_request(values, 5) == REQUEST


@given(st.binary(max_size=200))
def test_random_bytes_are_decoded_or_refused(data: bytes) -> None:
    try:
        values = decode_command(data)
    except ProtocolViolation:
        return
    assert sum(8 + len(one) for one in values.values()) == len(data)
