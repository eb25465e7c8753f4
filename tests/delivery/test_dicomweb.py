from __future__ import annotations

import os
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.config import PeerSettings
from dicom_node.config_peers import DicomWebSettings
from dicom_node.delivery.dicomweb import StowSender
from dicom_node.delivery.open_sockets import STOPPING
from dicom_node.delivery.sender import HELD_BACK
from dicom_node.errors import PeerUnavailable
from tests.delivery.scripted_peer import EXPLICIT
from tests.delivery.scripted_service import (
    Reply,
    Request,
    answer,
    failed,
    scripted_service,
    stored,
    verdict,
    warned,
)
from tests.dicom_samples import ct_series, write_instance, write_series
from tests.peers import run_program

RLE = "1.2.840.10008.1.2.5"
IMPATIENT_S = 1.0


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    return write_series(ct_series((3, 32, 40)), tmp_path / "ct")


def uid_of(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def test_files_arrive_byte_for_byte_one_to_a_request_in_the_order_given(
    series: list[Path],
) -> None:
    paths = [series[2], series[0], series[1]]
    with scripted_service() as service:
        outcomes = StowSender().send(service.peer(), paths)
    assert [request.parts for request in service.requests] == [[p.read_bytes()] for p in paths]
    assert [outcome.sop_instance_uid for outcome in outcomes] == [uid_of(path) for path in paths]
    assert {(o.stored, o.status, o.transient, o.reason) for o in outcomes} == {(True, 0, False, "")}
    assert service.connections == 1


def test_request_is_what_the_standard_asks_for_and_names_nobody(series: list[Path]) -> None:
    with scripted_service() as service:
        StowSender().send(service.peer(path="/archive/rs"), series[:1])
    (request,) = service.requests
    assert (request.method, request.path) == ("POST", "/archive/rs/studies")
    assert request.headers["accept"] == "application/dicom+json"
    assert request.headers["content-type"].startswith(
        'multipart/related; type="application/dicom"; boundary='
    )
    assert b"\r\nContent-Type: application/dicom\r\n\r\n" in request.body[:200]
    dataset = dcmread(series[0])
    head = request.path + str(request.headers)
    for value in (dataset.PatientID, dataset.StudyInstanceUID, dataset.SOPInstanceUID):
        assert str(value) not in head


def test_service_that_closes_after_each_answer_gets_the_next_object_all_the_same(
    series: list[Path],
) -> None:
    with scripted_service(close=True) as service:
        outcomes = StowSender().send(service.peer(), series)
    assert all(outcome.stored for outcome in outcomes)
    assert service.connections == 3


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (0xB000, "peer.warning.elements_coerced"),
        (0xB006, "peer.warning.elements_discarded"),
        (0xB007, "peer.warning.does_not_match_sop_class"),
        (0x0001, "peer.warning"),
    ],
)
def test_object_stored_with_a_warning_is_stored_and_the_warning_recorded(
    series: list[Path], number: int, reason: str
) -> None:
    with scripted_service(warned(number)) as service:
        (outcome,) = StowSender().send(service.peer(), series[:1])
    assert (outcome.stored, outcome.status, outcome.reason) == (True, number, reason)


@pytest.mark.parametrize("status", [200, 202, 400, 409])
@pytest.mark.parametrize(
    ("number", "transient"),
    [(0xA700, True), (0x0110, True), (0xA900, False), (0xC000, False), (0x0122, False)],
)
def test_failure_reason_says_whether_to_try_again_and_does_not_hold_back_the_next(
    series: list[Path], number: int, transient: bool, status: int
) -> None:
    with scripted_service(stored, failed(number, status), stored) as service:
        outcomes = StowSender().send(service.peer(), series)
    assert [outcome.stored for outcome in outcomes] == [True, False, True]
    assert (outcomes[1].status, outcomes[1].transient) == (number, transient)
    assert outcomes[1].reason.startswith("peer.")


@pytest.mark.parametrize("number", [None, 0x0000, 0xB000, 0x1234])
def test_failure_without_a_reason_that_says_so_is_no_success_and_not_final(
    series: list[Path], number: int | None
) -> None:
    with scripted_service(failed(number)) as service:
        (outcome,) = StowSender().send(service.peer(), series[:1])
    assert (outcome.stored, outcome.transient) == (False, True)
    assert outcome.reason == "peer.unknown_status"


@pytest.mark.parametrize("sequence", ["00081198", "0008119A"])
def test_failure_that_names_no_object_is_of_the_one_that_was_sent(
    series: list[Path], sequence: str
) -> None:
    failure = {sequence: {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0xC000]}}]}}
    with scripted_service(answer(200, failure)) as service:
        (outcome,) = StowSender().send(service.peer(), series[:1])
    assert (outcome.stored, outcome.transient, outcome.status) == (False, False, 0xC000)


def test_object_that_is_named_as_stored_and_as_failed_is_not_stored(series: list[Path]) -> None:
    def both(request: Request) -> bytes:
        uid = request.sop_instance_uid
        return answer(200, verdict(stored=[uid], failed=[uid], failure=0xA700))

    with scripted_service(both) as service:
        (outcome,) = StowSender().send(service.peer(), series[:1])
    assert (outcome.stored, outcome.transient) == (False, True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Welcome to the hospital's guest network</html>",
        b"[" * 100_000,
        b"{}",
        b'{"00081199": {"vr": "SQ", "Value": [{"00081155": {"Value": ["1.2.3"]}}]}}',
        b'{"00081199": {"vr": "SQ", "Value": [null, 7, {"00081155": {"Value": [null]}}]}}',
        b'{"00081199": "all of them"}',
        b'"stored"',
        b"\xff\xfe",
    ],
)
@pytest.mark.parametrize("status", [200, 202, 204])
def test_answer_that_does_not_name_the_object_is_no_success(
    series: list[Path], status: int, body: bytes
) -> None:
    with scripted_service(answer(status, b"" if status == 204 else body)) as service:
        (outcome,) = StowSender().send(service.peer(), series[:1])
    assert (outcome.stored, outcome.transient, outcome.reason) == (False, True, "peer.protocol")


@pytest.mark.parametrize(
    ("status", "transient", "reason"),
    [
        (400, True, "peer.http_400"),
        (403, True, "peer.not_authorised"),
        (409, True, "peer.http_409"),
        (413, True, "peer.http_413"),
        (415, False, "peer.refused.http_415"),
        (422, False, "peer.refused.http_422"),
        (500, True, "peer.http_500"),
    ],
)
def test_status_without_a_verdict_is_of_this_object_and_the_next_is_tried(
    series: list[Path], status: int, transient: bool, reason: str
) -> None:
    with scripted_service(answer(status), stored) as service:
        outcomes = StowSender().send(service.peer(), series[:2])
    assert [outcome.stored for outcome in outcomes] == [False, True]
    assert (outcomes[0].transient, outcomes[0].reason) == (transient, reason)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "peer.not_authorised"),
        (404, "peer.http_404"),
        (429, "peer.http_429"),
        (502, "peer.http_502"),
        (503, "peer.http_503"),
        (504, "peer.http_504"),
    ],
)
def test_service_that_takes_nothing_now_is_not_asked_for_each_object(
    series: list[Path], status: int, reason: str
) -> None:
    with (
        scripted_service(answer(status)) as service,
        pytest.raises(PeerUnavailable) as raised,
    ):
        StowSender().send(service.peer(), series)
    assert raised.value.reason == reason
    assert raised.value.transient
    assert len(service.requests) == 1


def test_service_that_goes_away_in_mid_list_keeps_its_answers(series: list[Path]) -> None:
    with scripted_service(stored, answer(503)) as service:
        outcomes = StowSender().send(service.peer(), series)
    assert [outcome.stored for outcome in outcomes] == [True, False, False]
    assert {(o.transient, o.reason) for o in outcomes[1:]} == {(True, "peer.http_503")}
    assert len(service.requests) == 2


@pytest.mark.parametrize(
    ("said", "pause_s"),
    [
        ("120", 120.0),
        ("999999999", 900.0),
        ("-5", 0.0),
        ("soon", 0.0),
        ("", 0.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0),
        ("Fri, 31 Dec 2999 23:59:59 GMT", 900.0),
        ("Fri, 31 Dec 2999 23:59:59", 0.0),
    ],
)
def test_pause_that_a_service_asks_for_is_handed_on_within_bounds(
    series: list[Path], said: str, pause_s: float
) -> None:
    with (
        scripted_service(answer(503, Retry_After=said)) as service,
        pytest.raises(PeerUnavailable) as raised,
    ):
        StowSender().send(service.peer(), series)
    assert raised.value.retry_after_s == pause_s


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


def big_file(tmp_path: Path) -> Path:
    """Far more than the buffers of a loopback connection hold."""
    dataset = ct_series((1, 16, 16))[0]
    dataset.PixelData = bytes(64 << 20)
    return write_instance(dataset, tmp_path / "big.dcm")


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


def test_large_file_is_sent_in_pieces(tmp_path: Path) -> None:
    path = big_file(tmp_path)
    uid = uid_of(path)
    with scripted_service(answer(200, verdict(stored=[uid]))) as service:
        service.keeps_bodies = False
        tracemalloc.start()
        try:
            (outcome,) = StowSender().send(service.peer(), [path])
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert outcome.stored
    assert peak_bytes < 16 << 20


def test_file_that_shrinks_while_it_is_sent_is_never_reported_stored(
    series: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = write_series(ct_series((1, 400, 400)), tmp_path / "shrinking")
    real = os.fstat

    def promise_more(descriptor: int) -> os.stat_result:
        found = real(descriptor)
        return os.stat_result((*found[:6], found.st_size + 1000, *found[7:10]))

    monkeypatch.setattr("dicom_node.delivery.dicomweb.os.fstat", promise_more)
    with scripted_service() as service:
        (outcome,) = StowSender().send(service.peer(), [path])
    assert (outcome.stored, outcome.transient, outcome.reason) == (
        False,
        True,
        "file.unreadable",
    )


def test_file_that_is_no_object_gets_its_own_outcome_and_does_not_stop_the_others(
    series: list[Path], tmp_path: Path
) -> None:
    junk = tmp_path / "junk.dcm"
    junk.write_bytes(b"junk")
    missing = tmp_path / "missing.dcm"
    with scripted_service() as service:
        outcomes = StowSender().send(service.peer(), [junk, series[0], missing, series[1]])
    assert [outcome.stored for outcome in outcomes] == [False, True, False, True]
    assert outcomes[0].reason == "dataset.not_understood"
    assert outcomes[2].reason == "file.missing"
    assert not any(outcome.transient for outcome in outcomes)


def test_no_files_need_no_connection() -> None:
    peer = PeerSettings(name="web", dicomweb=DicomWebSettings(url="http://127.0.0.1:1"))
    assert StowSender().send(peer, []) == []


def test_order_within_a_study_is_kept_by_waiting_for_the_object_before(
    series: list[Path],
) -> None:
    with scripted_service(failed(0xA700), stored) as service:
        outcomes = StowSender().send(service.peer(), series, in_order=True)
    assert [outcome.reason for outcome in outcomes] == [
        "peer.busy.out_of_resources",
        HELD_BACK,
        HELD_BACK,
    ]
    assert all(outcome.transient for outcome in outcomes)
    assert len(service.requests) == 1


def test_object_refused_for_good_does_not_hold_back_those_behind_it(series: list[Path]) -> None:
    with scripted_service(failed(0xC000), stored) as service:
        outcomes = StowSender().send(service.peer(), series, in_order=True)
    assert [outcome.stored for outcome in outcomes] == [False, True, True]


@pytest.mark.parametrize("refusal", [failed(0xC122), answer(415)])
def test_object_in_a_syntax_that_the_service_refuses_is_sent_once_more_uncompressed(
    tmp_path: Path, refusal: Reply
) -> None:
    dataset = ct_series((1, 32, 40))[0]
    path = write_instance(dataset, tmp_path / "rle.dcm", transfer_syntax_uid=RLE)
    with scripted_service(refusal, stored) as service:
        (outcome,) = StowSender().send(service.peer(), [path])
    assert outcome.stored
    first, second = (dcmread(BytesIO(request.parts[0])) for request in service.requests)
    assert first.file_meta.TransferSyntaxUID == RLE
    assert second.file_meta.TransferSyntaxUID == EXPLICIT
    assert second.SOPInstanceUID == first.SOPInstanceUID == outcome.sop_instance_uid
    assert second.PixelData == dataset.PixelData


def test_uncompressed_object_that_is_refused_for_its_syntax_is_not_sent_again(
    series: list[Path],
) -> None:
    with scripted_service(failed(0xC122)) as service:
        (outcome,) = StowSender().send(service.peer(), series[:1])
    assert (outcome.stored, outcome.transient, outcome.status) == (False, False, 0xC122)
    assert len(service.requests) == 1


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
