"""The parser alone: any bytes, cut anywhere."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.raw_scu import (
    CT,
    VERIFICATION,
    command_set,
    data_pdus,
    echo_command,
    element,
    pdu,
    store_command,
    store_message,
    uid,
    value,
)
from dicom_node.intake.command import ProtocolViolation, StoreRequest
from dicom_node.intake.stream import MessageStream, PduStream

MAXIMUM = 4096


class Kept:
    """A data set gathered in memory."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.state = "open"

    def write(self, pieces: list[memoryview]) -> None:
        assert self.state == "open"
        for piece in pieces:
            self.data += piece

    def finish(self) -> None:
        assert self.state == "open"
        self.state = "finished"

    def abandon(self) -> None:
        self.state = "abandoned"


class Found:
    """`Messages` that remembers; contexts 1 and 3 are accepted."""

    def __init__(self) -> None:
        self.requests: list[StoreRequest] = []
        self.kept: list[Kept] = []
        self.others: list[tuple[int, int, bytes]] = []

    def is_accepted(self, context_id: int) -> bool:
        return context_id in (1, 3)

    def store(self, request: StoreRequest) -> Kept:
        self.requests.append(request)
        self.kept.append(Kept())
        return self.kept[-1]

    def other(self, context_id: int, control: int, fragment: bytes) -> None:
        self.others.append((context_id, control, fragment))


def run(data: bytes, cuts: Any = ()) -> tuple[Found, int]:
    """Feed `data` in pieces from one reused buffer, as a socket would; bytes not taken."""
    found = Found()
    messages = MessageStream(found)
    stream = PduStream(messages, MAXIMUM)
    buffer = bytearray(len(data) + 64)
    view = memoryview(buffer)
    filled = 0
    try:
        edges = [0, *sorted({min(cut, len(data)) for cut in cuts}), len(data)]
        for start, end in pairwise(edges):
            view[filled : filled + end - start] = data[start:end]
            filled += end - start
            used = stream.feed(view[:filled])
            view[: filled - used] = bytes(view[used:filled])
            filled -= used
            # Views given out are invalid from here: whoever kept one reads this instead.
            view[filled:] = b"\xaa" * (len(view) - filled)
    finally:
        messages.abandon()
    return found, filled


DATA = bytes(range(256)) * 40


def test_a_store_message_gives_its_request_and_its_exact_data_set() -> None:
    found, left = run(store_message(1, CT, "1.2.3", DATA, MAXIMUM))
    assert found.requests == [StoreRequest(1, 1, CT.encode(), b"1.2.3", True)]
    assert bytes(found.kept[0].data) == DATA
    assert (found.kept[0].state, left) == ("finished", 0)


@given(st.lists(st.integers(0, 14000), max_size=60))
def test_bytes_may_be_cut_anywhere(cuts: list[int]) -> None:
    data = store_message(1, CT, "1.2.3", DATA, 700) + store_message(3, CT, "1.2.4", b"x", 700)
    found, left = run(data, cuts)
    assert [bytes(kept.data) for kept in found.kept] == [DATA, b"x"]
    assert left == 0


def test_one_byte_at_a_time_gives_the_same() -> None:
    data = store_message(1, CT, "1.2.3", DATA[:600], 100)
    assert bytes(run(data, range(len(data)))[0].kept[0].data) == DATA[:600]


@pytest.mark.parametrize("size", [1, 2, 3, 255, 256, MAXIMUM - 6])
def test_fragments_of_every_size_are_joined(size: int) -> None:
    command = pdu(4, value(1, 3, store_command(CT, "1.2.3")))
    found, _ = run(command + b"".join(data_pdus(1, DATA[:9000], size)))
    assert bytes(found.kept[0].data) == DATA[:9000]


def test_several_values_in_one_pdu_and_empty_ones_are_taken() -> None:
    values = [value(1, 3, store_command(CT, "1.2.3")), value(1, 0, b"ab"), value(1, 0, b"")]
    found, _ = run(pdu(4, b"".join([*values, value(1, 0, b"cd"), value(1, 2, b"")])))
    assert bytes(found.kept[0].data) == b"abcd"
    assert found.kept[0].state == "finished"


def test_a_command_set_split_over_values_and_pdus_is_joined() -> None:
    command = store_command(CT, "1.2.3")
    pdus = [pdu(4, value(1, 1, command[start : start + 7])) for start in range(0, 63, 7)]
    found, _ = run(b"".join([*pdus, pdu(4, value(1, 3, command[63:]) + value(1, 2, b"xy"))]))
    assert bytes(found.kept[0].data) == b"xy"


def test_only_the_two_significant_bits_of_the_control_header_count() -> None:
    found, _ = run(pdu(4, value(1, 0xFF, store_command(CT, "1.2.3")) + value(1, 0xFE, b"xy")))
    assert bytes(found.kept[0].data) == b"xy"


def test_any_other_message_is_passed_on_with_the_same_bytes() -> None:
    find = command_set(
        element(0x0002, uid("1.2.840.10008.5.1.4.1.2.2.1"))
        + element(0x0100, struct.pack("<H", 0x20))
        + element(0x0110, struct.pack("<H", 9))
        + element(0x0800, struct.pack("<H", 1))
    )
    data = pdu(4, value(3, 3, echo_command())) + pdu(4, value(1, 3, find))
    found, _ = run(data + pdu(4, value(1, 0, b"ab") + value(1, 2, b"cd")), range(0, 900, 5))
    assert found.others == [
        (3, 3, echo_command()), (1, 3, find), (1, 0, b"ab"), (1, 2, b"cd")
    ]  # fmt: skip


def test_another_kind_of_pdu_is_left_for_the_state_machine() -> None:
    release = pdu(5, bytes(4))
    _, left = run(store_message(1, CT, "1.2.3", DATA, MAXIMUM) + release)
    assert left == len(release)


def _command_without(number: int) -> bytes:
    elements = {
        0x0002: uid(CT),
        0x0100: struct.pack("<H", 1),
        0x0110: struct.pack("<H", 1),
        0x0800: struct.pack("<H", 1),
        0x1000: uid("1.2.3"),
    }
    return command_set(b"".join(element(n, v) for n, v in elements.items() if n != number))


STORE = value(1, 3, store_command(CT, "1.2.3"))
VIOLATIONS = {
    "PDU above our maximum": pdu(4, STORE) + struct.pack(">BxL", 4, MAXIMUM + 1),
    "PDU of 4 GB": struct.pack(">BxL", 4, 0xFFFFFFFF),
    "empty PDU": pdu(4, b""),
    "value bigger than its PDU": pdu(4, struct.pack(">LBB", 100, 1, 3) + b"abcd"),
    "value of length 0": pdu(4, struct.pack(">LBB", 0, 1, 3)),
    "value of length 1": pdu(4, struct.pack(">LBB", 1, 1, 3)),
    "PDU that ends in a value header": pdu(4, STORE + b"\0\0\0"),
    "data before command": pdu(4, value(1, 2, b"abcd")),
    "context that was not accepted": pdu(4, value(5, 3, store_command(CT, "1.2.3"))),
    "context 0": pdu(4, value(0, 3, store_command(CT, "1.2.3"))),
    "context that changes": pdu(4, STORE + value(3, 2, b"abcd")),
    "command within a data set": pdu(4, STORE + value(1, 0, b"abcd") + STORE),
    "command that never ends": pdu(4, value(1, 1, bytes(4000))) * 20,
    "command of odd length": pdu(4, value(1, 3, element(0x0100, b"abc") + b"\0")),
    "command element beyond its end": pdu(4, value(1, 3, struct.pack("<HHL", 0, 2, 999))),
    "command that ends in an element header": pdu(4, value(1, 3, b"\0\0\0\0\4\0")),
    "element of another group": pdu(4, value(1, 3, struct.pack("<HHL", 8, 2, 0))),
    "empty command": pdu(4, value(1, 3, b"")),
    **{
        f"store without (0000,{number:04X})": pdu(4, value(1, 3, _command_without(number)))
        for number in (0x0002, 0x0100, 0x0110, 0x0800, 0x1000)
    },
}


@pytest.mark.parametrize("data", VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_what_no_state_allows_is_a_violation(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        run(data)
    with pytest.raises(ProtocolViolation):
        run(data, range(len(data)))


def test_a_violation_abandons_the_half_received_data_set() -> None:
    found = Found()
    messages = MessageStream(found)
    stream = PduStream(messages, MAXIMUM)
    with pytest.raises(ProtocolViolation):
        stream.feed(memoryview(pdu(4, STORE + value(1, 0, b"abcd")) + pdu(4, b"")))
    messages.abandon()
    assert found.kept[0].state == "abandoned"


@settings(max_examples=300)
@given(st.binary(max_size=600), st.lists(st.integers(0, 600), max_size=10))
def test_random_bytes_are_parsed_or_refused_and_nothing_else(data: bytes, cuts: list[int]) -> None:
    try:
        found, _ = run(data, cuts)
    except ProtocolViolation:
        return
    assert all(kept.state in ("finished", "abandoned") for kept in found.kept)


@settings(max_examples=500)
@given(
    st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 255)), min_size=1, max_size=6),
    st.lists(st.integers(0, 1200), max_size=10),
    st.integers(0, 1200),
)
def test_mutated_messages_are_parsed_or_refused_and_nothing_else(
    changes: list[tuple[int, int]], cuts: list[int], length: int
) -> None:
    good = pdu(4, value(3, 3, echo_command())) + store_message(1, CT, "1.2.3", DATA[:600], 100)
    data = bytearray(good)
    for position, byte in changes:
        data[position % len(data)] = byte
    try:
        found, _ = run(bytes(data[:length]), cuts)
    except ProtocolViolation:
        return
    assert all(len(kept.data) <= len(data) for kept in found.kept)


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 3, 5]),
            st.integers(0, 255),
            st.one_of(
                st.binary(max_size=40),
                st.just(store_command(CT, "1.2.3")),
                st.just(echo_command()),
                st.just(store_command(VERIFICATION, "1.2.3")[:50]),
            ),
        ),
        max_size=12,
    ),
    st.lists(st.integers(0, 2000), max_size=10),
)
def test_well_formed_values_in_any_order_are_taken_or_refused(
    values: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    data = b"".join(pdu(4, value(*one)) for one in values)
    try:
        _, left = run(data, cuts)
    except ProtocolViolation:
        return
    assert left == 0
