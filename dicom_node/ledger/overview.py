"""What a page for people asks of the ledger: the latest studies with all that became of them.

Few queries for many studies: a list that is looked at every few seconds must not keep the ledger
from those who work.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dicom_node.ledger import rows, tables
from dicom_node.ledger.database import Database
from dicom_node.ledger.name_lists import in_steps
from dicom_node.records import DeliveryState, Job, Series, Transition

_s, _j, _d, _t = tables.series, tables.jobs, tables.deliveries, tables.transitions
_CHUNK = 500
_SERIES_EACH = 20


@dataclass(frozen=True)
class Sending:
    """How many objects of one job stand alike at one destination.

    ``not_before`` is when the first of them is tried next.
    """

    job_id: str
    destination: str
    state: DeliveryState
    reason: str
    commitment: str
    number: int
    attempt: int
    not_before: datetime


@dataclass(frozen=True)
class StudyRow:
    """One study with its series, its jobs and what is sent of them; shadows are left out."""

    study_instance_uid: str
    series: tuple[Series, ...]
    jobs: tuple[Job, ...]
    sendings: tuple[Sending, ...]


class Overview:
    """The latest studies of the ledger, and the names of all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def latest(self, limit: int) -> list[StudyRow]:
        """The studies that received something last, the latest first.

        Those of the last series are looked at, `_SERIES_EACH` for each study: however many there
        are in all, it takes as long.
        """
        query = sa.select(_s.c.study_instance_uid).order_by(_s.c.last_received_at.desc())
        with self._database.read() as connection:
            found = connection.execute(query.limit(limit * _SERIES_EACH)).scalars().all()
        return self.studies(list(dict.fromkeys(found))[:limit])

    def studies(self, study_instance_uids: Collection[str]) -> list[StudyRow]:
        """These studies, in the order in which they were named; one that is not known is left out.
        """
        wanted = list(study_instance_uids)
        series: dict[str, list[Series]] = {}
        jobs: dict[str, list[Job]] = {}
        sendings: dict[str, list[Sending]] = {}
        for start in range(0, len(wanted), _CHUNK):
            part = in_steps(wanted[start : start + _CHUNK])
            with self._database.read() as connection:
                query = sa.select(_s).where(_s.c.study_instance_uid.in_(part))
                for row in connection.execute(query.order_by(_s.c.first_received_at)):
                    series.setdefault(row.study_instance_uid, []).append(rows.to_series(row))
                query = sa.select(_j).where(_j.c.study_instance_uid.in_(part), _j.c.shadow == 0)
                for row in connection.execute(query.order_by(_j.c.created_at)):
                    jobs.setdefault(row.study_instance_uid, []).append(rows.to_job(row))
                for row in connection.execute(_sendings(part)):
                    sendings.setdefault(row.study_instance_uid, []).append(_to_sending(row))
        return [
            StudyRow(
                uid, tuple(series[uid]), tuple(jobs.get(uid, ())), tuple(sendings.get(uid, ()))
            )
            for uid in wanted if uid in series
        ]

    def names(self) -> Iterator[tuple[str, str]]:
        """Study and Series Instance UID of every series, what received something last first."""
        query = sa.select(_s.c.study_instance_uid, _s.c.series_instance_uid)
        query = query.order_by(_s.c.last_received_at.desc())
        with self._database.read_at_once() as connection:
            found = connection.execution_options(yield_per=_CHUNK).execute(query)
            yield from ((row[0], row[1]) for row in found)

    def histories(self, kind: str, keys: Collection[str]) -> list[Transition]:
        """Every change of several series, jobs or deliveries, oldest first."""
        wanted = list(keys)
        found: list[sa.Row[Any]] = []
        for start in range(0, len(wanted), _CHUNK):
            query = sa.select(_t).where(
                _t.c.kind == kind, _t.c.key.in_(in_steps(wanted[start : start + _CHUNK]))
            )
            with self._database.read() as connection:
                found += connection.execute(query.order_by(_t.c.id)).all()
        return [rows.to_transition(row) for row in found]

    def received_since(self, since: datetime, limit: int) -> list[Series]:
        """The series that received something since then, the latest first."""
        query = sa.select(_s).where(_s.c.last_received_at >= rows.to_seconds(since))
        query = query.order_by(_s.c.last_received_at.desc()).limit(limit)
        with self._database.read() as connection:
            return [rows.to_series(row) for row in connection.execute(query)]


def _sendings(studies: Iterable[str]) -> sa.Select[tuple[object, ...]]:
    alike = (
        _j.c.study_instance_uid, _d.c.job_id, _d.c.destination, _d.c.state, _d.c.reason,
        _d.c.commitment,
    )
    return (
        sa.select(
            *alike, sa.func.count().label("number"), sa.func.max(_d.c.attempt).label("attempt"),
            sa.func.min(_d.c.not_before).label("not_before"),
        )
        .join(_j, _j.c.job_id == _d.c.job_id)
        .where(_j.c.study_instance_uid.in_(list(studies)))
        .group_by(*alike)
        .order_by(_d.c.job_id, _d.c.destination)
    )


def _to_sending(row: sa.Row[tuple[object, ...]]) -> Sending:
    return Sending(
        row.job_id, row.destination, DeliveryState(row.state), row.reason, row.commitment,
        int(row.number), int(row.attempt), rows.to_datetime(row.not_before),
    )
