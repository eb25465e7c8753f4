"""The callee's side of a TLS handshake, with one deadline for the whole of it."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time

from dicom_node.tls_context import complete_handshake, wait_for

_ALERT_LINGER_S = 1.0


def secured(connection: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    """An accepted connection to shake hands on, which takes its place and does not block.

    Raises
    ------
    OSError
        The caller is gone; the connection is closed.
    """
    connection.setblocking(False)
    try:
        return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
    except OSError:
        connection.close()
        raise


def shake_hands(connection: ssl.SSLSocket, deadline: float) -> None:
    """Do the whole handshake; ``deadline`` (s, monotonic clock) holds however slowly bytes come.

    Raises
    ------
    TimeoutError, ssl.SSLError, OSError
        No connection was made, and it is closed; `dicom_node.tls_context.failure_reason` names
        the cause.
    """
    try:
        complete_handshake(connection, deadline)
    except OSError as failure:
        if isinstance(failure, ssl.SSLError):
            _let_the_alert_be_read(connection)
        connection.close()
        raise


def _let_the_alert_be_read(connection: ssl.SSLSocket) -> None:
    # Closing with unread bytes would reset the connection before the caller has read why.
    until = time.monotonic() + _ALERT_LINGER_S
    with contextlib.suppress(OSError):
        # Past the TLS layer, which has given up.
        socket.socket.shutdown(connection, socket.SHUT_WR)
        while True:
            wait_for(connection, select.POLLIN, until)
            if not socket.socket.recv(connection, 1 << 14):
                return
