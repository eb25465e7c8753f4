"""Accepted connections as pynetdicom wants them, with TLS and without, blocking and not."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time

from pynetdicom.transport import AssociationSocket


class AcceptedSocket(AssociationSocket):
    """An accepted socket, which may speak TLS, and may be cut by another thread."""

    def _shutdown_socket(self) -> None:
        connection = self.socket
        if connection is not None:
            with contextlib.suppress(OSError):
                # Not the method of an SSLSocket: it would let a thread that is about to send
                # do so in the clear.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
            connection.close()


class IntakeSocket(AcceptedSocket):
    """A non-blocking accepted socket; `send` waits for the peer at most ``send_timeout_s``."""

    send_timeout_s = 30.0

    def send(self, bytestream: bytes) -> None:
        """Send everything; a peer that does not take it counts as gone (Evt17)."""
        connection = self.socket
        if connection is None:
            return
        rest = memoryview(bytestream)
        deadline = time.monotonic() + self.send_timeout_s
        try:
            while rest:
                try:
                    rest = rest[connection.send(rest) :]
                except (BlockingIOError, ssl.SSLWantWriteError):
                    _wait_until(connection, select.POLLOUT, deadline)
                except ssl.SSLWantReadError:
                    _wait_until(connection, select.POLLIN, deadline)
        except OSError:
            self.event_queue.put("Evt17")


def _wait_until(connection: socket.socket, events: int, deadline: float) -> None:
    left_s = deadline - time.monotonic()
    if left_s <= 0 or not wait_for(connection, events, left_s):
        raise TimeoutError from None


def wait_for(connection: socket.socket, events: int, timeout_s: float) -> bool:
    """Whether one of ``events`` of poll(2) is there within so many seconds."""
    poller = select.poll()
    poller.register(connection, events)
    return bool(poller.poll(timeout_s * 1000))
