"""What a sender meets: byte-exact keeping, honest statuses, limits and names."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.raw_scu import (
    CT,
    EXPLICIT,
    RawScu,
    bare_data_set,
)
from bench.synthetic import ct_slice, head, pixel_header, text
from dicom_node.errors import NodeError, NotUnderstood
from dicom_node.intake.header import read_data_set_head, read_head
from dicom_node.intake.sources import BytesSource
from tests.intake.conftest import CONTEXTS, Node, slice_of
from tests.intake.test_acceptor import until
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
    scu.release()
    assert until(lambda: "association_ended" in dict(node.happened))
    happened = [one for name, one in node.happened if name == "instance_refused"]
    ended = dict(node.happened)["association_ended"]
    assert (ended["stored"], ended["refused"]) == (1, 2)
    for told in (sidecar, *happened, ended):
        assert (told["calling_ae_title"], told["address"]) == ("SCU", "127.0.0.1")
        assert told["association_id"] == node.told.associations[0].association_id


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


def test_when_the_watermark_is_met_everything_is_refused_and_the_association_lives(
    both: Start,
) -> None:
    node = both()
    scu = node.scu()
    node.spool._refuse_below_free_bytes = 1 << 60
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
