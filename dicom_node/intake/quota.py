"""What one caller may take: associations at a time, instances a minute, bytes an hour.

Counted over all listener processes, in the memory file that they share (`dicom_node.intake.active`
describes its beginning). Behind the records stands a part for each process, which it alone writes:

    17 bytes for each association that it holds: NUL and the caller's AE title, padded to 16
    48 bytes for each configured caller: instances of this minute and the one before, bytes of
    this hour and the one before, each pair behind the number of its period

What was taken within the last minute is what this one has brought, and of the one before the part
that is not yet a minute ago. Two processes may take the last place at the same moment, and an
instance that has begun is taken to its end: the limits protect the machine, they are no bill.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from dicom_node.errors import TransientError
from dicom_node.intake.active import RECORD_BYTES
from dicom_node.intake.settings import Caller, ListenerSettings

_ROW_BYTES = 17
_PERIOD = struct.Struct("<QQQ")
_RATES_BYTES = 2 * _PERIOD.size
_MINUTE_S, _HOUR_S = 60.0, 3600.0


class OverQuota(TransientError):
    """A caller has taken what ``peers.<name>.limits`` allow; later there is more."""

    status = 0xA700
    reason = "access.over_quota"


def part_bytes(settings: ListenerSettings) -> int:
    """How much of the file each listener process needs behind the records."""
    return _ROW_BYTES * settings.max_associations + _RATES_BYTES * len(settings.callers)


class Quotas:
    """What the callers have taken, as one listener process sees it.

    Parameters
    ----------
    settings
        Names the callers.
    shared_fd, slot, slots
        As of `ActiveAssociations`; None for one process alone.
    monotonic
        Seconds that all processes share.
    """

    def __init__(
        self,
        settings: ListenerSettings,
        shared_fd: int | None = None,
        slot: int = 0,
        slots: int = 1,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        size = part_bytes(settings)
        first = RECORD_BYTES * slots
        self._memory = mmap.mmap(-1 if shared_fd is None else shared_fd, first + size * slots)
        self._parts = [first + size * number for number in range(slots)]
        self._own = self._parts[slot]
        self._rows_bytes = _ROW_BYTES * settings.max_associations
        self._callers = settings.callers
        self._free = list(range(settings.max_associations))
        self._monotonic = monotonic
        self._lock = threading.Lock()

    def enter(self, ae_title: str, limit: int) -> int | None:
        """Take one of ``limit`` places of a caller; its number, None when all are taken."""
        row = _row(ae_title)
        with self._lock:
            held = sum(
                self._memory[at : at + self._rows_bytes].count(row) for at in self._parts
            )
            if held >= limit or not self._free:
                return None
            place = self._free.pop()
            self._write_row(place, row)
            return place

    def leave(self, place: int) -> None:
        """Give a place back."""
        with self._lock:
            self._write_row(place, bytes(_ROW_BYTES))
            self._free.append(place)

    def allowance(self, caller: Caller | None) -> Allowance | None:
        """What this caller may send; None where that has no limit."""
        if caller is None or (caller.instances_per_minute or caller.bytes_per_hour) is None:
            return None
        return Allowance(self, caller, self._callers.index(caller))

    def add(self, number: int, *, instances: int = 0, size_bytes: int = 0) -> None:
        """A caller has taken so much more."""
        now = self._monotonic()
        at = self._own + self._rows_bytes + number * _RATES_BYTES
        with self._lock:
            self._add(at, int(now // _MINUTE_S), instances)
            self._add(at + _PERIOD.size, int(now // _HOUR_S), size_bytes)

    def taken(self, number: int) -> tuple[float, float]:
        """Instances within a minute and bytes within an hour, by all processes."""
        instances = self._within(number * _RATES_BYTES, _MINUTE_S)
        return instances, self._within(number * _RATES_BYTES + _PERIOD.size, _HOUR_S)

    def _write_row(self, place: int, row: bytes) -> None:
        at = self._own + place * _ROW_BYTES
        self._memory[at : at + _ROW_BYTES] = row

    def _add(self, at: int, period: int, amount: int) -> None:
        then, current, former = _PERIOD.unpack_from(self._memory, at)
        if then != period:
            former = current if then == period - 1 else 0
            current = 0
        _PERIOD.pack_into(self._memory, at, period, current + amount, former)

    def _within(self, offset: int, length_s: float) -> float:
        period, passed = divmod(self._monotonic() / length_s, 1.0)
        total = 0.0
        for part in self._parts:
            at = part + self._rows_bytes + offset
            then, current, former = _PERIOD.unpack_from(self._memory, at)
            if then == period:
                total += current + former * (1.0 - passed)
            elif then == period - 1:
                total += current * (1.0 - passed)
        return total


@dataclass(frozen=True)
class Allowance:
    """What one caller may still send."""

    quotas: Quotas
    caller: Caller
    number: int

    def begin_instance(self) -> None:
        """An instance is about to come.

        Raises
        ------
        OverQuota
            Not now: the caller has taken its part.
        """
        instances, size_bytes = self.quotas.taken(self.number)
        if _is_over(instances, self.caller.instances_per_minute):
            raise OverQuota("more instances a minute than this caller may send")
        if _is_over(size_bytes, self.caller.bytes_per_hour):
            raise OverQuota("more bytes an hour than this caller may send")
        self.quotas.add(self.number, instances=1)

    def took(self, size_bytes: int) -> None:
        """So much of an instance has come."""
        self.quotas.add(self.number, size_bytes=size_bytes)


def _is_over(taken: float, limit: int | None) -> bool:
    return limit is not None and taken >= limit


def _row(ae_title: str) -> bytes:
    return b"\0" + ae_title.strip().encode("ascii", "replace")[:16].ljust(16)


def limit_of(settings: ListenerSettings, caller: Caller | None) -> int:
    """How many associations this caller may have at a time."""
    own = caller.associations if caller is not None else None
    return settings.max_associations_per_caller if own is None else own


def forget_places(
    shared_fd: int, settings: ListenerSettings, slot: int, slots: int
) -> None:
    """Empty the places of a process that has ended; what its callers have taken stays taken."""
    places = bytes(_ROW_BYTES * settings.max_associations)
    os.pwrite(shared_fd, places, RECORD_BYTES * slots + part_bytes(settings) * slot)
