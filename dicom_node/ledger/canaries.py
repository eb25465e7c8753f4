"""What a canary could not do: its jobs go on with the live version, and too many end the canary."""

from __future__ import annotations

import sqlalchemy as sa

from dicom_node.ledger import clock, rows, tables
from dicom_node.ledger.database import Database
from dicom_node.ledger.jobs import IN_PLACE
from dicom_node.ledger.model_stages import ModelStages
from dicom_node.ledger.overtaking import refuse_overtaken
from dicom_node.records import CanaryFailure, Job, JobState

# One may be the series' own oddity; three after each other, without a result between, are not.
ENDED_AFTER = 3
_c, _j, _m = tables.canary_failures, tables.jobs, tables.model_stages


class Canaries:
    """The failures of canaries in the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stages = ModelStages(database)

    def fall_back(
        self, job: Job, live_version: str, reason: str, *, counts: bool
    ) -> bool:
        """Queue a running job again, at once, for the live version; it has all its attempts anew.

        With ``counts`` it is kept as a failure of the version that the job was asked for with, and
        after `ENDED_AFTER` of them in a row that version is no canary any more: then true.

        Raises
        ------
        Overtaken
            This attempt of the job is not the one that runs; nothing is recorded.
        """
        now = clock.seconds()
        with self._database.write() as connection:
            refuse_overtaken(connection, job.job_id, job.attempt)
            rows.change_state(connection, "job", job.job_id, JobState.FAILED, reason, now)
            rows.change_state(
                connection, "job", job.job_id, JobState.QUEUED,
                f"{IN_PLACE} {job.model_version}: {live_version} is to do it", now,
                attempt=job.attempt + 1, not_before=now, model_version=live_version,
            )
            if not counts:
                return False
            values = {
                "job_id": job.job_id, "model_id": job.model_id, "version": job.model_version,
                "live_version": live_version, "reason": reason, "at": now,
            }
            insert = self._database.insert(_c).values(values)
            connection.execute(
                insert.on_conflict_do_update(index_elements=["job_id"], set_=values)
            )
            in_a_row = _in_a_row(connection, job.model_id, job.model_version)
            return in_a_row >= ENDED_AFTER and self._stages.end_canary(
                connection, job.model_id, job.model_version,
                f"failed on {in_a_row} series in a row, at last {reason.partition(':')[0]}", now,
            )

    def failures(self, model_id: str, version: str | None = None) -> list[CanaryFailure]:
        """What canaries of a model could not do, optionally one version, the oldest first."""
        query = sa.select(_c).where(_c.c.model_id == model_id).order_by(_c.c.at, _c.c.job_id)
        if version is not None:
            query = query.where(_c.c.version == version)
        with self._database.read() as connection:
            return [
                CanaryFailure(**{**row._mapping, "at": rows.to_datetime(row.at)})
                for row in connection.execute(query)
            ]


def _in_a_row(connection: sa.Connection, model_id: str, version: str) -> int:
    """How often a canary failed since it became one, and since it last did a series."""
    begun = sa.select(_m.c.changed_at).where(_m.c.model_id == model_id, _m.c.version == version)
    done = sa.select(sa.func.max(_j.c.changed_at)).where(
        _j.c.model_id == model_id, _j.c.model_version == version, _j.c.shadow == 0,
        _j.c.state == str(JobState.SUCCEEDED),
    )
    since = max(
        connection.execute(query).scalar_one_or_none() or 0.0 for query in (begun, done)
    )
    query = sa.select(sa.func.count()).where(
        _c.c.model_id == model_id, _c.c.version == version, _c.c.at > since
    )
    return int(connection.execute(query).scalar_one())
