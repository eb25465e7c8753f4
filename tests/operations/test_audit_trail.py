"""The chained lines of the local audit trail: what they withstand, and what they show."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.errors import OutOfSpace
from dicom_node.operations.audit_trail import AuditTrail

DAY = datetime(2026, 11, 26, 12, tzinfo=UTC)
ROOT = Path(__file__).parents[2]


def texts(trail: AuditTrail) -> list[str]:
    return [entry.message for entry in trail.entries()]


def test_the_chain_goes_on_over_days_and_over_processes(tmp_path: Path) -> None:
    first, second = AuditTrail(tmp_path), AuditTrail(tmp_path)
    first.append(["a", "b"], DAY)
    second.append(["c"], DAY)
    first.append(["d"], DAY + timedelta(days=1))
    second.append(["e"], DAY + timedelta(days=1))
    AuditTrail(tmp_path).append(["f"], DAY + timedelta(days=2))
    assert texts(first) == list("abcdef")
    verdict = first.verify()
    assert (verdict.lines, verdict.files, verdict.torn, verdict.problem) == (6, 3, 0, "")
    assert [e.message for e in first.entries(date(2026, 11, 27))] == ["d", "e", "f"]


def test_a_clock_that_is_set_back_breaks_no_chain(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path)
    trail.append(["a"], DAY)
    trail.append(["b"], DAY - timedelta(days=3))
    assert texts(trail) == ["a", "b"] and not trail.verify().problem


@pytest.mark.parametrize("how", ["changed", "left out", "put in", "swapped", "renumbered"])
def test_a_line_that_was_tampered_with_is_named(tmp_path: Path, how: str) -> None:
    trail = AuditTrail(tmp_path)
    trail.append(["a", "b", "c", "d"], DAY)
    [file] = trail.files()
    lines = file.read_text().splitlines()
    if how == "changed":
        lines[1] = lines[1].replace('"b"', '"x"')
    elif how == "left out":
        del lines[1]
    elif how == "put in":
        lines.insert(2, lines[1])
    elif how == "swapped":
        lines[1], lines[2] = lines[2], lines[1]
    else:
        lines[3] = lines[3].replace('"n": 4', '"n": 5')
    file.write_text("\n".join(lines) + "\n")
    verdict = AuditTrail(tmp_path).verify()
    place = {"changed": 3, "left out": 2, "put in": 3, "swapped": 2, "renumbered": 4}[how]
    assert verdict.problem.startswith(f"{file.name} line {place} ")


def test_a_file_that_is_gone_is_noticed(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path)
    for day in range(3):
        trail.append([str(day)], DAY + timedelta(days=day))
    trail.files()[1].unlink()
    assert "audit-2026-11-28.jsonl line 1" in trail.verify().problem


def test_days_that_the_site_removed_are_named_and_break_no_chain(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path)
    for day in range(4):
        trail.append([f"{day} a", f"{day} b"], DAY + timedelta(days=day))
    assert trail.verify().begins == ""
    trail.files()[0].unlink()
    verdict = AuditTrail(tmp_path).verify()
    assert (verdict.lines, verdict.problem) == (6, "")
    assert verdict.begins == "line 3 of 2026-11-27"
    strict = trail.verify(from_start=True)
    assert strict.problem.startswith("audit-2026-11-27.jsonl line 1 does not follow")
    trail.files()[1].unlink()
    assert "audit-2026-11-29.jsonl line 1 does not follow" in trail.verify().problem


@pytest.mark.parametrize("change", [
    ('"n": 2', '"n": 0'), ('"n": 2', '"n": 1'), ('"n": 2', '"n": true'), ("PREVIOUS", "0" * 64),
])
def test_a_first_line_that_can_be_none_is_no_beginning(
    tmp_path: Path, change: tuple[str, str]
) -> None:
    trail = AuditTrail(tmp_path)
    trail.append(["a"], DAY)
    trail.append(["b", "c"], DAY + timedelta(days=1))
    trail.files()[0].unlink()
    [file] = trail.files()
    before, after = change
    text = file.read_text()
    if before == "PREVIOUS":
        before = json.loads(text.splitlines()[0])["previous"]
    file.write_text(text.replace(before, after, 1))
    assert trail.verify().problem


def test_a_trail_that_begins_behind_a_torn_line_follows_it_all_the_same(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path)
    trail.append(["a"], DAY)
    (tmp_path / "audit-2026-11-27.jsonl").write_bytes(b'{"n"')
    trail.append(["b"], DAY + timedelta(days=1))
    trail.files()[0].unlink()
    verdict = trail.verify()
    assert (verdict.problem, verdict.begins) == ("", "line 2 of 2026-11-27")
    [file] = trail.files()
    file.write_bytes(file.read_bytes().replace(b'{"n"\n', b'{"m"\n'))
    assert trail.verify().problem


@pytest.mark.parametrize(
    "torn", [b'{"n": 3, "at', b"\0" * 700, b'{"n": 3}\r{"', b"[]\n", b"[" * 100_000]
)
@pytest.mark.parametrize("days", [0, 1])
def test_a_torn_last_line_stays_and_the_chain_goes_on_behind_it(
    tmp_path: Path, torn: bytes, days: int
) -> None:
    AuditTrail(tmp_path).append(["a", "b"], DAY)
    file = AuditTrail(tmp_path).files()[0]
    with file.open("ab") as opened:
        opened.write(torn)
    assert not AuditTrail(tmp_path).verify().problem
    trail = AuditTrail(tmp_path)
    trail.append(["c"], DAY + timedelta(days=days))
    trail.append(["d"], DAY + timedelta(days=days))
    verdict = trail.verify()
    assert (texts(trail), verdict.torn, verdict.problem) == (list("abcd"), 1, "")
    assert [entry.number for entry in trail.entries()] == [1, 2, 3, 4]
    # A line that only claims to follow a torn one is no excuse for what was taken away.
    lines = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n".join([lines[0], *lines[2:]]))
    assert trail.verify().problem


def test_a_file_of_a_torn_line_alone_keeps_the_count(tmp_path: Path) -> None:
    AuditTrail(tmp_path).append(["a"], DAY)
    (tmp_path / "audit-2026-11-27.jsonl").write_bytes(b'{"n"')
    trail = AuditTrail(tmp_path)
    trail.append(["b"], DAY + timedelta(days=1))
    assert [e.number for e in trail.entries()] == [1, 2] and not trail.verify().problem


def test_what_was_told_as_written_survives_sigkill(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from dicom_node.operations.audit_trail import AuditTrail\n"
        "trail = AuditTrail(pathlib.Path(sys.argv[1]))\n"
        "for number in range(100000):\n"
        "    trail.append([str(number), 'x' * 3000])\n"
        "    print(number, flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    told = [child.stdout.readline() for _ in range(20)]
    time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    told += child.stdout.readlines()
    child.wait()
    child.stdout.close()
    trail = AuditTrail(tmp_path)
    trail.append(["after"])
    kept = [text for text in texts(trail) if text.isdigit()]
    whole = [line.strip() for line in told if line.endswith("\n")]
    assert kept[: len(whole)] == whole and not trail.verify().problem


def test_a_full_disk_leaves_the_chain_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail = AuditTrail(tmp_path)
    trail.append(["a"], DAY)
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 100:
            return write(fd, data[:100])
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OutOfSpace):
        trail.append(["b" * 40], DAY)
    monkeypatch.undo()
    trail.append(["c"], DAY)
    verdict = trail.verify()
    assert (texts(trail), verdict.torn, verdict.problem) == (["a", "c"], 0, "")


def test_the_files_are_for_the_node_and_its_group_alone(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "audit")
    trail.append(["é \u2028 \n \x00"], DAY)
    assert (tmp_path / "audit").stat().st_mode & 0o7 == 0
    [file] = trail.files()
    assert file.stat().st_mode & 0o137 == 0
    assert len(file.read_bytes().splitlines()) == 1
    assert json.loads(file.read_text())["message"] == "é \u2028 \n \x00"
