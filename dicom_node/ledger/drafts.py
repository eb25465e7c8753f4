"""Jobs whose model has answered and whose impression is being drafted."""

from __future__ import annotations

import sqlalchemy as sa

from dicom_node.ledger import clock, rows, tables, things, unclean_ends
from dicom_node.ledger.database import Database
from dicom_node.ledger.overtaking import refuse_overtaken, refuse_superseded
from dicom_node.records import DRAFTING, JobState

_j = tables.jobs


class Drafts:
    """Where a job stands once only its draft is missing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, job_id: str, attempt: int) -> None:
        """Write down that a running job has its model no longer: it is `DRAFTING`.

        Raises
        ------
        Overtaken
            Somebody decided on the job, or its series got more instances: no draft is wanted.
        """
        now = clock.seconds()
        with things.writing_on_job(self._database, job_id) as connection:
            refuse_overtaken(connection, job_id, attempt)
            # What was asked for before now does not count as newer any more.
            refuse_superseded(connection, job_id, attempt)
            rows.change_state(connection, "job", job_id, JobState.RUNNING, DRAFTING, now)

    def begin_anew(self, job_id: str, attempt: int) -> bool:
        """Queue a job again whose node ended during its draft; false: that attempt runs no more.

        It counts as any job that was running at an end of the node
        (`dicom_node.ledger.unclean_ends`).
        """
        now = clock.seconds()
        query = sa.select(_j.c.attempt, _j.c.state).where(_j.c.job_id == job_id)
        with things.writing_on_job(self._database, job_id) as connection:
            row = connection.execute(query).one_or_none()
            if row is None or row.attempt != attempt or row.state != JobState.RUNNING:
                return False
            if unclean_ends.goes_on(connection, job_id, attempt, now):
                ended = unclean_ends.ENDED
                rows.change_state(connection, "job", job_id, JobState.FAILED, ended, now)
                rows.change_state(
                    connection, "job", job_id, JobState.QUEUED, ended, now,
                    attempt=attempt + 1, not_before=now,
                )
        return True
