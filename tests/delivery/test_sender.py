from __future__ import annotations

import os
import socket
from io import BytesIO
from pathlib import Path

import pytest
from pydicom.encaps import encapsulate
from pydicom.filereader import dcmread
from pydicom.uid import UID, generate_uid
from pynetdicom.dsutils import decode

from dicom_node.delivery import wire
from dicom_node.delivery.association import Timeouts
from dicom_node.delivery.sender import Sender
from dicom_node.errors import PeerRefused, PeerUnavailable
from tests.delivery.scripted_peer import (
    EXPLICIT,
    IMPLICIT,
    abort,
    answer_after,
    peer_at,
    scripted_peer,
    socket_peer,
)
from tests.dicom_samples import ct_series, mr_series, write_instance, write_series

IMPATIENT = Timeouts(connect_s=2.0, association_s=0.3, write_s=0.3, response_s=0.3)
RLE = "1.2.840.10008.1.2.5"


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    return write_series(ct_series((4, 32, 40)), tmp_path / "ct")


def uid_of(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def data_set_of(path: Path) -> bytes:
    content = path.read_bytes()
    group_length = int.from_bytes(content[140:144], "little")
    return content[144 + group_length :]


def test_objects_are_stored_in_the_order_given_over_one_association(series: list[Path]) -> None:
    paths = [series[2], series[0], series[3], series[1]]
    with scripted_peer() as script:
        outcomes = Sender("NODE").send(script.peer(), paths)
        assert script.ended.wait(10)

    assert script.received == [uid_of(path) for path in paths]
    assert [outcome.sop_instance_uid for outcome in outcomes] == script.received
    assert {(outcome.stored, outcome.status, outcome.reason) for outcome in outcomes} == {
        (True, 0, "")
    }
    assert (script.associations, script.released, script.aborted) == (1, 1, 0)


@pytest.mark.parametrize("maximum_pdu_bytes", [0, 4096, 4097, 1 << 20])
def test_data_set_arrives_byte_for_byte_whatever_fragments_the_peer_takes(
    tmp_path: Path, maximum_pdu_bytes: int
) -> None:
    (path,) = write_series(ct_series((1, 300, 301)), tmp_path / "big")
    with scripted_peer(maximum_pdu_bytes=maximum_pdu_bytes) as script:
        (outcome,) = Sender("NODE").send(script.peer(), [path])
    assert outcome.stored
    assert script.data_sets == [data_set_of(path)]
    assert script.transfer_syntaxes == [EXPLICIT]


def test_only_the_contexts_that_the_files_need_are_proposed(
    series: list[Path], tmp_path: Path
) -> None:
    compressed = write_series(ct_series((1, 32, 40)), tmp_path / "rle", transfer_syntax_uid=RLE)
    with scripted_peer() as script:
        Sender("NODE").send(script.peer(), [*series, *compressed])
    ct = dcmread(series[0]).SOPClassUID
    assert script.proposed == [(ct, [EXPLICIT]), (ct, [IMPLICIT]), (ct, [RLE])]


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_warning_counts_as_stored_and_is_recorded(series: list[Path], status: int) -> None:
    with scripted_peer(status) as script:
        outcomes = Sender("NODE").send(script.peer(), series[:1])
    assert outcomes[0].stored
    assert outcomes[0].status == status
    assert outcomes[0].reason.startswith("peer.warning.")


@pytest.mark.parametrize(
    ("status", "transient"),
    [(0xA700, True), (0x0110, True), (0xA900, False), (0xC000, False), (0x0122, False)],
)
def test_refused_object_says_whether_to_try_again_and_does_not_hold_back_the_next(
    series: list[Path], status: int, transient: bool
) -> None:
    with scripted_peer(0x0000, status, 0x0000) as script:
        outcomes = Sender("NODE").send(script.peer(), series)
    assert [outcome.stored for outcome in outcomes] == [True, False, True, True]
    assert outcomes[1].status == status
    assert outcomes[1].transient == transient
    assert outcomes[1].reason


def test_abort_in_mid_list_keeps_the_answers_before_it_and_leaves_the_rest_to_a_retry(
    series: list[Path],
) -> None:
    with scripted_peer(0x0000, 0xC000, abort) as script:
        outcomes = Sender("NODE").send(script.peer(), series)
    assert [outcome.status for outcome in outcomes] == [0x0000, 0xC000, None, None]
    assert [outcome.stored for outcome in outcomes] == [True, False, False, False]
    assert [outcome.transient for outcome in outcomes] == [False, False, True, True]
    assert [outcome.sop_instance_uid for outcome in outcomes] == [uid_of(p) for p in series]
    assert {outcome.reason for outcome in outcomes[2:]} <= {
        "peer.aborted",
        "peer.connection_lost",
    }
    assert len(script.received) == 3


def test_peer_that_never_answers_an_object_costs_the_response_timeout_only(
    series: list[Path],
) -> None:
    with scripted_peer(0x0000, answer_after(3.0)) as script:
        outcomes = Sender("NODE", IMPATIENT).send(script.peer(), series)
    assert [outcome.stored for outcome in outcomes] == [True, False, False, False]
    assert all(outcome.transient for outcome in outcomes[1:])
    assert {outcome.reason for outcome in outcomes[1:]} == {"peer.timeout"}


def test_slow_peer_within_the_response_timeout_is_waited_for(series: list[Path]) -> None:
    with scripted_peer(answer_after(0.5)) as script:
        outcomes = Sender("NODE", Timeouts(association_s=0.2)).send(script.peer(), series[:2])
    assert all(outcome.stored for outcome in outcomes)


def test_peer_that_accepts_but_takes_no_more_data_is_given_up(tmp_path: Path) -> None:
    # Far more than the buffers of a loopback connection hold.
    dataset = ct_series((1, 16, 16))[0]
    dataset.PixelData = bytes(64 << 20)
    path = write_instance(dataset, tmp_path / "big.dcm")
    with socket_peer(acceptance({1: (0, EXPLICIT), 3: (0, IMPLICIT)})) as peer:
        (outcome,) = Sender("NODE", IMPATIENT).send(peer, [path])
    assert not outcome.stored
    assert outcome.transient
    assert outcome.reason == "peer.timeout"


def test_called_ae_title_that_the_peer_does_not_know_is_said_and_may_be_retried(
    series: list[Path],
) -> None:
    with (
        scripted_peer(require_called=True) as script,
        pytest.raises(PeerUnavailable, match="called ae title") as raised,
    ):
        Sender("NODE").send(script.peer("WRONG"), series)
    assert raised.value.reason == "peer.rejected.called_ae_title"
    assert raised.value.transient


def test_calling_ae_title_that_the_peer_does_not_know_is_said(series: list[Path]) -> None:
    with (
        scripted_peer(require_calling=["SOMEONE"]) as script,
        pytest.raises(PeerUnavailable) as raised,
    ):
        Sender("NODE").send(script.peer(), series)
    assert raised.value.reason == "peer.rejected.calling_ae_title"


def test_congested_peer_is_said_to_be_congested(series: list[Path]) -> None:
    reject = bytes([3, 0, 0, 0, 0, 4, 0, 2, 3, 1])
    with socket_peer(reject) as peer, pytest.raises(PeerUnavailable, match="for now") as raised:
        Sender("NODE").send(peer, series)
    assert raised.value.reason == "peer.rejected.congestion"


def test_port_that_nobody_listens_on_is_unreachable(series: list[Path]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(PeerUnavailable) as raised:
            Sender("NODE").send(peer_at(unused.getsockname()[1]), series)
    assert raised.value.reason == "peer.unreachable"


@pytest.mark.parametrize(
    ("replies", "hold", "reason"),
    [
        ((), True, "peer.timeout"),
        ((b"",), False, "peer.connection_lost"),
        ((b"\x02\0\0\0",), True, "peer.timeout"),
        ((wire.ABORT_PDU,), True, "peer.aborted"),
        ((b"\x02\0\xff\xff\xff\xff",), True, "peer.protocol"),
        ((b"\x02\0\0\0\0\x02\0\0",), True, "peer.protocol"),
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), True, "peer.protocol"),
        ((b"\x04\0\0\0\0\0",), True, "peer.protocol"),
    ],
)
def test_peer_that_does_not_associate_properly_is_unavailable(
    series: list[Path], replies: tuple[bytes, ...], hold: bool, reason: str
) -> None:
    with socket_peer(*replies, hold=hold) as peer, pytest.raises(PeerUnavailable) as raised:
        Sender("NODE", IMPATIENT).send(peer, series)
    assert raised.value.reason == reason


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (wire.pdv_pdu(1, 3, b"\0" * 5), "peer.protocol"),
        (wire.pdv_pdu(3, 3, b""), "peer.protocol"),
        (wire.pdv_pdu(1, 2, b"data"), "peer.protocol"),
        (wire.pdv_pdu(1, 3, wire.encode_echo_request(1)), "peer.protocol"),
        (wire.RELEASE_REQUEST_PDU, "peer.released"),
        (wire.ABORT_PDU, "peer.aborted"),
    ],
)
def test_object_is_not_stored_when_its_answer_is_no_answer(
    tmp_path: Path, reply: bytes, reason: str
) -> None:
    (path,) = write_series(ct_series((1, 8, 8)), tmp_path / "ct")
    with socket_peer(acceptance({1: (0, EXPLICIT)}), reply) as peer:
        (outcome,) = Sender("NODE", IMPATIENT).send(peer, [path])
    assert not outcome.stored
    assert outcome.transient
    assert outcome.status is None
    assert outcome.reason == reason


def test_answer_to_another_message_does_not_count(tmp_path: Path) -> None:
    (path,) = write_series(ct_series((1, 8, 8)), tmp_path / "ct")
    reply = wire.pdv_pdu(1, 3, store_response(message_id=2, status=0))
    with socket_peer(acceptance({1: (0, EXPLICIT)}), reply) as peer:
        (outcome,) = Sender("NODE", IMPATIENT).send(peer, [path])
    assert not outcome.stored


def test_stored_answer_stands_when_the_peer_then_breaks_off(tmp_path: Path) -> None:
    (path,) = write_series(ct_series((1, 8, 8)), tmp_path / "ct")
    reply = wire.pdv_pdu(1, 3, store_response(message_id=1, status=0))
    with socket_peer(acceptance({1: (0, EXPLICIT)}), reply, hold=False) as peer:
        (outcome,) = Sender("NODE", IMPATIENT).send(peer, [path])
    assert outcome.stored


def test_class_that_the_peer_does_not_take_is_refused_for_good_and_the_others_are_stored(
    series: list[Path], tmp_path: Path
) -> None:
    mr = write_series(mr_series((1, 32, 40)), tmp_path / "mr")
    with scripted_peer() as script:
        outcomes = Sender("NODE").send(script.peer(), [mr[0], *series])
    assert not outcomes[0].stored
    assert not outcomes[0].transient
    assert outcomes[0].reason == "peer.context_rejected.sop_class_not_supported"
    assert outcomes[0].sop_instance_uid == uid_of(mr[0])
    assert all(outcome.stored for outcome in outcomes[1:])


def test_transfer_syntax_that_the_peer_does_not_take_and_nobody_decodes_is_refused_for_good(
    tmp_path: Path,
) -> None:
    paths = write_series(ct_series((2, 32, 40)), tmp_path / "video")
    for path in paths:
        dataset = dcmread(path)
        dataset.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.102")
        dataset.PixelData = encapsulate([b"film"])
        dataset.save_as(path)
    with scripted_peer() as script:
        outcomes = Sender("NODE").send(script.peer(), paths)
        assert script.ended.wait(10)
    assert script.received == []
    for outcome in outcomes:
        assert not outcome.stored
        assert not outcome.transient
        assert outcome.reason == "peer.context_rejected.transfer_syntax_not_supported"


def test_old_peer_that_takes_only_implicit_little_endian_gets_the_same_object_in_it(
    series: list[Path],
) -> None:
    with scripted_peer(transfer_syntaxes=[IMPLICIT]) as script:
        outcomes = Sender("NODE").send(script.peer(), series[:1])
    assert outcomes[0].stored
    assert script.transfer_syntaxes == [IMPLICIT]
    sent, original = decode(BytesIO(script.data_sets[0]), True, True), dcmread(series[0])
    assert {e.tag: e.value for e in sent} == {e.tag: e.value for e in original}


def test_deflated_object_is_inflated_for_a_peer_that_does_not_take_it(tmp_path: Path) -> None:
    dataset = ct_series((1, 32, 40))[0]
    path = write_instance(dataset, tmp_path / "d.dcm", transfer_syntax_uid="1.2.840.10008.1.2.1.99")
    with scripted_peer() as script:
        (outcome,) = Sender("NODE").send(script.peer(), [path])
    assert outcome.stored
    assert script.transfer_syntaxes == [EXPLICIT]
    assert dataset.PixelData in script.data_sets[0]


def test_compressed_object_is_sent_as_it_is(tmp_path: Path) -> None:
    (path,) = write_series(ct_series((1, 32, 40)), tmp_path / "rle", transfer_syntax_uid=RLE)
    with scripted_peer(transfer_syntaxes=[EXPLICIT, IMPLICIT, RLE]) as script:
        (outcome,) = Sender("NODE").send(script.peer(), [path])
    assert outcome.stored
    assert script.data_sets == [data_set_of(path)]


def test_file_that_is_no_object_gets_its_own_outcome_and_does_not_stop_the_others(
    series: list[Path], tmp_path: Path
) -> None:
    junk = tmp_path / "junk.dcm"
    junk.write_bytes(b"junk")
    missing = tmp_path / "missing.dcm"
    with scripted_peer() as script:
        outcomes = Sender("NODE").send(script.peer(), [junk, series[0], missing, series[1]])
    assert [outcome.stored for outcome in outcomes] == [False, True, False, True]
    assert outcomes[0].reason == "dataset.not_understood"
    assert outcomes[2].reason == "file.missing"
    assert not any(outcome.transient for outcome in outcomes)


def test_file_that_shrinks_while_it_is_sent_is_never_reported_stored(
    series: list[Path], tmp_path: Path
) -> None:
    (path,) = write_series(ct_series((1, 400, 400)), tmp_path / "ct")

    def shrink(_: object) -> int:
        os.truncate(path, 2000)
        return 0x0000

    with scripted_peer(shrink) as script:
        outcomes = Sender("NODE").send(script.peer(), [series[0], path])
    assert [outcome.stored for outcome in outcomes] == [True, False]
    assert outcomes[1].transient
    assert outcomes[1].reason == "file.unreadable"
    assert script.received == [uid_of(series[0])]


def test_more_contexts_than_one_association_holds_are_spread_over_several(
    tmp_path: Path,
) -> None:
    classes = [generate_uid() for _ in range(70)]
    paths = []
    for number, sop_class_uid in enumerate(classes):
        dataset = ct_series((1, 8, 8))[0]
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class_uid
        paths.append(write_instance(dataset, tmp_path / f"{number}.dcm"))
    with socket_peer() as silent, pytest.raises(PeerUnavailable):
        Sender("NODE", IMPATIENT).send(silent, paths)
    with scripted_peer(sop_classes=classes[:0], verification=True) as script:
        outcomes = Sender("NODE").send(script.peer(), paths)
    assert script.associations == 2
    assert len(script.proposed) == 140
    assert len(outcomes) == 70


def test_echo_takes_a_measurable_time_and_releases() -> None:
    with scripted_peer() as script:
        assert Sender("NODE").echo(script.peer()) > 0.0
        assert script.ended.wait(10)
    assert script.released == 1


def test_echo_of_a_peer_without_verification_is_refused() -> None:
    with scripted_peer(verification=False) as script, pytest.raises(PeerRefused):
        Sender("NODE").echo(script.peer())


def test_echo_of_a_silent_peer_is_unavailable() -> None:
    with socket_peer() as peer, pytest.raises(PeerUnavailable):
        Sender("NODE", IMPATIENT).echo(peer)


def test_no_files_need_no_association() -> None:
    assert Sender("NODE").send(peer_at(1), []) == []


def acceptance(results: dict[int, tuple[int, str]], maximum_pdu_bytes: int = 16_384) -> bytes:
    """An A-ASSOCIATE-AC PDU, by PS3.8 9.3.3."""
    items = b""
    for context_id, (result, uid) in results.items():
        syntax = b"\x40\0" + len(uid).to_bytes(2, "big") + uid.encode()
        body = bytes([context_id, 0, result, 0]) + syntax
        items += b"\x21\0" + len(body).to_bytes(2, "big") + body
    user = b"\x51\0\0\x04" + maximum_pdu_bytes.to_bytes(4, "big")
    items += b"\x50\0" + len(user).to_bytes(2, "big") + user
    return b"\x02\0" + (68 + len(items)).to_bytes(4, "big") + bytes(68) + items


def store_response(message_id: int, status: int) -> bytes:
    """The command set of a C-STORE-RSP."""
    body = b""
    elements = {0x0100: 0x8001, 0x0120: message_id, 0x0800: 0x0101, 0x0900: status}
    for number, value in elements.items():
        body += b"\0\0" + number.to_bytes(2, "little") + b"\x02\0\0\0" + value.to_bytes(2, "little")
    return b"\0\0\0\0\x04\0\0\0" + len(body).to_bytes(4, "little") + body
