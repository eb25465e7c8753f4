"""A host is asked as the site says: its certificate is verified, and it may not wander off."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from ai_models.backends import http_watch
from ai_models.backends.http_endpoint import HttpEndpoint, clean, read_key, read_object
from ai_models.backends.open_inference import OpenInferenceNetwork
from ai_models.trust import Endpoint, Site
from ai_models.types import ModelError
from tests.ai_models.backends.fake_open_inference import FakeGrpcInference, FakeOpenInference
from tests.ai_models.backends.loopback import Asked, Given, LoopbackServer, self_signed
from tests.ai_models.backends.served_models import loaded, served_card


class Echo(LoopbackServer):
    """Answers what it was asked; ``given`` instead, where there is one."""

    given: Given | None = None

    def answer(self, asked: Asked) -> Given:
        return self.given or Given(200, asked.body or b"{}")


def opened(host: LoopbackServer, *, timeout_s: float = 5.0) -> HttpEndpoint:
    endpoint = HttpEndpoint(Endpoint(host.url, None, timeout_s), "the host echo")
    endpoint.open()
    return endpoint


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls") / "host.pem")


@pytest.fixture
def no_other_trust(monkeypatch: pytest.MonkeyPatch, certificate: Path) -> Path:
    """As if the system trusted this certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))
    return certificate


def test_host_whose_certificate_the_system_trusts_is_asked(no_other_trust: Path) -> None:
    with Echo(no_other_trust) as host:
        endpoint = opened(host)
        reply = endpoint.post("/x", b"{}", {}, at_most=10)
        assert (reply.status, reply.body) == (200, b"{}")
        endpoint.close()


def test_certificate_that_nobody_trusts_is_refused_for_good(certificate: Path) -> None:
    with Echo(certificate) as host:
        endpoint = opened(host)
        with pytest.raises(ModelError, match="certificate of the host echo") as caught:
            endpoint.get("/x")
        endpoint.close()
    assert caught.value.reason == "model.endpoint_refused"
    assert host.asked == []


def test_certificate_of_another_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = self_signed(tmp_path / "other.pem", "DNS:elsewhere.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(other.with_suffix(".crt")))
    with Echo(other) as host:
        endpoint = opened(host)
        with pytest.raises(ModelError, match="not trusted") as caught:
            endpoint.get("/x")
        endpoint.close()
    assert caught.value.reason == "model.endpoint_refused"


def test_network_is_asked_over_tls(tmp_path: Path, no_other_trust: Path) -> None:
    with FakeOpenInference(certificate=no_other_trust) as host:
        loaded(tmp_path / "http", host).close()
    with FakeGrpcInference(certificate=no_other_trust) as grpc_host:
        loaded(tmp_path / "grpc", grpc_host).close()


def test_network_behind_a_certificate_that_nobody_trusts_is_not_asked(
    tmp_path: Path, certificate: Path,
) -> None:
    with (
        FakeGrpcInference(certificate=certificate) as host,
        pytest.raises(ModelError, match="certificate of the host farm") as caught,
    ):
        loaded(tmp_path, host)
    assert caught.value.reason == "model.endpoint_refused"
    assert host.seen == []


@pytest.mark.parametrize("kind", [FakeOpenInference, FakeGrpcInference])
def test_network_behind_the_certificate_of_another_name_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any,
) -> None:
    other = self_signed(tmp_path / "other.pem", "DNS:elsewhere.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(other.with_suffix(".crt")))
    with kind(certificate=other) as host, pytest.raises(ModelError, match="trusted") as caught:
        loaded(tmp_path, host)
    assert caught.value.reason == "model.endpoint_refused"


def test_answer_that_drips_is_not_waited_for() -> None:
    with Echo() as host:
        host.given = Given(200, b"x" * 100, drip_s=0.05)
        endpoint = opened(host, timeout_s=0.5)
        with pytest.raises(ModelError, match="did not end its answer") as caught:
            endpoint.get("/x")
        endpoint.close()
    assert caught.value.reason == "worker.endpoint_unavailable"


@pytest.mark.parametrize(("status", "reason"), [
    (302, "model.endpoint_refused"), (400, "model.endpoint_refused"),
    (401, "model.endpoint_refused"), (404, "model.endpoint_refused"),
    (413, "model.endpoint_refused"), (408, "worker.endpoint_unavailable"),
    (429, "worker.endpoint_unavailable"), (500, "worker.endpoint_unavailable"),
    (502, "worker.endpoint_unavailable"), (503, "worker.endpoint_unavailable"),
    (504, "worker.endpoint_unavailable"),
])
def test_every_status_is_for_now_or_for_good(status: int, reason: str) -> None:
    with Echo() as host:
        host.given = Given(status, b"why\x1b[31m not")
        endpoint = opened(host)
        with pytest.raises(ModelError, match=str(status)) as caught:
            endpoint.post("/x", b"{}", {}, at_most=100)
        endpoint.close()
    assert caught.value.reason == reason
    assert "\x1b" not in str(caught.value)


def test_endpoint_that_is_closed_is_not_asked() -> None:
    with Echo() as host:
        endpoint = opened(host)
        endpoint.close()
        with pytest.raises(ModelError, match="before load") as caught:
            endpoint.get("/x")
    assert caught.value.reason == "model.not_loaded"


def test_key_file_that_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key")
    with pytest.raises(ModelError, match="plain file") as caught:
        read_key(Endpoint("http://x", tmp_path / "key"), "the host x")
    assert caught.value.reason == "model.endpoint_key"


@pytest.mark.parametrize("content", [b"", b"[1]", b"nothing", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(content: bytes) -> None:
    with pytest.raises(ModelError, match="the host x") as caught:
        read_object(content, "the host x")
    assert caught.value.reason == "model.wrong_output"


def test_words_of_a_host_are_one_short_line() -> None:
    assert clean("a\n\x00b\u202e  c", 10) == "a b c"
    assert clean("x" * 100, 5) == "xxxxx..."


@pytest.mark.parametrize(("scheme", "package"), [
    ("http", "httpx"), ("grpc", "grpc"), ("grpc", "tritonclient.grpc"),
])
def test_package_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, package: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    site = Site(endpoints={"farm": Endpoint(f"{scheme}://127.0.0.1:1")})
    with pytest.raises(ModelError, match=r"dicom-node\[endpoints\]") as caught:
        OpenInferenceNetwork(served_card(tmp_path), "cpu", site).probe()
    assert caught.value.reason == "model.backend_missing"


@pytest.mark.parametrize("trickle", [
    b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: b\r\n", b"",
])
def test_host_that_sends_a_little_for_ever_is_left(trickle: bytes) -> None:
    ended = threading.Event()

    def tell(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(
                trickle or b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;"
            )
            while not ended.wait(0.05):
                connection.sendall(
                    trickle if b"100" in trickle else b"A: b\r\n" if trickle else b"a"
                )

    with socket.create_server(("127.0.0.1", 0)) as server:
        host = threading.Thread(target=tell, args=(server,))
        host.start()
        try:
            port = server.getsockname()[1]
            endpoint = HttpEndpoint(Endpoint(f"http://127.0.0.1:{port}", None, 0.3), "the host")
            endpoint.open()
            with pytest.raises(ModelError, match="did not end its answer within 0.3 s") as caught:
                endpoint.post("/x", b"{}", {}, at_most=1000)
            endpoint.close()
        finally:
            ended.set()
            host.join()
    assert caught.value.reason == "worker.endpoint_unavailable"


def test_body_without_a_length_that_is_cut_off_by_the_time_is_no_answer() -> None:
    ended = threading.Event()

    def tell(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n{}")
            ended.wait()

    with socket.create_server(("127.0.0.1", 0)) as server:
        host = threading.Thread(target=tell, args=(server,))
        host.start()
        try:
            port = server.getsockname()[1]
            endpoint = HttpEndpoint(Endpoint(f"http://127.0.0.1:{port}", None, 0.3), "the host")
            endpoint.open()
            with pytest.raises(ModelError, match=r"within 0\.3 s"):
                endpoint.post("/x", b"{}", {}, at_most=1000)
            endpoint.close()
        finally:
            ended.set()
            host.join()


def test_host_that_reads_a_little_for_ever_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_watch, "SLOWEST_BYTES_PER_S", 1e9)
    ended = threading.Event()
    read = bytearray()

    def take(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            while not ended.wait(0.05):
                read.extend(connection.recv(100))

    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        server.bind(("127.0.0.1", 0))
        server.listen()
        host = threading.Thread(target=take, args=(server,))
        host.start()
        try:
            port = server.getsockname()[1]
            endpoint = HttpEndpoint(Endpoint(f"http://127.0.0.1:{port}", None, 0.4), "the host")
            endpoint.open()
            with pytest.raises(ModelError, match=r"within 0\.4 s") as caught:
                endpoint.post("/x", b"x" * (16 << 20), {}, at_most=1000)
            endpoint.close()
        finally:
            ended.set()
            host.join()
    assert caught.value.reason == "worker.endpoint_unavailable"
    assert read.startswith(b"POST /x")


def test_name_that_leads_elsewhere_later_gets_nothing_without_its_certificate(
    tmp_path: Path, no_other_trust: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    named = self_signed(tmp_path / "named.pem", "DNS:llm.hospital.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(named.with_suffix(".crt")))
    key = tmp_path / "key"
    key.write_text("secret-key")
    with Echo(named) as host, Echo(no_other_trust) as thief:
        leads_to = [host.port]
        asked_for = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", lambda name, _port, *more, **told: asked_for(
            "127.0.0.1", leads_to[0], *more, **told) if name == "llm.hospital.example"
            else asked_for(name, _port, *more, **told))
        endpoint = HttpEndpoint(
            Endpoint("https://llm.hospital.example:8000/v1", key, 5.0), "the host")
        for number in (1, 2):
            endpoint.open()
            if number == 1:
                assert endpoint.post("/x", b"{}", {}, at_most=100).status == 200
            else:
                leads_to[0] = thief.port
                with pytest.raises(ModelError, match="not trusted") as caught:
                    endpoint.post("/x", b"{}", {}, at_most=100)
            endpoint.close()
    assert caught.value.reason == "model.endpoint_refused"
    assert (len(host.asked), thief.asked) == (1, [])


@pytest.mark.parametrize("name", [
    "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy",
])
def test_proxy_of_the_environment_is_told_nothing(
    monkeypatch: pytest.MonkeyPatch, no_other_trust: Path, name: str,
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with Echo() as proxy, Echo() as plain, Echo(no_other_trust) as encrypted:
        monkeypatch.setenv(name, proxy.url)
        for host in (plain, encrypted):
            endpoint = opened(host)
            assert endpoint.post("/x", b"{}", {}, at_most=10).status == 200
            endpoint.close()
    assert proxy.asked == []
