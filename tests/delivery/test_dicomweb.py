from __future__ import annotations

import os
import tracemalloc
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.config import PeerSettings
from dicom_node.config_peers import DicomWebSettings
from dicom_node.delivery.dicomweb import StowSender
from dicom_node.delivery.outgoing import HELD_BACK
from dicom_node.errors import PeerUnavailable
from tests.delivery.scripted_peer import EXPLICIT
from tests.delivery.scripted_service import (
    Reply,
    Request,
    answer,
    big_file,
    failed,
    scripted_service,
    stored,
    uid_of,
    verdict,
    warned,
)
from tests.dicom_samples import ct_series, write_instance, write_series

RLE = "1.2.840.10008.1.2.5"
IMPATIENT_S = 1.0


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    return write_series(ct_series((3, 32, 40)), tmp_path / "ct")


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


def test_bad_request_of_the_service_itself_is_for_good(series: list[Path]) -> None:
    # As Orthanc answers for an object that it cannot read.
    empty = {"00081198": {"vr": "SQ"}, "00081199": {"vr": "SQ"}}
    with scripted_service(answer(400, empty), stored) as service:
        outcomes = StowSender().send(service.peer(), series[:2], in_order=True)
    assert [outcome.stored for outcome in outcomes] == [False, True]
    assert (outcomes[0].transient, outcomes[0].reason) == (False, "peer.refused.http_400")


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
