"""How many associations are open, over all listener processes of a node."""

from __future__ import annotations

import mmap
import struct
import threading

_COUNT = struct.Struct("<L")


class ActiveAssociations:
    """A place for each open association.

    Parameters
    ----------
    shared_fd
        A file of 4 bytes a process (little-endian count), shared between the listener
        processes; None for one process alone.
    slot
        Which of the counts is ours.
    slots
        How many there are.

    Two processes may take the last place at the same moment: the limit protects the machine,
    it is no licence count.
    """

    def __init__(self, shared_fd: int | None = None, slot: int = 0, slots: int = 1) -> None:
        size_bytes = _COUNT.size * slots
        self._counts = mmap.mmap(-1 if shared_fd is None else shared_fd, size_bytes)
        self._slot = slot
        self._slots = slots
        self._own = 0
        self._lock = threading.Lock()
        _COUNT.pack_into(self._counts, slot * _COUNT.size, 0)

    def total(self) -> int:
        """Open associations in all processes."""
        return sum(
            int(_COUNT.unpack_from(self._counts, slot * _COUNT.size)[0])
            for slot in range(self._slots)
        )

    def enter(self, limit: int) -> bool:
        """Take a place unless `limit` are taken."""
        with self._lock:
            if self.total() >= limit:
                return False
            self._put(self._own + 1)
            return True

    def leave(self) -> None:
        """Give the place back."""
        with self._lock:
            self._put(self._own - 1)

    def _put(self, own: int) -> None:
        self._own = own
        _COUNT.pack_into(self._counts, self._slot * _COUNT.size, own)
