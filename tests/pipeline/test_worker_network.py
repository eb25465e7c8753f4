"""Which sockets a worker may open; each case in a process of its own, for a hook stays for ever."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

PROGRAM = """
import socket, sys
from dicom_node.pipeline.worker_network import NetworkGate
gate = NetworkGate()
gate.close()
port = int(sys.argv[1])
def tried(call):
    try:
        call()
    except PermissionError as error:
        return str(error).partition(" ")[0]
    except OSError as error:
        return type(error).__name__
    return "done"
def connect(host, port):
    socket.create_connection((host, port), timeout=5).close()
with gate.reaching(frozenset({%s})):
    print(tried(lambda: %s))
"""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def tried(port: int, hosts: str, call: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM % (hosts, call), str(port)],
        capture_output=True, text=True, check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("hosts", "call", "expected"),
    [
        ("", "connect('127.0.0.1', port)", "socket.getaddrinfo"),
        ("", "socket.socket().connect(('127.0.0.1', port))", "socket.connect"),
        ("('127.0.0.1', port)", "connect('127.0.0.1', port)", "done"),
        ("('127.0.0.1', port)", "socket.socket().connect(('127.0.0.1', port))", "done"),
        ("('localhost', port)", "connect('LOCALHOST', port)", "done"),
        ("('localhost', port)", "connect(b'localhost', str(port))", "done"),
        ("('localhost', port)", "socket.socket().connect(('127.0.0.1', port))", "socket.connect"),
        ("('127.0.0.1', port)", "connect('127.0.0.1', port + 1)", "socket.getaddrinfo"),
        ("('127.0.0.1', port)", "socket.socket().connect(('127.0.0.1', 9))", "socket.connect"),
        ("('127.0.0.1', port)", "connect('localhost', port)", "socket.getaddrinfo"),
        ("('127.0.0.1', port)", "socket.getaddrinfo('127.0.0.1', None)", "socket.getaddrinfo"),
        ("('127.0.0.1', port)", "socket.gethostbyname('localhost')", "socket.gethostbyname"),
        ("('127.0.0.1', port)", "socket.socket().bind(('127.0.0.1', 0))", "socket.bind"),
        (
            "('127.0.0.1', port)", "socket.socket(socket.AF_UNIX).connect('/run/docker.sock')",
            "socket.connect",
        ),
        (
            "('127.0.0.1', port)",
            "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
            "socket.sendto",
        ),
        (
            "('127.0.0.1', port)",
            "socket.socket(type=socket.SOCK_DGRAM).sendmsg([b'x'], [], 0, ('127.0.0.1', 9))",
            "socket.sendmsg",
        ),
        ("", "[one.sendmsg([b'x']) for one, _ in [socket.socketpair()]]", "done"),
    ],
)
def test_a_worker_reaches_where_it_is_told_and_nowhere_else(
    port: int, hosts: str, call: str, expected: str
) -> None:
    assert tried(port, hosts, call) == expected


def test_what_one_request_may_reach_the_next_may_not(port: int) -> None:
    program = PROGRAM % ("('localhost', port)", "connect('localhost', port)")
    program += "print(tried(lambda: socket.socket().connect(('127.0.0.1', port))))\n"
    done = subprocess.run(
        [sys.executable, "-c", program, str(port)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["done", "socket.connect"]


def test_who_was_asked_for_in_vain_is_remembered() -> None:
    program = PROGRAM.partition("with gate")[0] + (
        "tried(lambda: connect('registry.example', port))\n"
        "tried(lambda: socket.socket().connect(('192.0.2.1', 9)))\n"
        "tried(lambda: socket.socket().bind(('127.0.0.1', 0)))\n"
        "print(gate.refused)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "443"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(
        ["socket.getaddrinfo registry.example", "socket.connect ('192.0.2.1', 9)"]
    )
