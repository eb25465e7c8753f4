"""Connections that ask for nothing, in thousands, and bytes that come one by one."""

from __future__ import annotations

import contextlib
import resource
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.raw_scu import CT, Closed, RawScu, associate_request, pdu, store_message, value
from dicom_node.intake.door import MOST_WAITING
from tests.attack.fuzz import Footprint, victim
from tests.intake.conftest import CONTEXTS, Node, slice_of

HALF_OPEN = 10_000


@pytest.fixture
def many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < HALF_OPEN + 1000:
        pytest.skip(f"the system allows {before[1]} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("many_files")
def test_a_modality_is_served_beside_ten_thousand_half_open_connections(tmp_path: Path) -> None:
    refusals: list[object] = []

    def tell(event: str, arguments: object) -> None:
        if event == "association_refused" and isinstance(arguments, dict):
            refusals.append(arguments["reason"])

    with victim(tmp_path, tell) as (listeners, _), ExitStack() as opened:
        (pid,) = listeners.pids
        before = Footprint.of(pid)
        for number in range(HALF_OPEN):
            connection = socket.create_connection(("127.0.0.1", listeners.port), 30)
            opened.callback(connection.close)
            if number % 2000 == 1999:
                scu = RawScu(listeners.port, CONTEXTS)
                assert scu.store(CT, *slice_of(number)) == 0
                scu.release()
        during = Footprint.of(pid)
        assert during.files <= before.files + MOST_WAITING + 8
        # The thread that receives and the one that decides, of one association each time.
        assert during.threads <= before.threads + 4
        assert listeners.pids == [pid]
    assert set(refusals) == {"access.too_many_half_open"}


def test_connections_that_begin_a_request_are_cut_off_before_they_keep_others_out(
    tmp_path: Path,
) -> None:
    """One byte is enough to pass the door; the oldest of them leave when they are too many."""
    with victim(tmp_path, lambda *_: None) as (listeners, _), ExitStack() as opened:
        (pid,) = listeners.pids
        for number in range(400):
            connection = socket.create_connection(("127.0.0.1", listeners.port), 30)
            opened.callback(connection.close)
            connection.sendall(b"\x01")
            if number % 100 == 99:
                scu = RawScu(listeners.port, CONTEXTS)
                assert scu.store(CT, *slice_of(number)) == 0
                scu.release()
        assert Footprint.of(pid).threads < 2 * (2 * 64 + 16) + 50


def test_a_request_that_comes_byte_by_byte_is_given_up_at_its_deadline(tmp_path: Path) -> None:
    node = Node(tmp_path / "spool", acse_timeout_s=1.0)
    request = associate_request("SLOW", "DICOMNODE", CONTEXTS)
    try:
        with socket.create_connection(("127.0.0.1", node.port), 30) as slow:
            begun = time.monotonic()
            with contextlib.suppress(ConnectionError):
                for byte in request:
                    slow.sendall(bytes([byte]))
                    time.sleep(0.02)
            assert time.monotonic() - begun < 0.02 * len(request)
        assert node.answers_echo()
    finally:
        node.listener.close(drain_s=0)


@pytest.mark.parametrize("piece_bytes", [1, 40])
def test_an_object_that_comes_drop_by_drop_is_given_up(tmp_path: Path, piece_bytes: int) -> None:
    """Also in whole PDUs, of which each is quick enough."""
    node = Node(tmp_path / "spool", network_timeout_s=1.0)
    scu = node.scu()
    uid, data = slice_of(1, 200_000)
    message = store_message(1, CT, uid, data, 40)
    try:
        with pytest.raises((Closed, ConnectionError)):
            for start in range(0, 20_000, piece_bytes):
                scu.send(message[start : start + piece_bytes])
                time.sleep(0.1 if piece_bytes > 1 else 0.02)
            scu.read_pdu()
        assert node.half_received() == []
    finally:
        node.listener.close(drain_s=0)


def test_a_slow_line_that_goes_on_is_no_attack(tmp_path: Path) -> None:
    """An object may take many times the time-out, and so may one PDU of it."""
    node = Node(tmp_path / "spool", network_timeout_s=0.5)
    scu = node.scu()
    uid, data = slice_of(1, 120_000)
    message = store_message(1, CT, uid, data, 130_000)
    try:
        for start in range(0, len(message), 8000):
            scu.send(message[start : start + 8000])
            time.sleep(0.12)
        assert scu.status() == 0
    finally:
        node.listener.close(drain_s=0)


@pytest.mark.parametrize(
    "data",
    [
        pdu(4, value(1, 0, bytes(131_072))),
        struct.pack(">BxL", 4, 0xFFFFFFFF),
        struct.pack(">BxL", 1, 0xFFFFFFFF),
        struct.pack(">BxLLBB", 4, 100, 0xFFFFFFFF, 1, 0),
        struct.pack(">BxLLBB", 4, 6, 1, 1, 0),
    ],
)
def test_lengths_beyond_what_was_agreed_take_no_memory(tmp_path: Path, data: bytes) -> None:
    node = Node(tmp_path / "spool")
    scu = node.scu()
    try:
        scu.send(data)
        with pytest.raises(Closed):
            scu.read_pdu()
        assert node.answers_echo()
    finally:
        node.listener.close(drain_s=0)
