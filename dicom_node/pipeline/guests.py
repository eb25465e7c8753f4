"""What else has memory of the pool's devices: the processes of writers, each beside its models.

A guest has room where what it needs fits, and counts there as a warm model does. But models come
first: where a job does not fit beside a guest, the guest goes, whatever it is doing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Guest:
    """One process on one device.

    Attributes
    ----------
    number
        Of the device, in the pool's list.
    held_mib
        What it takes: as predicted, then as measured.
    go
        Ends it, now; returns when it is gone.
    pid
        Of its process, where one runs.
    is_busy
        Whether what it holds may be growing or shrinking just now.
    """

    number: int
    held_mib: float
    go: Callable[[], None]
    pid: Callable[[], int | None]
    is_busy: bool = True


class Guests:
    """Thread-safe."""

    def __init__(self) -> None:
        self._guests: list[Guest] = []
        self._lock = threading.Lock()

    def come(self, guest: Guest) -> None:
        """Count a guest from now on."""
        with self._lock:
            self._guests.append(guest)

    def leave(self, guest: Guest) -> None:
        """Count it no more."""
        with self._lock:
            self._guests = [one for one in self._guests if one is not guest]

    def held_mib(self, number: int) -> float:
        """What guests take of a device together."""
        with self._lock:
            return sum(one.held_mib for one in self._guests if one.number == number)

    def are_busy(self, number: int) -> bool:
        """Whether what is measured on a device may be theirs."""
        with self._lock:
            return any(one.is_busy for one in self._guests if one.number == number)

    def pids(self) -> list[int]:
        """Process ids of those that run."""
        with self._lock:
            guests = list(self._guests)
        return [pid for one in guests if (pid := one.pid()) is not None]

    def send_away(self, number: int | None = None) -> bool:
        """End those on a device, or all; whether there were any."""
        with self._lock:
            going = [one for one in self._guests if number is None or one.number == number]
        for one in going:
            one.go()
            self.leave(one)
        return bool(going)
