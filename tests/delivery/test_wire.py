from __future__ import annotations

import struct
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dsutils import decode
from pynetdicom.pdu import P_DATA_TF

from dicom_node.delivery import wire


def test_store_request_is_read_by_pynetdicom_as_it_was_meant() -> None:
    command = decode(BytesIO(wire.encode_store_request(7, "1.2.3", "1.2.3.4")), True, True)
    assert command.CommandGroupLength == len(wire.encode_store_request(7, "1.2.3", "1.2.3.4")) - 12
    assert command.CommandField == 0x0001
    assert command.MessageID == 7
    assert command.AffectedSOPClassUID == "1.2.3"
    assert command.AffectedSOPInstanceUID == "1.2.3.4"
    assert command.CommandDataSetType != 0x0101


def test_echo_request_is_read_by_pynetdicom_as_it_was_meant() -> None:
    command = decode(BytesIO(wire.encode_echo_request(1)), True, True)
    assert command.CommandField == 0x0030
    assert command.CommandDataSetType == 0x0101


def test_presentation_data_value_is_read_by_pynetdicom_as_it_was_meant() -> None:
    pdu = P_DATA_TF()
    pdu.decode(wire.pdv_pdu(5, wire.DATA_SET_LAST, b"abcd"))
    (value,) = pdu.presentation_data_value_items
    assert value.presentation_context_id == 5
    assert value.presentation_data_value == b"\x02abcd"


def test_command_comes_back_from_its_encoding() -> None:
    elements = wire.decode_command(wire.encode_store_request(9, "1.2", "1.3"))
    assert wire.unsigned_short(elements, wire.MESSAGE_ID) == 9
    assert elements[wire.AFFECTED_SOP_CLASS_UID] == b"1.2\0"


@pytest.mark.parametrize(
    "command_set",
    [
        b"\0",
        struct.pack("<HHI", 0, 0x900, 200) + b"\0\0",
        struct.pack("<HHI", 8, 0x900, 2) + b"\0\0",
    ],
)
def test_command_that_lies_about_itself_is_malformed(command_set: bytes) -> None:
    with pytest.raises(wire.MalformedPdu):
        wire.decode_command(command_set)


def test_status_of_the_wrong_size_is_malformed() -> None:
    with pytest.raises(wire.MalformedPdu):
        wire.unsigned_short({wire.STATUS: b"\0\0\0\0"}, wire.STATUS)


@given(st.binary(max_size=300))
def test_any_bytes_are_decoded_or_malformed(body: bytes) -> None:
    for read in (wire.decode_command, wire.decode_acceptance, lambda b: list(wire.iterate_pdvs(b))):
        try:
            read(body)
        except wire.MalformedPdu:
            continue


@given(st.binary(max_size=200))
def test_any_items_of_an_acceptance_are_decoded_or_malformed(items: bytes) -> None:
    try:
        acceptance = wire.decode_acceptance(bytes(68) + items)
    except wire.MalformedPdu:
        return
    assert all(0 <= context_id <= 255 for context_id in acceptance.results)
