"""Making directory entries durable, and what an operating system error means for us."""

from __future__ import annotations

import errno
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from dicom_node.errors import OutOfSpace, StorageFailed

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LOCKS = 64


def storage_error(failure: OSError) -> OutOfSpace | StorageFailed:
    """The error that a failed write, sync or rename becomes; the path stays out of the message.

    Libraries that write wrap what the system said in an error of their own.
    """
    cause: BaseException | None = failure
    while isinstance(cause, OSError) and cause.errno is None:
        cause = cause.__cause__
    number = cause.errno if isinstance(cause, OSError) else None
    name = errno.errorcode.get(number or 0, "unknown error")
    if number in _FULL:
        return OutOfSpace(f"the disk is full ({name})")
    return StorageFailed(f"the disk refused ({name})")


def sync_directory(path: str) -> None:
    """Make the entries of one directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_chunks(path: str, size_bytes: int = 1 << 20) -> Iterator[bytes]:
    """The bytes of a file, a chunk at a time."""
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(size_bytes):
            yield chunk


def link_or_copy(source: str, target: str) -> None:
    """Give a file a second name; copy it where the file system allows no second name."""
    try:
        os.link(source, target)
    except OSError as failure:
        if failure.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
            raise
        write_durably(target, lambda file: [file.write(piece) for piece in read_chunks(source)])


def _unique() -> str:
    # Process and thread ids are those of one host only.
    return f"{os.getpid()}-{secrets.token_hex(6)}"


def write_once(target: str, write: Callable[[BinaryIO], object]) -> bool:
    """As `write_durably`, but a file that has the name keeps it; whether the new one got it."""
    if os.path.exists(target):
        return False
    temporary = f"{target}.{_unique()}.new"
    write_durably(temporary, write)
    try:
        # Unlike a rename, a link fails when another thread or process was faster.
        os.link(temporary, target)
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    return True


def write_durably(target: str, write: Callable[[BinaryIO], object]) -> None:
    """Write a temporary file, sync it, give it its name; the caller syncs the directory."""
    temporary = f"{target}.{_unique()}.tmp"
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, target)
    except BaseException:
        # Whatever stopped the writer, a temporary file is not left behind.
        Path(temporary).unlink(missing_ok=True)
        raise


class _Batch:
    """Those who wait for one sync of one directory."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.failure: OSError | None = None


class DirectorySync:
    """Directory syncs of concurrent threads, grouped: one answers all who came before it began.

    While one sync of a directory runs, everyone who comes joins the next one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, _Batch] = {}
        self._running = [threading.Lock() for _ in range(_LOCKS)]

    def sync(self, path: str) -> None:
        """Return when every entry made in `path` before the call is durable (or raise)."""
        with self._lock:
            batch = self._waiting.get(path)
            leads = batch is None
            if batch is None:
                batch = self._waiting[path] = _Batch()
        if leads:
            self._lead(path, batch)
        else:
            batch.done.wait()
        if batch.failure:
            raise OSError(batch.failure.errno, "directory sync failed")

    def _lead(self, path: str, batch: _Batch) -> None:
        with self._running[hash(path) % _LOCKS]:
            with self._lock:
                del self._waiting[path]
            try:
                sync_directory(path)
            except OSError as failure:
                batch.failure = failure
            finally:
                batch.done.set()
