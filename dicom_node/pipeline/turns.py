"""One after another, the most urgent first."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dicom_node.errors import WorkerLost
from dicom_node.records import Priority

_FIRST = -1
_URGENCY = {Priority.STAT: 0, Priority.ROUTINE: 1, Priority.BACKGROUND: 2}


class Turns:
    """Who has the turn has it alone; of those that wait, the next is the most urgent, then oldest.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line: list[tuple[int, int]] = []
        self._arrivals = itertools.count()
        self._is_taken = False

    @contextmanager
    def taken(self, priority: Priority | None, within_s: float | None) -> Iterator[None]:
        """Wait for the turn, and have it inside of the block; without a priority before all others.

        Raises
        ------
        WorkerLost
            ``worker.busy``: it did not come in time.
        """
        me = _FIRST if priority is None else _URGENCY[priority], next(self._arrivals)
        deadline = None if within_s is None else time.monotonic() + within_s
        with self._changed:
            self._line.append(me)
            while self._is_taken or min(self._line) != me:
                left_s = None if deadline is None else deadline - time.monotonic()
                if left_s is not None and left_s <= 0:
                    self._line.remove(me)
                    self._changed.notify_all()
                    raise WorkerLost(
                        f"others were written for {within_s:g} s", reason="worker.busy"
                    )
                self._changed.wait(left_s)
            self._line.remove(me)
            self._is_taken = True
        try:
            yield
        finally:
            self._give_back()

    @contextmanager
    def if_free(self) -> Iterator[bool]:
        """Have the turn where nobody has it or waits for it; whether it is so."""
        with self._changed:
            is_free = not self._is_taken and not self._line
            self._is_taken |= is_free
        try:
            yield is_free
        finally:
            if is_free:
                self._give_back()

    def _give_back(self) -> None:
        with self._changed:
            self._is_taken = False
            self._changed.notify_all()
