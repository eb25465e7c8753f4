"""New associations are refused before the disk is full, and open ones have what they need."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.raw_scu import CT, EXPLICIT, VERIFICATION, RawScu, Rejected
from dicom_node.errors import LedgerUnavailable
from dicom_node.events import Events
from dicom_node.intake.active import ActiveAssociations
from dicom_node.intake.pressure import (
    LEAST_BYTES,
    UNKNOWN_BYTES,
    FullDisk,
    Room,
    Sizes,
    is_room,
    typical_bytes,
)
from dicom_node.intake.room_watch import RoomWatch
from dicom_node.ledger.ledger import Ledger
from tests.intake.conftest import Node, slice_of
from tests.ledger.conftest import instance

GIB = 1 << 30


class Disk:
    """A disk whose free space a test sets."""

    def __init__(self, free_bytes: int) -> None:
        self.free_bytes = free_bytes

    def __call__(self) -> int:
        return self.free_bytes


@pytest.mark.parametrize(
    ("free", "reserved", "expected", "fits"),
    [(10, 0, 5, True), (10, 0, 6, False), (10, 3, 2, True), (10, 3, 3, False), (4, 0, 0, False)],
)
def test_a_study_fits_when_it_leaves_the_watermark_and_what_is_on_its_way(
    free: int, reserved: int, expected: int, fits: bool
) -> None:
    assert is_room(free, 5, reserved, expected) is fits


def test_what_is_typical_holds_for_all_but_the_largest_of_twenty() -> None:
    assert typical_bytes([]) == 0
    assert typical_bytes([7]) == 7
    assert typical_bytes([*range(1, 40), 10_000]) == 39


def test_a_caller_is_expected_to_send_what_it_sent_and_a_new_one_what_others_did() -> None:
    sizes = Sizes()
    assert sizes.expected("CT1", UNKNOWN_BYTES) == UNKNOWN_BYTES
    for _ in range(3):
        sizes.learn("CT1", 2 * GIB)
        sizes.learn("CR1", 1000)
    assert sizes.expected("CT1", UNKNOWN_BYTES) == 2 * GIB
    assert sizes.expected("CR1", UNKNOWN_BYTES) == LEAST_BYTES
    assert sizes.expected("MR1", UNKNOWN_BYTES) == 2 * GIB
    for _ in range(60):
        sizes.learn("CT1", GIB)
    assert sizes.expected("CT1", UNKNOWN_BYTES) == GIB, "the scanner has changed"


def test_an_open_association_keeps_its_space_until_it_brought_it_or_ended() -> None:
    disk, active = Disk(5 * GIB), ActiveAssociations()
    room = Room(active, disk, GIB, lambda: [("CT1", 2 * GIB)] * 3)
    first = room.claim("CT1")
    assert first is not None and active.reserved_bytes() == 2 * GIB
    second = room.claim("CT1")
    assert second is not None, "5 - 2 on its way - 2 leaves the watermark"
    assert room.claim("CT1") is None
    first.brought(GIB)
    disk.free_bytes -= GIB
    assert active.reserved_bytes() == 3 * GIB
    assert room.claim("CT1") is None, "what was brought is on the disk now"
    second.end()
    third = room.claim("CT1")
    assert third is not None, "what did not come is free for others"
    first.brought(5 * GIB)
    first.end()
    third.end()
    assert active.reserved_bytes() == 0


def test_space_that_is_freed_lets_the_next_one_in_and_the_parent_sees_both() -> None:
    disk, active = Disk(GIB), ActiveAssociations()
    room = Room(active, disk, GIB, tuple)
    assert room.claim("CT1") is None
    disk.free_bytes = 2 * GIB
    assert room.claim("CT1") is not None


def test_many_associations_of_one_study_do_not_each_reserve_all_of_it() -> None:
    disk, active = Disk(5 * GIB), ActiveAssociations()
    room = Room(active, disk, GIB, lambda: [("CT1", 2 * GIB)] * 3)
    for _ in range(3):
        one = room.claim("CT1")
        assert one is not None
        one.brought(100 << 20)
        one.end()
    assert all(room.claim("CT1") is not None for _ in range(8))
    assert active.reserved_bytes() == 8 * (100 << 20)


def test_without_a_watermark_nobody_is_refused() -> None:
    assert Room(ActiveAssociations(), Disk(0), 0).claim("CT1") is not None


def test_a_ledger_that_does_not_answer_leaves_what_was_learnt() -> None:
    answers: list[list[tuple[str, int]]] = [[("CT1", 2 * GIB)] * 3]

    def asked() -> list[tuple[str, int]]:
        if not answers:
            raise LedgerUnavailable("locked")
        return answers.pop()

    room = Room(ActiveAssociations(), Disk(4 * GIB), GIB, asked)
    room.refresh()
    assert room.studies.expected("CT1", 0) == 2 * GIB


def test_refusing_is_told_once_and_written_when_the_disk_lets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.open(tmp_path / "ledger.db")
    refuses = [False]
    watch = RoomWatch(ledger, Events(), lambda: refuses[0])
    watch.tick()
    assert ledger.notes.latest() == []
    refuses[0] = True

    def full(*_: str) -> None:
        raise LedgerUnavailable("the disk is full")

    with monkeypatch.context() as away:
        away.setattr(ledger.notes, "add", full)
        watch.tick()
    assert ledger.notes.latest() == []
    watch.tick()
    watch.tick()
    assert [note.to_state for note in ledger.notes.latest()] == ["refusing"]
    refuses[0] = False
    watch.tick()
    assert [note.to_state for note in ledger.notes.latest()] == ["accepting", "refusing"]
    ledger.close()


def test_a_disk_is_found_full_and_well_again_without_anybody_being_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, asked = [100.0], []

    def measured(folder: str) -> os.statvfs_result:
        asked.append(folder)
        return statvfs(folder)

    statvfs = os.statvfs
    found = statvfs(tmp_path)
    free_bytes = found.f_bavail * found.f_frsize
    monkeypatch.setattr(os, "statvfs", measured)
    full = FullDisk(str(tmp_path), 2 * free_bytes, lambda: now[0])
    assert full() and full() and len(asked) == 1, "it is not measured at every question"
    monkeypatch.setattr(full, "_watermark_bytes", 1)
    now[0] += 60
    assert not full()
    assert not FullDisk(str(tmp_path / "away"), 1, lambda: now[0])()
    assert not FullDisk(str(tmp_path), 0, lambda: now[0])(), "without a watermark none is full"


def test_the_ledger_tells_the_last_studies_by_caller(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.db")
    ledger.index([instance(n) for n in range(3)])
    ledger.index([instance(1, series="1.2.4")])
    assert ledger.files.recent_study_bytes() == [("CT01", 4 * 5_000_000_000)]
    ledger.close()


def test_a_full_disk_refuses_the_next_association_and_lets_the_open_one_finish(
    both: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = both(refuse_below_free_bytes=GIB)
    disk = Disk(64 * GIB)
    room = node.listener._surroundings.room
    assert room is not None
    monkeypatch.setattr(room, "_free_bytes", disk)
    scu = node.scu()
    assert scu.store(CT, *slice_of(1)) == 0
    disk.free_bytes = GIB + UNKNOWN_BYTES // 2
    with pytest.raises(Rejected) as rejected:
        node.scu()
    assert rejected.value.args == (2, 3, 1), "transient, temporary congestion"
    echo = RawScu(node.port, ((1, VERIFICATION, [EXPLICIT]),))
    assert echo.echo(1) == 0, "who stores nothing is let in"
    echo.release()
    assert scu.store(CT, *slice_of(2)) == 0
    scu.release()
    disk.free_bytes = 64 * GIB
    again = node.scu()
    assert again.store(CT, *slice_of(3)) == 0
    again.release()
    assert len(node.kept()) == 3
