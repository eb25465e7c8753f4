"""Stands between a client and a host and keeps every byte that passes, whatever it is."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class Recorder:
    """``with Recorder(port) as between`` hands ``between.url`` on to a port of this machine.

    Without a port nobody is behind it: what comes is kept, and the connection shut.
    """

    def __init__(self, port: int | None = None) -> None:
        self.told = bytearray()
        self.answered = bytearray()
        self.connections = 0
        self._behind = port
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._begin(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for one in (self._listening, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(10)

    def _begin(self, target: object, *given: object) -> None:
        thread = threading.Thread(target=target, args=given, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self.connections += 1
                self._open.append(client)
                if self._behind is None:
                    self._begin(self._keep, client)
                    continue
                host = socket.create_connection(("127.0.0.1", self._behind))
                self._open.append(host)
                self._begin(self._hand_on, client, host, self.told)
                self._begin(self._hand_on, host, client, self.answered)

    def _keep(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self.told += client.recv(65_536)
        client.close()

    def _hand_on(self, source: socket.socket, target: socket.socket, kept: bytearray) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65_536):
                kept += piece
                target.sendall(piece)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
