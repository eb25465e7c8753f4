"""An HTTP server on a real socket of 127.0.0.1 that answers as a test tells it to."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from tests.ports import free_port


@dataclass(frozen=True)
class Asked:
    """One request; field names are in lower case."""

    method: str
    path: str
    fields: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Given:
    """One answer.

    ``cut_after`` closes the connection after so many bytes of the body; ``drip_s`` are the seconds
    between two of them.
    """

    status: int = 200
    body: bytes = b""
    fields: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    drip_s: float = 0.0


class LoopbackServer:
    """Answers requests by `answer`, each in a thread of its own, and keeps them in ``asked``.

    ``certificate`` is a file with a key and its certificate, for TLS. Where a test has made a
    network of its own, ``host`` is its address there.
    """

    host = "127.0.0.1"

    def __init__(self, certificate: Path | None = None) -> None:
        self.certificate = certificate
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self.port = free_port()
        self._connections: list[socket.socket] = []
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://{self.host}:{self.port}"

    def answer(self, asked: Asked) -> Given:
        raise NotImplementedError

    def __enter__(self) -> Self:
        outer = self
        self.closing.clear()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._handle()

            def do_POST(self) -> None:
                self._handle()

            def _handle(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                fields = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, self.path, fields, body)
                outer.asked.append(asked)
                given = outer.answer(asked)
                self.send_response(given.status)
                for name, value in given.fields.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(given.body)))
                self.end_headers()
                outer._write(self.wfile, given)
                self.close_connection = given.cut_after is not None

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            def get_request(self) -> tuple[socket.socket, Any]:
                connection, address = super().get_request()
                outer._connections.append(connection)
                return connection, address

            def handle_error(self, request: object, client_address: object) -> None:
                if not isinstance(sys.exc_info()[1], ConnectionError):
                    super().handle_error(request, client_address)  # type: ignore[arg-type]

        self._server = Server((self.host, self.port), Handler)
        if self.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def _write(self, file: BinaryIO, given: Given) -> None:
        if not given.drip_s:
            file.write(given.body[: given.cut_after])
            return
        for byte in given.body:
            file.write(bytes([byte]))
            if self.closing.wait(given.drip_s):
                return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
        while self._connections:
            # What is kept open for a next request would be answered after the end.
            with contextlib.suppress(OSError):
                self._connections.pop().shutdown(socket.SHUT_RDWR)


def self_signed(path: Path, name: str = "IP:127.0.0.1") -> Path:
    """A key and a certificate for ``name`` in one file, signed by itself."""
    key, certificate = path.with_suffix(".key"), path.with_suffix(".crt")
    subprocess.run([
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        "-subj", "/CN=test", "-addext", f"subjectAltName={name}",
        "-keyout", str(key), "-out", str(certificate),
    ], check=True, capture_output=True)
    path.write_bytes(key.read_bytes() + certificate.read_bytes())
    return path
