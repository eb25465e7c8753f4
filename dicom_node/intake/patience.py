"""Ends the connection to a peer that stops, or all but stops, in the middle of a message.

pynetdicom waits for the rest of a PDU without a limit, and whoever breaks the association off then
waits for it as well. Its socket can be ended from outside: the peer seems to have left.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pynetdicom.association import Association

# So much later than the limits of pynetdicom itself, which tell more of what was waited for.
_LATER_S = 1.0


class Patience:
    """How long one association may go without a whole PDU; safe to use from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._association: Association | None = None
        self._limit_s = 0.0
        self._until_s: float | None = None
        self._thread: threading.Thread | None = None

    def watch(self, association: Association, limit_s: float) -> None:
        """Watch a connection that was opened just now; a PDU must come every ``limit_s``."""
        with self._changed:
            self._association = association
            self._thread = threading.Thread(target=self._run, name="patience", daemon=True)
            self._begin(limit_s)
            self._thread.start()

    def begin(self, limit_s: float) -> None:
        """From now on a PDU must come every ``limit_s``."""
        with self._changed:
            if self._association is not None:
                self._begin(limit_s)

    def renew(self) -> None:
        """A whole PDU came."""
        with self._changed:
            if self._until_s is not None:
                # The thread sees it when the former time is over: nobody need wake it.
                self._until_s = time.monotonic() + self._limit_s + _LATER_S

    def pause(self) -> None:
        """Nothing is waited for."""
        with self._changed:
            self._until_s = None

    def end(self) -> None:
        """The association is over."""
        with self._changed:
            self._association = None
            self._changed.notify_all()

    def _begin(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._until_s = time.monotonic() + limit_s + _LATER_S
        self._changed.notify_all()

    def _run(self) -> None:
        with self._changed:
            while self._association is not None:
                left_s = None if self._until_s is None else self._until_s - time.monotonic()
                if left_s is None or left_s > 0:
                    self._changed.wait(left_s)
                    continue
                self._until_s = None
                _cut(self._association)


def _cut(association: Association) -> None:
    transport = association.dul.socket
    connection = transport.socket if transport is not None else None
    if connection is not None:
        # Not close(): its number may belong to another file while a thread still waits. Nor the
        # shutdown() of an SSLSocket: what is sent next would go in the clear.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
