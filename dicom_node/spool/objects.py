"""Kept files as objects of a store, with copies on this host for reading.

An instance is stored by one PUT that the store takes only where nothing is; when it has answered,
the instance is kept. Two receivers that store the same at once are told apart by the store: the
second finds an object, and compares. What is replaced is replaced only in the place of the object
that went to quarantine.

A store tells versions of an object by a digest of its bytes (ETag). What was removed and comes
again must be another version, as a file in a folder has another time: so the file meta of what is
received for a store has a number in it that is drawn for each file.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from dicom_node.durable import storage_error
from dicom_node.errors import OutOfSpace, StoreUnavailable
from dicom_node.part import Part, same_data_set
from dicom_node.spool.cache import Cache
from dicom_node.spool.kept import StoredFile
from dicom_node.spool.names import INSTANCES, OUTBOX
from dicom_node.spool.store import MOST_BYTES, Body, Found, Store, Taken
from dicom_node.spool.stored_quarantine import StoredQuarantine
from dicom_node.spool.withdrawn import Withdrawn

_PLACED_AT_MOST = 5
# From so many on one listing costs less than a question for each.
_LISTED_FROM = 3
# A store has no end that it would tell of.
_ENDLESS_BYTES = 1 << 62


class ObjectKept:
    """Files in an object store; safe for many threads, processes and hosts at once.

    Parameters
    ----------
    store
        Where they are kept.
    cache
        Where they are read; on the disk on which this host receives.
    quarantine_limit_bytes
        When the quarantine holds this much, it takes no more.
    connections
        How many objects are brought here at a time.
    """

    def __init__(
        self, store: Store, cache: Cache, quarantine_limit_bytes: int, connections: int
    ) -> None:
        self.store = store
        self._cache = cache
        self._connections = connections
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self.quarantined = StoredQuarantine(store, quarantine_limit_bytes)
        self.leaving = Withdrawn(store, self._executor, cache.drop)

    def _executor(self) -> Executor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._connections, "store")
            return self._pool

    def keep(self, part: Part, relative: str) -> StoredFile:
        """As `dicom_node.spool.kept.Kept.keep`."""
        if part.size_bytes > MOST_BYTES:
            raise OutOfSpace(
                "an object store takes no instance of more than 5 GiB", reason="store.too_large"
            )
        try:
            part.flush()
            body, metadata = Body.of(part.path), _metadata(part)
        except OSError as failure:
            raise storage_error(failure) from failure
        for _ in range(_PLACED_AT_MOST):
            before = self.leaving.known()
            try:
                etag = self.store.put(relative, body, metadata=metadata)
                outcome = "new"
            except Taken:
                self.leaving.note_came(relative.split("/")[1])
                before = self.leaving.known()
                there = self.store.head(relative)
                if there is None:
                    continue
                if self._is_same(part, there, metadata):
                    self.leaving.settle(relative, there.etag, before)
                    return _stored(there, "identical")
                self._set_former_aside(there)
                try:
                    etag = self.store.put(
                        relative, body, instead_of=there.etag, metadata=metadata
                    )
                except Taken:
                    continue
                outcome = "replaced"
            self.leaving.settle(relative, etag, before)
            found = Found(relative, part.size_bytes, etag, time.time())
            with suppress(OSError):
                # Only to spare the way back: it is kept without.
                self._cache.adopt(relative, etag, Path(part.path))
            return _stored(found, outcome)
        raise StoreUnavailable(
            "other processes replace this instance again and again", reason="store.contended"
        )

    def _is_same(self, part: Part, there: Found, metadata: dict[str, str]) -> bool:
        if "data-set" in there.metadata:
            return all(there.metadata.get(name) == value for name, value in metadata.items())
        # It was not stored by a node: copied into the bucket from a folder, as a rule.
        path = self._bring(there)
        return path is not None and same_data_set(part, str(path))

    def _set_former_aside(self, there: Found) -> None:
        path = self._bring(there)
        if path is not None:
            try:
                self.quarantined.add(
                    str(path), "replaced", "another data set came with the same SOP Instance UID"
                )
            except OSError as failure:
                raise storage_error(failure) from failure

    def keep_result(self, relative: str, write: Callable[[BinaryIO], object]) -> None:
        """As `dicom_node.spool.kept.Kept.keep_result`."""

        def store_too(file: BinaryIO) -> str | None:
            write(file)
            file.flush()
            body = Body.of(str(file.name))
            with suppress(Taken):
                return self.store.put(relative, body)
            return None

        before = self.leaving.known()
        if self.store.head(relative) is None:
            self._cache.fill(relative, store_too)
        there = self.store.head(relative)
        self.leaving.settle(relative, there.etag if there else "", before)

    def local(self, relatives: Sequence[str]) -> list[Path]:
        """Copies, brought here where they are not; side by side."""
        found = self._current(relatives)
        self._cache.used({self._cache.path(one, "").parent for one in relatives})
        absent = [one for one in found.values() if not self._cache.find(one.key, one.etag)]
        brought = dict(
            zip([one.key for one in absent], self._executor().map(self._bring, absent), strict=True)
        )
        paths = []
        for relative in relatives:
            there = found.get(relative)
            path = brought.get(relative) if relative in brought else None
            if path is None and there is not None and relative not in brought:
                path = self._cache.find(relative, there.etag)
            # Where nothing is kept there is no such file: as in a folder.
            paths.append(path or self._cache.path(relative, "absent"))
        return paths

    def prefetch(self, relatives: Sequence[str]) -> None:
        """Begin to bring copies here; who waits for one finds out what went wrong."""
        for relative in relatives:
            self._executor().submit(self._fetch_ahead, relative)

    def _fetch_ahead(self, relative: str) -> None:
        with suppress(StoreUnavailable, OutOfSpace):
            there = self.store.head(relative)
            if there is not None and not self._cache.find(relative, there.etag):
                self._bring(there)

    def _current(self, relatives: Sequence[str]) -> dict[str, Found]:
        """What the store has under these paths now."""
        folders: dict[str, list[str]] = {}
        for relative in relatives:
            folders.setdefault(relative.rpartition("/")[0], []).append(relative)
        alone: list[str] = []
        found: dict[str, Found] = {}
        for folder, ones in folders.items():
            if len(ones) < _LISTED_FROM:
                alone += ones
                continue
            wanted = set(ones)
            found |= {
                one.key: one for one in self.store.list(f"{folder}/") if one.key in wanted
            }
        heads = map(self.store.head, alone) if len(alone) < 2 else self._executor().map(
            self.store.head, alone
        )
        return found | {one.key: one for one in heads if one is not None}

    def _bring(self, there: Found) -> Path | None:
        here = self._cache.find(there.key, there.etag)
        if here is not None:
            return here

        def write(file: BinaryIO) -> str | None:
            # It may have been replaced since: then this is the newer one.
            got = self.store.get(there.key, file)
            return got.etag if got else None

        return self._cache.fill(there.key, write)

    def look(self, relative: str) -> StoredFile | None:
        """As `dicom_node.spool.kept.Kept.look`."""
        there = self.store.head(relative)
        if there is None or self.leaving.is_hidden(relative):
            return None
        return _stored(there, "identical")

    def in_order(self) -> Iterator[tuple[str, str]]:
        """As `dicom_node.spool.kept.Kept.in_order`; the store lists in this order."""
        hidden = self.leaving.hidden()
        for one in self.store.list(f"{INSTANCES}/"):
            if one.key.endswith(".dcm") and one.key not in hidden:
                yield one.key, one.fingerprint

    def results(self) -> Iterator[tuple[str, float]]:
        """As `dicom_node.spool.kept.Kept.results`."""
        hidden = self.leaving.hidden()
        for one in self.store.list(f"{OUTBOX}/"):
            if one.key.endswith(".dcm") and one.key not in hidden:
                yield one.key, one.modified_at

    def remove(self, relative: str) -> None:
        """Delete an object and its copies; absent is fine."""
        self.store.delete(relative)
        self._cache.drop(relative)

    def has_any(self) -> bool:
        """Whether there is an image."""
        return any(True for _ in self.store.list(f"{INSTANCES}/", most=1))

    def clean(self) -> int:
        """Nothing: an object is there as a whole or not at all."""
        return 0

    def free_bytes(self) -> int:
        """A store has no end that it would tell of."""
        return _ENDLESS_BYTES

    def make_room(self) -> None:
        """Let go of copies that nobody uses."""
        self._cache.sweep()

    def check_usable(self) -> None:
        """As `Store.check_conditions`."""
        self.store.check_conditions()

    def keeps_what_is_deleted(self) -> bool:
        """Whether the bucket has versions."""
        return self.store.is_versioned()

    def marker(self) -> str:
        """What tells this store from others; empty: nobody has marked it."""
        content = io.BytesIO()
        return "" if self.store.get("spool-id", content) is None else content.getvalue().decode()

    def mark(self, identity: str) -> str:
        """Mark it unless it is marked; its marker."""
        with suppress(Taken):
            self.store.put("spool-id", Body.of(identity.encode("ascii")))
        return self.marker()


def _metadata(part: Part) -> dict[str, str]:
    digest = hashlib.sha256()
    for start in range(part.data_offset, part.size_bytes, 1 << 20):
        digest.update(os.pread(part.fd, min(1 << 20, part.size_bytes - start), start))
    return {"data-set": digest.hexdigest(), "transfer-syntax": part.transfer_syntax_uid}


def _stored(found: Found, outcome: str) -> StoredFile:
    return StoredFile(found.key, found.size_bytes, found.fingerprint, outcome, found.modified_at)
