"""A ledger on SQLite goes over to PostgreSQL: every row, in one transaction.

What the engine has goes not: it is handed every open row again by its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from dicom_node.ledger import postgres, tables
from dicom_node.ledger.counts import keep_counts, keep_no_counts
from dicom_node.ledger.database import Database
from dicom_node.ledger.states import IllegalTransition

_CHUNK = 1000


def move(source: Database, target: Database) -> dict[str, int]:
    """Copy every row of one ledger into another, which has none; rows by table.

    The former stays as it is.

    Raises
    ------
    IllegalTransition
        There is something in the target: two ledgers do not become one.
    LedgerUnavailable
        One of them does not answer; nothing was copied.
    """
    copied: dict[str, int] = {}
    with target.write() as connection, source.read() as reading:
        if not target.is_sqlite:
            postgres.take_time(connection)
        for table in tables.metadata.sorted_tables:
            if connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first():
                raise IllegalTransition(
                    "there is a ledger in the database already: give it an empty database"
                )
        if not target.is_sqlite:
            keep_no_counts(connection)
        for table in tables.metadata.sorted_tables:
            count = 0
            for rows in _chunks(reading, table):
                connection.execute(sa.insert(table), rows)
                count += len(rows)
            if count:
                copied[table.name] = count
        if not target.is_sqlite:
            keep_counts(connection)
            # The next line of the history gets the number behind the last one.
            last = sa.select(sa.func.max(tables.transitions.c.id)).scalar_subquery()
            sequence = sa.func.pg_get_serial_sequence("transitions", "id")
            connection.execute(sa.select(sa.func.setval(sequence, sa.func.coalesce(last, 1))))
    return copied


def _chunks(connection: sa.Connection, table: sa.Table) -> Iterator[list[Mapping[str, Any]]]:
    found = connection.execution_options(yield_per=_CHUNK).execute(sa.select(table))
    for rows in found.partitions():
        yield [dict(row._mapping) for row in rows]
