"""What has arrived: instances, the associations that brought them, and their series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from dicom_node.ledger import clock, rows, tables, things
from dicom_node.ledger.counts import count_by_state
from dicom_node.ledger.database import Database
from dicom_node.ledger.name_lists import in_steps
from dicom_node.ledger.removals import begin_anew
from dicom_node.records import Association, Instance, Series, SeriesState

_CHUNK = 500
_LATER_S = 1e-4
_i, _a, _s = tables.instances, tables.associations, tables.series
# Made once: while images arrive these run several times a second, and to make a statement takes
# longer than the database takes for it.
_FINGERPRINTS = sa.select(_i.c.path, _i.c.fingerprint).where(
    _i.c.path.in_(sa.bindparam("keys", expanding=True))
)
_STANDING = sa.select(
    _s.c.series_instance_uid, _s.c.state, _s.c.instance_count, _s.c.last_received_at
).where(_s.c.series_instance_uid.in_(sa.bindparam("keys", expanding=True)))
_GROW = sa.update(_s).where(_s.c.series_instance_uid == sa.bindparam("uid")).values(
    instance_count=sa.bindparam("count"), last_received_at=sa.bindparam("last_at")
)


@dataclass(frozen=True)
class AssociationEvidence:
    """How the associations that brought a series stand."""

    open: int
    aborted: int
    last_closed_at: datetime | None


class Receipts:
    """Instances, associations and series of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def index(
        self,
        instances: Sequence[Instance],
        associations: Sequence[Association] = (),
        *,
        is_there: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """Record received instances and what became of their associations, in one transaction.

        Idempotent: an instance whose fingerprint is known changes nothing. A new or changed
        instance of a series that had left ``receiving`` brings it back there.
        ``is_there`` says whether a path of the spool has a file: of a series that was removed
        meanwhile, one that was found identical just before is gone with it.

        Raises
        ------
        LedgerUnavailable
            Nothing was recorded; the same call may be made again.
        """
        latest = {instance.path: instance for instance in instances}
        touched = {things.series(instance.series_instance_uid) for instance in instances}
        with self._database.write(on=touched) as connection:
            for association in associations:
                self._record_association(connection, association)
            if not latest:
                return
            known = {
                row.path: row.fingerprint
                for row in _by_key(connection, _FINGERPRINTS, list(latest))
            }
            by_series: dict[str, list[Instance]] = defaultdict(list)
            for instance in latest.values():
                by_series[instance.series_instance_uid].append(instance)
            rows_of = {
                row.series_instance_uid: row
                for row in _by_key(connection, _STANDING, list(by_series))
            }
            for uid, row in rows_of.items():
                if row.state == SeriesState.REMOVED:
                    by_series[uid] = [one for one in by_series[uid] if is_there(one.path)]
            self._record_instances(connection, by_series, known)
            self._touch_all(connection, by_series, known, rows_of)

    def _record_association(self, connection: sa.Connection, association: Association) -> None:
        values = {
            "association_id": association.association_id,
            "calling_ae_title": association.calling_ae_title,
            "listener_id": association.listener_id,
            "opened_at": rows.to_seconds(association.opened_at),
            "closed_at": rows.to_seconds(association.closed_at) if association.closed_at else None,
            "ended": association.ended,
        }
        insert = self._database.insert(_a).values(values)
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=["association_id"],
                set_={"closed_at": values["closed_at"], "ended": values["ended"]},
            )
        )

    def _record_instances(
        self, connection: sa.Connection, by_series: dict[str, list[Instance]],
        known: dict[str, str],
    ) -> None:
        """All that are new or changed, of whatever series, by one statement."""
        values = [
            rows.instance_values(one)
            for arrived in by_series.values() for one in arrived
            if known.get(one.path) != one.fingerprint
        ]
        if values:
            connection.execute(self._upsert, values)

    @cached_property
    def _upsert(self) -> sa.Insert:
        insert = self._database.insert(_i)
        columns = {c.name: insert.excluded[c.name] for c in _i.c if not c.primary_key}
        return insert.on_conflict_do_update(index_elements=["path"], set_=columns)

    def _touch_all(
        self, connection: sa.Connection, by_series: dict[str, list[Instance]],
        known: dict[str, str], rows_of: dict[str, sa.Row[Any]],
    ) -> None:
        counted: list[dict[str, Any]] = []
        for uid, arrived in by_series.items():
            if not arrived:
                continue
            added = sum(one.path not in known for one in arrived)
            replaced = sum(known.get(one.path, one.fingerprint) != one.fingerprint
                           for one in arrived)
            row = rows_of.get(uid)
            if row is None:
                last_at = max(rows.to_seconds(one.received_at) for one in arrived)
                self._insert_series(connection, arrived[0], added, last_at)
            elif added or replaced or row.state == SeriesState.RECEIVING:
                counted.append(self._grown(row, arrived, added, replaced))
                if row.state != SeriesState.RECEIVING:
                    self._reopen(connection, row, arrived[0], added, replaced)
        if counted:
            connection.execute(_GROW, counted)

    def _grown(
        self, row: sa.Row[Any], arrived: list[Instance], added: int, replaced: int
    ) -> dict[str, Any]:
        # Whoever decides on what was here before must notice it, also when it says that it came
        # earlier: another listener was faster, or the clock was set back.
        later_s = _LATER_S if added or replaced else 0.0
        last_at = max(rows.to_seconds(one.received_at) for one in arrived)
        return {
            "uid": row.series_instance_uid,
            "count": row.instance_count + added,
            "last_at": max(last_at, row.last_received_at + later_s),
        }

    def _reopen(
        self, connection: sa.Connection, row: sa.Row[Any], first: Instance, added: int,
        replaced: int,
    ) -> None:
        """A series that had left ``receiving`` comes back there."""
        reason = f"late_instances: {added} new, {replaced} replaced"
        if row.state == SeriesState.REMOVED:
            begin_anew(connection, first.series_instance_uid)
            reason = "sent_again_after_removal"
            connection.execute(
                sa.update(_s)
                .where(_s.c.series_instance_uid == first.series_instance_uid)
                .values(
                    calling_ae_title=first.calling_ae_title, modality=first.modality,
                    first_received_at=rows.to_seconds(first.received_at),
                )
            )
        rows.change_state(
            connection, "series", first.series_instance_uid, SeriesState.RECEIVING, reason, _now()
        )

    def _insert_series(
        self, connection: sa.Connection, first: Instance, added: int, last_at: float
    ) -> None:
        connection.execute(
            sa.insert(_s).values(
                series_instance_uid=first.series_instance_uid,
                study_instance_uid=first.study_instance_uid,
                modality=first.modality,
                state=str(SeriesState.RECEIVING),
                reason="first_instance",
                calling_ae_title=first.calling_ae_title,
                instance_count=added,
                first_received_at=rows.to_seconds(first.received_at),
                last_received_at=last_at,
                changed_at=_now(),
            )
        )
        rows.record_transition(
            connection, "series", first.series_instance_uid, "", SeriesState.RECEIVING,
            "first_instance", 0, _now(),
        )

    def lose_associations(self, living_listeners: Iterable[str], of_process: str = "") -> int:
        """Close as ``lost`` every open association of a listener that no longer lives.

        Where others receive as well, only of the listeners of one process; of processes that are
        gone see `dicom_node.ledger.hosts`.
        """
        own = [_a.c.listener_id.startswith(f"{of_process}.")] if of_process else []
        with self._database.write() as connection:
            done = connection.execute(
                sa.update(_a)
                .where(_a.c.ended == "", _a.c.listener_id.not_in(list(living_listeners)), *own)
                .values(ended="lost", closed_at=_now())
            )
            return int(done.rowcount)

    def paths_known(self, relative_paths: Iterable[str]) -> set[str]:
        """Which of these spool paths are indexed."""
        wanted = list(relative_paths)
        found: set[str] = set()
        with self._database.read() as connection:
            for start in range(0, len(wanted), _CHUNK):
                part = in_steps(wanted[start : start + _CHUNK])
                query = sa.select(_i.c.path).where(_i.c.path.in_(part))
                found.update(row[0] for row in connection.execute(query))
        return found

    def instances(
        self, series_instance_uid: str, *, received_since: datetime | None = None
    ) -> list[Instance]:
        """The instances of a series, or those received then or later, by SOP Instance UID."""
        query = (
            sa.select(_i)
            .where(_i.c.series_instance_uid == series_instance_uid)
            .order_by(_i.c.sop_instance_uid, _i.c.path)
        )
        if received_since is not None:
            query = query.where(_i.c.received_at >= received_since.timestamp())
        with self._database.read() as connection:
            return [rows.to_instance(row) for row in connection.execute(query)]

    def associations_of(self, series_instance_uid: str) -> AssociationEvidence:
        """How the associations that brought a series stand."""
        brought = (
            sa.select(_i.c.association_id)
            .where(_i.c.series_instance_uid == series_instance_uid)
            .distinct()
        )
        query = sa.select(_a.c.ended, _a.c.closed_at).where(_a.c.association_id.in_(brought))
        with self._database.read() as connection:
            found = connection.execute(query).all()
        closed = [row.closed_at for row in found if row.closed_at is not None]
        return AssociationEvidence(
            open=sum(row.ended == "" for row in found),
            aborted=sum(row.ended in ("aborted", "lost") for row in found),
            last_closed_at=rows.to_datetime(max(closed)) if closed else None,
        )

    def series_in(self, state: SeriesState, limit: int | None = None) -> list[Series]:
        """The series in one state, longest unchanged first."""
        query = sa.select(_s).where(_s.c.state == str(state)).order_by(_s.c.changed_at)
        return self._series(query.limit(limit))

    def series_of_study(self, study_instance_uid: str) -> list[Series]:
        """The series of one study, oldest first."""
        query = (
            sa.select(_s)
            .where(_s.c.study_instance_uid == study_instance_uid)
            .order_by(_s.c.first_received_at)
        )
        return self._series(query)

    def find_series(self, series_instance_uid: str) -> Series | None:
        """One series, or ``None``."""
        query = sa.select(_s).where(_s.c.series_instance_uid == series_instance_uid)
        return next(iter(self._series(query)), None)

    def recent_series(self, limit: int) -> list[Series]:
        """The series that received something last."""
        return self._series(sa.select(_s).order_by(_s.c.last_received_at.desc()).limit(limit))

    def count_by_state(self) -> dict[str, int]:
        """How many series are in each state."""
        with self._database.read() as connection:
            return count_by_state(connection, "series")

    def _series(self, query: sa.Select[Any]) -> list[Series]:
        with self._database.read() as connection:
            return [rows.to_series(row) for row in connection.execute(query)]

    def change(
        self,
        series_instance_uid: str,
        state: SeriesState,
        reason: str,
        *,
        unless_received_after: datetime | None = None,
        only_from: SeriesState | None = None,
        unless: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Move a series to ``state``; false when something came in between.

        ``unless_received_after`` is the last receipt that the decision knew of: comparing it
        inside the transaction makes a slice that slips in between reopen nothing and lose nothing.
        ``only_from`` is the state that the decision was taken in. ``unless`` is asked when the
        write lock is held: what was true before a long wait for it need not be true any more.
        """
        with self._database.write(on=[things.series(series_instance_uid)]) as connection:
            row = connection.execute(
                sa.select(_s.c.last_received_at, _s.c.state).where(
                    _s.c.series_instance_uid == series_instance_uid
                )
            ).one()
            if (only_from is not None and row.state != only_from) or unless():
                return False
            if unless_received_after is not None:
                seen = rows.to_seconds(unless_received_after)
                if row.last_received_at > seen + 1e-6:
                    return False
            rows.change_state(connection, "series", series_instance_uid, state, reason, _now())
        return True


def _by_key(
    connection: sa.Connection, query: sa.Select[Any], keys: list[str]
) -> Iterator[Any]:
    """The rows of a query that asks for ``keys``, so many at a time."""
    for start in range(0, len(keys), _CHUNK):
        yield from connection.execute(query, {"keys": in_steps(keys[start : start + _CHUNK])})


def _now() -> float:
    return clock.seconds()
