"""Result objects that lie in the outbox, and where they are to go.

They are known whether or not their job's end was written down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from dicom_node.ledger import rows, tables
from dicom_node.ledger.database import Database
from dicom_node.records import Delivery, Result

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
                    _r.c.sop_instance_uid.in_(wanted[start : start + _CHUNK])
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
    """Record one object within a transaction; one that is known stays as it is."""
    values = {**vars(result), "created_at": rows.to_seconds(result.created_at)}
    insert = database.insert(_r).values(values)
    connection.execute(insert.on_conflict_do_nothing(index_elements=["sop_instance_uid"]))


def insert_delivery(
    database: Database, connection: sa.Connection, delivery: Delivery, now: float
) -> None:
    """Ask for one delivery within a transaction; of an object and destination there is one."""
    values = {
        **vars(delivery),
        "state": str(delivery.state),
        "not_before": rows.to_seconds(delivery.not_before),
        "created_at": now,
        "changed_at": now,
    }
    insert = database.insert(_d).values(values)
    done = connection.execute(
        insert.on_conflict_do_nothing(index_elements=["sop_instance_uid", "destination"])
    )
    if done.rowcount:
        rows.record_transition(
            connection, "delivery", delivery.delivery_id, "", delivery.state,
            delivery.reason, delivery.attempt, now,
        )
