"""What a load balancer says of a caller, and what is made of it at the door."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterator, Sequence

import pytest

from dicom_node.intake.door import Door, Visitor, listening_socket
from dicom_node.intake.proxy_header import ProxyHeader, read_proxy_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
FIRST_PDU = b"\x01\x00"


def binary(source: str, command: int = 0x21, more: bytes = b"") -> bytes:
    one = ipaddress.ip_address(source)
    body = one.packed * 2 + (4242).to_bytes(2, "big") + b"\x00\x68" + more
    family = 0x11 if one.version == 4 else 0x21
    return SIGNATURE + bytes([command, family]) + len(body).to_bytes(2, "big") + body


@pytest.mark.parametrize(("data", "address"), [
    (binary("10.1.2.3"), ("10.1.2.3", 4242)),
    (binary("fd00::1"), ("fd00::1", 4242)),
    (binary("10.1.2.3", more=b"\x04\x00\x01\x00"), ("10.1.2.3", 4242)),
    (SIGNATURE + b"\x20\x00\x00\x00", None),
    (SIGNATURE + b"\x21\x31\x00\x04path", None),
    (b"PROXY TCP4 10.1.2.3 10.1.0.10 4242 104\r\n", ("10.1.2.3", 4242)),
    (b"PROXY TCP6 fd00::1 fd00::2 4242 104\r\n", ("fd00::1", 4242)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN whatever there is\r\n", None),
])  # fmt: skip
def test_both_versions_are_read_and_nothing_behind_them(
    data: bytes, address: tuple[str, int] | None
) -> None:
    assert read_proxy_header(data) == ProxyHeader(len(data), address)
    assert read_proxy_header(data + FIRST_PDU) == ProxyHeader(len(data), address)
    # Half a header is none, wherever it ends.
    assert {read_proxy_header(data[:length]) for length in range(len(data))} == {None}


@pytest.mark.parametrize("data", [
    b"", FIRST_PDU, b"PROXY TCP4\r\n", b"PROXY TCP4 fd00::1 fd00::2 1 2\r\n",
    b"PROXY TCP6 fe80::1%\x1b[2J fd00::2 4242 104\r\n",
    b"PROXY TCP4 10.1.2.3 10.1.0.10 99999 104\r\n", b"PROXY TCP4 10.1.2.3 10.1.0.10 x 104\r\n",
    b"PROXY \xff\xfe\r\n", b"PROXY TCP4 " + b"1" * 200 + b"\r\n", SIGNATURE + b"\x22\x11\x00\x00",
    SIGNATURE + b"\x11\x11\x00\x00", SIGNATURE + b"\x21\x11\x00\x04\x01\x02\x03\x04",
])  # fmt: skip
def test_what_is_no_header_is_none(data: bytes) -> None:
    assert read_proxy_header(data) is None


class Hall:
    """A door on loopback that takes ``proxies`` for balancers, and who came through it."""

    def __init__(self, proxies: Sequence[str] = ("127.0.0.0/8",)) -> None:
        self.came: list[tuple[tuple[str, int], bytes]] = []
        self.refused: list[tuple[str, str]] = []
        self.happened = threading.Event()
        listening = listening_socket("127.0.0.1", 0)
        self.address = listening.getsockname()
        self.door = Door(
            [(listening, False)], ["10.0.0.0/8"] if proxies else [], 20.0, self._admit,
            self._refuse, proxies=proxies,
        )
        self.door.open()

    def _admit(self, visitor: Visitor) -> None:
        with visitor.connection as connection:
            self.came.append((visitor.address, connection.recv(100)))
        self.happened.set()

    def _refuse(self, address: str, reason: str) -> None:
        self.refused.append((address, reason))
        self.happened.set()

    def say(self, *parts: bytes) -> None:
        """Connect, say this, and wait until the other side is done with it."""
        self.happened.clear()
        with socket.create_connection(self.address, 20.0) as connection:
            for part in parts:
                connection.sendall(part)
            assert self.happened.wait(20.0)


@pytest.fixture
def hall() -> Iterator[Hall]:
    made = Hall()
    yield made
    made.door.close()


def test_a_caller_is_known_by_the_address_that_the_balancer_tells(hall: Hall) -> None:
    hall.say(binary("10.1.2.3") + FIRST_PDU)
    hall.say(b"PROXY TCP4 10.1.2.4 10.1.0.10 4242 104\r\n", FIRST_PDU)
    assert hall.came == [(("10.1.2.3", 4242), FIRST_PDU), (("10.1.2.4", 4242), FIRST_PDU)]
    # The networks that may call are the callers', not the balancer's.
    hall.say(binary("192.168.1.1") + FIRST_PDU)
    assert hall.refused == [("192.168.1.1", "access.network")]


def test_what_a_balancer_passes_on_without_a_word_is_refused(hall: Hall) -> None:
    hall.say(FIRST_PDU)
    hall.say(SIGNATURE + b"\x21")
    assert hall.came == []
    assert hall.refused == [("127.0.0.1", "access.no_proxy_header")] * 2


def test_a_balancer_that_is_not_named_is_told_as_one() -> None:
    hall = Hall(proxies=())
    try:
        hall.say(binary("10.1.2.3") + FIRST_PDU)
        hall.say(b"PROXY TCP4 10.1.2.3 10.1.0.10 4242 104\r\n" + FIRST_PDU)
        hall.say(SIGNATURE + b"\x20\x00\x00\x00")
        assert hall.came == []
        assert hall.refused == [("127.0.0.1", "access.unknown_proxy")] * 3
    finally:
        hall.door.close()


def test_a_balancer_that_only_looks_whether_the_port_is_open_is_no_caller(hall: Hall) -> None:
    for said in (b"", SIGNATURE + b"\x20\x00\x00\x00", binary("10.1.2.3")):
        with socket.create_connection(hall.address, 20.0) as connection:
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
    assert not hall.came
    assert not hall.refused
