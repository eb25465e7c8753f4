"""TCP ports for the servers of tests: of two tests that run at once, none takes the other's."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

# Linux hands out ports from 32768 on.
_FIRST_PORT, _PORTS_EACH, _MOST_WORKERS = 12_000, 1_250, 16


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, and that no other test is given.

    It is none that the system hands out by itself, and each worker of pytest-xdist has its own.
    """
    for port in _own_ports:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("every port of this worker was given to a test")


def _ports_of(worker: str) -> Iterator[int]:
    first = _FIRST_PORT + _PORTS_EACH * (int(worker.removeprefix("gw")) % _MOST_WORKERS)
    return iter(range(first, first + _PORTS_EACH))


_own_ports = _ports_of(os.environ.get("PYTEST_XDIST_WORKER", "gw0"))
