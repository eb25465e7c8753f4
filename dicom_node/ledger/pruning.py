"""The end of what is remembered: rows of removed studies, and others that nobody asks for any more.

A few at a time: each call is one short transaction, so that nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dicom_node.ledger import priors, rows, tables
from dicom_node.ledger.database import Database
from dicom_node.records import SeriesState

_s, _j, _d, _t = tables.series, tables.jobs, tables.deliveries, tables.transitions
_CHUNK = 500
# A table, the column of its age, and of which rows.
_Old = tuple[sa.Table, sa.ColumnElement[Any], sa.ColumnElement[bool]]


class Pruning:
    """Deletes old rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def removed_series(self, before: datetime, most: int) -> int:
        """Forget series that were removed before then, with all that was recorded of them.

        Returns how many; at most ``most``, the longest removed first.
        """
        query = (
            sa.select(_s.c.series_instance_uid)
            .where(_s.c.state == str(SeriesState.REMOVED))
            .where(_s.c.changed_at < rows.to_seconds(before))
            .order_by(_s.c.changed_at)
            .limit(most)
        )
        with self._database.write() as connection:
            series = list(connection.execute(query).scalars())
            if series:
                _forget(connection, series)
        return len(series)

    def old_rows(self, before: datetime, most: int) -> int:
        """Forget what is over since then: associations, counts, reports, notes; returns how many.

        At most ``most`` of each kind.
        """
        at = rows.to_seconds(before)
        with self._database.write() as connection:
            return sum(_delete_old(connection, one, at, most) for one in _over())


def _over() -> Sequence[_Old]:
    """What is over by itself, whatever study it was of."""
    a, n, p = tables.associations, tables.announcements, tables.procedure_steps
    c, q, x = tables.commitments, tables.commitment_requests, tables.removals
    g, f = tables.agreements, tables.canary_failures
    e = priors.fetched
    here = sa.exists().where(_s.c.series_instance_uid == n.c.series_instance_uid)
    fetched_here = sa.exists().where(_s.c.series_instance_uid == e.c.series_instance_uid)
    every = sa.true()
    return (
        (a, a.c.closed_at, every),
        (n, n.c.at, ~here),
        (e, e.c.at, ~fetched_here),
        (p, p.c.changed_at, every),
        (c, c.c.changed_at, c.c.state != "asked"),
        (q, q.c.changed_at, q.c.state != "pending"),
        (x, x.c.at, every),
        (g, g.c.at, every),
        (f, f.c.at, every),
        (_t, _t.c.at, _t.c.kind.in_(("node", "commitment"))),
    )


def _delete_old(connection: sa.Connection, old: _Old, at: float, most: int) -> int:
    table, age, which = old
    key = list(table.primary_key.columns)
    found = connection.execute(sa.select(*key).where(age < at, which).limit(most)).all()
    if not found:
        return 0
    names = [tuple(row) for row in found]
    if table is tables.commitments:
        items = tables.commitment_items
        gone = [name[0] for name in names]
        connection.execute(sa.delete(items).where(items.c.transaction_uid.in_(gone)))
    connection.execute(sa.delete(table).where(sa.tuple_(*key).in_(names)))
    return len(names)


def _forget(connection: sa.Connection, series: Sequence[str]) -> None:
    query = sa.select(_j.c.job_id).where(_j.c.series_instance_uid.in_(series))
    jobs = list(connection.execute(query).scalars())
    sent = sa.select(_d.c.delivery_id).where(_d.c.job_id.in_(jobs))
    deliveries = list(connection.execute(sent).scalars())
    for kind, keys in (("series", series), ("job", jobs), ("delivery", deliveries)):
        for chunk in _chunks(keys):
            connection.execute(sa.delete(_t).where(_t.c.kind == kind, _t.c.key.in_(chunk)))
    for chunk in _chunks(jobs):
        for table in (_d, tables.results, tables.predictions, tables.job_inputs, _j):
            connection.execute(sa.delete(table).where(table.c.job_id.in_(chunk)))
    for chunk in _chunks(deliveries):
        items = tables.commitment_items
        connection.execute(sa.delete(items).where(items.c.delivery_id.in_(chunk)))
    connection.execute(sa.delete(_s).where(_s.c.series_instance_uid.in_(series)))


def _chunks(keys: Sequence[str]) -> list[Sequence[str]]:
    return [keys[start : start + _CHUNK] for start in range(0, len(keys), _CHUNK)]
