"""Studies whose images and results are deleted: what decides over them, and the record of it.

    files set aside -> take (one transaction: series `removed`, instances forgotten) -> deleted
                    -> not taken: files put back

What `take` finds is read behind the write lock, so that nothing can arrive, be retried or be asked
for between the decision and its record. Jobs, results and deliveries of a removed study stay as
its history until `dicom_node.ledger.pruning` ends them, or until it is sent again: then what it was
sent before must not keep its results from being made and sent anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dicom_node.ledger import clock, duties, job_inputs, rows, tables
from dicom_node.ledger.database import Database
from dicom_node.records import Delivery, DeliveryState, Job, JobState, Series, SeriesState

GIVEN_UP = "removed_by_operator"
_CHUNK = 500
_i, _s, _j, _r, _d, _u = (
    tables.instances, tables.series, tables.jobs, tables.results, tables.deliveries, tables.duties,
)
_n, _q, _c = tables.announcements, tables.commitment_requests, tables.committed_studies
_x, _w = tables.removals, tables.removal_requests
_UNDER_WAY = [
    str(state) for state in (JobState.QUEUED, JobState.RUNNING, JobState.FAILED, JobState.HELD)
]
_SETTLED = [str(SeriesState.ROUTED), str(SeriesState.DECLINED)]


@dataclass(frozen=True)
class Holding:
    """All that the ledger knows of one study and that decides whether it may go.

    Attributes
    ----------
    series, jobs, deliveries
        Of the study. Deliveries also of what its jobs made and other jobs send.
    owes
        Why the node still owes something of it; empty when it does not.
    needed_by
        A job of another study that is not at an end and takes one of its series; or empty.
    is_shared
        Whether one of its series has instances in another study as well.
    is_asked_for
        Whether somebody waits for the report that the node keeps some of it for good.
    committed_at
        When the node last reported so.
    wanted_gone_at
        When an operator asked for its removal.
    """

    study_instance_uid: str
    series: tuple[Series, ...]
    jobs: tuple[Job, ...] = ()
    deliveries: tuple[Delivery, ...] = ()
    owes: str = ""
    needed_by: str = ""
    is_shared: bool = False
    is_asked_for: bool = False
    committed_at: datetime | None = None
    wanted_gone_at: datetime | None = None


@dataclass(frozen=True)
class Removal:
    """One study that was removed."""

    token: str
    study_instance_uid: str
    instances: int
    size_bytes: int
    reason: str
    at: datetime


class Removals:
    """Removed studies, and those that are to be."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending: tuple[tuple[tuple[str, str, float], ...], frozenset[str]] = ((), frozenset())

    def settled(
        self, before: datetime, after: tuple[float, str] = (0.0, ""), limit: int = 50
    ) -> list[tuple[tuple[float, str], str]]:
        """Series that are routed or declined since before then, longest first: place and study.

        ``after`` is the place of the last one of the former call.
        """
        found: list[tuple[tuple[float, str], str]] = []
        with self._database.read() as connection:
            # One state after the other: of both at once SQLite would have to sort all there are.
            for state in _SETTLED:
                query = (
                    sa.select(_s.c.changed_at, _s.c.series_instance_uid, _s.c.study_instance_uid)
                    .where(
                        _s.c.state == state, _s.c.changed_at >= after[0],
                        _s.c.changed_at <= rows.to_seconds(before),
                        sa.or_(
                            _s.c.changed_at > after[0], _s.c.series_instance_uid > after[1]
                        ),
                    )
                    .order_by(_s.c.changed_at, _s.c.series_instance_uid)
                    .limit(limit)
                )
                found += [((row[0], row[1]), row[2]) for row in connection.execute(query)]
        return sorted(found)[:limit]

    def holding(self, study_instance_uid: str) -> Holding:
        """What is known of a study now; without series when that is nothing."""
        with self._database.read() as connection:
            return self._holding(connection, study_instance_uid)

    def fingerprints(self, holding: Holding) -> dict[str, str]:
        """Those of the images of a study, by path."""
        with self._database.read() as connection:
            return _fingerprints(connection, [one.series_instance_uid for one in holding.series])

    def take(
        self,
        token: str,
        study_instance_uid: str,
        fingerprints: Mapping[str, str],
        size_bytes: int,
        may_go: Callable[[Holding], str],
    ) -> Removal | None:
        """Record that a study, whose files are set aside, is removed; durable on return.

        Parameters
        ----------
        fingerprints
            Of the images that were set aside, by path.
        may_go
            Why the study is removed, by what is known of it; empty when it is not.

        Returns
        -------
        Removal
            ``None``, and nothing is changed, when it may not go, or when an image was set aside
            that the ledger does not know so: it has just arrived.
        """
        now = clock.seconds()
        with self._database.write() as connection:
            holding = self._holding(connection, study_instance_uid)
            reason = may_go(holding)
            uids = [one.series_instance_uid for one in holding.series]
            known = _fingerprints(connection, uids)
            if not reason or fingerprints.items() - known.items():
                return None
            for one in holding.series:
                if one.state is not SeriesState.REMOVED:
                    rows.change_state(
                        connection, "series", one.series_instance_uid, SeriesState.REMOVED,
                        reason, now, instance_count=0,
                    )
            _end_dead(connection, holding, now)
            connection.execute(sa.delete(_i).where(_i.c.series_instance_uid.in_(uids)))
            connection.execute(sa.delete(_n).where(_n.c.series_instance_uid.in_(uids)))
            for table in (_c, _w):
                this = table.c.study_instance_uid == study_instance_uid
                connection.execute(sa.delete(table).where(this))
            removal = Removal(
                token, study_instance_uid, len(known), size_bytes, reason, rows.to_datetime(now)
            )
            connection.execute(sa.insert(_x).values({**vars(removal), "at": now}))
        return removal

    def is_taken(self, token: str) -> bool:
        """Whether what was set aside under this name is removed, and its files are to go.

        Behind whoever records a removal now: a process that led before this one may be about to.
        """
        query = sa.select(_x.c.token).where(_x.c.token == token)
        with self._database.write() as connection:
            return connection.execute(query).first() is not None

    def latest(self, limit: int = 5) -> list[Removal]:
        """The last studies that were removed, latest first."""
        return self._removals(sa.select(_x).order_by(_x.c.at.desc()).limit(limit))

    def of_study(self, study_instance_uid: str) -> list[Removal]:
        """How often this study was removed, oldest first."""
        query = sa.select(_x).where(_x.c.study_instance_uid == study_instance_uid)
        return self._removals(query.order_by(_x.c.at))

    def totals(self) -> tuple[int, int]:
        """How many studies were removed, as far as that is still known, and their bytes."""
        query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(_x.c.size_bytes), 0))
        with self._database.read() as connection:
            count, size_bytes = connection.execute(query.select_from(_x)).one()
        return int(count), int(size_bytes)

    def ask(self, study_instance_uid: str) -> None:
        """Want a study to be gone before its time, whatever it waits for that can be given up."""
        insert = self._database.insert(_w).values(
            study_instance_uid=study_instance_uid, at=clock.seconds()
        )
        with self._database.write() as connection:
            connection.execute(
                insert.on_conflict_do_nothing(index_elements=["study_instance_uid"])
            )

    def asked(self) -> list[str]:
        """Studies that an operator wants to be gone and that are not, the first asked first."""
        query = sa.select(_w.c.study_instance_uid).order_by(_w.c.at)
        with self._database.read() as connection:
            return [row[0] for row in connection.execute(query)]

    def withdraw(self, study_instance_uid: str) -> None:
        """Want it no more: it cannot be removed now."""
        with self._database.write() as connection:
            connection.execute(
                sa.delete(_w).where(_w.c.study_instance_uid == study_instance_uid)
            )

    def _removals(self, query: sa.Select[Any]) -> list[Removal]:
        with self._database.read() as connection:
            return [
                Removal(**{**row._mapping, "at": rows.to_datetime(row.at)})
                for row in connection.execute(query)
            ]

    def _holding(self, connection: sa.Connection, study: str) -> Holding:
        inside = sa.select(_i.c.series_instance_uid).where(_i.c.study_instance_uid == study)
        of_study = sa.or_(_s.c.study_instance_uid == study, _s.c.series_instance_uid.in_(inside))
        series = tuple(map(rows.to_series, connection.execute(sa.select(_s).where(of_study))))
        uids = [one.series_instance_uid for one in series]
        found = connection.execute(sa.select(_j).where(_j.c.series_instance_uid.in_(uids)))
        jobs = tuple(map(rows.to_job, found))
        deliveries = _deliveries(connection, [one.job_id for one in jobs])
        asked, committed = (
            connection.execute(
                sa.select(table.c.at).where(table.c.study_instance_uid == study)
            ).scalar()
            for table in (_w, _c)
        )
        return Holding(
            study, series, jobs, deliveries,
            owes=_owed(connection, jobs),
            needed_by=job_inputs.needed_by(connection, uids, _UNDER_WAY),
            is_shared=_is_shared(connection, study, uids),
            is_asked_for=self._is_asked_for(connection, uids),
            committed_at=None if committed is None else rows.to_datetime(committed),
            wanted_gone_at=None if asked is None else rows.to_datetime(asked),
        )

    def _is_asked_for(self, connection: sa.Connection, series: Sequence[str]) -> bool:
        pending = self._pending_items(connection)
        if not pending:
            return False
        query = sa.select(_i.c.sop_instance_uid).where(_i.c.series_instance_uid.in_(series))
        return any(uid in pending for uid in connection.execute(query).scalars())

    def _pending_items(self, connection: sa.Connection) -> frozenset[str]:
        """The instances that somebody waits for a report on; read again when the requests change.
        """
        waiting = _q.c.state == "pending"
        names = sa.select(_q.c.transaction_uid, _q.c.calling_ae_title, _q.c.changed_at)
        found = connection.execute(names.where(waiting).order_by(*names.selected_columns))
        requests = tuple((row[0], row[1], row[2]) for row in found)
        if requests != self._pending[0]:
            lists = connection.execute(sa.select(_q.c["items"]).where(waiting)).scalars()
            uids = frozenset(item[1] for text in lists for item in json.loads(text))
            self._pending = (requests, uids)
        return self._pending[1]


def note_committed(
    connection: sa.Connection, database: Database, sop_instance_uids: Sequence[str], at: float
) -> None:
    """Within the transaction that ends a commitment request: its studies are to stay."""
    studies: set[str] = set()
    for start in range(0, len(sop_instance_uids), _CHUNK):
        query = sa.select(_i.c.study_instance_uid).distinct().where(
            _i.c.sop_instance_uid.in_(sop_instance_uids[start : start + _CHUNK])
        )
        studies.update(connection.execute(query).scalars())
    for study in sorted(studies):
        insert = database.insert(_c).values(study_instance_uid=study, at=at)
        connection.execute(
            insert.on_conflict_do_update(index_elements=["study_instance_uid"], set_={"at": at})
        )


def begin_anew(connection: sa.Connection, series_instance_uid: str) -> None:
    """Within the transaction that indexes a series again which was removed.

    Of what its jobs made nothing is on disk any more; a new job makes the same objects, which
    must be recorded and sent like new ones.
    """
    jobs = sa.select(_j.c.job_id).where(_j.c.series_instance_uid == series_instance_uid)
    connection.execute(sa.delete(_d).where(_d.c.job_id.in_(jobs)))
    connection.execute(sa.delete(_r).where(_r.c.job_id.in_(jobs)))


def _end_dead(connection: sa.Connection, holding: Holding, now: float) -> None:
    """Of what an operator gives up nothing is owed, and nothing is to be tried again."""
    if holding.wanted_gone_at is None:
        return
    connection.execute(sa.delete(_u).where(_of_jobs(holding.jobs)))
    for job in holding.jobs:
        if job.state is JobState.DEAD:
            rows.change_state(connection, "job", job.job_id, JobState.CANCELLED, GIVEN_UP, now)
    for one in holding.deliveries:
        if one.state is DeliveryState.DEAD:
            rows.change_state(
                connection, "delivery", one.delivery_id, DeliveryState.REPLACED, GIVEN_UP, now
            )


def _fingerprints(connection: sa.Connection, series: Sequence[str]) -> dict[str, str]:
    query = sa.select(_i.c.path, _i.c.fingerprint).where(_i.c.series_instance_uid.in_(series))
    return {row[0]: row[1] for row in connection.execute(query)}


def _deliveries(connection: sa.Connection, jobs: Collection[str]) -> tuple[Delivery, ...]:
    made = sa.select(_r.c.sop_instance_uid).where(_r.c.job_id.in_(jobs))
    queries = (
        sa.select(_d).where(_d.c.job_id.in_(jobs)),
        sa.select(_d).where(_d.c.sop_instance_uid.in_(made)),
    )
    found = {
        row.delivery_id: rows.to_delivery(row)
        for query in queries for row in connection.execute(query)
    }
    return tuple(found.values())


def _owed(connection: sa.Connection, jobs: Sequence[Job]) -> str:
    query = sa.select(_u.c.reason).where(_of_jobs(jobs)).limit(1)
    return next(iter(connection.execute(query).scalars()), "")


def _of_jobs(jobs: Sequence[Job]) -> sa.ColumnElement[bool]:
    """The duties of these jobs."""
    keys = [one.job_id for one in jobs]
    forms = [f"{one.job_id}:{name}" for one in jobs for name in one.destinations]
    return sa.or_(
        sa.and_(_u.c.kind == duties.ANSWER, _u.c.key.in_(keys)),
        sa.and_(_u.c.kind == duties.FORMS, _u.c.key.in_(forms)),
    )


def _is_shared(connection: sa.Connection, study: str, series: Sequence[str]) -> bool:
    query = sa.select(_i.c.path).where(
        _i.c.series_instance_uid.in_(series), _i.c.study_instance_uid != study
    )
    return connection.execute(query.limit(1)).first() is not None
