"""Which spool belongs to this ledger: hosts that share the one must share the other."""

from __future__ import annotations

import sqlalchemy as sa

from dicom_node.ledger.database import Database
from dicom_node.ledger.tables import metadata

# One row, as soon as a host had a spool that others may share.
_p = sa.Table(
    "places",
    metadata,
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("marker", sa.String(64), nullable=False),
)


class Places:
    """What tells the spool of this ledger from others."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def spool(self) -> str:
        """Its marker; empty: none is known. Raises `LedgerUnavailable`."""
        query = sa.select(_p.c.marker).where(_p.c.kind == "spool")
        with self._database.read() as connection:
            return str(connection.execute(query).scalar_one_or_none() or "")

    def set_spool(self, marker: str) -> str:
        """Write it down, unless another host was faster; what stands there then."""
        insert = self._database.insert(_p).values(kind="spool", marker=marker)
        with self._database.write() as connection:
            connection.execute(insert.on_conflict_do_nothing(index_elements=["kind"]))
        return self.spool()
