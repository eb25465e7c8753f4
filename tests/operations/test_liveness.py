"""Ledger and listeners as they are asked whether they live."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from dicom_node.errors import LedgerDamaged, LedgerUnavailable
from dicom_node.operations import liveness
from dicom_node.operations.liveness import DoorWatch, LedgerWatch


@pytest.fixture(autouse=True)
def _always_time_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "_ASK_EVERY_S", 0.0)


@pytest.fixture
def hanging() -> Iterator[tuple[str, int]]:
    """A process that listens and takes nothing: the kernel answers for it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[:2]


@pytest.fixture
def taking() -> Iterator[tuple[str, int]]:
    """Takes connections, and closes each that says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[:2]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_listener_that_takes_connections_is_open(taking: tuple[str, int]) -> None:
    assert DoorWatch(lambda: [taking, ("0.0.0.0", taking[1])]).are_open()


def test_a_port_that_only_the_kernel_answers_for_is_not_open(hanging: tuple[str, int]) -> None:
    assert not DoorWatch(lambda: [hanging]).are_open(within_s=0.2)


def test_a_port_that_nobody_has_is_not_open(hanging: tuple[str, int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[:2]
    assert not DoorWatch(lambda: [free]).are_open(within_s=0.2)


def test_a_listener_that_hangs_is_told_once_it_is_silent_for_long(
    hanging: tuple[str, int], taking: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = DoorWatch(lambda: [hanging, taking])
    for _ in range(5):
        watch.tick()
    assert watch.problem() == ""
    monkeypatch.setattr(liveness, "_LONGEST_SILENCE_S", -1.0)
    watch.tick()
    assert watch.problem().startswith(f"port {hanging[1]} has not answered for")
    watch.stop()
    assert watch.problem() == ""


def test_a_ledger_that_takes_no_write_is_told_after_a_while(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Exception] = [LedgerUnavailable("locked")]

    def ask() -> None:
        if answers:
            raise answers[0]

    watch = LedgerWatch(ask)
    watch.start()
    watch.tick()
    assert watch.problem() == ""
    monkeypatch.setattr(liveness, "_LONGEST_SILENCE_S", -1.0)
    assert watch.problem().startswith("has not taken a write for")
    answers.clear()
    watch.tick()
    assert watch.problem() == ""


def test_a_damaged_ledger_ends_the_node_as_ever() -> None:
    def ask() -> None:
        raise LedgerDamaged("malformed")

    with pytest.raises(LedgerDamaged):
        LedgerWatch(ask).tick()
