"""Results on one series that follow each other: what a newer one supersedes.

A version is what one job made of a series by one rule and model, or the answer that it could not
be analysed. The newest one counts; its reports name those before as predecessors, and what is
not yet sent of an older one is not sent any more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dicom_node.ledger import rows, tables
from dicom_node.ledger.database import Database
from dicom_node.ledger.outbox import insert_deliveries, insert_result
from dicom_node.records import Delivery, DeliveryState, Job, JobState, Result

NOT_ANALYSED = "not analysed report"
FORMER = "as a former version, which another has superseded: that one stays"
_j, _r, _d = tables.jobs, tables.results, tables.deliveries
_UNSENT = [str(DeliveryState.PENDING), str(DeliveryState.FAILED), str(DeliveryState.DEAD)]
_THERE = [str(DeliveryState.PENDING), str(DeliveryState.SENT), str(DeliveryState.COMMITTED)]


@dataclass(frozen=True)
class Version:
    """What was made before; ``objects`` with every form of them, ``reports`` as the node keeps."""

    objects: tuple[Result, ...]

    @property
    def reports(self) -> tuple[Result, ...]:
        """The documents that a newer one names as its predecessors."""
        return tuple(filter(_is_kept_report, self.objects))


class Versions:
    """Versions of results in the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def previous(self, job: Job) -> Version | None:
        """The newest version for the job's series, rule and model, whoever made its objects.

        What was written and is sent to nobody is none: its job never came to its end.
        """
        with self._database.read() as connection:
            return _newest(connection, job)

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


def record(
    database: Database,
    connection: sa.Connection,
    job_id: str,
    results: Sequence[Result],
    deliveries: Sequence[Delivery],
    now: float,
) -> bool:
    """Record what a job made, send it, and send nothing any more of what it supersedes.

    Also not what is dead of that: it would follow the new objects once its destination takes
    it. True, and nothing is sent or replaced, when a newer version has superseded these very
    objects before: of what was replaced nothing can be sent a second time, so the newer one
    stays.
    """
    job = connection.execute(sa.select(_j).where(_j.c.job_id == job_id)).one()
    former = _is_former(connection, job, results)
    for result in results:
        insert_result(database, connection, result)
    if not former:
        insert_deliveries(database, connection, deliveries, now)
        _supersede(connection, job, {one.sop_instance_uid for one in results}, now)
    return former


def _supersede(connection: sa.Connection, job: Any, new: Collection[str], now: float) -> None:
    query = (
        sa.select(_d.c.delivery_id, _d.c.sop_instance_uid)
        .join(_j, _j.c.job_id == _d.c.job_id)
        .where(*_same_work(job), _d.c.state.in_(_UNSENT))
    )
    for delivery_id, uid in list(connection.execute(query)):
        if uid not in new:
            rows.change_state(
                connection, "delivery", delivery_id, DeliveryState.REPLACED,
                f"superseded by job {job.job_id}", now,
            )


def _is_former(connection: sa.Connection, job: Any, results: Sequence[Result]) -> bool:
    reports = {one.sop_instance_uid for one in results if _is_kept_report(one)}
    newest = _newest(connection, job)
    if newest is None or not _delivered(connection, {r.sop_instance_uid for r in results}, job):
        return False
    known = sa.select(_r.c.sop_instance_uid).where(_r.c.sop_instance_uid.in_(reports))
    is_known = set(connection.execute(known).scalars()) == reports
    return is_known and reports.isdisjoint(one.sop_instance_uid for one in newest.reports)


def is_behind(connection: sa.Connection, job: Any) -> bool:
    """Whether a later job of the same work came to an end, so that an earlier one owes nothing."""
    has_sent = sa.exists().where(_d.c.job_id == _j.c.job_id)
    query = sa.select(_j.c.job_id).where(
        *_same_work(job), _j.c.job_id != job.job_id,
        _j.c.created_at > _created_s(job),
        sa.or_(_j.c.state == str(JobState.SUCCEEDED), has_sent),
    )
    return connection.execute(query.limit(1)).first() is not None


def _newest(connection: sa.Connection, job: Any) -> Version | None:
    works = sa.select(_j.c.job_id).where(*_same_work(job))
    # The same model on the same series makes the same objects for every rule: the first job that
    # made them has them, and others send them.
    owners = (
        sa.select(_r.c.job_id)
        .join(_d, _d.c.sop_instance_uid == _r.c.sop_instance_uid)
        .where(_d.c.job_id.in_(works))
    )
    query = (
        sa.select(_r)
        .where(sa.or_(_r.c.job_id.in_(works), _r.c.job_id.in_(owners)))
        .order_by(_r.c.created_at.desc(), _r.c.path.desc())
    )
    made = [rows.to_result(row) for row in connection.execute(query)]
    delivered = _delivered(connection, {one.sop_instance_uid for one in made}, job)
    answers = {one.sop_instance_uid for one in made if one.kind == NOT_ANALYSED}
    for report in filter(_is_kept_report, made):
        objects = _version_of(report, made, answers)
        if any(one.sop_instance_uid in delivered for one in objects):
            return Version(tuple(reversed(objects)))
    return None


def _version_of(report: Result, made: Sequence[Result], answers: Collection[str]) -> list[Result]:
    uid = report.sop_instance_uid
    if uid in answers:
        return [one for one in made if uid in (one.sop_instance_uid, one.made_from)]
    return [
        one for one in made
        if one.job_id == report.job_id
        and one.sop_instance_uid not in answers and one.made_from not in answers
    ]


def _is_kept_report(result: Result) -> bool:
    return result.kind.endswith("report") and not result.form


def _delivered(connection: sa.Connection, uids: Collection[str], job: Any) -> set[str]:
    """Which objects are on their way, or were, for the work that a job does."""
    query = (
        sa.select(_d.c.sop_instance_uid)
        .join(_j, _j.c.job_id == _d.c.job_id)
        .where(*_same_work(job), _d.c.sop_instance_uid.in_(list(uids)))
    )
    return set(connection.execute(query).scalars())


def _created_s(job: Any) -> float:
    at = job.created_at
    return at if isinstance(at, float) else rows.to_seconds(at)


def _same_work(job: Any) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        _j.c.series_instance_uid == job.series_instance_uid,
        _j.c.rule == job.rule,
        _j.c.model_id == job.model_id,
        # A shadow says nothing to anybody, so that it supersedes nothing either.
        _j.c.shadow == int(job.shadow),
    )
