"""Syslog messages to a collector: RFC 5424, over TLS (RFC 5425), TCP (RFC 6587) or UDP (RFC 5426).

PS3.15 A.6 and A.7 say how audit messages travel: facility 10 (security), severity notice or
warning, MSGID ``DICOM+RFC3881``, the XML in UTF-8 behind its byte order mark.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_FACILITY, _NOTICE, _WARNING = 10, 5, 4
_MESSAGE_ID = "DICOM+RFC3881"
_APPLICATION = "dicom-node"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# What a UDP datagram of IPv4 can carry.
_LARGEST_DATAGRAM = 65_507
_PATIENCE_S = 10.0
_VERDICT_S = 1.0


@dataclass(frozen=True)
class Collector:
    """Who takes the messages; file names are of PEM files, ``None`` where there is none.

    Without ``ca_file`` a TLS collector must have a certificate that the host trusts.
    """

    host: str
    port: int
    transport: str = "tls"
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None


class Line(Protocol):
    """A way to a collector that is open."""

    def send(self, message: bytes) -> None:
        """Hand one message over; raises `OSError` where the collector is away."""

    def check(self) -> None:
        """Raises `OSError` where the collector has ended it meanwhile."""

    def close(self) -> None:
        """Give it back."""


def format_message(text: str, at: str, *, is_warning: bool, hostname: str) -> bytes:
    """One message as RFC 5424 section 6 has it.

    Parameters
    ----------
    text
        The audit message.
    at
        When it was made, as RFC 3339 writes it.
    hostname
        Of this machine, without spaces.
    """
    priority = _FACILITY * 8 + (_WARNING if is_warning else _NOTICE)
    header = f"<{priority}>1 {at} {hostname} {_APPLICATION} {os.getpid()} {_MESSAGE_ID} - "
    return header.encode("ascii", "replace") + _BYTE_ORDER_MARK + text.encode()


def connect(collector: Collector) -> Line:
    """A way to a collector.

    Raises
    ------
    OSError
        It is away, or its certificate is not trusted, or a file cannot be used.
    """
    if collector.transport == "udp":
        return _Datagrams(collector)
    return _Stream(collector)


class _Stream:
    """Octet counting (RFC 5425 section 4.3, RFC 6587 section 3.4.1) on a connection."""

    def __init__(self, collector: Collector) -> None:
        connection = socket.create_connection((collector.host, collector.port), _PATIENCE_S)
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if collector.transport == "tls":
                connection = tls_context(collector).wrap_socket(
                    connection, server_hostname=collector.host
                )
            self._connection = connection
            if isinstance(connection, ssl.SSLSocket) and connection.version() == "TLSv1.3":
                # What the collector thinks of the node's certificate it says behind the handshake.
                self.check(_VERDICT_S)
        # Whatever kept it from being used, it is not left open.
        except BaseException:
            connection.close()
            raise

    def check(self, wait_s: float = 0.0) -> None:
        # A collector says nothing, unless by the end of its side that it has gone.
        if select.select([self._connection], [], [], wait_s)[0] and self._has_ended():
            raise ConnectionResetError("the collector has closed the connection")

    def send(self, message: bytes) -> None:
        self.check()
        self._connection.sendall(f"{len(message)} ".encode() + message)

    def _has_ended(self) -> bool:
        self._connection.setblocking(False)
        try:
            return not self._connection.recv(4096)
        except (BlockingIOError, ssl.SSLWantReadError):
            # A session ticket, or the like.
            return False
        finally:
            self._connection.settimeout(_PATIENCE_S)

    def close(self) -> None:
        self._connection.close()


class _Datagrams:
    """A message a datagram, which nobody acknowledges."""

    def __init__(self, collector: Collector) -> None:
        family, kind, protocol, _, address = socket.getaddrinfo(
            collector.host, collector.port, type=socket.SOCK_DGRAM
        )[0]
        self._socket = socket.socket(family, kind, protocol)
        # Connected, so that a host that refuses says so.
        self._socket.connect(address)

    def check(self) -> None:
        """Nobody is there who could have ended it."""

    def send(self, message: bytes) -> None:
        self._socket.send(message[:_LARGEST_DATAGRAM])

    def close(self) -> None:
        self._socket.close()


def tls_context(collector: Collector) -> ssl.SSLContext:
    """TLS 1.2 or newer, the collector's name checked, and the node's own certificate shown.

    Raises
    ------
    OSError
        A file cannot be read or used (`ssl.SSLError` is one).
    """
    context = ssl.create_default_context(
        cafile=str(collector.ca_file) if collector.ca_file is not None else None
    )
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if collector.certificate_file is not None:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(
            collector.certificate_file, collector.key_file, password=lambda: b""
        )
    return context
