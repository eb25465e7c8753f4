"""What is to be computed, and what came of it: jobs and their results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dicom_node.ledger import (
    clock,
    duties,
    job_inputs,
    rows,
    tables,
    things,
    unclean_ends,
    versions,
)
from dicom_node.ledger.counts import count_by_state
from dicom_node.ledger.database import Database
from dicom_node.ledger.overtaking import (
    SUPERSEDED,
    give_way,
    refuse_overtaken,
    refuse_removed,
    refuse_superseded,
)
from dicom_node.ledger.queueing import Inputs, insert_jobs
from dicom_node.ledger.states import IllegalTransition
from dicom_node.records import DRAFTING, Delivery, Job, JobState, Priority, Result, SeriesState

_j, _r = tables.jobs, tables.results
# A job that was running at so many ends of the node is likely to be what ends it. Networks and
# codecs have processes of their own, so most ends have another cause, and a run of power cuts
# must not make a dead letter of the job that is always first.
MAX_STARTS = 10
# The beginning of why a job is queued that goes on with another version of its model.
IN_PLACE = "in place of canary"


class Jobs:
    """Jobs and results of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def route(
        self, series_instance_uid: str, jobs: Sequence[Job], reason: str, *, seen: datetime,
        inputs: Inputs | None = None,
    ) -> bool:
        """Move a complete series to ``routed`` and queue its jobs, in one transaction.

        ``inputs`` are the further series of the jobs, by their id. A job that exists already
        stays as it is: the same inputs are the same job; only one that was superseded is queued
        again. Returns false, and changes nothing, when an instance arrived after ``seen`` or the
        series is not ``complete`` any more.
        """
        now = _now()
        with self._database.write(on=[things.series(series_instance_uid)]) as connection:
            row = connection.execute(
                sa.select(tables.series.c.last_received_at, tables.series.c.state).where(
                    tables.series.c.series_instance_uid == series_instance_uid
                )
            ).one()
            slipped_in = row.last_received_at > rows.to_seconds(seen) + 1e-6
            if slipped_in or row.state != SeriesState.COMPLETE:
                return False
            rows.change_state(
                connection, "series", series_instance_uid, SeriesState.ROUTED, reason, now
            )
            insert_jobs(self._database, connection, jobs, inputs, now)
        return True

    def route_by_hand(
        self, series_instance_uid: str, jobs: Sequence[Job], reason: str,
        inputs: Inputs | None = None,
    ) -> bool:
        """Queue jobs that an operator, or a further series, asks for on a routed or declined one.

        False, and nothing is changed, when one of them is there already and was not superseded.

        Raises
        ------
        IllegalTransition
            The series is still arriving, or is about to be looked at by the rules.
        """
        now = _now()
        query = sa.select(tables.series.c.state).where(
            tables.series.c.series_instance_uid == series_instance_uid
        )
        with self._database.write() as connection:
            names = [job.job_id for job in jobs]
            there = sa.select(_j.c.job_id).where(_j.c.job_id.in_(names), _j.c.reason != SUPERSEDED)
            if connection.execute(there).first():
                return False
            state = connection.execute(query).scalar_one()
            if state != SeriesState.ROUTED:
                if state != SeriesState.DECLINED:
                    raise IllegalTransition(f"SeriesState: {state} -> routed by hand")
                rows.change_state(
                    connection, "series", series_instance_uid, SeriesState.ROUTED, reason, now
                )
            insert_jobs(self._database, connection, jobs, inputs, now)
        return True

    def start(
        self, job_id: str, attempt: int, per_model: Mapping[str, int] | None = None
    ) -> Job | None:
        """Take a queued job, or one that a restart left running; ``None`` if it is not to run.

        The attempt must be the ledger's own: an engine that runs an old attempt again finds
        that there is nothing to do. One that was running at several ends of the node waits for
        the others, and is dead in the end (`dicom_node.ledger.unclean_ends`). One of whose further
        inputs is arriving again waits for it. Where
        ``per_model`` has no room for one more of its model, the job stays queued for a new
        attempt: here every process counts the same jobs.
        """
        now = _now()
        with things.writing_on_job(self._database, job_id) as connection:
            row = connection.execute(sa.select(_j).where(_j.c.job_id == job_id)).one_or_none()
            if row is None or row.attempt != attempt:
                return None
            if row.state not in (JobState.QUEUED, JobState.RUNNING):
                return None
            if row.state == JobState.RUNNING and not unclean_ends.goes_on(
                connection, job_id, attempt, now
            ):
                return None
            if row.state == JobState.QUEUED and self._is_full(connection, row, per_model or {}):
                connection.execute(
                    sa.update(_j).where(_j.c.job_id == job_id).values(attempt=attempt + 1)
                )
                return None
            if not job_inputs.begin(connection, row, now):
                return None
            reason = "started" if row.state == JobState.QUEUED else unclean_ends.RESUMED
            rows.change_state(connection, "job", job_id, JobState.RUNNING, reason, now)
            taken = connection.execute(sa.select(_j).where(_j.c.job_id == job_id)).one()
        return rows.to_job(taken)

    def _is_full(
        self, connection: sa.Connection, row: sa.Row[Any], per_model: Mapping[str, int]
    ) -> bool:
        if row.model_id not in per_model:
            return False
        self._database.write_more(connection, [things.model(row.model_id)])
        query = sa.select(sa.func.count()).where(
            _j.c.state == str(JobState.RUNNING), _j.c.model_id == row.model_id,
            _j.c.reason != DRAFTING,
        )
        return int(connection.execute(query).scalar_one()) >= per_model[row.model_id]

    def succeed(
        self,
        job_id: str,
        results: Sequence[Result],
        deliveries: Sequence[Delivery],
        reason: str,
        seconds_by_stage: Mapping[str, float],
        *,
        attempt: int | None = None,
        model_version: str | None = None,
    ) -> None:
        """Record a job's results and what is to be delivered, in one transaction.

        A result or delivery that is there already (same UID, same destination) stays as it is:
        the same input gives the same object, and nothing is sent twice. What waits to be sent of
        an older version is replaced; where these are of the older one, the newer one stays.
        ``model_version`` is the version that ran, where it is not the one that was asked for.

        Raises
        ------
        Overtaken
            When ``attempt`` is given and is not the one that runs, or its series got more
            instances meanwhile (`Superseded`); nothing is recorded.
        """
        now = _now()
        with things.writing_on_job(self._database, job_id) as connection:
            refuse_overtaken(connection, job_id, attempt)
            refuse_superseded(connection, job_id, attempt)
            if versions.record(self._database, connection, job_id, results, deliveries, now):
                reason += f", {versions.FORMER}"
            rows.change_state(
                connection, "job", job_id, JobState.SUCCEEDED, reason, now,
                seconds_by_stage=json.dumps(dict(seconds_by_stage)),
                **({"model_version": model_version} if model_version else {}),
            )

    def fail(
        self, job_id: str, reason: str, *, retry_at: datetime | None, attempt: int | None = None
    ) -> None:
        """Record a failed attempt: queued again for ``retry_at``, or dead without one.

        Of a dead job the node owes an answer (`dicom_node.records.Duty`), unless it is a shadow.

        Raises
        ------
        Overtaken
            When ``attempt`` is given and is not the one that runs; nothing is recorded.
        """
        now = _now()
        with things.writing_on_job(self._database, job_id) as connection:
            refuse_overtaken(connection, job_id, attempt)
            rows.change_state(connection, "job", job_id, JobState.FAILED, reason, now)
            if retry_at is None:
                rows.change_state(connection, "job", job_id, JobState.DEAD, reason, now)
                duties.owe_answer(connection, job_id, reason, now)
                return
            attempt = self._attempt(connection, job_id) + 1
            rows.change_state(
                connection, "job", job_id, JobState.QUEUED, f"retry: {reason}", now,
                attempt=attempt, not_before=rows.to_seconds(retry_at),
            )

    def retry(self, job_id: str) -> Job:
        """Queue a dead or cancelled job again, at once.

        Raises
        ------
        IllegalTransition
            When the job is in another state, or its images were removed.
        """
        now = _now()
        with self._database.write() as connection:
            attempt = self._attempt(connection, job_id) + 1
            refuse_removed(connection, job_id)
            rows.change_state(
                connection, "job", job_id, JobState.QUEUED, unclean_ends.RETRIED, now,
                attempt=attempt, not_before=now,
            )
            return rows.to_job(connection.execute(sa.select(_j).where(_j.c.job_id == job_id)).one())

    def cancel(self, job_id: str, reason: str) -> None:
        """End a job that is not to be run any more.

        Raises
        ------
        IllegalTransition
            When the job is at an end already.
        """
        with self._database.write() as connection:
            rows.change_state(connection, "job", job_id, JobState.CANCELLED, reason, _now())

    def give_way(self, job_id: str, attempt: int) -> bool:
        """See `dicom_node.ledger.overtaking.give_way`; whether the job is cancelled."""
        with things.writing_on_job(self._database, job_id) as connection:
            return give_way(connection, job_id, attempt, _now())

    def bump(self, job_id: str, attempt: int, reason: str, *, if_running: bool = True) -> None:
        """Give an open job a new attempt, because the engine lost the one it had.

        Without ``if_running`` one that has begun meanwhile is left alone.
        """
        states_of_it = (JobState.QUEUED, JobState.RUNNING)[: 1 + if_running]
        with things.writing_on_job(self._database, job_id) as connection:
            row = connection.execute(sa.select(_j).where(_j.c.job_id == job_id)).one()
            if row.attempt != attempt or row.state not in states_of_it:
                return
            if row.state == JobState.RUNNING:
                rows.change_state(connection, "job", job_id, JobState.FAILED, reason, _now())
                rows.change_state(
                    connection, "job", job_id, JobState.QUEUED, reason, _now(), attempt=attempt + 1
                )
                return
            connection.execute(
                sa.update(_j).where(_j.c.job_id == job_id).values(attempt=attempt + 1)
            )

    def _attempt(self, connection: sa.Connection, job_id: str) -> int:
        row = connection.execute(sa.select(_j.c.attempt).where(_j.c.job_id == job_id)).one_or_none()
        if row is None:
            raise KeyError(f"no job {job_id}")
        return int(row.attempt)

    def study_of(self, job_id: str) -> str:
        """Study Instance UID of a job, or of one of its deliveries by its id; empty: no such job.
        """
        query = sa.select(_j.c.study_instance_uid).where(_j.c.job_id == job_id.partition(":")[0])
        with self._database.read() as connection:
            return connection.execute(query).scalar_one_or_none() or ""

    def find(self, job_id: str) -> Job | None:
        """One job, or ``None``."""
        return next(iter(self._jobs(sa.select(_j).where(_j.c.job_id == job_id))), None)

    def running(self) -> list[Job]:
        """Every job that runs, or ran when the node ended."""
        query = sa.select(_j).where(_j.c.state == str(JobState.RUNNING))
        return self._jobs(query.order_by(_j.c.created_at))

    def waiting(
        self, *, longest_delay_s: float, without_models: Sequence[str] = (), limit: int = 50
    ) -> list[Job]:
        """Queued jobs that are due: of each priority the first ``limit`` to arrive.

        A job that is to wait for longer than ``longest_delay_s`` is due: nobody asked for that,
        the clock was set back. One that waits for a series may wait for longer; there
        `dicom_node.node_gathering` sees to the clock.
        """
        now = _now()
        longest_s = sa.case(
            (job_inputs.is_waiting(_j.c.job_id), job_inputs.LONGEST_WAIT_S + longest_delay_s),
            else_=longest_delay_s,
        )
        due = sa.or_(_j.c.not_before <= now, _j.c.not_before > now + longest_s)
        queries = [
            sa.select(_j)
            .where(
                _j.c.state == str(JobState.QUEUED), _j.c.priority == str(priority), due,
                _j.c.model_id.not_in(without_models),
            )
            .order_by(_j.c.created_at, _j.c.job_id)
            .limit(limit)
            for priority in Priority
        ]
        return [job for query in queries for job in self._jobs(query)]

    def runs(self, job_id: str, attempt: int) -> bool:
        """Whether this attempt is still the one that is to run: nobody cancelled or held it."""
        query = sa.select(_j.c.state, _j.c.attempt).where(_j.c.job_id == job_id)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return row is not None and row.attempt == attempt and row.state == JobState.RUNNING

    def failures(self, job_id: str) -> list[str]:
        """Why a job failed since it was asked for, retried by an operator, or left by a canary.

        The oldest comes first.
        """
        t = tables.transitions
        query = sa.select(t.c.from_state, t.c.to_state, t.c.reason).where(
            t.c.kind == "job", t.c.key == job_id
        )
        found: list[str] = []
        with self._database.read() as connection:
            for row in connection.execute(query.order_by(t.c.id)):
                if row.to_state == JobState.FAILED:
                    found.append(row.reason)
                elif row.to_state == JobState.QUEUED and (
                    row.from_state != JobState.FAILED or row.reason.startswith(IN_PLACE)
                ):
                    found.clear()
        return found

    def latest(self, state: JobState | None = None, limit: int = 200) -> list[Job]:
        """The latest jobs, optionally of one state."""
        query = sa.select(_j).order_by(_j.c.created_at.desc()).limit(limit)
        return self._jobs(query if state is None else query.where(_j.c.state == str(state)))

    def of_series(self, series_instance_uid: str) -> list[Job]:
        """The jobs of one series, oldest first."""
        query = sa.select(_j).where(_j.c.series_instance_uid == series_instance_uid)
        return self._jobs(query.order_by(_j.c.created_at))

    def seconds_by_stage(self, job_id: str) -> dict[str, float]:
        """How long each stage of a job's last successful attempt took."""
        query = sa.select(_j.c.seconds_by_stage).where(_j.c.job_id == job_id)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return dict(json.loads(row[0])) if row else {}

    def results(self, job_id: str) -> list[Result]:
        """The objects a job made, in the order in which they are to be sent."""
        query = sa.select(_r).where(_r.c.job_id == job_id).order_by(_r.c.created_at, _r.c.path)
        with self._database.read() as connection:
            return [rows.to_result(row) for row in connection.execute(query)]

    def find_result(self, sop_instance_uid: str) -> Result | None:
        """One result object by its SOP Instance UID."""
        query = sa.select(_r).where(_r.c.sop_instance_uid == sop_instance_uid)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return rows.to_result(row) if row is not None else None

    def count_by_state(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self._database.read() as connection:
            return count_by_state(connection, "jobs")

    def count_waiting_by_priority(self) -> dict[str, int]:
        """How many queued jobs there are of each priority."""
        query = sa.select(_j.c.priority, sa.func.count()).group_by(_j.c.priority)
        with self._database.read() as connection:
            found = connection.execute(query.where(_j.c.state == str(JobState.QUEUED)))
            return {row[0]: int(row[1]) for row in found}

    def _jobs(self, query: sa.Select[Any]) -> list[Job]:
        with self._database.read() as connection:
            return [rows.to_job(row) for row in connection.execute(query)]


def _now() -> float:
    return clock.seconds()
