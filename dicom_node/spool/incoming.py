"""Half-received files: one folder per host, so that nobody tidies up what another host receives."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

from dicom_node.durable import storage_error
from dicom_node.part import Part
from dicom_node.spool.names import uid_to_name


class Incoming:
    """A folder of files that are being received; safe for many threads and processes of a host.

    With ``are_unique`` no file has the bytes of another one. An open file is locked by its process.
    Such a lock is not looked at by other hosts: whether it holds between them is up to the file
    system.
    """

    def __init__(self, folder: str, *, are_unique: bool = False) -> None:
        self.folder = folder
        self._are_unique = are_unique
        self._numbers = count()
        # Two containers may have one host name, and the same process ids.
        self._mine = f"{os.getpid()}-{secrets.token_hex(4)}"

    def begin(self, association_id: str) -> Part:
        """A new empty file; raises `OutOfSpace` or `StorageFailed`.

        The open file is locked: `clean` of another process leaves it alone.
        """
        marked = association_id[:32] if association_id.isalnum() else uid_to_name(association_id)
        path = f"{self.folder}/{self._mine}-{marked}-{next(self._numbers)}.part"
        # With a name from the beginning: on ext4 without a journal a file that got its first name
        # when it was whole (O_TMPFILE) is lost with the power, also after its folder was synced.
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as failure:
            raise storage_error(failure) from failure
        return Part(fd, path, is_unique=self._are_unique)

    def clean(self) -> int:
        """Remove the files of processes that are gone; returns how many.

        What a read-only or broken disk does not let go stays for the next time: nothing waits
        for it.
        """
        removed = 0
        for path in sorted(Path(self.folder).glob("*.part")):
            with suppress(OSError):
                # NFS locks exclusively only what is open for writing.
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)
                    removed += 1
                finally:
                    os.close(fd)
        return removed


def remove_left(folder: str, for_s: float) -> int:
    """Remove what hosts left half received below their folders; returns how many files.

    Only what nobody has written to for ``for_s`` seconds. The folders stay: their hosts may come
    back, and need not make them anew. What cannot be removed stays for the next time.
    """
    before = time.time() - for_s
    removed = 0
    for path in sorted(Path(folder).glob("*/*.part")):
        with suppress(OSError):
            if path.stat().st_mtime < before:
                path.unlink()
                removed += 1
    return removed
