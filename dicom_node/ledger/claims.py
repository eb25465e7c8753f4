"""Which process has which job: several hosts work on one list, and none works on another's job.

    queued --claim--> queued, and one process hands it to its engine --> running there
    the process is gone --release--> a new attempt: queued again, for whoever has a place

A claim is for one attempt. Whatever gives a job a new one (a failure, an operator, the end of its
host) makes the claim void, and with it whatever the process that had it still does: when it comes
back, the attempt that it would record is not the ledger's any more.

On SQLite there are no claims: one process does the work.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from dicom_node.ledger import clock, host_tables, rows, tables, unclean_ends
from dicom_node.ledger.database import Database
from dicom_node.ledger.hosts import ENDED
from dicom_node.records import JobState

LEFT = "host_left"
# What was running under a version that made no claims is waited for so long.
_UNCLAIMED_S = 60.0
_KEPT_S = 86_400.0
_j, _c, _h = tables.jobs, host_tables.job_claims, host_tables.hosts
_OPEN = _j.c.state.in_([str(JobState.QUEUED), str(JobState.RUNNING)])


class Claims:
    """The claims of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_there = False

    def claim(self, job_id: str, attempt: int, process_id: str) -> bool:
        """Take one attempt of a queued job; whether it is this process's, now or before."""
        wanted = sa.select(
            _j.c.job_id, _j.c.attempt, sa.literal(process_id), sa.literal(clock.seconds())
        ).where(_j.c.job_id == job_id, _j.c.attempt == attempt, _j.c.state == str(JobState.QUEUED))
        insert = self._database.insert(_c).from_select(
            ["job_id", "attempt", "process_id", "claimed_at"], wanted
        )
        with self._database.write(()) as connection:
            connection.execute(
                insert.on_conflict_do_update(
                    index_elements=["job_id"],
                    set_={name: insert.excluded[name] for name in
                          ("attempt", "process_id", "claimed_at")},
                    where=_c.c.attempt < insert.excluded.attempt,
                )
            )
            return self._has(connection, job_id, attempt, process_id)

    def has(self, job_id: str, attempt: int, process_id: str) -> bool:
        """Whether a process has this attempt."""
        with self._database.read() as connection:
            return self._has(connection, job_id, attempt, process_id)

    def _has(
        self, connection: sa.Connection, job_id: str, attempt: int, process_id: str
    ) -> bool:
        query = sa.select(_c.c.process_id).where(_c.c.job_id == job_id, _c.c.attempt == attempt)
        return connection.execute(query).scalar_one_or_none() == process_id

    def of(self, job_ids: Collection[str] | None = None) -> dict[tuple[str, int], str]:
        """The process of each attempt that is claimed, of these jobs or of all that are open."""
        query = sa.select(_c.c.job_id, _c.c.attempt, _c.c.process_id)
        if job_ids is not None and not job_ids:
            return {}
        if job_ids is None:
            query = query.join(_j, (_j.c.job_id == _c.c.job_id) & (_j.c.attempt == _c.c.attempt))
            query = query.where(_OPEN)
        else:
            query = query.where(_c.c.job_id.in_(list(job_ids)))
        with self._database.read() as connection:
            return {(row[0], row[1]): row[2] for row in connection.execute(query)}

    def host_of(self, job_id: str, attempt: int) -> str:
        """The host that has this attempt, or had it within a day; "" where none is known."""
        if self._database.is_sqlite:
            return ""
        query = (
            sa.select(_h.c.host_name)
            .join(_c, _c.c.process_id == _h.c.process_id)
            .where(_c.c.job_id == job_id, _c.c.attempt == attempt)
        )
        with self._database.read() as connection:
            # Who only looks may meet a ledger that a former version made.
            self._is_there = self._is_there or sa.inspect(connection).has_table(_c.name)
            found = connection.execute(query).scalar_one_or_none() if self._is_there else None
            return found or ""

    def release(self) -> list[str]:
        """Give a new attempt to every job whose process is gone; returns their ids.

        One that was running when its host fell silent is suspected a little of being the reason
        (`dicom_node.ledger.unclean_ends`); one whose host left in order is not, and one that had
        not begun is free at once.
        """
        # From a snapshot first: nobody is to wait for a look that finds nothing, every second.
        with self._database.read() as connection:
            if not connection.execute(_left_alone().limit(1)).first():
                return []
        now = clock.seconds()
        released = []
        with self._database.write() as connection:
            for row in connection.execute(_left_alone()).all():
                _release(connection, row, now)
                released.append(row.job_id)
        return released

    def forget_old(self) -> int:
        """Drop claims of jobs that came to an end long ago; returns how many."""
        open_ones = sa.select(_j.c.job_id).where(_OPEN)
        with self._database.write(()) as connection:
            done = connection.execute(
                sa.delete(_c).where(
                    _c.c.claimed_at < clock.seconds() - _KEPT_S, _c.c.job_id.not_in(open_ones)
                )
            )
            return int(done.rowcount)


def _left_alone() -> sa.Select[Any]:
    """Open jobs whose process is gone; running ones also that nobody has claimed."""
    is_gone = _c.c.process_id.is_not(None) & (_h.c.process_id.is_(None) | (_h.c.gone != ""))
    unclaimed = (
        _c.c.process_id.is_(None)
        & (_j.c.state == str(JobState.RUNNING))
        & (_j.c.changed_at < clock.seconds() - _UNCLAIMED_S)
    )
    return (
        sa.select(_j.c.job_id, _j.c.attempt, _j.c.state, _h.c.gone)
        .outerjoin(_c, (_c.c.job_id == _j.c.job_id) & (_c.c.attempt == _j.c.attempt))
        .outerjoin(_h, _h.c.process_id == _c.c.process_id)
        .where(_OPEN, unclaimed | is_gone)
    )


def _release(
    connection: sa.Connection, row: sa.Row[Any], now: float
) -> None:
    job_id, attempt, state, gone = row.job_id, row.attempt, row.state, row.gone
    if state == JobState.QUEUED:
        connection.execute(
            sa.update(_j).where(_j.c.job_id == job_id).values(attempt=attempt + 1)
        )
    elif gone == ENDED:
        rows.change_state(connection, "job", job_id, JobState.FAILED, LEFT, now)
        rows.change_state(
            connection, "job", job_id, JobState.QUEUED, LEFT, now,
            attempt=attempt + 1, not_before=now,
        )
    elif unclean_ends.goes_on(connection, job_id, attempt, now):
        # Elsewhere: the attempt that ran there may still come to its end.
        rows.change_state(connection, "job", job_id, JobState.FAILED, unclean_ends.ENDED, now)
        rows.change_state(
            connection, "job", job_id, JobState.QUEUED, unclean_ends.ENDED, now,
            attempt=attempt + 1, not_before=now,
        )
