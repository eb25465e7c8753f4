"""What happened to the node itself: kept in the history, under the kind ``node``.

    ledger   damaged -> rebuilt
    disk     accepting <-> refusing new associations
"""

from __future__ import annotations

import sqlalchemy as sa

from dicom_node.ledger import clock, rows, tables
from dicom_node.ledger.database import Database
from dicom_node.records import Transition

_t = tables.transitions


class Notes:
    """The node's own history."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, key: str, from_state: str, to_state: str, reason: str) -> None:
        """Write one change down."""
        with self._database.write() as connection:
            rows.record_transition(
                connection, "node", key, from_state, to_state, reason, 0,
                clock.seconds(),
            )

    def latest(self, limit: int = 5) -> list[Transition]:
        """The last changes of everything, latest first."""
        query = sa.select(_t).where(_t.c.kind == "node").order_by(_t.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [rows.to_transition(row) for row in connection.execute(query)]
