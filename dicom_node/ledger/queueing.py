"""How a job comes into the ledger: it and its further inputs, within a transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from dicom_node.ledger import job_inputs, rows, tables
from dicom_node.ledger.database import Database
from dicom_node.ledger.overtaking import SUPERSEDED
from dicom_node.records import Job, JobInput, JobState

Inputs = Mapping[str, Sequence[JobInput]]
_j = tables.jobs


def insert_jobs(
    database: Database, connection: sa.Connection, jobs: Sequence[Job], inputs: Inputs | None,
    now: float,
) -> None:
    """Queue jobs; ``inputs`` are their further series, by job.

    A job that exists already stays as it is; only one that was superseded is queued again, and one
    that has not begun, and of which a rebuilt ledger knows no inputs, gets them.
    """
    for job in jobs:
        wanted = (inputs or {}).get(job.job_id, ())
        is_new = _insert(database, connection, job, now) or _revive(connection, job, now)
        if is_new or (wanted and _lacks_inputs(connection, job.job_id)):
            job_inputs.insert(connection, job.job_id, wanted)


def _insert(database: Database, connection: sa.Connection, job: Job, now: float) -> bool:
    values = {
        "job_id": job.job_id,
        "series_instance_uid": job.series_instance_uid,
        "study_instance_uid": job.study_instance_uid,
        "rule": job.rule,
        "model_id": job.model_id,
        "model_version": job.model_version,
        "destinations": json.dumps(job.destinations),
        "priority": str(job.priority),
        "state": str(JobState.QUEUED),
        "reason": job.reason,
        "attempt": job.attempt,
        "not_before": rows.to_seconds(job.not_before),
        "created_at": now,
        "changed_at": now,
        "seconds_by_stage": "{}",
        "shadow": int(job.shadow),
    }
    insert = database.insert(_j).values(values)
    is_new = rows.is_inserted(connection, insert.on_conflict_do_nothing(index_elements=["job_id"]))
    if is_new:
        rows.record_transition(
            connection, "job", job.job_id, "", JobState.QUEUED, job.reason, job.attempt, now
        )
    return is_new


def _revive(connection: sa.Connection, job: Job, now: float) -> bool:
    there = connection.execute(sa.select(_j).where(_j.c.job_id == job.job_id)).one()
    if there.state != JobState.CANCELLED or there.reason != SUPERSEDED:
        return False
    rows.change_state(
        connection, "job", job.job_id, JobState.QUEUED, job.reason, now,
        attempt=there.attempt + 1, not_before=rows.to_seconds(job.not_before),
    )
    return True


def _lacks_inputs(connection: sa.Connection, job_id: str) -> bool:
    there = connection.execute(
        sa.select(_j.c.state).where(_j.c.job_id == job_id, ~job_inputs.has_any(_j.c.job_id))
    ).scalar_one_or_none()
    return there in (JobState.QUEUED, JobState.HELD, JobState.DEAD, JobState.CANCELLED)
