"""A service manager for tests: the socket that a node notifies, and all that it is told."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PATIENCE_S = 60.0


class Notified:
    """Reads the datagrams of sd_notify(3); ``address`` is what NOTIFY_SOCKET holds."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.messages: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def read(self, for_s: float = 0.0) -> list[dict[str, str]]:
        """All that has come, and comes within that time."""
        until_s = time.monotonic() + for_s
        while select.select([self._socket], [], [], max(0.0, until_s - time.monotonic()))[0]:
            lines = self._socket.recv(4096).decode().split("\n")
            self.messages.append(dict(line.split("=", 1) for line in lines))
        return self.messages

    def told(self, name: str) -> list[str]:
        """Every value of a variable so far."""
        return [one[name] for one in self.read() if name in one]

    def wait_for(self, name: str, value: str | None = None, more_than: int = 0) -> None:
        """Until it has been told (so often, and more)."""
        self.wait(
            lambda: len([v for v in self.told(name) if value in (None, v)]) > more_than, name
        )

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"not told {what}: {self.messages}"
            self.read(0.05)

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def notified(folder: Path) -> Iterator[Notified]:
    manager = Notified(str(folder / "notify"))
    try:
        yield manager
    finally:
        manager.close()
