"""An end to waiting for a host that sends, or takes, a byte now and then.

The limits of httpx are of one read or write each: a host that sends its header a byte a second,
says ``100 Continue`` for ever, or reads what it is asked a byte a second, would never meet one.
Here its connection is shut after a time.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

_OPENED = ("connection.connect_tcp.complete", "connection.start_tls.complete")
_SENT = (".send_request_body.complete",)
# What httpx ends itself is to be told as that.
_MORE_S = 0.25
# A volume may be on its way for longer than an answer: so fast at least is a host to take it.
SLOWEST_BYTES_PER_S = 1_000_000


class Watch:
    """Shuts the connections of one client, of one thread, when an answer takes too long."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._sockets: list[socket.socket] = []
        self._timer: threading.Timer | None = None
        self.is_over = False

    @contextlib.contextmanager
    def asking(self, size_bytes: int = 0) -> Iterator[None]:
        """While one question of so many bytes is asked.

        Until it is sent there is the time-out and what the bytes may take; then the time for the
        answer begins.
        """
        self.is_over = False
        self.begin(size_bytes / SLOWEST_BYTES_PER_S)
        try:
            yield
        finally:
            self._stop()

    def begin(self, more_s: float = 0.0) -> None:
        """Count the time from now, and ``more_s`` seconds on top of it."""
        self._stop()
        self._timer = threading.Timer(self._timeout_s + _MORE_S + more_s, self._end)
        self._timer.daemon = True
        self._timer.start()

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """What httpcore calls (its extension ``trace``)."""
        if event in _OPENED:
            opened = info["return_value"].get_extra_info("socket")
            self._sockets = [one for one in self._sockets if one.fileno() >= 0]
            if isinstance(opened, socket.socket):
                self._sockets.append(opened)
        elif event.endswith(_SENT):
            self.begin()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _end(self) -> None:
        self.is_over = True
        for one in self._sockets:
            # One that is closed by now has nothing to be shut. Not the method of an encrypted
            # socket, which takes its own state from under the thread that reads.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)
