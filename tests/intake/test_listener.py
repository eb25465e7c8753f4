"""What a sender meets: byte-exact keeping, honest statuses, limits and names."""

from __future__ import annotations

import errno
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.raw_scu import (
    CT,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    Closed,
    RawScu,
    Rejected,
    bare_data_set,
    pdu,
    store_command,
    store_message,
    value,
)
from bench.synthetic import ct_slice, head, pixel_header, text
from dicom_node.errors import NodeError, NotUnderstood
from dicom_node.intake.contexts import storage_transfer_syntaxes
from dicom_node.intake.header import read_data_set_head, read_head
from dicom_node.intake.sources import BytesSource
from tests.intake.conftest import CONTEXTS, Node, slice_of
from tests.shared_data import needs_shared, shared

MR = "1.2.840.10008.5.1.4.1.1.4"
Start = Callable[..., Node]


def data_set_bytes(path: Path) -> bytes:
    return bare_data_set(path)[3]


def test_a_stored_instance_is_a_part_10_file_with_the_bytes_that_were_sent(both: Start) -> None:
    node = both()
    scu = node.scu()
    uid, data = slice_of(1)
    assert scu.store(CT, uid, data) == 0x0000
    scu.release()
    assert node.kept() == [f"instances/1.2.3.1/1.2.3.2/{uid}.dcm"]
    path = node.spool.resolve(node.kept()[0])
    assert data_set_bytes(path) == data
    found = read_head(path)
    assert (found.transfer_syntax_uid, found.calling_ae_title) == (EXPLICIT, "SCU")
    assert found.position_mm == (-100.0, -100.0, 1.0)
    assert node.half_received() == []


def test_pydicom_reads_the_file_meta_of_a_stored_instance(both: Start) -> None:
    import pydicom

    node = both()
    uid, data = slice_of(1)
    node.scu().store(CT, uid, data)
    meta = pydicom.dcmread(node.spool.resolve(node.kept()[0])).file_meta
    assert meta.MediaStorageSOPClassUID == CT
    assert meta.MediaStorageSOPInstanceUID == uid
    assert meta.SendingApplicationEntityTitle == "SCU"
    assert meta.ReceivingApplicationEntityTitle == "DICOMNODE"
    assert meta.ImplementationVersionName == "DICOM_NODE"


def _shared_files() -> list[Path]:
    found = []
    for path in sorted(shared().rglob("*")):
        if path.is_file() and path.stat().st_size > 140:
            with path.open("rb") as file:
                if file.read(140)[128:] == b"DICM\x02\x00\x00\x00UL\x04\x00"[:12]:
                    found.append(path)
    return found


@pytest.mark.parametrize("receive_path", ["streamed", "stock"])
@needs_shared("data", "dicom")
def test_every_shared_file_is_kept_byte_for_byte_or_quarantined(
    start: Start, receive_path: str
) -> None:
    node = start(receive_path=receive_path, private_sop_classes=("1.2.3.4.5",))
    files = _shared_files()
    step = 1 if receive_path == "streamed" else 7
    statuses: dict[int, int] = {}
    for path in files[::step]:
        try:
            sop_class, sop_instance, transfer_syntax, data = bare_data_set(path)
        except Exception:  # noqa: BLE001 - a file made broken on purpose cannot be sent
            continue
        scu = node.scu([(1, sop_class, [transfer_syntax])])
        if scu.accepted[1] == 0:
            before = len(node.told.instances)
            status = scu.store(sop_class, sop_instance, data)
            statuses[status] = statuses.get(status, 0) + 1
            assert status in (0x0000, 0xA900, 0xC000)
            if status == 0:
                kept = node.told.instances[before]
                assert data_set_bytes(node.spool.resolve(kept.path)) == data
                assert kept.transfer_syntax_uid == transfer_syntax
            else:
                assert _is_refused_rightly(data, transfer_syntax, sop_class, sop_instance)
        scu.release()
    assert node.half_received() == []
    assert statuses[0] > 0.9 * sum(statuses.values())


def _is_refused_rightly(data: bytes, transfer_syntax: str, sop_class: str, sop: str) -> bool:
    try:
        found = read_data_set_head(BytesSource(data), transfer_syntax)
    except NotUnderstood:
        return True
    return {found.sop_class_uid, found.sop_instance_uid} != {sop_class, sop}


def test_an_empty_sop_class_uid_in_the_data_set_is_no_contradiction(both: Start) -> None:
    node = both()
    scu = node.scu()
    uid, data = slice_of(1)
    empty = data.replace(text(0x00080016, "UI", CT), text(0x00080016, "UI", ""))
    absent = data.replace(text(0x00080016, "UI", CT), b"")
    assert len(absent) < len(empty) < len(data)
    assert scu.store(CT, uid, empty) == scu.store(CT, uid, absent) == 0
    assert [told.sop_class_uid for told in node.told.instances] == [CT, CT]


@needs_shared("data", "series", "ct_totalsegmentator")
def test_a_series_stripped_of_its_study_and_series_uid_is_refused_but_not_lost(
    both: Start,
) -> None:
    path = next(p for p in _shared_files() if "ct_totalsegmentator" in str(p))
    sop_class, sop_instance, transfer_syntax, data = bare_data_set(path)
    node = both()
    scu = node.scu([(1, sop_class, [transfer_syntax])])
    assert scu.store(sop_class, sop_instance, data) == 0xC000
    name = next(n for n in node.quarantined() if n.endswith(".bin"))
    assert data_set_bytes(node.spool.root / "quarantine" / name) == data


def test_another_sop_class_or_instance_in_the_data_set_is_a900_and_quarantined(
    both: Start,
) -> None:
    node = both()
    scu = node.scu()
    uid, data = slice_of(1)
    other = ct_slice(uid, "1.2.3.1", "1.2.3.2", 1, b"ab", sop_class=MR)
    assert scu.store(CT, uid, other) == 0xA900
    assert scu.store(CT, "1.2.3.9.99", data) == 0xA900
    assert scu.store(CT, uid, data) == 0x0000
    assert len(node.kept()) == 1
    assert len(node.quarantined()) == 4
    name = next(n for n in node.quarantined() if n.endswith(".json"))
    sidecar = json.loads((node.spool.root / "quarantine" / name).read_text())
    assert sidecar["reason"] == "dataset.mismatch"


def test_the_same_refused_bytes_are_quarantined_once(start: Start) -> None:
    node = start()
    scu = node.scu()
    for _ in range(3):
        assert scu.store(CT, "1.2.3.9.1", b"no data set") == 0xC000
    assert len(node.quarantined()) == 2


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"this is no DICOM at all", id="text"),
        pytest.param(bytes(128) + b"DICM" + bytes(20), id="a Part 10 preamble"),
        pytest.param(text(0x00020010, "UI", EXPLICIT), id="group 0002"),
        pytest.param(text(0x00080016, "UI", CT), id="no Study Instance UID"),
        pytest.param(
            head("1.2.3.9.1", "1.2.3.1", "1.2.3.2", 1) + pixel_header(1000) + b"ab",
            id="pixel data cut off",
        ),
    ],
)
def test_what_cannot_be_understood_is_c000_and_quarantined(both: Start, data: bytes) -> None:
    node = both()
    scu = node.scu()
    assert scu.store(CT, "1.2.3.9.1", data) == 0xC000
    assert scu.echo(3) == 0
    assert node.kept() == []
    assert len(node.quarantined()) == 2
    assert node.half_received() == []


def test_below_the_watermark_everything_is_refused_and_the_association_lives(
    both: Start,
) -> None:
    node = both(refuse_below_free_bytes=1 << 60)
    scu = node.scu()
    uid, data = slice_of(1, 300_000)
    assert [scu.store(CT, uid, data) for _ in range(2)] == [0xA700, 0xA700]
    assert scu.echo(3) == 0
    assert node.kept() == node.half_received() == node.quarantined() == []


@pytest.mark.parametrize(
    ("number", "status"), [(errno.ENOSPC, 0xA700), (errno.EIO, 0xA701)], ids=["ENOSPC", "EIO"]
)
def test_a_disk_that_fails_half_way_is_a700_or_a701_and_leaves_nothing(
    both: Start, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    node = both()
    scu = node.scu()
    uid, data = slice_of(1, 2_000_000)
    real = os.writev

    def fail_on_data(fd: int, pieces: list[bytes]) -> int:
        if sum(map(len, pieces)) > 1000:
            raise OSError(number, "made to fail")
        return real(fd, pieces)

    monkeypatch.setattr(os, "writev", fail_on_data)
    assert scu.store(CT, uid, data) == status
    assert node.half_received() == []
    monkeypatch.undo()
    assert scu.store(CT, uid, data) == 0x0000


def test_a_sync_that_fails_is_a701_and_nothing_is_kept(
    both: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = both()
    scu = node.scu()
    uid, data = slice_of(1)

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "made to fail")

    monkeypatch.setattr(os, "fdatasync", fail)
    assert scu.store(CT, uid, data) == 0xA701
    assert node.kept() == node.half_received() == []
    monkeypatch.undo()
    assert scu.store(CT, uid, data) == 0x0000


def test_identical_bytes_leave_the_kept_file_untouched(both: Start) -> None:
    node = both()
    uid, data = slice_of(1)
    assert node.scu().store(CT, uid, data) == 0
    before = node.spool.resolve(node.kept()[0]).stat()
    assert node.scu(calling="OTHER").store(CT, uid, data) == 0
    after = node.spool.resolve(node.kept()[0]).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    first, second = node.told.instances
    assert first.fingerprint == second.fingerprint
    assert node.quarantined() == []


def test_different_bytes_replace_the_kept_file_and_the_former_goes_to_quarantine(
    both: Start,
) -> None:
    node = both()
    scu = node.scu()
    uid, data = slice_of(1)
    changed = data[:-2] + b"\x01\x02"
    assert scu.store(CT, uid, data) == scu.store(CT, uid, changed) == 0
    assert data_set_bytes(node.spool.resolve(node.kept()[0])) == changed
    quarantine = node.spool.root / "quarantine"
    former = next(path for path in quarantine.iterdir() if path.suffix == ".bin")
    assert data_set_bytes(former) == data
    assert json.loads(former.with_suffix(".json").read_text())["reason"] == "replaced"
    first, second = node.told.instances
    assert first.fingerprint != second.fingerprint


def test_an_unknown_called_ae_title_is_rejected_with_its_reason(both: Start) -> None:
    node = both()
    with pytest.raises(Rejected) as rejected:
        node.scu(called="SOMEONE")
    assert rejected.value.args == (1, 1, 7)
    assert both(check_called_ae_title=False).scu(called="SOMEONE").accepted[1] == 0


def test_only_configured_callers_may_associate(both: Start) -> None:
    node = both(calling_ae_titles=("CT1",))
    with pytest.raises(Rejected) as rejected:
        node.scu(calling="NOBODY")
    assert rejected.value.args == (1, 1, 3)
    assert node.scu(calling="CT1").accepted[1] == 0


def test_associations_over_the_limit_are_rejected_for_the_moment(both: Start) -> None:
    node = both(max_associations=2)
    first, second = node.scu(), node.scu()
    with pytest.raises(Rejected) as rejected:
        node.scu()
    assert rejected.value.args == (2, 3, 2)
    uid, data = slice_of(1)
    assert first.store(CT, uid, data) == 0
    first.release()
    assert node.told.has_ended.wait(10)
    assert node.scu().accepted[1] == 0
    second.release()


def test_what_was_acknowledged_stays_when_the_next_object_is_cut_off(both: Start) -> None:
    node = both()
    scu = node.scu()
    uid, data = slice_of(1)
    assert scu.store(CT, uid, data) == 0
    scu.send(store_message(1, CT, "1.2.3.9.2", slice_of(2, 500_000)[1])[:300_000])
    scu.abort()
    assert node.told.has_ended.wait(20)
    assert node.told.associations[0].ended == "aborted"
    assert len(node.kept()) == 1
    assert node.half_received() == []


def test_a_lost_connection_half_way_leaves_nothing(both: Start) -> None:
    node = both()
    scu = node.scu()
    uid, data = slice_of(1)
    assert scu.store(CT, uid, data) == 0
    scu.send(store_message(1, CT, "1.2.3.9.2", slice_of(2, 500_000)[1])[:300_000])
    scu.socket.close()
    assert node.told.has_ended.wait(20)
    assert len(node.kept()) == 1
    assert node.half_received() == []


def test_a_released_association_is_told_as_released(both: Start) -> None:
    node = both()
    scu = node.scu(calling="CT7")
    uid, data = slice_of(1)
    scu.store(CT, uid, data)
    scu.release()
    assert node.told.has_ended.wait(10)
    ended = node.told.associations[0]
    assert (ended.ended, ended.calling_ae_title) == ("released", "CT7")
    assert ended.association_id == node.told.instances[0].association_id


def test_verification_answers_between_stores(both: Start) -> None:
    node = both()
    scu = node.scu()
    for number in range(5):
        assert scu.store(CT, *slice_of(number)) == 0
        assert scu.echo(3) == 0
    assert len(node.kept()) == 5


def test_another_sop_class_than_that_of_its_context_is_refused_and_drained(both: Start) -> None:
    node = both()
    scu = node.scu()
    assert scu.store(MR, "1.2.3.9.1", slice_of(1, 400_000)[1]) == 0x0122
    assert scu.store(CT, *slice_of(2)) == 0
    assert len(node.kept()) == 1


def test_a_store_request_without_a_data_set_is_refused(start: Start) -> None:
    node = start()
    scu = node.scu()
    command = store_command(CT, "1.2.3.9.1").replace(
        struct.pack("<HHLH", 0, 0x0800, 2, 1), struct.pack("<HHLH", 0, 0x0800, 2, 0x0101)
    )
    scu.send(pdu(4, value(1, 3, command)))
    assert scu.status() == 0xC000
    assert scu.echo(3) == 0


def test_every_transfer_syntax_of_the_list_is_accepted(start: Start) -> None:
    node = start()
    transfer_syntaxes = storage_transfer_syntaxes()
    scu = node.scu(
        [(2 * n + 1, CT, [transfer]) for n, transfer in enumerate(transfer_syntaxes)]
    )
    assert set(scu.accepted.values()) == {0}
    assert list(scu.transfer_syntax.values()) == transfer_syntaxes


def test_explicit_little_endian_is_taken_first_when_one_context_offers_many(
    start: Start,
) -> None:
    scu = start().scu([(1, CT, ["1.2.840.10008.1.2.4.50", IMPLICIT, EXPLICIT])])
    assert scu.transfer_syntax[1] == EXPLICIT


def test_private_sop_classes_are_accepted_only_when_configured(both: Start) -> None:
    private = "1.2.999.7.1"
    context = [(1, private, [EXPLICIT])]
    assert both().scu(context).accepted[1] == 3
    node = both(private_sop_classes=(private,))
    scu = node.scu(context)
    data = ct_slice("1.2.3.9.1", "1.2.3.1", "1.2.3.2", 1, b"ab", sop_class=private)
    assert scu.store(private, "1.2.3.9.1", data) == 0


def test_a_context_that_was_refused_aborts_the_association(start: Start) -> None:
    node = start()
    scu = node.scu([(1, "1.2.3", [EXPLICIT]), (3, VERIFICATION, [EXPLICIT])])
    with pytest.raises(Closed):
        scu.store(CT, *slice_of(1))
    assert node.answers_echo()


def test_a_strange_instance_uid_becomes_a_safe_name(both: Start) -> None:
    node = both()
    sop_instance = "../../etc/passwd"
    data = ct_slice(sop_instance, "1.2.3.1", "1.2.3.2", 1, b"ab")
    assert node.scu().store(CT, sop_instance, data) == 0
    assert len(node.kept()) == 1
    assert "x-" in node.kept()[0]


def test_closing_lets_a_half_received_object_finish(start: Start) -> None:
    import threading

    node = start()
    scu = node.scu()
    uid, data = slice_of(1, 400_000)
    message = store_message(1, CT, uid, data)
    scu.send(message[:200_000])
    closing = threading.Thread(target=node.listener.close)
    closing.start()
    scu.send(message[200_000:])
    assert scu.status() == 0
    with pytest.raises(Closed):
        scu.read_pdu()
    closing.join(20)
    assert not closing.is_alive()
    assert len(node.kept()) == 1


def test_an_idle_association_is_aborted_at_the_network_timeout(start: Start) -> None:
    node = start(network_timeout_s=0.3)
    scu = node.scu()
    with pytest.raises(Closed):
        scu.read_pdu()


def test_a_sender_that_stalls_within_an_object_is_aborted_and_its_part_removed(
    start: Start,
) -> None:
    node = start(dimse_timeout_s=0.3)
    scu = node.scu()
    scu.send(store_message(1, CT, "1.2.3.9.2", slice_of(2, 500_000)[1])[:300_000])
    with pytest.raises(Closed):
        scu.read_pdu()
    assert node.answers_echo()
    assert node.half_received() == []


def test_a_sender_that_drips_one_pdu_for_ever_is_aborted(start: Start) -> None:
    import time

    node = start(network_timeout_s=0.5)
    scu = node.scu()
    message = store_message(1, CT, "1.2.3.9.2", slice_of(2)[1])
    with pytest.raises((Closed, ConnectionError)):
        for byte in message:
            scu.send(bytes([byte]))
            time.sleep(0.05)
    assert node.half_received() == []


def test_a_connection_that_never_asks_for_an_association_is_closed(start: Start) -> None:
    import socket

    node = start(acse_timeout_s=0.3)
    with socket.create_connection(("127.0.0.1", node.port), 10) as silent:
        silent.sendall(b"\x01\x00")
        assert silent.recv(100) == b""
    assert node.answers_echo()


def test_errors_of_the_tree_carry_the_statuses_of_the_standard() -> None:
    for error in (NotUnderstood("x"), NodeError("x")):
        assert 0xC000 <= error.status <= 0xCFFF


def test_many_associations_at_once_keep_everything(both: Start) -> None:
    import threading

    node = both()
    failures: list[object] = []

    def send(sender: int) -> None:
        scu: RawScu = node.scu(CONTEXTS, calling=f"S{sender}")
        for number in range(20):
            uid, data = slice_of(100 * sender + number, 3000 + number)
            if scu.store(CT, uid, data) != 0:
                failures.append((sender, number))
        scu.release()

    senders: list[Any] = [threading.Thread(target=send, args=(n,)) for n in range(6)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert failures == []
    assert len(node.kept()) == 120
