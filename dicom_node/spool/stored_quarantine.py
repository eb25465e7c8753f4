"""What was refused, in an object store: the same bytes once, the reason beside them.

    quarantine/<sha256>.bin + .json
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from dicom_node.durable import read_chunks
from dicom_node.errors import OutOfSpace
from dicom_node.spool.quarantine import MOST_FILES, sidecar
from dicom_node.spool.store import Body, Store, Taken

_COUNT_AGAIN_S, _COUNT_FULL_AGAIN_S = 300.0, 10.0


class StoredQuarantine:
    """Safe for many threads; as `dicom_node.spool.quarantine.Quarantine` in what it takes."""

    def __init__(self, store: Store, limit_bytes: int) -> None:
        self._store = store
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._used_bytes = self._files = 0
        self._counted_at = -math.inf

    def add(
        self, path: str, reason: str, detail: str,
        sender: Mapping[str, str] = MappingProxyType({}),
    ) -> str:  # fmt: skip
        """As `dicom_node.spool.kept.Refused.add`."""
        size_bytes = Path(path).stat().st_size
        self._check_room(size_bytes)
        body, digest = Body.of(path), hashlib.sha256()
        for chunk in read_chunks(path):
            digest.update(chunk)
        name = f"quarantine/{digest.hexdigest()}"
        try:
            self._store.put(f"{name}.bin", body)
        except Taken:
            size_bytes = 0
        said = Body.of(sidecar(reason, detail, sender, Path(path).stat().st_size))
        self._store.put(f"{name}.json", said, anyway=True)
        with self._lock:
            self._used_bytes += size_bytes
            self._files += 2 if size_bytes else 0
        return f"{name}.bin"

    def _check_room(self, expected_bytes: int) -> None:
        now = time.monotonic()
        with self._lock:
            is_full = self._is_full(expected_bytes)
            is_old = now - self._counted_at > (_COUNT_FULL_AGAIN_S if is_full else _COUNT_AGAIN_S)
        if is_old:
            sizes = [one.size_bytes for one in self._store.list("quarantine/")]
            with self._lock:
                self._used_bytes, self._files, self._counted_at = sum(sizes), len(sizes), now
                is_full = self._is_full(expected_bytes)
        if is_full:
            raise OutOfSpace("the quarantine is full: look through it and empty it")

    def _is_full(self, expected_bytes: int) -> bool:
        return (
            self._used_bytes + expected_bytes > self._limit_bytes or self._files + 2 > MOST_FILES
        )

    def remove_older(self, than_s: float, most: int) -> int:
        """As `dicom_node.spool.kept.Refused.remove_older`."""
        before = time.time() - than_s
        old = [
            one.key for one in self._store.list("quarantine/")
            if one.key.endswith(".json") and one.modified_at < before
        ]
        for key in old[:most]:
            # The reason goes last: what is cut off here is found again.
            self._store.delete(f"{key.removesuffix('.json')}.bin")
            self._store.delete(key)
        return len(old[:most])
