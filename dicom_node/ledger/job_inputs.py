"""Series that jobs take beside their own: what is waited for, and what has been found.

    job queued with roles that wait -> fill (once for each) -> the last one makes it due
                                    -> its time is over: it starts without the others

Whatever is found for a job that has started, or has ended, waits as well: for a new job in its
place, which `dicom_node.node_gathering` asks for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dicom_node.ledger import clock, rows, tables
from dicom_node.ledger.database import Database
from dicom_node.ledger.name_lists import in_steps
from dicom_node.records import Job, JobInput, JobState, SeriesState

LONGEST_WAIT_S = 86_400.0
"""No rule lets a job wait for longer; what says that it does has another clock."""
_CHUNK = 500
# A companion that is arriving again is looked at so soon after.
_LOOK_AGAIN_S = 5.0
_WAITING = (JobState.QUEUED, JobState.HELD)
_ARRIVING = [str(SeriesState.RECEIVING), str(SeriesState.COMPLETE)]
_n, _j, _s, _i = tables.job_inputs, tables.jobs, tables.series, tables.instances


class JobInputs:
    """The further inputs of the ledger's jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, job_id: str) -> list[JobInput]:
        """The further inputs of one job, by role; none of a job that takes its series alone."""
        return self.of_jobs([job_id]).get(job_id, [])

    def of_jobs(self, job_ids: Collection[str]) -> dict[str, list[JobInput]]:
        """The further inputs of several jobs, by role; jobs that have none are left out."""
        wanted, found = list(job_ids), dict[str, list[JobInput]]()
        with self._database.read() as connection:
            for start in range(0, len(wanted), _CHUNK):
                part = in_steps(wanted[start : start + _CHUNK])
                query = sa.select(_n).where(_n.c.job_id.in_(part))
                for row in connection.execute(query.order_by(_n.c.job_id, _n.c.role)):
                    found.setdefault(row.job_id, []).append(_to_input(row))
        return found

    def fill(self, job_id: str, found: JobInput) -> bool:
        """Say which series a job gets for a role, or that there is none, and why.

        A job that still waits is due at once when that was the last of its roles. One that has
        started meanwhile stays as it is: a series found for it waits for another job in its
        place. False, and nothing is changed, when there is no such job and role, or when the
        ledger says exactly this already.
        """
        now = _now()
        with self._database.write() as connection:
            row = connection.execute(_of_role(job_id, found.role)).one_or_none()
            job = connection.execute(sa.select(_j).where(_j.c.job_id == job_id)).one_or_none()
            if row is None or job is None:
                return False
            content = content_of(connection, found.series_instance_uid)
            still_waits = job.state in _WAITING
            is_new = (row.series_instance_uid, row.content) != (
                found.series_instance_uid, content
            )
            if still_waits and not is_new and not _is_open(row):
                return False
            if not still_waits and (row.series_instance_uid or not found.series_instance_uid):
                return False
            connection.execute(
                sa.update(_n).where(_n.c.job_id == job_id, _n.c.role == found.role).values(
                    series_instance_uid=found.series_instance_uid,
                    study_instance_uid=found.study_instance_uid, reason=found.reason,
                    content=content, waits=int(not still_waits),
                )
            )
            if still_waits:
                _go_on(connection, job, found, now)
        return True

    def wait_for(self, job_id: str, role: str, reason: str) -> bool:
        """Let a job that has not started wait for a role again: its series is not fit any more.

        The job's time stays as it is. False when it has started, or waits for it already.
        """
        states = [str(state) for state in _WAITING]
        here = sa.exists().where(_j.c.job_id == job_id, _j.c.state.in_(states))
        with self._database.write() as connection:
            done = connection.execute(
                sa.update(_n)
                .where(
                    _n.c.job_id == job_id, _n.c.role == role, _n.c.series_instance_uid != "", here
                )
                .values(
                    series_instance_uid="", study_instance_uid="", content="", reason=reason,
                    waits=1,
                )
            )
        return bool(done.rowcount)

    def explain(self, job_id: str, role: str, reason: str) -> None:
        """Say anew why a role that is waited for has no series so far."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(_n)
                .where(
                    _n.c.job_id == job_id, _n.c.role == role, _n.c.waits == 1,
                    _n.c.series_instance_uid == "", _n.c.reason != reason,
                )
                .values(reason=reason)
            )

    def limit_wait(self, job_id: str, until: datetime) -> bool:
        """Let a waiting job become due no later than then: its clock was set back."""
        at = rows.to_seconds(until)
        with self._database.write() as connection:
            done = connection.execute(
                sa.update(_j)
                .where(
                    _j.c.job_id == job_id, _j.c.state == str(JobState.QUEUED),
                    _j.c.not_before > at, is_waiting(_j.c.job_id),
                )
                .values(not_before=at)
            )
        return bool(done.rowcount)

    def settle(self, job_id: str) -> None:
        """Nothing waits any more of what was found for a job that has begun."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(_n)
                .where(_n.c.job_id == job_id, _n.c.waits == 1, _n.c.series_instance_uid != "")
                .values(waits=0)
            )

    def waiting(self) -> list[Job]:
        """Jobs that wait for a series, queued or held, the oldest first."""
        states = [str(state) for state in _WAITING]
        waits = sa.select(_n.c.job_id).where(_n.c.waits == 1, _n.c.series_instance_uid == "")
        return self._jobs(sa.select(_j).where(_j.c.state.in_(states), _j.c.job_id.in_(waits)))

    def arriving(self) -> dict[str, list[str]]:
        """The roles whose series is arriving again, by the queued job that takes it."""
        query = (
            sa.select(_n.c.job_id, _n.c.role)
            .join(_j, _j.c.job_id == _n.c.job_id)
            .join(_s, _s.c.series_instance_uid == _n.c.series_instance_uid)
            .where(_j.c.state == str(JobState.QUEUED), _s.c.state.in_(_ARRIVING))
            .order_by(_n.c.role)
        )
        found: dict[str, list[str]] = {}
        with self._database.read() as connection:
            for row in connection.execute(query):
                found.setdefault(row.job_id, []).append(row.role)
        return found

    def overtaken(self) -> list[Job]:
        """Jobs for which a series was found only after they had started, the oldest first."""
        late = sa.select(_n.c.job_id).where(_n.c.waits == 1, _n.c.series_instance_uid != "")
        states = [str(state) for state in (*_WAITING, JobState.CANCELLED)]
        return self._jobs(sa.select(_j).where(_j.c.job_id.in_(late), _j.c.state.not_in(states)))

    def of_study(self, study_instance_uid: str) -> list[Job]:
        """Jobs on series of a study that take further ones, the oldest first."""
        # By its series, for which there is an index.
        series = sa.select(_s.c.series_instance_uid).where(
            _s.c.study_instance_uid == study_instance_uid
        )
        of_study = _j.c.series_instance_uid.in_(series)
        return self._jobs(sa.select(_j).where(of_study, has_any(_j.c.job_id)))

    def taking(self, series_instance_uid: str) -> list[Job]:
        """Jobs that take a series beside their own, the oldest first."""
        takes = sa.select(_n.c.job_id).where(_n.c.series_instance_uid == series_instance_uid)
        return self._jobs(sa.select(_j).where(_j.c.job_id.in_(takes)))

    def studies(self) -> list[str]:
        """Studies with a series that is here and a job on it that takes further ones."""
        query = (
            sa.select(_j.c.study_instance_uid)
            .join(_n, _n.c.job_id == _j.c.job_id)
            .join(_s, _s.c.series_instance_uid == _j.c.series_instance_uid)
            .where(_s.c.state != str(SeriesState.REMOVED))
            .distinct()
        )
        with self._database.read() as connection:
            return sorted(connection.execute(query).scalars())

    def content(self, series_instance_uid: str) -> str:
        """What stands for the images of a series as they are now; empty where there are none."""
        with self._database.read() as connection:
            return content_of(connection, series_instance_uid)

    def _jobs(self, query: sa.Select[Any]) -> list[Job]:
        # Sorted here: SQLite would rather walk through all jobs by their age than sort a few.
        with self._database.read() as connection:
            found = [rows.to_job(row) for row in connection.execute(query)]
        return sorted(found, key=lambda job: (job.created_at, job.job_id))


def insert(connection: sa.Connection, job_id: str, inputs: Sequence[JobInput]) -> None:
    """Within the transaction that queues a job: its further inputs, in place of any before."""
    connection.execute(sa.delete(_n).where(_n.c.job_id == job_id))
    for one in inputs:
        content = content_of(connection, one.series_instance_uid)
        connection.execute(
            sa.insert(_n).values(**{
                **vars(one), "job_id": job_id, "waits": int(one.waits), "content": content,
            })
        )


def begin(connection: sa.Connection, job: Any, now: float) -> bool:
    """Within the transaction that starts a job: nothing is waited for any longer.

    False, and the job stays queued for a new attempt a little later, while one of the series that
    it takes is arriving again.
    """
    if job.state == JobState.QUEUED and takes_arriving(connection, job.job_id):
        connection.execute(
            sa.update(_j).where(_j.c.job_id == job.job_id).values(
                attempt=job.attempt + 1, not_before=now + _LOOK_AGAIN_S
            )
        )
        return False
    connection.execute(
        sa.update(_n).where(
            _n.c.job_id == job.job_id, _n.c.waits == 1, _n.c.series_instance_uid == ""
        ).values(waits=0)
    )
    return True


def is_waiting(job_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether a job waits for a series."""
    return sa.exists().where(
        _n.c.job_id == job_id, _n.c.waits == 1, _n.c.series_instance_uid == ""
    )


def has_any(job_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether a job takes series beside its own."""
    return sa.exists().where(_n.c.job_id == job_id)


def takes_arriving(connection: sa.Connection, job_id: str) -> bool:
    """Whether a series that a job takes beside its own is arriving again."""
    query = sa.select(_n.c.role).join(
        _s, _s.c.series_instance_uid == _n.c.series_instance_uid
    ).where(_n.c.job_id == job_id, _s.c.state.in_(_ARRIVING))
    return connection.execute(query.limit(1)).first() is not None


def needed_by(connection: sa.Connection, series: Sequence[str], states: Sequence[str]) -> str:
    """A job in one of the states, of another study, that takes one of these series; or ""."""
    taking = sa.select(_n.c.job_id).where(_n.c.series_instance_uid.in_(series))
    query = sa.select(_j.c.job_id).where(
        _j.c.job_id.in_(taking), _j.c.state.in_(states), _j.c.series_instance_uid.not_in(series)
    )
    return connection.execute(query.limit(1)).scalar_one_or_none() or ""


def content_of(connection: sa.Connection, series_instance_uid: str) -> str:
    """16 hexadecimal digits that change when an image of the series does; empty of no images."""
    query = sa.select(_i.c.sop_instance_uid, _i.c.fingerprint).where(
        _i.c.series_instance_uid == series_instance_uid
    )
    files = sorted((row[0], row[1]) for row in connection.execute(query))
    if not files:
        return ""
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]


def _go_on(connection: sa.Connection, job: Any, found: JobInput, now: float) -> None:
    """Say what was found, and let the job run when that was the last that it waited for."""
    word = "has" if found.series_instance_uid else "goes without"
    left = connection.execute(
        sa.select(_n.c.role).where(
            _n.c.job_id == job.job_id, _n.c.waits == 1, _n.c.series_instance_uid == ""
        ).order_by(_n.c.role)
    ).scalars().all()
    reason = f"{word} {found.role}" + (f", waits for {', '.join(left)}" if left else "")
    values: dict[str, Any] = {"reason": reason}
    if not left and job.not_before > now:
        values["not_before"] = now
    if job.state == JobState.HELD:
        values = {}
    if values:
        connection.execute(sa.update(_j).where(_j.c.job_id == job.job_id).values(values))
        rows.record_transition(
            connection, "job", job.job_id, job.state, job.state, reason, job.attempt, now
        )


def waiting_until(now: datetime, wait_s: float) -> datetime:
    """When a job that waits from now on becomes due in any case."""
    return now + timedelta(seconds=min(wait_s, LONGEST_WAIT_S))


def _is_open(row: sa.Row[Any]) -> bool:
    return bool(row.waits) and not row.series_instance_uid


def _of_role(job_id: str, role: str) -> sa.Select[Any]:
    return sa.select(_n).where(_n.c.job_id == job_id, _n.c.role == role)


def _to_input(row: sa.Row[Any]) -> JobInput:
    values = dict(row._mapping)
    values.pop("job_id")
    values["waits"] = bool(values["waits"])
    return JobInput(**values)


def _now() -> float:
    return clock.seconds()
