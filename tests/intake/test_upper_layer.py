"""Hostile bytes on a live socket: that association ends, the next one is served."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable

import pytest

from bench.raw_scu import (
    CT,
    EXPLICIT,
    VERIFICATION,
    Closed,
    associate_request,
    command_set,
    echo_command,
    element,
    item,
    pdu,
    store_command,
    store_message,
    uid,
    value,
)
from tests.intake.conftest import CONTEXTS, Node, slice_of
from tests.intake.test_stream import VIOLATIONS

Start = Callable[..., Node]


def _until_closed(connection: socket.socket) -> bytes:
    received = b""
    while True:
        try:
            piece = connection.recv(65536)
        except ConnectionError:
            return received
        if not piece:
            return received
        received += piece


def test_every_violation_is_answered_by_an_abort_and_leaves_nothing(start: Start) -> None:
    node = start(max_pdu_bytes=4096)
    for data in VIOLATIONS.values():
        scu = node.scu()
        scu.send(data)
        with pytest.raises(Closed) as closed:
            scu.read_pdu()
        assert closed.value.args[0][2:3] in (b"\x02", b"")
    assert node.answers_echo()
    assert node.kept() == node.half_received() == []


@pytest.mark.parametrize("kind", [0, 8, 99, 255])
def test_an_unknown_kind_of_pdu_aborts(start: Start, kind: int) -> None:
    node = start()
    scu = node.scu()
    scu.send(pdu(kind, bytes(20)))
    with pytest.raises(Closed):
        scu.read_pdu()
    assert node.answers_echo()


@pytest.mark.parametrize("kind", [1, 2, 3, 6])
def test_a_pdu_of_another_state_aborts(start: Start, kind: int) -> None:
    node = start()
    scu = node.scu()
    scu.send(pdu(kind, bytes(4)) if kind != 1 else associate_request("A", "B", []))
    with pytest.raises(Closed):
        scu.read_pdu()
    assert node.answers_echo()


def test_bytes_before_an_association_are_refused(start: Start) -> None:
    node = start()
    for data in (
        pdu(4, value(1, 3, echo_command())),
        pdu(5, bytes(4)),
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">BxL", 1, 0xFFFFFFFF) + bytes(100),
        pdu(1, bytes(10)),
        pdu(1, bytes(100)),
    ):
        with socket.create_connection(("127.0.0.1", node.port), 20) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            _until_closed(connection)
    assert node.answers_echo()


def test_a_request_with_no_contexts_or_128_of_them_is_answered(start: Start) -> None:
    node = start()
    many = [(2 * n + 1, f"1.2.3.{n}" if n else CT, [EXPLICIT]) for n in range(128)]
    scu = node.scu(many)
    assert [scu.accepted[1], scu.accepted[255]] == [0, 3]
    assert scu.store(CT, *slice_of(1)) == 0


def test_a_request_with_a_context_for_nothing_is_rejected(both: Start) -> None:
    node = both()
    for_nothing = item(0x20, struct.pack(">B3x", 5) + item(0x40, EXPLICIT.encode()))
    request = pdu(1, associate_request("SCU", "DICOMNODE", CONTEXTS)[6:] + for_nothing)
    with socket.create_connection(("127.0.0.1", node.port), 20) as connection:
        connection.sendall(request)
        answer = connection.recv(100)
    assert answer[:10] == b"\x03\0\0\0\0\x04\0\x01\x02\x01"
    assert node.refusals() == ["access.malformed_request"]
    assert not any(name == "unexpected" for name, _ in node.happened)
    assert node.answers_echo()


def test_everything_pipelined_behind_one_another_is_answered_in_order(start: Start) -> None:
    node = start()
    scu = node.scu()
    messages = [store_message(1, CT, *slice_of(number), 300) for number in range(30)]
    scu.send(b"".join(messages) + pdu(5, bytes(4)))
    assert [scu.status() for _ in messages] == [0] * 30
    assert scu.read_pdu()[0] == 6
    assert len(node.kept()) == 30


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_a_message_in_small_pieces_of_tcp_is_the_same_message(start: Start, step: int) -> None:
    node = start()
    scu = node.scu()
    uid_sent, data = slice_of(1, 400)
    message = store_message(1, CT, uid_sent, data, 64)
    for position in range(0, len(message), step):
        scu.send(message[position : position + step])
    assert scu.status() == 0


@pytest.mark.parametrize("field", [0x20, 0x21, 0x10, 0x100, 0x110, 0x120, 0x130, 0x140, 0x150])
def test_messages_of_other_services_harm_nothing(start: Start, field: int) -> None:
    node = start()
    scu = node.scu()
    command = command_set(
        element(0x0002, uid(VERIFICATION))
        + element(0x0003, uid(VERIFICATION))
        + element(0x0100, struct.pack("<H", field))
        + element(0x0110, struct.pack("<H", 5))
        + element(0x0700, struct.pack("<H", 0))
        + element(0x0800, struct.pack("<H", 1))
        + element(0x1000, uid("1.2.3"))
        + element(0x1001, uid("1.2.3"))
        + element(0x1002, struct.pack("<H", 1))
        + element(0x1008, struct.pack("<H", 1))
    )
    scu.send(pdu(4, value(3, 3, command)) + pdu(4, value(3, 2, b"\x08\x00\x05\x00\0\0\0\0")))
    scu.socket.settimeout(5)
    scu.send(pdu(5, bytes(4)))
    _until_closed(scu.socket)
    assert node.answers_echo()


def test_a_message_of_no_known_kind_aborts(start: Start) -> None:
    node = start()
    scu = node.scu()
    command = command_set(
        element(0x0100, struct.pack("<H", 0x7777)) + element(0x0800, struct.pack("<H", 0x0101))
    )
    scu.send(pdu(4, value(3, 3, command)))
    with pytest.raises(Closed):
        scu.read_pdu()
    assert node.answers_echo()


def test_mutated_associations_never_harm_the_next_one(start: Start) -> None:
    node = start(max_pdu_bytes=4096)
    chance = random.Random(7)
    good = associate_request("SCU", "DICOMNODE", CONTEXTS)
    message = store_message(1, CT, *slice_of(1, 3000), 700) + pdu(4, value(3, 3, echo_command()))
    for turn in range(120):
        data = bytearray(good + message + pdu(5, bytes(4)))
        first = 0 if turn % 2 else len(good)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(first, len(data))] = chance.randrange(256)
        with socket.create_connection(("127.0.0.1", node.port), 20) as connection:
            try:
                connection.sendall(data[: chance.randint(1, len(data))])
                connection.shutdown(socket.SHUT_WR)
            except ConnectionError:
                continue
            _until_closed(connection)
    assert node.answers_echo()
    assert node.half_received() == []


def test_random_bytes_within_an_association_never_harm_the_next_one(start: Start) -> None:
    node = start()
    chance = random.Random(11)
    for _ in range(40):
        scu = node.scu()
        prefix = chance.choice([b"", pdu(4, value(1, 3, store_command(CT, "1.2.3")))])
        try:
            scu.send(prefix + chance.randbytes(chance.randint(1, 5000)))
            scu.socket.shutdown(socket.SHUT_WR)
        except OSError:
            continue
        _until_closed(scu.socket)
    assert node.answers_echo()
    assert node.kept() == node.half_received() == []
