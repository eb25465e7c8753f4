"""DIMSE-N requests that no library would send: a status or an abort, and the listener lives."""

from __future__ import annotations

import struct

import pytest

from bench.raw_scu import (
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    Closed,
    RawScu,
    command_set,
    data_pdus,
    element,
    pdu,
    uid,
    value,
)
from dicom_node import references
from dicom_node.references import PUSH_MODEL, PUSH_MODEL_INSTANCE
from tests.intake.serving import ServingNode as Node

CONTEXTS = ((1, PUSH_MODEL, [IMPLICIT]), (3, VERIFICATION, [EXPLICIT]))
N_ACTION, N_EVENT_REPORT = 0x0130, 0x0100
ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0)


def short(number: int, content: int) -> bytes:
    return element(number, struct.pack("<H", content))


def action(instance: str = PUSH_MODEL_INSTANCE, *, data_set: bool = True) -> bytes:
    return command_set(
        element(0x0003, uid(PUSH_MODEL)) + short(0x0100, N_ACTION) + short(0x0110, 7)
        + short(0x0800, 0 if data_set else 0x0101) + element(0x1001, uid(instance))
        + short(0x1008, 1)
    )  # fmt: skip


def message(command: bytes, data: bytes = b"") -> bytes:
    whole = pdu(4, value(1, 3, command))
    return whole + b"".join(data_pdus(1, data, 65_536)) if data else whole


def sequence(tag: int, content: bytes) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(content)) + content


def still_serves(node: Node) -> bool:
    scu = RawScu(node.port, CONTEXTS)
    data = references.encode(
        {
            references.TRANSACTION_UID: "1.2.3",
            references.REFERENCED_SOP_SEQUENCE: [references.reference("1.2", "1.3")],
        },
        explicit_vr=False,
    )
    scu.send(message(action(), data))
    status = scu.status()
    scu.abort()
    return status == 0x0000


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (sequence(0x00081199, ITEM * (references.MOST_ITEMS + 1)), 0x0213),
        (struct.pack("<HHL", 0x0008, 0x1199, 0xFFFFFFFF) + ITEM * 1000, 0x0115),
        (struct.pack("<HHL", 0x0008, 0x1195, 0x7FFFFFFF) + b"1.2.", 0x0115),
        (sequence(0x00081195, b"not a UID!"), 0x0115),
        (bytes(1000), 0x0115),
    ],
)
def test_a_data_set_that_is_none_gets_a_status(node: Node, data: bytes, status: int) -> None:
    scu = RawScu(node.port, CONTEXTS)
    scu.send(message(action(), data))
    assert scu.status() == status
    assert scu.echo(3) == 0x0000
    scu.release()
    assert node.ledger.commitment_requests.find("1.2.3", "SCU") is None


def test_a_request_without_its_data_set_gets_a_status(node: Node) -> None:
    scu = RawScu(node.port, CONTEXTS)
    scu.send(message(action(data_set=False)))
    assert scu.status() == 0x0115
    scu.release()


def test_a_command_that_lacks_what_it_needs_gets_a_status(node: Node) -> None:
    scu = RawScu(node.port, CONTEXTS)
    scu.send(message(command_set(
        element(0x0002, uid(PUSH_MODEL)) + short(0x0100, N_EVENT_REPORT) + short(0x0110, 7)
        + short(0x0800, 0x0101)
    )))  # fmt: skip
    assert scu.status() == 0x0115
    scu.release()
    assert still_serves(node)


@pytest.mark.parametrize("instance", ["1.2.x!", "9" * 200])
def test_a_command_with_a_broken_uid_ends_at_most_its_association(
    node: Node, instance: str
) -> None:
    scu = RawScu(node.port, CONTEXTS)
    scu.send(message(action(instance), b"\x08\x00\x95\x11\x04\x00\x00\x001.2\0"))
    try:
        assert scu.status() != 0x0000
        scu.abort()
    except Closed:
        pass
    assert still_serves(node)


def test_a_message_without_end_is_cut_off(node: Node) -> None:
    scu = RawScu(node.port, CONTEXTS)
    piece = pdu(4, value(1, 0, bytes(65_536)))
    with pytest.raises((Closed, ConnectionError)):
        scu.send(pdu(4, value(1, 3, action())))
        for _ in range(1000):
            scu.send(piece)
        scu.status()
    assert still_serves(node)


def test_a_flood_of_requests_that_waits_for_no_answer_is_answered_or_cut_off(node: Node) -> None:
    scu = RawScu(node.port, CONTEXTS)
    report = command_set(
        element(0x0002, uid(PUSH_MODEL)) + short(0x0100, N_EVENT_REPORT) + short(0x0110, 7)
        + short(0x0800, 0x0101) + element(0x1000, uid(PUSH_MODEL_INSTANCE)) + short(0x1002, 1)
    )  # fmt: skip
    answered = 0
    try:
        scu.send(message(report) * 2000)
        while answered < 2000:
            assert scu.status() == 0x0115
            answered += 1
    except (Closed, ConnectionError):
        assert answered < 2000
    assert still_serves(node)
