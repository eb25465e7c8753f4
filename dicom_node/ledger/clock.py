"""The time of the ledger: on several hosts that of the database server, whatever their own say.

Times in the ledger are compared with each other, and on several hosts they come from several
clocks. A process that shares a database sets this one by it every second
(`dicom_node.ledger.host_session`) and goes on by seconds that no clock setting changes while the
database is away. On SQLite it is the clock of the computer.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

# What a round trip costs is no reason to step.
_NOT_WORTH_IT_S = 0.02


class _Clock:
    """A wall clock that runs by the monotonic one once it is set."""

    def __init__(self) -> None:
        self._set: tuple[float, float] | None = None

    def seconds(self) -> float:
        at = self._set
        return time.time() if at is None else at[0] + time.monotonic() - at[1]

    def set(self, wall_s: float, at_monotonic_s: float) -> None:
        off_s = wall_s + time.monotonic() - at_monotonic_s - self.seconds()
        if self._set is None or abs(off_s) > _NOT_WORTH_IT_S:
            self._set = (wall_s, at_monotonic_s)

    def unset(self) -> None:
        self._set = None


_clock = _Clock()


def now() -> datetime:
    """Now, aware, in UTC."""
    return datetime.fromtimestamp(_clock.seconds(), UTC)


def seconds() -> float:
    """Now, in seconds since the epoch, by the microsecond.

    A time that was read from the ledger as a date is compared with what is in it as a number.
    """
    return now().timestamp()


def set_by_database(database_s: float, at_monotonic_s: float) -> None:
    """Go by the database's clock from here on, in this process.

    ``database_s`` is what it said, in seconds since the epoch, at ``at_monotonic_s``.
    """
    _clock.set(database_s, at_monotonic_s)


def set_by_computer() -> None:
    """Go by the computer's clock again."""
    _clock.unset()
