"""What strangers leave open keeps nobody else from the page."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from dicom_node.config_web import WebSettings
from dicom_node.events import Events
from dicom_node.operations.web import connections
from dicom_node.operations.web.access import Access
from dicom_node.operations.web.application import build_application
from dicom_node.operations.web.server import WebServer
from tests import tls_files
from tests.operations.web.conftest import Site

Serve = Callable[..., int]


async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that reads the whole request before it answers."""
    await Request(scope, receive).body()
    await PlainTextResponse("here")(scope, receive, send)


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers = []

    def begin(**settings: object) -> int:
        web = WebSettings.model_validate({"port": 0, **settings})
        one = WebServer(web, lambda: read_all, Events(), must_serve=True)
        one.start()
        servers.append(one)
        return one.port or 0

    yield begin
    for one in servers:
        one.stop()


def asked(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
        content: bytes = answer.read()
    return content


def opened(port: int, said: bytes = b"") -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port), timeout=20)
    one.sendall(said)
    return one


def is_closed(one: socket.socket) -> bool:
    """Whether the other side closes it, sooner or later."""
    try:
        return one.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n"])
def test_who_asks_is_answered_beside_a_crowd_that_does_not(serve: Serve, said: bytes) -> None:
    port = serve()
    crowd = [opened(port, said) for _ in range(connections.MOST_CONNECTIONS + 60)]
    assert asked(port) == b"here"
    assert is_closed(crowd[0]), "the oldest makes room"
    for one in crowd:
        one.close()


@pytest.mark.parametrize("said", [
    b"", b"GET / HTTP/1.1\r\nHost: x\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\nG",
])
def test_a_request_that_does_not_come_in_time_is_given_up(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(connections, "REQUEST_WITHIN_S", 0.3)
    with opened(serve(), said) as one:
        while not is_closed(one):
            continue


def test_handshakes_that_do_not_end_use_up_nothing(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_MOST_HANDSHAKES", 3)
    files = tls_files.site(tmp_path).node
    port = serve(certificate_file=files.certificate, key_file=files.key)
    crowd = [opened(port) for _ in range(4)]
    assert is_closed(crowd[-1])
    monkeypatch.setattr(connections, "_HANDSHAKE_S", 0.0)
    time.sleep(0.01)
    late = opened(port)
    late.settimeout(0.5)
    with pytest.raises(TimeoutError):
        late.recv(1)
    for one in (*crowd, late):
        one.close()


def test_monitors_are_answered_while_every_thread_is_busy(site: Site) -> None:
    go_on = threading.Event()

    def slow() -> tuple[bytes, str]:
        go_on.wait(60)
        return b"", "text/plain"

    web = WebSettings.model_validate({"port": 0})
    ports = replace(site.ports, metrics=slow)
    server = WebServer(
        web, lambda: build_application(ports, Access(web, b"k" * 32)), Events(), must_serve=True
    )
    server.start()
    port = server.port or 0
    try:
        busy = [opened(port, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
                for _ in range(60)]
        for probe in ("healthz", "readyz"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{probe}", timeout=20) as answer:
                assert answer.status == 200
        assert not go_on.is_set()
    finally:
        go_on.set()
        server.stop()
    for one in busy:
        one.close()
