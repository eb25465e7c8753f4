"""What the listener processes of a node tell each other and their parent: one record a process.

    open        associations that it holds
    oldest      when the oldest instance was stored that the ledger does not know yet, by the
                monotonic clock that all processes of a machine share; 0 when there is none
    reserved    bytes that its open associations are still expected to bring
    refused     when it last refused an association for want of space, 0 when the last one got it

The file is memory: it ends with the node, and nothing in it is needed for a restart.
"""

from __future__ import annotations

import mmap
import struct
import threading
import time

_RECORD = struct.Struct("<LxxxxdQd")
RECORD_BYTES = _RECORD.size


def oldest_waiting_s(shared_fd: int, slots: int) -> float:
    """How long the oldest stored instance of any process waits for the ledger; 0 when none."""
    waiting = [at for _, at, _, _ in _records(shared_fd, slots) if at]
    return max(0.0, time.monotonic() - min(waiting)) if waiting else 0.0


def open_associations(shared_fd: int, slots: int) -> int:
    """How many associations all processes hold together."""
    return sum(record[0] for record in _records(shared_fd, slots))


def refused_within(shared_fd: int, slots: int, seconds: float) -> bool:
    """Whether some process refused an association for want of space, and none was let in since."""
    refused = [at for _, _, _, at in _records(shared_fd, slots) if at]
    return bool(refused) and time.monotonic() - max(refused) <= seconds


def _records(shared_fd: int, slots: int) -> list[tuple[int, float, int, float]]:
    with mmap.mmap(shared_fd, RECORD_BYTES * slots, prot=mmap.PROT_READ) as shared:
        return [_RECORD.unpack_from(shared, slot * RECORD_BYTES) for slot in range(slots)]


class ActiveAssociations:
    """A place for each open association, and the record of this process.

    Parameters
    ----------
    shared_fd
        A file of `RECORD_BYTES` a process, shared between the listener processes; None for one
        process alone.
    slot
        Which of the records is ours.
    slots
        How many there are.

    Two processes may take the last place at the same moment: the limit protects the machine,
    it is no licence count.
    """

    def __init__(self, shared_fd: int | None = None, slot: int = 0, slots: int = 1) -> None:
        size_bytes = RECORD_BYTES * slots
        self._records = mmap.mmap(-1 if shared_fd is None else shared_fd, size_bytes)
        self._slot = slot
        self._slots = slots
        self._open = 0
        self._oldest = 0.0
        self._reserved_bytes = 0
        self._refused = 0.0
        self._lock = threading.Lock()
        self._put()

    def total(self) -> int:
        """Open associations in all processes."""
        return sum(int(_RECORD.unpack_from(self._records, at)[0]) for at in self._offsets())

    def reserved_bytes(self) -> int:
        """What the open associations of all processes are still expected to bring."""
        return sum(int(_RECORD.unpack_from(self._records, at)[2]) for at in self._offsets())

    def enter(self, limit: int) -> bool:
        """Take a place unless `limit` are taken."""
        with self._lock:
            if self.total() >= limit:
                return False
            self._open += 1
            self._put()
            return True

    def leave(self) -> None:
        """Give the place back."""
        with self._lock:
            self._open -= 1
            self._put()

    def reserve(self, more_bytes: int) -> None:
        """Expect so many bytes more (less, when negative) from the associations of this process."""
        with self._lock:
            self._reserved_bytes = max(0, self._reserved_bytes + more_bytes)
            self._put()

    def waits_since(self, monotonic_s: float) -> None:
        """Tell since when the oldest stored instance waits for the ledger; 0 when none does."""
        with self._lock:
            self._oldest = monotonic_s
            self._put()

    def refused(self, monotonic_s: float) -> None:
        """Tell when an association was refused for want of space; 0: one got its space."""
        with self._lock:
            self._refused = monotonic_s
            self._put()

    def _offsets(self) -> range:
        return range(0, self._slots * RECORD_BYTES, RECORD_BYTES)

    def _put(self) -> None:
        _RECORD.pack_into(
            self._records, self._slot * RECORD_BYTES, self._open, self._oldest,
            self._reserved_bytes, self._refused,
        )
