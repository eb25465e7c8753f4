"""The caller's side of DICOM TLS: a peer with ``tls`` is called by TLS or not at all."""

from __future__ import annotations

import socket
import ssl
import time

from dicom_node.tls_context import Outgoing, complete_handshake


def secured(connection: socket.socket, how: Outgoing | None) -> socket.socket:
    """The connection to talk on, before its handshake; the same one where ``how`` is None.

    Raises
    ------
    OSError
        The peer is gone already; the connection is closed.
    """
    if how is None:
        return connection
    try:
        return how.context.wrap_socket(
            connection, server_hostname=how.server_hostname, do_handshake_on_connect=False
        )
    except OSError:
        connection.close()
        raise


def shake_hands(connection: socket.socket, timeout_s: float) -> None:
    """Do the TLS handshake, all of it within ``timeout_s``; nothing without TLS.

    Raises
    ------
    TimeoutError, ssl.SSLError, OSError
        `dicom_node.tls_context.failure_reason` names the cause.
    """
    if not isinstance(connection, ssl.SSLSocket):
        return
    complete_handshake(connection, time.monotonic() + timeout_s)
