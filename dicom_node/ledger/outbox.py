"""Result objects that lie in the outbox, and where they are to go.

They are known whether or not their job's end was written down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from dicom_node.ledger import rows, tables
from dicom_node.ledger.database import Database
from dicom_node.ledger.name_lists import in_steps
from dicom_node.records import UNKNOWN_KIND, Delivery, Result

_CHUNK = 500
_r, _d = tables.results, tables.deliveries


class Outbox:
    """The ledger's knowledge of what the outbox holds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def paths_known(self, sop_instance_uids: Iterable[str]) -> dict[str, str]:
        """Relative path by SOP Instance UID, of those that are known."""
        wanted = list(sop_instance_uids)
        found: dict[str, str] = {}
        with self._database.read() as connection:
            for start in range(0, len(wanted), _CHUNK):
                query = sa.select(_r.c.sop_instance_uid, _r.c.path).where(
                    _r.c.sop_instance_uid.in_(in_steps(wanted[start : start + _CHUNK]))
                )
                found.update((row[0], row[1]) for row in connection.execute(query))
        return found

    def add(self, results: Sequence[Result]) -> None:
        """Record objects that are on disk; one that is known stays as it is.

        A job that makes the same object later takes the one on disk.
        """
        with self._database.write() as connection:
            for result in results:
                insert_result(self._database, connection, result)


def insert_result(database: Database, connection: sa.Connection, result: Result) -> None:
    """Record one object within a transaction; one that is known stays as it is.

    Of one that was found in the outbox it is known from here on what it is.
    """
    values = {**vars(result), "created_at": rows.to_seconds(result.created_at)}
    insert = database.insert(_r).values(values)
    learnt = {name: values[name] for name in ("kind", "form", "made_from")}
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["sop_instance_uid"], set_=learnt, where=_r.c.kind == UNKNOWN_KIND
        )
    )


def insert_deliveries(
    database: Database, connection: sa.Connection, deliveries: Sequence[Delivery], now: float
) -> None:
    """Ask for deliveries within a transaction, each behind what its job sends there already.

    Where there is something already, they get other ids, which sort behind it. Of an object and
    destination there is one delivery.
    """
    places: dict[tuple[str, str], int] = {}
    for delivery in deliveries:
        shipment = (delivery.job_id, delivery.destination)
        if shipment not in places:
            places[shipment] = _following(connection, *shipment)
        values = {
            **vars(delivery),
            "state": str(delivery.state),
            "not_before": rows.to_seconds(delivery.not_before),
            "created_at": now,
            "changed_at": now,
        }
        if places[shipment]:
            values["delivery_id"] = ":".join((*shipment, f"{places[shipment]:02d}"))
            places[shipment] += 1
        insert = database.insert(_d).values(values)
        insert = insert.on_conflict_do_nothing(index_elements=["sop_instance_uid", "destination"])
        if rows.is_inserted(connection, insert):
            rows.record_transition(
                connection, "delivery", values["delivery_id"], "", delivery.state,
                delivery.reason, delivery.attempt, now,
            )


def _following(connection: sa.Connection, job_id: str, destination: str) -> int:
    """The place behind all that a job sends to a destination; 0 where it sends nothing yet."""
    query = sa.select(_d.c.delivery_id).where(
        _d.c.job_id == job_id, _d.c.destination == destination
    )
    numbers = (name.rpartition(":")[2] for name in connection.execute(query).scalars())
    return max((1 + int(one) for one in numbers if one.isdecimal()), default=0)
