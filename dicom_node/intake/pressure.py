"""Back-pressure: whether the disk has room for what a caller is about to send.

What an association will bring is not announced, so it is predicted: most studies of a caller are
about as large as its last ones. A new association is refused for the moment
(A-ASSOCIATE-RJ, PS3.8 table 9-21: transient, temporary congestion) when the free space, less
what the open associations are still expected to bring, would not hold a study of that caller above
the watermark. So the ones that are open can finish, and the sender keeps what it has and tries
again. Space that is freed is seen at the next request: nothing has to be told to go on.

The watermark itself stays the last line: an image that meets it is refused with 0xA700.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dicom_node.errors import LedgerUnavailable
from dicom_node.intake.active import ActiveAssociations

# A caller of whom nothing is known, and nothing of any other, is expected to send a CT study.
UNKNOWN_BYTES = 512 << 20
LEAST_BYTES = 16 << 20
_REMEMBERED = 50
_KNOWN_FROM = 3
_SHARE = 0.95
_REFRESH_EVERY_S = 300.0
_MEASURE_EVERY_S = 5.0

StudyBytes = Callable[[], Iterable[tuple[str, int]]]


def typical_bytes(sizes: Iterable[int]) -> int:
    """The size that 95 of 100 do not exceed; 0 of none."""
    ordered = sorted(sizes)
    return ordered[min(len(ordered) - 1, int(_SHARE * len(ordered)))] if ordered else 0


def is_room(
    free_bytes: int, watermark_bytes: int, reserved_bytes: int, expected_bytes: int
) -> bool:
    """Whether a study of `expected_bytes` fits above the watermark beside what is on its way."""
    return free_bytes - reserved_bytes - expected_bytes >= watermark_bytes


class FullDisk:
    """Whether a disk has no room for the least study of any caller, before one has been refused.

    Parameters
    ----------
    folder
        On the disk that is measured, at most every five seconds.
    watermark_bytes
        ``storage.refuse_below_free_bytes``; with 0 no disk is full.
    """

    def __init__(
        self, folder: str, watermark_bytes: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._watermark_bytes = watermark_bytes
        self._monotonic = monotonic
        self._measure_at = 0.0
        self._is_full = False

    def __call__(self) -> bool:
        """Whether it is full; while it cannot be measured, what was measured last."""
        if self._watermark_bytes and self._monotonic() >= self._measure_at:
            self._measure_at = self._monotonic() + _MEASURE_EVERY_S
            try:
                found = os.statvfs(self._folder)
            except OSError:
                return self._is_full
            free_bytes = found.f_bavail * found.f_frsize
            self._is_full = not is_room(free_bytes, self._watermark_bytes, 0, LEAST_BYTES)
        return self._is_full


class Sizes:
    """The last sizes by caller, and what they make one expect; safe for many threads."""

    def __init__(self) -> None:
        self._sizes: dict[str, deque[int]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))
        self._lock = threading.Lock()

    def learn(self, calling_ae_title: str, size_bytes: int) -> None:
        """One more of this caller was so large; the oldest is forgotten."""
        with self._lock:
            self._sizes[calling_ae_title].append(size_bytes)

    def replace(self, sizes: Iterable[tuple[str, int]]) -> None:
        """Know these (caller and size, latest first) and nothing else."""
        learnt: dict[str, deque[int]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))
        for calling_ae_title, size_bytes in sizes:
            learnt[calling_ae_title].appendleft(size_bytes)
        with self._lock:
            self._sizes = learnt

    def expected(self, calling_ae_title: str, otherwise_bytes: int) -> int:
        """What the next of this caller may need: by its own last ones, else by everybody's."""
        with self._lock:
            own = list(self._sizes.get(calling_ae_title, ()))
            every = own if len(own) >= _KNOWN_FROM else [
                size for sizes in self._sizes.values() for size in sizes
            ]
        if len(every) < _KNOWN_FROM:
            return otherwise_bytes
        return max(LEAST_BYTES, typical_bytes(every))


@dataclass
class Claim:
    """The space that one open association is still expected to need."""

    room: Room
    calling_ae_title: str
    left_bytes: int
    brought_bytes: int = 0

    def brought(self, size_bytes: int) -> None:
        """An instance is kept: so much less is to come."""
        self.brought_bytes += size_bytes
        self._give_back(min(size_bytes, self.left_bytes))

    def end(self) -> None:
        """The association is over: what did not come is not expected any more."""
        self._give_back(self.left_bytes)
        if self.brought_bytes:
            self.room.associations.learn(self.calling_ae_title, self.brought_bytes)

    def _give_back(self, size_bytes: int) -> None:
        self.left_bytes -= size_bytes
        self.room.active.reserve(-size_bytes)


class Room:
    """Decides over new associations in one listener process.

    Parameters
    ----------
    active
        Where all processes write what they expect.
    free_bytes
        Free space of the spool's disk.
    watermark_bytes
        ``storage.refuse_below_free_bytes``; 0 turns back-pressure off.
    study_bytes
        Caller and size of the last studies, latest first, as the ledger has them; asked for at
        the beginning and every five minutes, beside the work.
    """

    def __init__(
        self,
        active: ActiveAssociations,
        free_bytes: Callable[[], int],
        watermark_bytes: int,
        study_bytes: StudyBytes = tuple,
    ) -> None:
        self.active = active
        self.studies = Sizes()
        self.associations = Sizes()
        self._free_bytes = free_bytes
        self._watermark_bytes = watermark_bytes
        self._study_bytes = study_bytes
        self._refreshed_at = time.monotonic()
        self.refresh()

    def refresh(self) -> None:
        """Learn the last studies anew; while the ledger does not answer, what was learnt stays."""
        try:
            self.studies.replace(self._study_bytes())
        except LedgerUnavailable:
            return

    def claim(self, calling_ae_title: str) -> Claim | None:
        """Space for an association of this caller; ``None`` when it must come again later."""
        if not self._watermark_bytes:
            return Claim(self, calling_ae_title, 0)
        self._refresh_now_and_then()
        study_bytes = self.studies.expected(calling_ae_title, UNKNOWN_BYTES)
        # A study may come over several associations: each reserves what one of them brings.
        own_bytes = min(study_bytes, self.associations.expected(calling_ae_title, study_bytes))
        reserved_bytes = self.active.reserved_bytes()
        if not is_room(self._free_bytes(), self._watermark_bytes, reserved_bytes, study_bytes):
            self.active.refused(time.monotonic())
            return None
        self.active.refused(0.0)
        self.active.reserve(own_bytes)
        return Claim(self, calling_ae_title, own_bytes)

    def _refresh_now_and_then(self) -> None:
        if time.monotonic() - self._refreshed_at > _REFRESH_EVERY_S:
            self._refreshed_at = time.monotonic()
            threading.Thread(target=self.refresh, name="intake-sizes", daemon=True).start()
