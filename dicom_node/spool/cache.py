"""Copies of stored objects on a disk of this host, as many as may be, those used last.

    <root>/instances/<study>/<series>/<sop>.<etag>.dcm
    <root>/outbox/<job>/<sop>.<etag>.dcm

The name says which version of an object it is: a copy never has to be compared again, and that of
an object which was replaced is simply another file. Nothing is synced: after the machine has
started anew, whatever is here may be half a file, and all of it goes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from dicom_node.durable import storage_error
from dicom_node.errors import OutOfSpace
from dicom_node.spool.names import INSTANCES, OUTBOX

# What was used within this time stays although there is too much: somebody may be about to open
# it. When the disk is full there is no choice left.
_IN_USE_S, _IN_USE_AT_LEAST_S = 900.0, 30.0
_KEEP = 0.9
_FILLING = "filling"


class Cache:
    """Safe for many threads and processes of one host.

    Parameters
    ----------
    root
        A folder of its own.
    limit_bytes
        About what it may hold.
    watermark_bytes
        With less free space than this, everything goes that is not being used.
    """

    def __init__(self, root: Path, limit_bytes: int, watermark_bytes: int = 0) -> None:
        self._root = Path(root)
        self._limit_bytes = limit_bytes
        self._watermark_bytes = watermark_bytes
        self._lock = threading.Lock()
        self._added_bytes = 0
        self._drop_after_boot()

    def _drop_after_boot(self) -> None:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / "boot").open("a+", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            if file.read() != boot:
                for name in (INSTANCES, OUTBOX, "quarantine", _FILLING):
                    shutil.rmtree(self._root / name, ignore_errors=True)
                file.truncate(0)
                file.write(boot)
        (self._root / _FILLING).mkdir(exist_ok=True)

    def path(self, relative: str, etag: str) -> Path:
        """Where a version of an object is, if it is here."""
        version = hashlib.sha256(etag.encode()).hexdigest()[:12]
        return self._root / f"{relative.removesuffix('.dcm')}.{version}.dcm"

    def find(self, relative: str, etag: str) -> Path | None:
        """The copy of a version, if it is here."""
        path = self.path(relative, etag)
        return path if path.exists() else None

    def used(self, folders: set[Path]) -> None:
        """Note that files of these folders are wanted now."""
        for folder in folders:
            with suppress(OSError):
                os.utime(folder)

    def fill(self, relative: str, write: Callable[[BinaryIO], str | None]) -> Path | None:
        """Keep what ``write`` writes; it returns the ETag, or ``None`` where there is nothing.

        Raises
        ------
        OutOfSpace, StorageFailed
        """
        try:
            return self._fill(relative, write)
        except OutOfSpace:
            # Others may have what we need, and need it less.
            self.sweep(everything=True)
            return self._fill(relative, write)

    def _fill(self, relative: str, write: Callable[[BinaryIO], str | None]) -> Path | None:
        temporary = self._root / _FILLING / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            with temporary.open("w+b") as file:
                etag = write(file)
                file.flush()
            return None if etag is None else self.adopt(relative, etag, temporary)
        except OSError as failure:
            raise storage_error(failure) from failure
        finally:
            temporary.unlink(missing_ok=True)

    def adopt(self, relative: str, etag: str, source: Path) -> Path:
        """Make a file, of the same disk, the copy of a version; raises OSError."""
        target = self.path(relative, etag)
        while True:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                size_bytes = source.stat().st_size
                source.rename(target)
                break
            except FileNotFoundError:
                # Its folder was emptied and removed in between, or there is nothing to adopt.
                if not source.exists():
                    raise
        self._note(size_bytes)
        return target

    def drop(self, relative: str) -> None:
        """Remove every version of an object."""
        target = self._root / relative
        with suppress(OSError):
            for path in target.parent.glob(f"{target.stem}.*.dcm"):
                path.unlink(missing_ok=True)

    def _note(self, size_bytes: int) -> None:
        with self._lock:
            self._added_bytes += size_bytes
            must_sweep = self._added_bytes > self._limit_bytes // 20
            if must_sweep:
                self._added_bytes = 0
        if must_sweep:
            self.sweep()

    def sweep(self, *, everything: bool = False) -> None:
        """Remove what was not used for the longest time until the rest is no more than may be.

        ``everything``: all that is not being used. One process does it at a time.
        """
        with (self._root / "boot").open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            folders = sorted(self._folders())
            held_bytes = sum(size for _, size, _ in folders)
            is_short = everything or self._is_short()
            in_use_s = _IN_USE_AT_LEAST_S if is_short else _IN_USE_S
            may_hold = 0 if is_short else int(self._limit_bytes * _KEEP)
            if not is_short and held_bytes <= self._limit_bytes:
                return
            for used_at, size_bytes, folder in folders:
                if held_bytes <= may_hold or time.time() - used_at < in_use_s:
                    return
                shutil.rmtree(folder, ignore_errors=True)
                held_bytes -= size_bytes
                with suppress(OSError):
                    folder.parent.rmdir()

    def _is_short(self) -> bool:
        found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize < self._watermark_bytes

    def _folders(self) -> list[tuple[float, int, Path]]:
        """When each folder was last used, and what is in it."""
        found = []
        patterns = (f"{INSTANCES}/*/*", f"{OUTBOX}/*", "quarantine")
        for folder in (one for pattern in patterns for one in self._root.glob(pattern)):
            with suppress(OSError), os.scandir(folder) as entries:
                size_bytes = sum(entry.stat().st_size for entry in entries)
                found.append((folder.stat().st_mtime, size_bytes, folder))
        return found
