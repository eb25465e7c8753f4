"""What was refused and a person can still look at: the same bytes once, the reason beside them.

    quarantine/<sha256>.bin + .json
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from dicom_node.durable import (
    DirectorySync,
    link_or_copy,
    read_chunks,
    storage_error,
    write_durably,
)
from dicom_node.errors import OutOfSpace

# Images and their reasons: a caller of refused objects of some bytes each fills the folder, not the
# disk.
MOST_FILES = 200_000
# Other processes and people add and remove as well.
_COUNT_AGAIN_S, _COUNT_FULL_AGAIN_S = 300.0, 10.0


def sidecar(reason: str, detail: str, sender: Mapping[str, str], size_bytes: int) -> bytes:
    """What is written beside a refused file."""
    said = {
        "reason": reason,
        "detail": detail,
        **sender,
        "size_bytes": size_bytes,
        "quarantined_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(said, indent=1).encode()


class Quarantine:
    """One folder of refused files; safe for many threads.

    Parameters
    ----------
    folder
        Where they are.
    limit_bytes
        More than this is not taken, nor more files than `MOST_FILES`.
    """

    def __init__(self, folder: str, limit_bytes: int, sync: DirectorySync) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._sync = sync
        self._lock = threading.Lock()
        self._used_bytes = self._files = 0
        self._counted_at = -math.inf

    def add(
        self, path: str, reason: str, detail: str,
        sender: Mapping[str, str] = MappingProxyType({}),
    ) -> str:  # fmt: skip
        """Give a file a second name here and say why; its name relative to the spool.

        ``sender`` says who sent it: written beside the reason, of those bytes that came last.

        Raises
        ------
        OutOfSpace
            The quarantine is full.
        OSError
        """
        digest = hashlib.sha256()
        for chunk in read_chunks(path):
            digest.update(chunk)
        name = digest.hexdigest()
        size_bytes = os.stat(path).st_size
        said = sidecar(reason, detail, sender, size_bytes)
        with self._lock:
            if not os.path.exists(f"{self._folder}/{name}.bin"):
                self._check_room(size_bytes)
                # Another process may have been faster with the same bytes.
                with suppress(FileExistsError):
                    link_or_copy(path, f"{self._folder}/{name}.bin")
            write_durably(
                f"{self._folder}/{name}.json",
                lambda file: file.write(said),
            )
        self._sync.sync(self._folder)
        return f"quarantine/{name}.bin"

    def _check_room(self, expected_bytes: int) -> None:
        """Count what is here now and then only: a folder of very many files takes its time."""
        now = time.monotonic()
        is_full = self._is_full(expected_bytes)
        if now - self._counted_at > (_COUNT_FULL_AGAIN_S if is_full else _COUNT_AGAIN_S):
            with os.scandir(self._folder) as entries:
                sizes = [entry.stat().st_size for entry in entries]
            self._used_bytes, self._files, self._counted_at = sum(sizes), len(sizes), now
            is_full = self._is_full(expected_bytes)
        if is_full:
            raise OutOfSpace("the quarantine is full: look through it and empty it")
        self._used_bytes += expected_bytes
        self._files += 2

    def _is_full(self, expected_bytes: int) -> bool:
        return (
            self._used_bytes + expected_bytes > self._limit_bytes or self._files + 2 > MOST_FILES
        )

    def remove_older(self, than_s: float, most: int) -> int:
        """Delete what has been here for longer, at most so many; returns how many files of images.

        The time is that at which the same bytes came last.

        Raises
        ------
        StorageFailed
        """
        before = time.time() - than_s
        removed = 0
        try:
            with os.scandir(self._folder) as entries:
                old = [
                    Path(entry.path) for entry in entries
                    if entry.name.endswith(".json") and entry.stat().st_mtime < before
                ]
            for sidecar in old[:most]:
                # The reason goes last: what is cut off here is found again.
                sidecar.with_suffix(".bin").unlink(missing_ok=True)
                sidecar.unlink(missing_ok=True)
                removed += 1
        except OSError as failure:
            raise storage_error(failure) from failure
        return removed
