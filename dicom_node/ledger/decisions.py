"""What an operator decides about jobs: written by the command line, obeyed by the node.

A running node reads the ledger and obeys within seconds; one that is down obeys when it starts.
Each decision is one transaction on the job's present state, so that it cannot cross with the end
of the job: either the results were recorded first and the decision is refused, or they never are.
"""

from __future__ import annotations

import sqlalchemy as sa

from dicom_node.ledger import clock, duties, job_inputs, rows, tables
from dicom_node.ledger.database import Database
from dicom_node.ledger.states import IllegalTransition
from dicom_node.records import DeliveryState, Job, JobState

_j, _d = tables.jobs, tables.deliveries
CANCELLED = "cancelled_by_operator"
HELD = "held_by_operator"
RELEASED = "released_by_operator"


class Decisions:
    """Decisions on jobs of the ledger; all raise KeyError for a job that is not there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def hold(self, job_id: str) -> Job:
        """Keep a job from running until it is released; a running attempt of it ends.

        Raises
        ------
        IllegalTransition
            When the job is held or at an end.
        """
        return self._change(job_id, JobState.HELD, HELD)

    def release(self, job_id: str) -> Job:
        """Queue a held job again, at once and in the place that its age gives it.

        One that waits for a series goes on waiting, until the time that it was given.

        Raises
        ------
        IllegalTransition
            When the job is not held.
        """
        return self._change(job_id, JobState.QUEUED, RELEASED, only_from=JobState.HELD)

    def cancel(self, job_id: str, *, answer: bool = True) -> Job:
        """End a job without results; a running attempt of it ends. A retry brings it back.

        Whoever waits for its results is answered that the series was not analysed, unless
        ``answer`` is false.

        Raises
        ------
        IllegalTransition
            When the job is at an end.
        """
        return self._change(job_id, JobState.CANCELLED, CANCELLED, owes_answer=answer)

    def hurry(self, job_id: str) -> bool:
        """Let a queued job's next attempt not wait any longer; false when it does not wait."""
        now = _now()
        with self._database.write() as connection:
            done = connection.execute(
                sa.update(_j)
                .where(
                    _j.c.job_id == job_id, _j.c.state == str(JobState.QUEUED),
                    _j.c.not_before > now,
                )
                .values(not_before=now)
            )
        return bool(done.rowcount)

    def stop_deliveries(self, job_id: str) -> int:
        """Make what still waits to be sent for a job dead; returns how many objects that is.

        An association that is sending them at this moment may still bring one to its end. A
        retry brings them back.
        """
        now = _now()
        query = sa.select(_d.c.delivery_id, _d.c.state).where(
            _d.c.job_id == job_id,
            _d.c.state.in_([str(DeliveryState.PENDING), str(DeliveryState.FAILED)]),
        )
        with self._database.write() as connection:
            waiting = connection.execute(query).all()
            for row in waiting:
                states = [DeliveryState.FAILED, DeliveryState.DEAD]
                for state in states[row.state == DeliveryState.FAILED :]:
                    rows.change_state(
                        connection, "delivery", row.delivery_id, state, CANCELLED, now
                    )
        return len(waiting)

    def near(self, job_id: str, limit: int = 3) -> list[str]:
        """Jobs whose names begin alike, the latest first: what somebody may have meant."""
        beginning = job_id[: max(4, len(job_id) // 2)]
        query = (
            sa.select(_j.c.job_id).where(_j.c.job_id.startswith(beginning, autoescape=True))
            .order_by(_j.c.created_at.desc()).limit(limit)
        )
        with self._database.read() as connection:
            return [row[0] for row in connection.execute(query)]

    def _change(
        self, job_id: str, state: JobState, reason: str, only_from: JobState | None = None,
        *, owes_answer: bool = False,
    ) -> Job:
        """Every way back to ``queued`` is a new attempt: what ran before is overtaken."""
        now = _now()
        query = sa.select(_j).where(_j.c.job_id == job_id)
        with self._database.write() as connection:
            row = connection.execute(query).one_or_none()
            if row is None:
                raise KeyError(f"no job {job_id}")
            # What is dead is given up with its study alone (`dicom_node.ledger.removals`).
            is_over = state is JobState.CANCELLED and row.state == JobState.DEAD
            if is_over or (only_from is not None and row.state != only_from):
                raise IllegalTransition(f"JobState: {row.state} -> {state}")
            waits = sa.select(job_inputs.is_waiting(sa.literal(job_id)))
            waits_on = state is JobState.QUEUED and connection.execute(waits).scalar_one()
            again = {
                "attempt": row.attempt + 1,
                "not_before": max(now, row.not_before) if waits_on else now,
            }
            rows.change_state(
                connection, "job", job_id, state, reason, now,
                **(again if state is JobState.QUEUED else {}),
            )
            if owes_answer:
                duties.owe_answer(connection, job_id, reason, now)
            return rows.to_job(connection.execute(query).one())


def _now() -> float:
    return clock.seconds()
