"""The local audit trail: lines in files of a day, each with the hash of the line before.

    audit-2026-11-26.jsonl   {"n": 7, "at": ..., "previous": sha256, "message": "<AuditMessage..."}

The first line of a file follows the last one of the file before, so that the chain is one. Lines
are only ever appended, under a lock that other processes of the node and its commands respect, and
are synced before `append` returns. What a power cut leaves of a line stays, and the next line
follows it as it follows any other, and says so (``after_torn_line``).

The chain shows that nothing was changed, left out or put in between. Who may write the files can
make a new chain, or cut its end off; against that, messages go to a collector too.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from dicom_node.durable import storage_error, sync_directory

FIRST = "0" * 64
_NAME = re.compile(r"audit-(\d{4}-\d{2}-\d{2})\.jsonl")
_LOCK = "lock"
_LONGEST_LINE = 1 << 20
_MODE = 0o640


@dataclass(frozen=True)
class Entry:
    """One line of the trail as it stands in its file; ``end`` is where the next one begins."""

    file: str
    line: int
    end: int
    number: int
    at: str
    message: str


@dataclass(frozen=True)
class Verdict:
    """What became of the check of a chain; ``problem`` names the first line that is wrong.

    ``begins`` names the first whole line where the trail does not begin with its first one.
    """

    lines: int
    files: int
    torn: int
    problem: str = ""
    begins: str = ""


@dataclass(frozen=True)
class AuditStanding:
    """How the audit trail is: bytes that its collector has not got, and whether all is well."""

    backlog_bytes: int
    is_written: bool
    collector_up: bool | None


@dataclass
class _Tail:
    """The end of the newest file as it was last seen."""

    file: str = ""
    size: int = 0
    number: int = 0
    hash: str = FIRST
    is_torn: bool = False
    ends_open: bool = False


class AuditTrail:
    """The files in one folder; safe for several processes, for one thread each.

    Parameters
    ----------
    folder
        Made where it is missing, readable for the node's group alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tail: _Tail | None = None

    def append(self, messages: Sequence[str], at: datetime | None = None) -> None:
        """Write messages, all or (on a full disk, as far as it took them) none; then sync.

        Raises
        ------
        OutOfSpace, StorageFailed
            Nothing of this call counts as written.
        """
        now = at or datetime.now(UTC)
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            with self._locked():
                self._append(messages, now.astimezone(UTC))
        except OSError as error:
            self._tail = None
            raise storage_error(error) from error

    def _append(self, messages: Sequence[str], now: datetime) -> None:
        tail = self._current_tail()
        # A clock that was set back goes on in the newest file: the order of files is the chain's.
        file = max(f"audit-{now.date().isoformat()}.jsonl", tail.file)
        lines: list[bytes] = [b"\n"] if tail.ends_open and file == tail.file else []
        number, before, is_torn = tail.number, tail.hash, tail.is_torn
        for message in messages:
            number += 1
            entry = {
                "n": number, "at": now.isoformat(timespec="milliseconds"), "previous": before,
                **({"after_torn_line": True} if is_torn else {}), "message": message,
            }
            line = json.dumps(entry, ensure_ascii=False).encode()
            before, is_torn = hashlib.sha256(line).hexdigest(), False
            lines.append(line + b"\n")
        path = self._folder / file
        is_new = not path.exists()
        size = self._write(path, b"".join(lines))
        if is_new:
            sync_directory(str(self._folder))
        self._tail = _Tail(file, size, number, before)

    def _write(self, path: Path, data: bytes) -> int:
        fd = self._open(path, os.O_WRONLY | os.O_APPEND)
        try:
            began = os.fstat(fd).st_size
            written = 0
            try:
                while written < len(data):
                    written += os.write(fd, data[written:])
                os.fdatasync(fd)
            except OSError:
                # The lines were told to nobody: without them the chain is as it was.
                os.ftruncate(fd, began)
                raise
            return began + len(data)
        finally:
            os.close(fd)

    def _open(self, path: Path, flags: int) -> int:
        fd = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, _MODE)
        owner = self._folder.stat()
        if os.geteuid() == 0 and os.fstat(fd).st_uid != owner.st_uid:
            # A command of root may be the first of a day; the node has to go on with its file.
            os.fchown(fd, owner.st_uid, owner.st_gid)
        return fd

    def _current_tail(self) -> _Tail:
        files = self.files()
        newest = files[-1] if files else None
        tail = self._tail
        if (
            tail is not None and newest is not None and tail.file == newest.name
            and tail.size == newest.stat().st_size
        ):
            return tail
        return _read_tail(files)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fd = self._open(self._folder / _LOCK, os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def files(self) -> list[Path]:
        """The files of the trail, oldest first."""
        try:
            found = [path for path in self._folder.iterdir() if _NAME.fullmatch(path.name)]
        except FileNotFoundError:
            return []
        return sorted(found)

    def entries(self, since: date | None = None) -> Iterator[Entry]:
        """Every line that can be read, oldest first, of the days from ``since`` on."""
        for path in self.files():
            if since is None or path.name >= f"audit-{since.isoformat()}":
                yield from self.entries_after(path.name, 0)

    def entries_after(self, file: str, offset: int) -> Iterator[Entry]:
        """The whole lines of one file from a place on where a line begins."""
        with (self._folder / file).open("rb") as opened:
            opened.seek(offset)
            for number, line in enumerate(opened, start=1):
                offset += len(line)
                parsed = _parse(line)
                if parsed is not None and line.endswith(b"\n"):
                    yield Entry(
                        file, number, offset, int(str(parsed["n"])), str(parsed["at"]),
                        str(parsed["message"]),
                    )

    def verify(self, *, from_start: bool = False) -> Verdict:
        """Follow the chain from the first line that is here to the last, as far as it holds.

        The site may have removed the oldest days: the first line may be any then, unless
        ``from_start`` asks for the very first one.
        """
        # Both unknown before the first line, unless it has to be number 1.
        before: str | None = FIRST if from_start else None
        number: int | None = 0 if from_start else None
        lines, torn, is_torn, begins = 0, 0, False, ""
        files = self.files()
        for path in files:
            with path.open("rb") as opened:
                for place, raw in enumerate(opened, start=1):
                    line = raw.rstrip(b"\n")
                    parsed = _parse(line)
                    lines += 1
                    where = f"{path.name} line {place}"
                    if is_torn and parsed is not None and "after_torn_line" not in parsed:
                        return Verdict(lines, len(files), torn, f"{where} follows no whole line")
                    if parsed is None:
                        is_torn, torn = True, torn + 1
                    elif number is None and _may_begin(parsed, before):
                        is_torn, number = False, int(str(parsed["n"]))
                        begins = f"line {number} of {path.stem.removeprefix('audit-')}"
                    elif parsed["previous"] != (before or FIRST):
                        return Verdict(
                            lines, len(files), torn,
                            f"{where} does not follow the line before it: something was changed, "
                            "left out or put in between",
                        )
                    elif parsed["n"] != (number or 0) + 1:
                        return Verdict(lines, len(files), torn, f"{where} has the wrong number")
                    else:
                        is_torn, number = False, int(str(parsed["n"]))
                    before = hashlib.sha256(line).hexdigest()
        return Verdict(lines, len(files), torn, begins=begins)


def _may_begin(parsed: Mapping[str, object], before: str | None) -> bool:
    """Whether a line can be the first one of a trail whose oldest days were removed."""
    previous = parsed["previous"]
    return int(str(parsed["n"])) > 1 and previous != FIRST and before in (None, previous)


def _parse(line: bytes) -> dict[str, object] | None:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not {"n", "at", "previous", "message"} <= set(document):
        return None
    # ``true`` is an integer in Python, and no number of a line.
    return document if type(document["n"]) is int else None


def _read_tail(files: Sequence[Path]) -> _Tail:
    if not files:
        return _Tail()
    tail = _Tail(files[-1].name, files[-1].stat().st_size)
    is_last = True
    for path in reversed(files):
        for line in reversed(_last_lines(path)):
            parsed = _parse(line)
            if is_last:
                tail.hash = hashlib.sha256(line.rstrip(b"\n")).hexdigest()
                tail.is_torn = parsed is None
                tail.ends_open = path == files[-1] and not line.endswith(b"\n")
                is_last = False
            if parsed is not None:
                tail.number = int(str(parsed["n"]))
                return tail
    return tail


def _last_lines(path: Path) -> list[bytes]:
    """The last lines of a file, as far back as some are whole where there are any."""
    with path.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - 4 * _LONGEST_LINE))
        return opened.readlines()
