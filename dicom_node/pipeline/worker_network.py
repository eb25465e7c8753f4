"""Which hosts a worker may reach: none, but for the one that serves the model of this request.

An audit hook sees every socket of Python code, whatever library opens it. It cannot be removed, so
it is put in once and told what it lets through.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_TO_AN_ADDRESS = ("socket.connect", "socket.sendto", "socket.sendmsg")
_MOST_KEPT = 20
_NEVER = ("socket.bind", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo")


class NetworkGate:
    """Refuses sockets to anywhere but where it is told; used by one process for its whole life.

    ``refused`` keeps, in words, the first hosts that were asked for and refused.
    """

    def __init__(self) -> None:
        self.refused: list[str] = []
        self._hosts: frozenset[tuple[str, int]] = frozenset()
        self._addresses: set[tuple[str, int]] = set()
        self._of_thread = threading.local()

    def close(self) -> None:
        """From here on this process reaches nothing outside of `reaching`."""
        sys.addaudithook(self._look)

    @contextmanager
    def reaching(self, hosts: frozenset[tuple[str, int]]) -> Iterator[None]:
        """Let sockets through to these ``(host, port)`` inside of the block."""
        self._hosts = hosts
        try:
            yield
        finally:
            self._hosts = frozenset()
            self._addresses = set()

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not event.startswith("socket."):
            return
        if event == "socket.getaddrinfo":
            refused = not self._resolves(*arguments[:2])
        elif event in _TO_AN_ADDRESS:
            refused = not self._may_reach(arguments[1])
        else:
            refused = event in _NEVER
        if refused:
            # Libraries bind a socket to see whether this host knows IPv6: that asks nobody.
            if event != "socket.bind" and len(self.refused) < _MOST_KEPT:
                what = arguments[1] if event in _TO_AN_ADDRESS else arguments[0]
                self.refused.append(f"{event} {what}")
            raise PermissionError(f"{event} is refused in an inference worker")

    def _may_reach(self, address: object) -> bool:
        if address is None:
            # On a socket that is connected already.
            return True
        if not isinstance(address, tuple) or len(address) < 2:
            return False
        return (address[0], address[1]) in self._hosts | self._addresses

    def _resolves(self, host: object, port: object) -> bool:
        """Whether the name may be asked for; what it stands for may then be reached."""
        if getattr(self._of_thread, "resolves", False):
            return True
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
        number = int(port) if isinstance(port, int | str) and str(port).isdecimal() else 0
        if (name.lower(), number) not in self._hosts:
            return False
        self._of_thread.resolves = True
        try:
            found = socket.getaddrinfo(name, number, type=socket.SOCK_STREAM)
        finally:
            self._of_thread.resolves = False
        self._addresses |= {(str(one[4][0]), number) for one in found}
        return True
