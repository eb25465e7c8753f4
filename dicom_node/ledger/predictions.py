"""What models said, as numbers without patient data: of each job, and of two versions compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from dicom_node.ledger import clock, rows, tables, things
from dicom_node.ledger.database import Database
from dicom_node.ledger.overtaking import refuse_overtaken
from dicom_node.records import Agreement, Job, JobState

_p, _a, _j = tables.predictions, tables.agreements, tables.jobs


class Predictions:
    """A small document of what each job's model said: labels, scores, values, detections."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(
        self, job_id: str, document: Mapping[str, Any], *, attempt: int | None = None
    ) -> None:
        """Keep what a job's model said, in place of what an earlier attempt of it did.

        Raises
        ------
        Overtaken
            When ``attempt`` is given and is not the one that runs: what the other one says is to
            stand beside its results.
        """
        now = clock.seconds()
        values = {"job_id": job_id, "document": json.dumps(document), "at": now}
        insert = self._database.insert(_p).values(values)
        with things.writing_on_job(self._database, job_id) as connection:
            refuse_overtaken(connection, job_id, attempt)
            connection.execute(
                insert.on_conflict_do_update(index_elements=["job_id"], set_=values)
            )

    def of(self, job_id: str) -> dict[str, Any] | None:
        """What a job's model said; ``None`` where nothing is kept of it."""
        query = sa.select(_p.c.document).where(_p.c.job_id == job_id)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return dict(json.loads(row.document)) if row is not None else None


class Agreements:
    """How a shadow version's answers compare with those of the live one, job by job."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(
        self, job_id: str, model_id: str, live_version: str, shadow_version: str,
        document: Mapping[str, Any],
    ) -> None:
        """Keep one comparison, in place of what an earlier attempt of the job found."""
        values = {
            "job_id": job_id, "model_id": model_id, "live_version": live_version,
            "shadow_version": shadow_version, "document": json.dumps(document),
            "at": clock.seconds(),
        }
        insert = self._database.insert(_a).values(values)
        with self._database.write(on=()) as connection:
            connection.execute(
                insert.on_conflict_do_update(index_elements=["job_id"], set_=values)
            )

    def of(self, model_id: str, shadow_version: str | None = None) -> list[Agreement]:
        """The comparisons of a model, optionally of one shadow version, the oldest first."""
        query = sa.select(_a).where(_a.c.model_id == model_id).order_by(_a.c.at, _a.c.job_id)
        if shadow_version is not None:
            query = query.where(_a.c.shadow_version == shadow_version)
        with self._database.read() as connection:
            return [_to_agreement(row) for row in connection.execute(query)]

    def failed(self, model_id: str, shadow_version: str | None = None) -> list[Job]:
        """The shadow jobs of a model that are dead, optionally of one version, oldest first."""
        query = (
            sa.select(_j)
            .where(
                _j.c.model_id == model_id, _j.c.shadow == 1, _j.c.state == str(JobState.DEAD)
            )
            .order_by(_j.c.changed_at)
        )
        if shadow_version is not None:
            query = query.where(_j.c.model_version == shadow_version)
        with self._database.read() as connection:
            return [rows.to_job(row) for row in connection.execute(query)]


def _to_agreement(row: sa.Row[Any]) -> Agreement:
    return Agreement(
        row.job_id, row.model_id, row.live_version, row.shadow_version,
        json.loads(row.document), rows.to_datetime(row.at),
    )
