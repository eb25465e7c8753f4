from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dicom_node.config import PeerSettings
from dicom_node.config_peers import DicomWebSettings
from dicom_node.delivery.dicomweb import StowSender
from dicom_node.delivery.open_sockets import STOPPING
from dicom_node.errors import PeerUnavailable
from tests.delivery.scripted_service import (
    Request,
    answer,
    big_file,
    scripted_service,
    stored,
    uid_of,
    verdict,
)
from tests.dicom_samples import ct_series, write_series
from tests.peers import run_program

IMPATIENT_S = 1.0


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    return write_series(ct_series((3, 32, 40)), tmp_path / "ct")


def test_redirect_is_not_followed(series: list[Path]) -> None:
    with scripted_service() as elsewhere:
        target = f"http://127.0.0.1:{elsewhere.port}/dicom-web/studies"
        for status in (301, 302, 307, 308):
            with (
                scripted_service(answer(status, Location=target)) as service,
                pytest.raises(PeerUnavailable) as raised,
            ):
                StowSender().send(service.peer(), series)
            assert raised.value.reason == "peer.redirects"
    assert elsewhere.connections == 0


def test_proxy_of_the_environment_is_not_used(
    series: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted_service() as proxy, scripted_service() as service:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        (outcome,) = StowSender().send(service.peer(), series[:1])
    assert outcome.stored
    assert proxy.connections == 0


def test_port_that_nobody_listens_on_is_unreachable(series: list[Path]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        peer = PeerSettings(name="web", dicomweb=DicomWebSettings(url=url))
        with pytest.raises(PeerUnavailable) as raised:
            StowSender().send(peer, series)
        with pytest.raises(PeerUnavailable):
            StowSender().echo(peer)
    assert raised.value.reason == "peer.unreachable"
    assert raised.value.transient


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"", "peer.timeout"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{", "peer.timeout"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "peer.timeout"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "peer.protocol"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "peer.protocol"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * (2 << 20), "peer.protocol"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "peer.protocol"),
    ],
)
def test_answer_that_is_none_costs_a_time_limit_and_leaves_the_rest_to_a_retry(
    series: list[Path], reply: bytes, reason: str
) -> None:
    with scripted_service(stored, reply, hold_from=2) as service:
        outcomes = StowSender().send(service.peer(timeout_s=IMPATIENT_S), series)
    assert [outcome.stored for outcome in outcomes] == [True, False, False]
    assert {(o.transient, o.status, o.reason) for o in outcomes[1:]} == {(True, None, reason)}
    assert len(service.requests) == 2


def test_answer_that_drips_is_not_waited_for_longer_than_any_other(series: list[Path]) -> None:
    def drip(request: Request) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n"
        # Each piece comes well within the time limit, and the last one never.
        while True:
            yield b"X"
            time.sleep(IMPATIENT_S / 10)

    with scripted_service(drip) as service:
        (outcome,) = StowSender().send(service.peer(timeout_s=IMPATIENT_S), series[:1])
    assert (outcome.stored, outcome.transient, outcome.reason) == (False, True, "peer.timeout")


@pytest.mark.parametrize("takes_bytes", [0, 1000])
def test_service_that_hangs_up_in_mid_object_has_not_stored_it(
    series: list[Path], takes_bytes: int
) -> None:
    with scripted_service(b"", takes_bytes=takes_bytes) as service:
        outcomes = StowSender().send(service.peer(), series)
    assert {(o.stored, o.transient, o.reason) for o in outcomes} == {
        (False, True, "peer.connection_lost")
    }
    assert len(service.requests) == 1


def test_service_that_says_why_before_it_has_everything_is_understood(tmp_path: Path) -> None:
    with scripted_service(answer(413), takes_bytes=1 << 16) as service:
        (outcome,) = StowSender().send(service.peer(), [big_file(tmp_path)])
    assert not outcome.stored
    # What it said is lost where the connection is reset before it was read.
    assert outcome.reason in {"peer.http_413", "peer.connection_lost"}
    assert outcome.transient


def test_success_before_the_whole_object_was_taken_is_none(tmp_path: Path) -> None:
    path = big_file(tmp_path)
    said = answer(200, verdict(stored=[uid_of(path)]))
    with scripted_service(said, takes_bytes=1 << 16) as service:
        (outcome,) = StowSender().send(service.peer(), [path])
    assert (outcome.stored, outcome.transient) == (False, True)


def test_service_that_takes_no_more_data_is_given_up(tmp_path: Path) -> None:
    with scripted_service(b"", takes_bytes=1 << 16, hold_from=1) as service:
        (outcome,) = StowSender().send(service.peer(timeout_s=IMPATIENT_S), [big_file(tmp_path)])
    assert (outcome.stored, outcome.transient, outcome.reason) == (False, True, "peer.timeout")


def test_token_is_read_at_each_use(series: list[Path], tmp_path: Path) -> None:
    token_file = tmp_path / "token"

    def renew(request: Request) -> bytes:
        token_file.write_text("second")
        return stored(request)

    token_file.write_text("first\n")
    with scripted_service(renew) as service:
        StowSender().send(service.peer(token_file=token_file), series[:2])
        StowSender().echo(service.peer(token_file=token_file))
    said = [request.headers["authorization"] for request in service.requests[:2]]
    assert said == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize(
    "content", [None, b"", b" \n", b"two words", b"a\r\nX-Other: b", b"\xff", b"a" * 100_000]
)
def test_token_file_without_a_token_sends_nothing_and_says_so(
    series: list[Path], tmp_path: Path, content: bytes | None
) -> None:
    token_file = tmp_path / "token"
    if content is not None:
        token_file.write_bytes(content)
    with scripted_service() as service, pytest.raises(PeerUnavailable) as raised:
        StowSender().send(service.peer(token_file=token_file), series)
    assert raised.value.reason == "peer.token_file"
    assert service.requests == []


def test_refused_token_is_nowhere_in_what_is_said(series: list[Path], tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("very-secret")
    with scripted_service(answer(401)) as service, pytest.raises(PeerUnavailable) as raised:
        StowSender().send(service.peer(token_file=token_file), series)
    assert "very-secret" not in f"{raised.value} {raised.value.reason}"
    assert raised.value.reason == "peer.not_authorised"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1 with its key, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    run_program(
        "openssl",
        [
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        ],
    )
    return folder / "cert.pem"


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    return context


def test_service_behind_tls_is_trusted_by_the_configured_authority(
    series: list[Path], certificate: Path
) -> None:
    with scripted_service(tls=server_context(certificate)) as service:
        outcomes = StowSender().send(service.peer(ca_file=certificate), series)
    assert all(outcome.stored for outcome in outcomes)
    assert service.requests[0].parts == [series[0].read_bytes()]


def test_service_with_an_unknown_certificate_gets_nothing(
    series: list[Path], certificate: Path
) -> None:
    with (
        scripted_service(tls=server_context(certificate)) as service,
        pytest.raises(PeerUnavailable) as raised,
    ):
        StowSender().send(service.peer(), series)
    assert raised.value.reason == "peer.tls"
    assert service.requests == []


def test_service_without_tls_gets_nothing_of_what_was_meant_for_tls(
    series: list[Path], certificate: Path
) -> None:
    with scripted_service() as service:
        service.scheme = "https"
        with pytest.raises(PeerUnavailable) as raised:
            StowSender().send(service.peer(ca_file=certificate), series)
    assert raised.value.reason in {"peer.tls", "peer.unreachable"}
    assert service.requests == []


def test_authority_that_cannot_be_read_is_said(series: list[Path], tmp_path: Path) -> None:
    with scripted_service() as service:
        service.scheme = "https"
        with pytest.raises(PeerUnavailable) as raised:
            StowSender().send(service.peer(ca_file=tmp_path / "missing.pem"), series)
    assert raised.value.reason == "peer.ca_file"


@pytest.mark.parametrize("status", [200, 204, 400, 403, 404, 405, 500, 501])
def test_echo_is_content_with_any_answer_of_the_service_itself(status: int) -> None:
    with scripted_service(answer(status)) as service:
        assert StowSender().echo(service.peer()) > 0.0
    (request,) = service.requests
    assert request.method == "GET"
    assert request.path == "/dicom-web/studies?StudyInstanceUID=2.25.0&limit=1"


@pytest.mark.parametrize("status", [302, 401, 407, 429, 502, 503, 504])
def test_echo_is_not_content_with_a_gateway_whose_service_is_away(status: int) -> None:
    with scripted_service(answer(status)) as service, pytest.raises(PeerUnavailable):
        StowSender().echo(service.peer())


def test_echo_of_a_silent_service_is_unavailable() -> None:
    with (
        scripted_service(b"", hold_from=1) as service,
        pytest.raises(PeerUnavailable) as raised,
    ):
        StowSender().echo(service.peer(timeout_s=IMPATIENT_S))
    assert raised.value.reason == "peer.timeout"


def test_stopping_cuts_off_a_service_that_does_not_answer(series: list[Path]) -> None:
    sender = StowSender()
    arrived = threading.Event()

    def arrive(request: Request) -> bytes:
        arrived.set()
        return b""

    with scripted_service(arrive, hold_from=1) as service, ThreadPoolExecutor(1) as pool:
        sending = pool.submit(sender.send, service.peer(timeout_s=600), series)
        assert arrived.wait(60)
        sender.close(0.0)
        outcomes = sending.result(60)
        assert {(o.stored, o.transient, o.reason) for o in outcomes} == {(False, True, STOPPING)}
        with pytest.raises(PeerUnavailable) as raised:
            sender.send(service.peer(), series)
        assert raised.value.reason == STOPPING
