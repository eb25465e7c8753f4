"""Answers that a series was not analysed: of jobs that are at an end without a result."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from dicom_node.ledger import clock, decisions, duties, rows, tables, versions
from dicom_node.ledger.database import Database
from dicom_node.records import Delivery, Duty, Job, JobState, Result

_j, _d, _u = tables.jobs, tables.deliveries, tables.duties


def is_answered_for(job: Job) -> bool:
    """Whether a job is at an end that somebody has to be told of."""
    if job.shadow:
        return False
    if job.state is JobState.CANCELLED:
        return job.reason == decisions.CANCELLED
    return job.state is JobState.DEAD


class Answers:
    """What the ledger knows of answers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def give(
        self, duty: Duty, job: Job, results: Sequence[Result], deliveries: Sequence[Delivery]
    ) -> bool:
        """Record an answer and what is to be delivered, and end the duty, in one transaction.

        The job stays as it is. False, and nothing is recorded but the end of the duty, when it
        is no longer at that end, because an operator retried it, or when a later job of the same
        work came to its end: an answer would supersede what that one says.
        """
        now = clock.seconds()
        query = sa.select(_j).where(_j.c.job_id == job.job_id)
        with self._database.write() as connection:
            duties.end(connection, duty)
            found = rows.to_job(connection.execute(query).one())
            is_retried = (found.state, found.reason) != (job.state, job.reason)
            if is_retried or versions.is_behind(connection, job):
                return False
            versions.record(
                self._database, connection, job.job_id, results, deliveries, now
            )
        return True

    def is_owed(self, job: Job) -> bool:
        """Whether a job is at an end that somebody has to be told of, and nothing came after."""
        if not is_answered_for(job):
            return False
        with self._database.read() as connection:
            return not versions.is_behind(connection, job)

    def owe_missing(self) -> int:
        """Owe an answer for every dead job that sends nothing; returns how many.

        A ledger that was rebuilt knows its dead jobs, and not what was owed of them.
        """
        query = (
            sa.select(_j.c.job_id, _j.c.reason)
            .outerjoin(_d, _d.c.job_id == _j.c.job_id)
            .outerjoin(_u, (_u.c.key == _j.c.job_id) & (_u.c.kind == duties.ANSWER))
            .where(
                _j.c.state == str(JobState.DEAD), _j.c.shadow == 0, _d.c.job_id.is_(None),
                _u.c.key.is_(None),
            )
        )
        now = clock.seconds()
        with self._database.write() as connection:
            owed = connection.execute(query).all()
            for row in owed:
                duties.add(connection, duties.ANSWER, row.job_id, row.reason, now)
        return len(owed)
