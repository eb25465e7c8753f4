"""What the ledger knows of the spool's kept files, for the comparison with the disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import sqlalchemy as sa

from dicom_node.ledger import clock, rows, tables
from dicom_node.ledger.database import Database
from dicom_node.ledger.name_lists import in_steps

_CHUNK = 500
_LATEST_SERIES = 300
_i, _s = tables.instances, tables.series


class Files:
    """The index of kept files, in the order of their paths."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def after(self, path: str, limit: int) -> list[tuple[str, str]]:
        """Path and fingerprint of the ``limit`` files that follow ``path`` in byte order."""
        query = sa.select(_i.c.path, _i.c.fingerprint).where(_i.c.path > path).order_by(_i.c.path)
        with self._database.read() as connection:
            return [(row[0], row[1]) for row in connection.execute(query.limit(limit))]

    def forget(self, paths: Sequence[str]) -> int:
        """Drop files that are gone from the disk; returns how many rows that were.

        Their series keep their state and say in their history how many are missing; a series
        counts what it has from then on, so a job reads no file that is not there.
        """
        now = clock.seconds()
        forgotten: Counter[str] = Counter()
        with self._database.write() as connection:
            for start in range(0, len(paths), _CHUNK):
                named = _i.c.path.in_(in_steps(paths[start : start + _CHUNK]))
                query = sa.select(_i.c.series_instance_uid, sa.func.count()).where(named)
                for uid, count in connection.execute(query.group_by(_i.c.series_instance_uid)):
                    forgotten[uid] += count
                connection.execute(sa.delete(_i).where(named))
            for uid, count in forgotten.items():
                self._recount(connection, uid, f"files_missing: {count}", now)
        return forgotten.total()

    def _recount(
        self, connection: sa.Connection, series_instance_uid: str, reason: str, now: float
    ) -> None:
        there = sa.select(sa.func.count()).where(_i.c.series_instance_uid == series_instance_uid)
        this = _s.c.series_instance_uid == series_instance_uid
        connection.execute(
            sa.update(_s).where(this).values(instance_count=there.scalar_subquery())
        )
        state = connection.execute(sa.select(_s.c.state).where(this)).scalar_one_or_none()
        if state is not None:
            rows.record_transition(
                connection, "series", series_instance_uid, state, state, reason, 0, now
            )

    def recent_study_bytes(self) -> list[tuple[str, int]]:
        """Calling AE title and size of the studies that last received something, latest first."""
        latest = (
            sa.select(_s).order_by(_s.c.last_received_at.desc()).limit(_LATEST_SERIES).subquery()
        )
        size = sa.func.sum(_i.c.size_bytes)
        query = (
            sa.select(latest.c.calling_ae_title, size)
            .join(_i, _i.c.series_instance_uid == latest.c.series_instance_uid)
            .group_by(latest.c.calling_ae_title, latest.c.study_instance_uid)
            .order_by(sa.func.max(latest.c.last_received_at).desc())
        )
        with self._database.read() as connection:
            return [(row[0], int(row[1])) for row in connection.execute(query)]

    def mend_counts(self) -> int:
        """Make every series count the instances it has; returns how many counted wrong."""
        counted = (
            sa.select(_i.c.series_instance_uid, sa.func.count().label("there"))
            .group_by(_i.c.series_instance_uid)
            .subquery()
        )
        query = (
            sa.select(_s.c.series_instance_uid, _s.c.instance_count, counted.c.there)
            .join(counted, counted.c.series_instance_uid == _s.c.series_instance_uid, isouter=True)
            .where(_s.c.instance_count != sa.func.coalesce(counted.c.there, 0))
        )
        with self._database.read() as connection:
            wrong = connection.execute(query).all()
        if not wrong:
            return 0
        now = clock.seconds()
        with self._database.write() as connection:
            for uid, said, there in wrong:
                reason = f"counted_again: {said} said, {there or 0} here"
                self._recount(connection, uid, reason, now)
        return len(wrong)
