"""The server in its thread: real sockets, real certificates, and a port that is taken."""

from __future__ import annotations

import socket
import ssl
import urllib.request
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from dicom_node.config_web import WebSettings
from dicom_node.errors import ConfigurationError
from dicom_node.events import Events
from dicom_node.operations.web.server import WebServer
from tests.operations.web.conftest import Told
from tests.tls_files import Pair, renew, site


def application() -> ASGIApp:
    return PlainTextResponse("here")


def server(told: Told, *, must_serve: bool = False, **settings: object) -> WebServer:
    web = WebSettings.model_validate({"port": 0, **settings})
    return WebServer(web, application, Events(told.sink), must_serve=must_serve)


def test_it_answers_and_ends_and_its_port_is_free_again() -> None:
    one = server(Told())
    one.start()
    port = one.port
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        assert answer.read() == b"here"
        assert "server" not in answer.headers
    one.stop()
    with socket.socket() as probe:
        # The connection above may still be winding down.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port or 0))


def test_a_port_that_is_taken_stops_no_node_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.operations.web.server._TRIED_AGAIN_AFTER_S", 0.0)
    told = Told()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        one = server(told, port=port)
        one.start()
        assert told.of("node_changed")[-1]["what"] == "cannot serve its page"
    one.tick()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        assert answer.read() == b"here"
    one.stop()


def test_a_process_that_is_there_for_the_page_alone_ends_on_it() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ConfigurationError, match=r"web\.port: cannot listen on"):
            server(Told(), must_serve=True, port=other.getsockname()[1]).start()


def test_a_certificate_that_is_none_is_told_by_its_key(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("none")
    files = {"certificate_file": tmp_path / "no.pem", "key_file": tmp_path / "no.pem"}
    with pytest.raises(ConfigurationError, match=r"web\.certificate_file"):
        server(Told(), must_serve=True, **files).start()


def test_it_is_harmless_to_stop_what_never_began() -> None:
    server(Told()).stop()


def test_it_speaks_tls_and_takes_up_a_renewed_certificate(tmp_path: Path) -> None:
    certificates = site(tmp_path)
    mine = Pair(tmp_path / "mine.pem", tmp_path / "mine.key")
    renew(mine, by=certificates.node)
    told = Told()
    one = server(told, certificate_file=mine.certificate, key_file=mine.key)
    one.start()

    def shown() -> str:
        context = ssl.create_default_context(cafile=str(certificates.ca))
        context.check_hostname = False
        address = ("127.0.0.1", one.port or 0)
        with (
            socket.create_connection(address, timeout=10) as plain,
            context.wrap_socket(plain) as wrapped,
        ):
            found = wrapped.getpeercert() or {}
        return str(dict(item for part in found["subject"] for item in part)["commonName"])  # type: ignore[arg-type, misc]

    try:
        assert shown() == "node.hospital"
        renew(mine, by=certificates.other)
        one.tick()
        assert shown() == "mr1.hospital"
        assert told.of("node_changed")[-1]["what"] == "took up a renewed certificate"
        mine.key.write_text("half")
        one.tick()
        assert told.of("node_changed")[-1]["what"] == "keeps its former certificate"
    finally:
        one.stop()
