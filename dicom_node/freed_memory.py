"""What the C library keeps of memory that was freed, and how it gives it back.

glibc keeps up to eight arenas for each core, so that threads need not wait for each other, and a
thread that comes and goes leaves what it freed in the arena that it happened to have. Most of our
threads hold Python's own lock when they ask for memory and gain nothing by an arena of their own:
after some minutes of mixed load a fifth of the resident memory was free memory in sixteen arenas.
Where the C library is another one nothing here does anything.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable

# malloc.h: the parameters of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_ARENAS = 2
# The largest that glibc takes, and what the arrays of some hundred slices need.
_OWN_MAPPING_FROM_BYTES, _KEPT_BYTES = 32 << 20, 256 << 20
_EVERY_S = 60.0
_OF_AN_OPERATOR = ("MALLOC_ARENA_MAX", "glibc.malloc.arena_max")
_THRESHOLDS_OF_AN_OPERATOR = (
    "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_",
    "glibc.malloc.trim_threshold", "glibc.malloc.mmap_threshold",
)  # fmt: skip


def share_arenas() -> bool:
    """Let all threads of this process share two arenas; call it before there are threads.

    Whoever has said by the environment how many there are to be is obeyed. Returns whether it was
    done.
    """
    said = (*os.environ, os.environ.get("GLIBC_TUNABLES", ""))
    if any(name in one for one in said for name in _OF_AN_OPERATOR):
        return False
    mallopt = getattr(_c_library(), "mallopt", None)
    return mallopt is not None and mallopt(_M_ARENA_MAX, _ARENAS) == 1


def keep_between_jobs() -> bool:
    """Keep what one piece of work frees for the next one, until `give_back`.

    A worker that asks the system for the same pages again and again spends a fifth of its time on
    having them cleared. Whoever has said something of this by the environment is obeyed. Returns
    whether it was done.
    """
    said = (*os.environ, os.environ.get("GLIBC_TUNABLES", ""))
    if any(name in one for one in said for name in _THRESHOLDS_OF_AN_OPERATOR):
        return False
    mallopt = getattr(_c_library(), "mallopt", None)
    return (
        mallopt is not None
        and mallopt(_M_MMAP_THRESHOLD, _OWN_MAPPING_FROM_BYTES) == 1
        and mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES) == 1
    )


def give_back() -> bool:
    """Give whole pages that are free to the system; returns whether there were any.

    Takes some milliseconds for 100 MB, in which other threads of this process may wait for memory.
    """
    trim = getattr(_c_library(), "malloc_trim", None)
    return trim is not None and trim(0) == 1


class GivingBack:
    """Gives back every ``every_s`` seconds; call `tick` more often.

    While a process works some of what it will need again goes too; that costs it milliseconds of
    each minute, and one that stood still long after its busiest hour would keep all of it for ever.
    """

    def __init__(
        self, every_s: float = _EVERY_S, monotonic: Callable[[], float] = time.monotonic,
        give: Callable[[], object] = give_back,
    ) -> None:  # fmt: skip
        self._every_s = every_s
        self._monotonic = monotonic
        self._give = give
        self._next_s = monotonic() + every_s

    def start(self) -> None:
        """There is nothing to begin."""

    def tick(self) -> None:
        """Give back, when it is time."""
        now = self._monotonic()
        if now >= self._next_s:
            self._next_s = now + self._every_s
            self._give()

    def stop(self) -> None:
        """There is nothing to end."""


def _c_library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except OSError:
        return None
