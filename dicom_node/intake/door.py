"""Accepts connections, and keeps each at the door until its first byte has come.

In DICOM the caller speaks first, with TLS and without. One that says nothing costs a socket here
and no thread; the one that has waited longest of the address that has most goes when there are too
many, so that ten thousand half-open connections do not keep a modality out.

From a load balancer's address the balancer speaks first, and says for whom.
"""

from __future__ import annotations

import errno
import selectors
import socket
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dicom_node.intake.access import is_within
from dicom_node.intake.proxy_header import (
    MOST_BYTES,
    SIGNATURE_BYTES,
    begins_proxy_header,
    read_proxy_header,
)

MOST_WAITING = 256
_BACKLOG = 1024
_ACCEPTED_AT_ONCE = 64
_OUT_OF_FILES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


@dataclass(frozen=True)
class Visitor:
    """An accepted connection; ``deadline`` is when its association must have been asked for.

    ``is_proxy``: it comes from a balancer, which has not said yet who calls.
    """

    connection: socket.socket
    address: tuple[str, int]
    speaks_tls: bool
    deadline: float
    is_proxy: bool = False


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens beside others on the same port.

    Raises
    ------
    OSError
        The port is taken, or the host is not one of this machine's addresses.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    listening.setblocking(False)
    return listening


def _first_words(connection: socket.socket) -> bytes:
    """The beginning of what was said, which stays to be read; nothing: it is closed or broken."""
    try:
        return connection.recv(SIGNATURE_BYTES, socket.MSG_PEEK)
    except OSError:
        return b""


class Door:
    """The listening sockets of one process and a thread that watches them.

    Parameters
    ----------
    listening
        Sockets, each with whether it speaks TLS.
    allowed_networks
        From where connections are taken at all; empty: from everywhere.
    patience_s
        How long a connection may take until its association is asked for.
    admit
        Takes a visitor who has begun to speak; must not block.
    refused
        Told the address of who is turned away at once, and why.
    proxies
        Networks of load balancers, which say by the PROXY protocol who calls: from there nobody
        is let in without it, and what it says is believed.
    """

    def __init__(
        self,
        listening: Sequence[tuple[socket.socket, bool]],
        allowed_networks: Sequence[str],
        patience_s: float,
        admit: Callable[[Visitor], None],
        refused: Callable[[str, str], None],
        failed: Callable[[], None] = lambda: None,
        most_waiting: int = MOST_WAITING,
        proxies: Sequence[str] = (),
    ) -> None:
        self._listening = dict(listening)
        self._allowed = tuple(allowed_networks)
        self._proxies = tuple(proxies)
        self._patience_s = patience_s
        self._admit = admit
        self._refused = refused
        self._failed = failed
        self._most = most_waiting
        self._waiting: OrderedDict[socket.socket, Visitor] = OrderedDict()
        self._of_address: Counter[str] = Counter()
        self._ended = threading.Event()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        for one in [*self._listening, self._wake_reader]:
            self._selector.register(one, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="intake-accept", daemon=True)

    def open(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def close(self) -> None:
        """Accept no more, and let go who has said nothing yet."""
        self._ended.set()
        self._wake_writer.send(b"\0")
        if self._thread.ident is not None:
            self._thread.join()
        for one in [*self._listening, *self._waiting, self._wake_reader, self._wake_writer]:
            one.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                for key, _ in self._selector.select(self._timeout_s()):
                    self._serve(key.fileobj)
                self._dismiss_late()
            # A thread boundary: what one connection meets must not close the door.
            except Exception:  # noqa: BLE001
                self._failed()
                self._ended.wait(0.1)

    def _timeout_s(self) -> float | None:
        if not self._waiting:
            return None
        first = next(iter(self._waiting.values()))
        return max(0.0, first.deadline - time.monotonic())

    def _serve(self, ready: object) -> None:
        if not isinstance(ready, socket.socket):
            return
        if ready in self._listening:
            self._accept(ready, self._listening[ready])
        elif ready in self._waiting:
            visitor = self._take(ready)
            try:
                words = _first_words(ready)
                if not words:
                    # Someone who looked whether the port is open.
                    ready.close()
                    return
                if visitor.is_proxy:
                    self._hear_proxy(visitor)
                    return
                if self._is_stranger(visitor.address[0]):
                    self._refused(visitor.address[0], "access.network")
                    ready.close()
                    return
                if begins_proxy_header(words):
                    # No scanner does so: a balancer that the settings do not name, or not so.
                    self._refused(visitor.address[0], "access.unknown_proxy")
                    ready.close()
                    return
                self._admit(visitor)
            except BaseException:  # whatever it is, nobody else has this socket now
                ready.close()
                raise

    def _hear_proxy(self, visitor: Visitor) -> None:
        """Let the caller for whom a balancer speaks wait for its own first byte."""
        connection = visitor.connection
        header = read_proxy_header(connection.recv(MOST_BYTES, socket.MSG_PEEK))
        if header is None:
            self._refused(visitor.address[0], "access.no_proxy_header")
            connection.close()
            return
        connection.recv(header.length)
        self._let_wait(replace(
            visitor, address=header.address or visitor.address, is_proxy=False
        ))

    def _accept(self, listening: socket.socket, speaks_tls: bool) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, address = listening.accept()
            except OSError as error:
                if error.errno in _OUT_OF_FILES:
                    self._make_room()
                return
            try:
                self._welcome(connection, (str(address[0]), int(address[1])), speaks_tls)
            except OSError:
                connection.close()

    def _welcome(
        self, connection: socket.socket, address: tuple[str, int], speaks_tls: bool
    ) -> None:
        # This host itself is let wait: its watch over the listeners opens a door and says nothing.
        is_proxy = bool(self._proxies) and is_within(address[0], self._proxies)
        is_own = address[0] == connection.getsockname()[0]
        if self._is_stranger(address[0]) and not is_own and not is_proxy:
            connection.close()
            self._refused(address[0], "access.network")
            return
        if len(self._waiting) >= self._most:
            self._make_room()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        deadline = time.monotonic() + self._patience_s
        self._let_wait(Visitor(connection, address, speaks_tls, deadline, is_proxy))

    def _let_wait(self, visitor: Visitor) -> None:
        self._selector.register(visitor.connection, selectors.EVENT_READ)
        self._of_address[visitor.address[0]] += 1
        self._waiting[visitor.connection] = visitor

    def _is_stranger(self, address: str) -> bool:
        return bool(self._allowed) and not is_within(address, self._allowed)

    def _take(self, connection: socket.socket) -> Visitor:
        visitor = self._waiting.pop(connection)
        self._selector.unregister(connection)
        self._of_address[visitor.address[0]] -= 1
        if not self._of_address[visitor.address[0]]:
            del self._of_address[visitor.address[0]]
        return visitor

    def _make_room(self) -> None:
        if not self._waiting:
            # Out of files without anybody at the door: those inside must leave first.
            self._ended.wait(0.05)
            return
        crowd = max(self._of_address, key=self._of_address.__getitem__)
        self._dismiss(next(c for c, v in self._waiting.items() if v.address[0] == crowd),
                      "access.too_many_half_open")

    def _dismiss_late(self) -> None:
        now = time.monotonic()
        while self._waiting:
            connection, visitor = next(iter(self._waiting.items()))
            if visitor.deadline > now:
                return
            self._dismiss(connection, "access.nothing_said")

    def _dismiss(self, connection: socket.socket, reason: str) -> None:
        address = self._take(connection).address[0]
        connection.close()
        self._refused(address, reason)
