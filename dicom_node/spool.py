"""Where Part 10 files live: half-received, kept, outgoing and quarantined.

    incoming/*.part                         half-received; gone when their process is gone
    instances/<study>/<series>/<sop>.dcm    acknowledged; the record that the ledger indexes
    outbox/<job>/<sop>.dcm                  results that wait for delivery
    quarantine/<sha256>.bin + .json         what was refused, and why

A file enters ``instances`` or ``outbox`` by one order only: write, sync the file, give it its
name, sync the directory. A name is therefore never that of half a file, whenever power is lost.
A UID becomes a name here and nowhere else (`uid_to_name`).

Two files are identical when transfer syntax and data set bytes are equal: the file meta may
differ, because it names the sender.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from dicom_node.durable import (
    DirectorySync,
    storage_error,
    sync_directory,
    write_once,
)
from dicom_node.errors import ConfigurationError, OutOfSpace, PermanentError
from dicom_node.part import Part, same_data_set
from dicom_node.quarantine import Quarantine

QUARANTINE_LIMIT_BYTES = 2 << 30
_SPACE_CACHE_S = 0.2
_KNOWN_DIRECTORIES = 4096
_PLACED_AT_MOST = 3
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def uid_to_name(uid: str) -> str:
    """The file or directory name of a UID.

    A UID of PS3.5 section 9.1's characters and length is its own name; any other text, so also
    any that could climb out of a directory, becomes ``x-`` and its SHA-256.
    """
    if len(uid) <= 64 and _UID.fullmatch(uid):
        return uid
    return "x-" + hashlib.sha256(uid.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A kept instance; ``path`` is relative to the spool, ``outcome`` new|identical|replaced."""

    path: str
    size_bytes: int
    fingerprint: str
    outcome: str


class Spool:
    """The directories of one node; safe for many threads and processes at once.

    Parameters
    ----------
    root
        Made when absent; one local file system.
    refuse_below_free_bytes
        `check_space` refuses when less than this would stay free.
    quarantine_limit_bytes
        When the quarantine holds this much, what belongs there is refused (0xA700) instead,
        so that its sender keeps it.

    Attributes
    ----------
    quarantined
        What was refused.
    """

    def __init__(
        self,
        root: Path,
        refuse_below_free_bytes: int = 0,
        quarantine_limit_bytes: int = QUARANTINE_LIMIT_BYTES,
    ) -> None:
        self.root = Path(root)
        self._root = str(self.root)
        self._refuse_below_free_bytes = refuse_below_free_bytes
        try:
            for name in ("incoming", "instances", "outbox", "quarantine"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            sync_directory(self._root)
        except PermissionError as error:
            # Somebody else made it: root, as a rule, by trying the node out.
            raise ConfigurationError(
                f"{error.filename or self._root} belongs to another user; expected all below "
                "node.data_dir to be the node's", key_path="node.data_dir",
            ) from error
        self._sync = DirectorySync()
        self._numbers = count()
        self._free_bytes = (0.0, 0)
        self._known: set[str] = set()
        self.quarantined = Quarantine(
            f"{self._root}/quarantine", quarantine_limit_bytes, self._sync
        )

    def check_space(self, expected_bytes: int = 0) -> None:
        """Raise `OutOfSpace` when the disk is at its watermark (read at most 5 times a second)."""
        if self.free_bytes() - expected_bytes < self._refuse_below_free_bytes:
            raise OutOfSpace("free space is below storage.refuse_below_free_bytes")

    def free_bytes(self) -> int:
        """Free space of the disk, at most 0.2 s old; raises `StorageFailed`."""
        read_at, free_bytes = self._free_bytes
        now = time.monotonic()
        if now - read_at > _SPACE_CACHE_S or not read_at:
            try:
                found = os.statvfs(self._root)
            except OSError as failure:
                raise storage_error(failure) from failure
            free_bytes = found.f_bavail * found.f_frsize
            self._free_bytes = (now, free_bytes)
        return free_bytes

    def forget_space(self) -> None:
        """Make the next `check_space` look again."""
        self._free_bytes = (0.0, 0)

    def begin(self, association_id: str) -> Part:
        """A new empty file below ``incoming``; raises `OutOfSpace` or `StorageFailed`.

        The open file is locked: `clean_incoming` of another process leaves it alone.
        """
        marked = association_id[:32] if association_id.isalnum() else uid_to_name(association_id)
        name = f"{os.getpid()}-{marked}-{next(self._numbers)}.part"
        path = f"{self._root}/incoming/{name}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as failure:
            raise storage_error(failure) from failure
        return Part(fd, path)

    def commit(
        self,
        part: Part,
        study_instance_uid: str,
        series_instance_uid: str,
        sop_instance_uid: str,
    ) -> StoredFile:
        """Make `part` a kept instance; returns when file and directory entry are on disk.

        Identical bytes already kept stay untouched; different ones under the same name are
        replaced at once and go to quarantine. The part is gone afterwards, also on failure.

        Raises
        ------
        OutOfSpace, StorageFailed
            Not kept for good. When only the last directory sync failed, the file stands under
            its name, whole; a sender that tries again finds it identical.
        """
        study = f"{self._root}/instances/{uid_to_name(study_instance_uid)}"
        series = f"{study}/{uid_to_name(series_instance_uid)}"
        target = f"{series}/{uid_to_name(sop_instance_uid)}.dcm"
        try:
            part.finish()
            outcome, found = self._keep(part, target, study, series)
        except OSError as failure:
            raise storage_error(failure) from failure
        finally:
            part.discard()
        return StoredFile(
            target[len(self._root) + 1 :],
            found.st_size,
            f"{found.st_size}-{found.st_mtime_ns}",
            outcome,
        )

    def _keep(
        self, part: Part, target: str, study: str, series: str
    ) -> tuple[str, os.stat_result]:
        """Place the file until it stands under its name when that is durable.

        Otherwise its study was set aside meanwhile, because it is to be removed
        (`dicom_node.leaving`): what is answered for must not go with it.
        """
        for _ in range(_PLACED_AT_MOST):
            self._ensure_directory(study, series)
            outcome = self._place(part, target, study, series)
            try:
                self._sync.sync(series)
                return outcome, os.stat(target)
            except FileNotFoundError:
                self._known.discard(series)
        raise FileNotFoundError(errno.ENOENT, "its folder is taken away again and again")

    def _ensure_directory(self, study: str, series: str) -> None:
        """Make both directories durable, once per process and series."""
        if series in self._known:
            return
        for directory, parent in ((study, f"{self._root}/instances"), (series, study)):
            os.makedirs(directory, exist_ok=True)
            self._sync.sync(parent)
        if len(self._known) >= _KNOWN_DIRECTORIES:
            self._known.clear()
        self._known.add(series)

    def _place(self, part: Part, target: str, study: str, series: str) -> str:
        # A hard link, unlike a rename, fails when the name is taken, also by another process.
        try:
            os.link(part.path, target)
            return "new"
        except FileExistsError:
            return self._replace(part, target, series)
        except FileNotFoundError:
            self._known.discard(series)
            self._ensure_directory(study, series)
        try:
            os.link(part.path, target)
        except FileExistsError:
            return self._replace(part, target, series)
        return "new"

    def _replace(self, part: Part, target: str, series: str) -> str:
        lock = os.open(series, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.exists(target):
                if same_data_set(part, target):
                    # Whoever is about to remove the study must notice that it comes again.
                    os.utime(lock)
                    return "identical"
                self.quarantined.add(
                    target, "replaced", "another data set came with the same SOP Instance UID"
                )
            os.rename(part.path, target)
        finally:
            os.close(lock)
        return "replaced"

    def quarantine(
        self, part_or_path: Part | Path | str, reason: str, detail: str,
        sender: Mapping[str, str] = MappingProxyType({}),
    ) -> str:  # fmt: skip
        """Move a refused file to the quarantine and return its path relative to the spool.

        The same bytes are kept once, however often they come. `reason` is a stable code and
        `detail` a sentence of ours: neither holds patient data. `sender` is written beside them.

        Raises
        ------
        OutOfSpace
            The quarantine is full (nothing was moved; a part is removed).
        StorageFailed
        """
        part = part_or_path if isinstance(part_or_path, Part) else None
        path = part.path if part else str(part_or_path)
        try:
            if part:
                part.finish()
            name = self.quarantined.add(path, reason, detail, sender)
            if part is None:
                os.unlink(path)
        except OSError as failure:
            raise storage_error(failure) from failure
        finally:
            if part:
                part.discard()
        return name

    def resolve(self, relative: str) -> Path:
        """Absolute path of a relative one; anything outside the spool is refused."""
        path = (self.root / relative).resolve()
        if not path.is_relative_to(self.root.resolve()) or Path(relative).is_absolute():
            raise PermanentError("a path outside the spool was asked for", reason="spool.outside")
        return path

    def has(self, relative: str) -> bool:
        """Whether there is a file under this relative path."""
        return self.resolve(relative).is_file()

    def stored(self) -> Iterator[str]:
        """Relative path of every kept instance, in no order."""
        start = len(self._root) + 1
        for study in _directories(f"{self._root}/instances"):
            for series in _directories(study):
                with suppress(FileNotFoundError), os.scandir(series) as entries:
                    for entry in entries:
                        if entry.name.endswith(".dcm"):
                            yield entry.path[start:]

    def stored_in_order(self) -> Iterator[tuple[str, str]]:
        """Relative path and fingerprint of every kept instance, in byte order of the paths."""
        start = len(self._root) + 1
        for study in _in_order(f"{self._root}/instances"):
            for series in _in_order(study):
                found: list[tuple[str, os.stat_result]] = []
                with suppress(FileNotFoundError), os.scandir(series) as entries:
                    found = [
                        (entry.path[start:], entry.stat())
                        for entry in entries
                        if entry.name.endswith(".dcm")
                    ]
                for path, status in sorted(found, key=lambda one: one[0]):
                    yield path, f"{status.st_size}-{status.st_mtime_ns}"

    def results(self) -> Iterator[tuple[str, float]]:
        """Relative path and time of writing (seconds since the epoch) of every result."""
        start = len(self._root) + 1
        for job in _directories(f"{self._root}/outbox"):
            with suppress(FileNotFoundError), os.scandir(job) as entries:
                for entry in entries:
                    if entry.name.endswith(".dcm"):
                        yield entry.path[start:], entry.stat().st_mtime

    def clean_incoming(self) -> int:
        """Remove the half-received files of processes that are gone; returns how many.

        What a read-only or broken disk does not let go stays for the next time: nothing waits
        for it.
        """
        removed = 0
        for path in sorted((self.root / "incoming").glob("*.part")):
            with suppress(OSError):
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)
                    removed += 1
                finally:
                    os.close(fd)
        return removed

    def clean_outbox(self) -> int:
        """Remove results that were half written when the node ended; returns how many.

        Only for the one process that writes results, before it does.
        """
        half = [
            path for path in (self.root / "outbox").glob("*/*") if path.suffix in (".tmp", ".new")
        ]
        for path in half:
            path.unlink(missing_ok=True)
        return len(half)

    def put_result(
        self, job_id: str, sop_instance_uid: str, write: Callable[[BinaryIO], object]
    ) -> str:
        """Keep one result below ``outbox``, durable on return, and return its relative path.

        An object that is there stays as it is, whatever is given now: it may have been sent, and
        one SOP Instance UID must never name two contents.
        """
        job = job_id if _JOB.fullmatch(job_id) else uid_to_name(job_id)
        directory = self.root / "outbox" / job
        target = directory / f"{uid_to_name(sop_instance_uid)}.dcm"
        try:
            directory.mkdir(exist_ok=True)
            write_once(str(target), write)
            self._sync.sync(str(directory))
            self._sync.sync(str(directory.parent))
        except OSError as failure:
            raise storage_error(failure) from failure
        return str(target.relative_to(self.root))

    def remove(self, relative: str) -> None:
        """Remove a kept file and the directories that it leaves empty; absent is fine."""
        path = self.resolve(relative)
        try:
            path.unlink(missing_ok=True)
            keep = {self.root.resolve() / name for name in ("instances", "outbox")}
            for parent in path.parents:
                if parent in keep or not parent.is_relative_to(self.root.resolve()):
                    break
                parent.rmdir()
        except OSError as failure:
            if failure.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                raise storage_error(failure) from failure


def _directories(path: str) -> list[str]:
    """Those in a directory; none of one that was set aside since it was seen."""
    with suppress(FileNotFoundError), os.scandir(path) as entries:
        return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []


def _in_order(path: str) -> list[str]:
    # As the names of the files below them compare: "1.2/..." comes after "1.2.3/...".
    return sorted(_directories(path), key=lambda one: f"{one}/")
