"""When the end of an attempt no longer counts: somebody, or a late slice, came in between."""

from __future__ import annotations

import sqlalchemy as sa

from dicom_node.ledger import rows, tables
from dicom_node.ledger.job_inputs import takes_arriving
from dicom_node.ledger.states import IllegalTransition
from dicom_node.records import JobState, SeriesState

SUPERSEDED = "superseded_by_late_instances"
ROUTED_AGAIN = "routed_again"
_j, _s = tables.jobs, tables.series


class Overtaken(Exception):
    """An attempt that is no longer the ledger's: somebody decided on its job in the meantime."""


class Superseded(Overtaken):
    """Instances arrived while the job ran: what it found is of a series that is not whole."""


def refuse_overtaken(connection: sa.Connection, job_id: str, attempt: int | None) -> None:
    """Raise `Overtaken` unless this attempt runs; without an attempt nothing is asked."""
    if attempt is None:
        return
    row = connection.execute(
        sa.select(_j.c.attempt, _j.c.state).where(_j.c.job_id == job_id)
    ).one_or_none()
    if row is None or row.attempt != attempt or row.state != JobState.RUNNING:
        raise Overtaken(f"attempt {attempt} of job {job_id}")


def refuse_superseded(connection: sa.Connection, job_id: str, attempt: int | None) -> None:
    """Raise `Superseded` when one of the job's series was opened again while it ran, or its own
    was routed again.

    In the transaction that records the results, so that none of them is ever delivered.
    """
    if attempt is None:
        return
    job = connection.execute(sa.select(_j).where(_j.c.job_id == job_id)).one()
    state = connection.execute(
        sa.select(_s.c.state).where(_s.c.series_instance_uid == job.series_instance_uid)
    ).scalar_one_or_none()
    is_open = state in (SeriesState.RECEIVING, SeriesState.COMPLETE)
    newer = connection.execute(
        sa.select(sa.func.count()).select_from(_j).where(
            _j.c.series_instance_uid == job.series_instance_uid, _j.c.rule == job.rule,
            _j.c.job_id != job_id, _j.c.created_at >= job.changed_at,
            _j.c.shadow == job.shadow,
        )
    ).scalar_one()
    if is_open or newer or takes_arriving(connection, job_id):
        raise Superseded(f"attempt {attempt} of job {job_id}")


def give_way(connection: sa.Connection, job_id: str, attempt: int, now: float) -> bool:
    """Cancel a superseded job, or queue it again where it is so no more; raises `Overtaken`.

    While its attempt stood still the series may have been routed anew: as the same job, which then
    was left as it is, for it was running. Cancelled now, it would be nobody's.
    """
    refuse_overtaken(connection, job_id, attempt)
    try:
        refuse_superseded(connection, job_id, attempt)
    except Superseded:
        rows.change_state(connection, "job", job_id, JobState.CANCELLED, SUPERSEDED, now)
        return True
    rows.change_state(connection, "job", job_id, JobState.FAILED, ROUTED_AGAIN, now)
    rows.change_state(
        connection, "job", job_id, JobState.QUEUED, ROUTED_AGAIN, now,
        attempt=attempt + 1, not_before=now,
    )
    return False


def refuse_removed(connection: sa.Connection, job_id: str) -> None:
    """Raise `IllegalTransition` when the images of the job's series were removed."""
    query = sa.select(_s.c.state).join(_j, _j.c.series_instance_uid == _s.c.series_instance_uid)
    state = connection.execute(query.where(_j.c.job_id == job_id)).scalar_one_or_none()
    if state == SeriesState.REMOVED:
        raise IllegalTransition(f"the images of job {job_id} were removed")
