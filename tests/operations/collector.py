"""A syslog collector on the loopback that records what it gets."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_HEADER = re.compile(
    rb"<(?P<priority>\d+)>1 (?P<at>\S+) (?P<host>\S+) dicom-node \d+ DICOM\+RFC3881 - \xef\xbb\xbf"
)


class RecordingCollector:
    """Takes connections (TCP, TLS) or datagrams, until it is stopped; may start again."""

    def __init__(self, context: ssl.SSLContext | None = None, *, udp: bool = False) -> None:
        self.received: list[bytes] = []
        self.problems: list[str] = []
        self.port = 0
        self._context = context
        self._udp = udp
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Listen, on the port of before where there was one."""
        kind = socket.SOCK_DGRAM if self._udp else socket.SOCK_STREAM
        listening = socket.socket(socket.AF_INET, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        self._open.append(listening)
        if self._udp:
            self._begin(self._take_datagrams, listening)
        else:
            listening.listen()
            self._begin(self._accept, listening)

    def stop(self) -> None:
        """End the port and every connection at once."""
        opened, self._open = self._open, []
        for one in opened:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(5)
        self._threads.clear()

    def messages(self) -> list[str]:
        """The audit messages, in the order in which they came."""
        return [one[found.end():].decode() for one in self.received
                if (found := _HEADER.match(one))]

    def priorities(self) -> list[int]:
        """The priority of each message."""
        return [int(found["priority"]) for one in self.received if (found := _HEADER.match(one))]

    def _begin(self, target: object, connection: socket.socket) -> None:
        thread = threading.Thread(target=target, args=(connection,), daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                self._open.append(connection)
                self._begin(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            waiting = b""
            while piece := connection.recv(65536):
                waiting += piece
                waiting = self._split(waiting)
        except OSError as error:
            self.problems.append(type(error).__name__)
        finally:
            connection.close()

    def _split(self, waiting: bytes) -> bytes:
        while b" " in waiting:
            count, _, rest = waiting.partition(b" ")
            assert count.isdigit() and not count.startswith(b"0"), count[:20]
            if len(rest) < int(count):
                break
            self.received.append(rest[: int(count)])
            waiting = rest[int(count):]
        return waiting

    def _take_datagrams(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while datagram := listening.recv(70_000):
                self.received.append(datagram)


@contextmanager
def collecting(
    context: ssl.SSLContext | None = None, *, udp: bool = False
) -> Iterator[RecordingCollector]:
    """A collector that listens."""
    collector = RecordingCollector(context, udp=udp)
    collector.start()
    try:
        yield collector
    finally:
        collector.stop()
