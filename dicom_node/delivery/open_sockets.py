"""The sockets that deliveries wait on, so that stopping the node need not wait for a peer.

A thread that waits for a peer cannot be ended from outside, but its socket can: it then sees a
connection that is gone, as it would if the peer had left.
"""

from __future__ import annotations

import contextlib
import socket
import threading

from dicom_node.errors import PeerUnavailable

STOPPING = "node.stopping"


class OpenSockets:
    """The open connections of one sender; safe to use from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._closed = False

    def add(self, connection: socket.socket) -> None:
        """Keep an eye on a new connection.

        Raises
        ------
        PeerUnavailable
            The node is stopping (``node.stopping``); the connection is closed.
        """
        with self._changed:
            if not self._closed:
                self._open.add(connection)
                return
        connection.close()
        raise PeerUnavailable("the node is stopping", reason=STOPPING)

    def close_one(self, connection: socket.socket) -> None:
        """Close a connection that is over."""
        with self._changed:
            self._open.discard(connection)
            self._changed.notify_all()
        connection.close()

    def wait_until_none(self, patience_s: float) -> bool:
        """Wait for the connections to be closed by those who opened them."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, patience_s)

    def cut_all(self) -> None:
        """End every connection, now and later; whoever waits on one finds it gone."""
        with self._changed:
            self._closed = True
            for connection in self._open:
                # Not close(): its number may belong to another file while a thread still waits.
                # Nor the shutdown() of an SSLSocket: what is sent next would go in the clear.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
