"""The spool: names, durability in order, replacement, quarantine, half files."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node import durable
from dicom_node.durable import DirectorySync
from dicom_node.errors import OutOfSpace, PermanentError, StorageFailed
from dicom_node.intake.file_meta import build_file_meta
from dicom_node.part import Part
from dicom_node.spool import Spool, uid_to_name

EXPLICIT = "1.2.840.10008.1.2.1"


def part_of(spool: Spool, data: bytes, sop: str = "1.2.3", sender: str = "A") -> Part:
    part = spool.begin("a1")
    part.write_meta(build_file_meta(b"1.2", sop.encode(), EXPLICIT, sender, "NODE"), EXPLICIT)
    part.write([memoryview(data)])
    return part


def test_a_uid_is_its_own_name() -> None:
    assert uid_to_name("1.2.840.10008.1.2") == "1.2.840.10008.1.2"


@given(st.text(max_size=100))
def test_no_text_becomes_a_name_that_leaves_its_directory(text: str) -> None:
    name = uid_to_name(text)
    assert name == Path(name).name
    assert name not in ("", ".", "..")
    assert len(name) <= 66


@pytest.mark.parametrize("text", ["", ".", "..", "1..2", "1.2/../3", "1.2\n", "1" * 65, "１.２"])
def test_what_is_no_uid_is_hashed(text: str) -> None:
    assert uid_to_name(text).startswith("x-")


def test_commit_keeps_the_file_under_study_series_and_instance(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    kept = spool.commit(part_of(spool, b"data"), "1.1", "1.2", "1.3")
    assert (kept.path, kept.outcome) == ("instances/1.1/1.2/1.3.dcm", "new")
    assert spool.resolve(kept.path).read_bytes().endswith(b"data")
    assert kept.size_bytes == spool.resolve(kept.path).stat().st_size
    assert list(spool.stored()) == [kept.path]
    assert list((tmp_path / "incoming").iterdir()) == []


def test_the_file_is_synced_before_it_has_its_name_and_the_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path)
    target = tmp_path / "instances/1.1/1.2/1.3.dcm"
    seen: list[tuple[str, bool]] = []
    real_data, real_directory = os.fdatasync, durable.sync_directory

    def sync_data(fd: int) -> None:
        seen.append(("file", target.exists()))
        real_data(fd)

    def sync_directory(path: str) -> None:
        seen.append((Path(path).name, target.exists()))
        real_directory(path)

    monkeypatch.setattr(os, "fdatasync", sync_data)
    monkeypatch.setattr(durable, "sync_directory", sync_directory)
    spool.commit(part_of(spool, b"data"), "1.1", "1.2", "1.3")
    assert seen == [("file", False), ("instances", False), ("1.1", False), ("1.2", True)]


def test_identical_data_from_another_sender_is_the_same_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    first = spool.commit(part_of(spool, b"data", sender="A"), "1.1", "1.2", "1.3")
    second = spool.commit(part_of(spool, b"data", sender="LONGER"), "1.1", "1.2", "1.3")
    assert (second.outcome, second.fingerprint) == ("identical", first.fingerprint)


def test_different_data_replaces_and_the_former_is_in_quarantine(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    first = spool.commit(part_of(spool, b"data"), "1.1", "1.2", "1.3")
    former = spool.resolve(first.path).read_bytes()
    second = spool.commit(part_of(spool, b"DATA"), "1.1", "1.2", "1.3")
    assert (second.outcome, second.path) == ("replaced", first.path)
    assert second.fingerprint != first.fingerprint
    kept = [path for path in (tmp_path / "quarantine").iterdir() if path.suffix == ".bin"]
    assert [path.read_bytes() for path in kept] == [former]


def test_two_threads_with_one_instance_lose_neither(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    outcomes: list[str] = []

    def commit(number: int) -> None:
        part = part_of(spool, bytes([number]) * 100)
        outcomes.append(spool.commit(part, "1.1", "1.2", "1.3").outcome)

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["new"] + ["replaced"] * 7
    assert len(list((tmp_path / "quarantine").glob("*.bin"))) == 7


def test_a_directory_that_was_removed_meanwhile_is_made_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    kept = spool.commit(part_of(spool, b"data"), "1.1", "1.2", "1.3")
    spool.remove(kept.path)
    assert not (tmp_path / "instances/1.1").exists()
    assert spool.commit(part_of(spool, b"data"), "1.1", "1.2", "1.3").outcome == "new"
    spool.remove("instances/1.1/1.2/9.dcm")


@pytest.mark.parametrize("relative", ["../x", "/etc/passwd", "instances/../../x"])
def test_nothing_outside_the_spool_is_resolved(tmp_path: Path, relative: str) -> None:
    with pytest.raises(PermanentError):
        Spool(tmp_path / "spool").resolve(relative)


def test_quarantine_keeps_bytes_reason_and_no_second_copy(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    names = {spool.quarantine(part_of(spool, b"bad"), "why.code", "a sentence") for _ in range(2)}
    assert len(names) == 1
    path = spool.resolve(names.pop())
    assert path.read_bytes().endswith(b"bad")
    sidecar = json.loads(path.with_suffix(".json").read_text())
    assert (sidecar["reason"], sidecar["detail"]) == ("why.code", "a sentence")
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_full_quarantine_refuses_and_deletes_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, quarantine_limit_bytes=900)
    kept = spool.quarantine(part_of(spool, b"bad"), "why", "because")
    with pytest.raises(OutOfSpace):
        spool.quarantine(part_of(spool, b"x" * 900), "why", "because")
    assert spool.resolve(kept).exists()


def test_the_quarantine_is_not_counted_anew_for_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path)
    counts: list[object] = []
    scandir = os.scandir

    def counting(folder: str) -> object:
        counts.append(folder)
        return scandir(folder)

    monkeypatch.setattr("dicom_node.spool.quarantine.os.scandir", counting)
    for number in range(30):
        spool.quarantine(part_of(spool, b"bad%d" % number), "why", "because")
    assert len(counts) == 1


def test_a_quarantine_of_very_many_small_files_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.spool.quarantine.MOST_FILES", 4)
    spool = Spool(tmp_path)
    for number in range(2):
        spool.quarantine(part_of(spool, b"bad%d" % number), "why", "because")
    with pytest.raises(OutOfSpace):
        spool.quarantine(part_of(spool, b"bad"), "why", "because")
    spool.quarantine(part_of(spool, b"bad1"), "why", "because")


def test_a_full_quarantine_refuses_a_replacement_and_keeps_the_former(tmp_path: Path) -> None:
    spool = Spool(tmp_path, quarantine_limit_bytes=10)
    kept = spool.commit(part_of(spool, b"data"), "1.1", "1.2", "1.3")
    with pytest.raises(OutOfSpace):
        spool.commit(part_of(spool, b"DATA"), "1.1", "1.2", "1.3")
    assert spool.resolve(kept.path).read_bytes().endswith(b"data")


def test_the_watermark_refuses(tmp_path: Path) -> None:
    with pytest.raises(OutOfSpace):
        Spool(tmp_path, refuse_below_free_bytes=1 << 60).check_space()
    Spool(tmp_path).check_space()
    with pytest.raises(OutOfSpace):
        Spool(tmp_path).check_space(1 << 60)


def test_half_files_of_dead_processes_are_removed_and_those_of_live_ones_kept(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path)
    mine = part_of(spool, b"half")
    program = (
        "import os, pathlib, sys; from dicom_node.spool import Spool;"
        "p = Spool(pathlib.Path(sys.argv[1])).begin('dead'); p.write([b'half']); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=Path(__file__).parents[1])
    assert len(list((tmp_path / "incoming").iterdir())) == 2
    assert spool.clean_incoming() == 1
    assert [path.name for path in (tmp_path / "incoming").iterdir()] == [Path(mine.path).name]
    mine.discard()
    mine.discard()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_out_of_space_and_what_was_kept_stays(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this place does not let us mount")
    try:
        spool = Spool(tmp_path)
        kept = spool.commit(part_of(spool, b"data"), "1.1", "1.2", "1.3")
        part = part_of(spool, b"")
        with pytest.raises(OutOfSpace):
            part.write([bytes(2 << 20)])
        part.discard()
        assert list(spool.stored()) == [kept.path]
        assert spool.commit(part_of(spool, b"more"), "1.1", "1.2", "1.4").outcome == "new"
    finally:
        subprocess.run(["umount", str(tmp_path)])


def test_a_result_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for content in (b"result", b"the same object, made later"):
        path = spool.put_result("job-1", "1.2.3", lambda file, c=content: file.write(c))  # type: ignore[misc]
    assert path == "outbox/job-1/1.2.3.dcm"
    assert spool.resolve(path).read_bytes() == b"result"
    assert [name for name, _ in spool.results()] == [path]
    assert [one.name for one in spool.resolve(path).parent.iterdir()] == ["1.2.3.dcm"]
    assert list(spool.stored()) == []


def test_of_two_who_write_one_result_at_once_the_first_to_name_it_wins(tmp_path: Path) -> None:
    spool = Spool(tmp_path)

    def faster() -> None:
        spool.put_result("job-1", "1.2.3", lambda file: file.write(b"first"))

    def slower(file: BinaryIO) -> None:
        other = threading.Thread(target=faster)
        other.start()
        other.join()
        file.write(b"second")

    path = spool.put_result("job-1", "1.2.3", slower)
    assert spool.resolve(path).read_bytes() == b"first"


def test_a_result_that_fails_leaves_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path)

    def fail(file: object) -> None:
        raise OSError(5, "made to fail")

    with pytest.raises(StorageFailed):
        spool.put_result("job", "1.2.3", fail)
    assert list((tmp_path / "outbox/job").iterdir()) == []


def test_one_directory_sync_answers_all_who_came_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, may_end = threading.Event(), threading.Event()
    count = 0

    def slow(path: str) -> None:
        nonlocal count
        count += 1
        running.set()
        may_end.wait(10)

    monkeypatch.setattr(durable, "sync_directory", slow)
    group = DirectorySync()
    first = threading.Thread(target=group.sync, args=(str(tmp_path),))
    first.start()
    running.wait(10)
    others = [threading.Thread(target=group.sync, args=(str(tmp_path),)) for _ in range(5)]
    for other in others:
        other.start()
    while str(tmp_path) not in group._waiting:
        pass
    may_end.set()
    for thread in [first, *others]:
        thread.join()
    assert 2 <= count <= 6


def test_a_failed_directory_sync_fails_everyone_who_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> None:
        raise OSError(5, "made to fail")

    spool = Spool(tmp_path)
    monkeypatch.setattr(durable, "sync_directory", fail)
    with pytest.raises(StorageFailed):
        spool.commit(part_of(spool, b"data"), "1.1", "1.2", "1.3")


def test_a_full_disk_is_one_also_where_a_library_wraps_what_the_system_said(
    tmp_path: Path,
) -> None:
    def write(_: BinaryIO) -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise OSError("With tag (7FE0,0010) got exception") from error

    with pytest.raises(OutOfSpace):
        Spool(tmp_path).put_result("job-1", "1.2.3", write)
    with pytest.raises(StorageFailed):
        raise durable.storage_error(OSError("nobody knows"))


@pytest.mark.parametrize("is_there_already", [False, True])
def test_what_is_set_aside_with_its_study_before_the_answer_is_placed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there_already: bool
) -> None:
    spool = Spool(tmp_path)
    if is_there_already:
        spool.commit(part_of(spool, b"data"), "1.1", "1.2", "1.3")
    sync, taken = DirectorySync.sync, []

    def take_away(self: DirectorySync, path: str) -> None:
        if path.endswith("1.1/1.2") and not taken:
            taken.append((tmp_path / "instances" / "1.1").rename(tmp_path / "aside"))
        sync(self, path)

    monkeypatch.setattr(DirectorySync, "sync", take_away)
    kept = spool.commit(part_of(spool, b"data"), "1.1", "1.2", "1.3")
    assert taken
    assert kept.outcome == "new"
    assert spool.resolve(kept.path).read_bytes().endswith(b"data")
    assert spool.has(kept.path)


def test_a_spool_that_another_user_made_is_named_and_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o700)
    code = (
        "import os, sys; from pathlib import Path\n"
        "from dicom_node.errors import ConfigurationError; from dicom_node.spool import Spool\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "try: Spool(Path(sys.argv[1]))\n"
        "except ConfigurationError as error: print(error)"
    )
    if os.geteuid() != 0:
        pytest.skip("only root becomes another user")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "spool")], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert "belongs to another user" in done.stdout, done.stderr


@pytest.mark.parametrize("walk", ["stored", "stored_in_order", "results"])
def test_a_walk_outlives_what_another_process_takes_away_meanwhile(
    tmp_path: Path, walk: str
) -> None:
    spool = Spool(tmp_path / "spool")
    for name in ("1.1", "1.2"):
        spool.commit(part_of(spool, b"data"), name, "1.2.3", "1.2.3")
        spool.put_result(f"job-{name[-1]}", "1.2.3", lambda file: file.write(b"a"))
    found = getattr(spool, walk)()
    first = next(found)
    path = str(first if walk == "stored" else first[0])
    kind, name = path.split("/")[:2]
    (other,) = [one for one in (spool.root / kind).iterdir() if one.name != name]
    other.rename(tmp_path / "aside")
    assert list(found) == []
