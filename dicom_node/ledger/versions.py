"""Results on one series that follow each other: what a newer one supersedes.

A version is what one job made of a series by one rule and model, or the answer that it could not
be analysed. The newest one counts; its reports name those before as predecessors, and what is
not yet sent of an older one is not sent any more.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dicom_node.ledger import rows, tables
from dicom_node.ledger.database import Database
from dicom_node.records import DeliveryState, Job, Result

NOT_ANALYSED = "not analysed report"
_j, _r, _d = tables.jobs, tables.results, tables.deliveries
_UNSENT = [str(DeliveryState.PENDING), str(DeliveryState.FAILED)]
_THERE = [str(DeliveryState.PENDING), str(DeliveryState.SENT), str(DeliveryState.COMMITTED)]


@dataclass(frozen=True)
class Version:
    """What was made before; ``objects`` with every form of them, ``reports`` as the node keeps."""

    objects: tuple[Result, ...]

    @property
    def reports(self) -> tuple[Result, ...]:
        """The documents that a newer one names as its predecessors."""
        return tuple(
            one for one in self.objects if one.kind.endswith("report") and not one.form
        )


class Versions:
    """Versions of results in the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def previous(self, job: Job, besides: Collection[str] = ()) -> Version | None:
        """The newest version for the job's series, rule and model, whoever made it.

        ``besides``: SOP Instance UIDs of objects that do not count, because they are new.
        """
        query = (
            sa.select(_r)
            .join(_j, _j.c.job_id == _r.c.job_id)
            .where(*_same_work(job))
            .order_by(_r.c.created_at.desc(), _r.c.path.desc())
        )
        with self._database.read() as connection:
            made = [rows.to_result(row) for row in connection.execute(query)]
        answers = {one.sop_instance_uid for one in made if one.kind == NOT_ANALYSED}
        newest = next(
            (
                one for one in made
                if one.kind.endswith("report") and not one.form
                and one.sop_instance_uid not in besides
            ),
            None,
        )
        if newest is None:
            return None
        if newest.sop_instance_uid in answers:
            uid = newest.sop_instance_uid
            objects = [one for one in made if uid in (one.sop_instance_uid, one.made_from)]
        else:
            objects = [
                one for one in made
                if one.job_id == newest.job_id
                and not {one.sop_instance_uid, one.made_from} & answers
            ]
        return Version(tuple(reversed(objects)))

    def at(self, version: Version, destination: str) -> list[Result]:
        """Which objects of a version a destination has, or is about to get."""
        by_uid = {one.sop_instance_uid: one for one in version.objects}
        query = sa.select(_d.c.sop_instance_uid).where(
            _d.c.sop_instance_uid.in_(list(by_uid)), _d.c.destination == destination,
            _d.c.state.in_(_THERE),
        )
        with self._database.read() as connection:
            there = {row[0] for row in connection.execute(query)}
        return [one for uid, one in by_uid.items() if uid in there]


def supersede(connection: sa.Connection, job_id: str, new: Collection[str], now: float) -> None:
    """Send nothing any more of what a job's new objects (SOP Instance UIDs) supersede."""
    job = connection.execute(sa.select(_j).where(_j.c.job_id == job_id)).one()
    query = (
        sa.select(_d.c.delivery_id, _d.c.sop_instance_uid)
        .join(_j, _j.c.job_id == _d.c.job_id)
        .where(*_same_work(job), _d.c.state.in_(_UNSENT))
    )
    for delivery_id, uid in list(connection.execute(query)):
        if uid not in new:
            rows.change_state(
                connection, "delivery", delivery_id, DeliveryState.REPLACED,
                f"superseded by job {job_id}", now,
            )


def _same_work(job: Any) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        _j.c.series_instance_uid == job.series_instance_uid,
        _j.c.rule == job.rule,
        _j.c.model_id == job.model_id,
    )
