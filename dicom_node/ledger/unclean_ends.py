"""A job that was running when the node ended without a word: goes on, waits, or is given up.

Whoever was running at an end is suspected a little each time: a job may be what ends the node.
The first ends cost it nothing; then it waits, longer each time, so that others are done before
the node ends again; a job that was running at `MOST_ENDS` of them is a dead letter. An operator's
retry begins the count anew.
"""

from __future__ import annotations

import sqlalchemy as sa

from dicom_node.ledger import duties, rows, tables
from dicom_node.records import JobState

RESUMED = "resumed_after_restart"
ENDED = "node.ended_while_running"
RETRIED = "retried_by_operator"
MOST_ENDS = 10
_UNPUNISHED = 2
_LONGEST_WAIT_S = 300.0
_t = tables.transitions


def goes_on(connection: sa.Connection, job_id: str, attempt: int, now: float) -> bool:
    """Whether a job found running is to run at once; it waits for a new attempt or is dead if not.

    Recorded in the caller's transaction: ``running -> failed -> queued`` or ``dead``, for
    ``node.ended_while_running``.
    """
    ends = 1 + _ends_before(connection, job_id)
    if ends <= _UNPUNISHED:
        return True
    rows.change_state(connection, "job", job_id, JobState.FAILED, ENDED, now)
    if ends >= MOST_ENDS:
        rows.change_state(connection, "job", job_id, JobState.DEAD, ENDED, now)
        duties.add(connection, duties.ANSWER, job_id, ENDED, now)
    else:
        wait_s = min(_LONGEST_WAIT_S, 2.0**ends)
        rows.change_state(
            connection, "job", job_id, JobState.QUEUED, ENDED, now,
            attempt=attempt + 1, not_before=now + wait_s,
        )
    return False


def _ends_before(connection: sa.Connection, job_id: str) -> int:
    of_job = (_t.c.kind == "job") & (_t.c.key == job_id)
    retried = sa.select(sa.func.max(_t.c.id)).where(of_job, _t.c.reason == RETRIED)
    resumed = (_t.c.to_state == str(JobState.RUNNING)) & (_t.c.reason == RESUMED)
    waited = (_t.c.to_state == str(JobState.FAILED)) & (_t.c.reason == ENDED)
    query = sa.select(sa.func.count()).where(
        of_job, resumed | waited, _t.c.id > sa.func.coalesce(retried.scalar_subquery(), 0)
    )
    return int(connection.execute(query).scalar_one())
