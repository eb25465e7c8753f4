"""An end to waiting for a host that sends a byte now and then.

The limits of httpx are of one read each: a host that sends its header a byte a second, or says
``100 Continue`` for ever, would never meet one. Here its connection is shut after a time.
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


class Watch:
    """Shuts the connections of one client, of one thread, when an answer takes too long."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._sockets: list[socket.socket] = []
        self._timer: threading.Timer | None = None
        self.is_over = False

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """While one question is asked; the time begins when it has been sent."""
        self.is_over = False
        try:
            yield
        finally:
            self._stop()

    def begin(self) -> None:
        """Count the time from now."""
        self._stop()
        self._timer = threading.Timer(self._timeout_s + _MORE_S, self._end)
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
