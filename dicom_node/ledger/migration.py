"""An older ledger under a newer node: columns that are missing are added, nothing is removed.

Every change to `dicom_node.ledger.tables` is an addition with a default, so a node of an earlier
version can be started again on the same ledger.
"""

from __future__ import annotations

import sqlalchemy as sa


def migrate(connection: sa.Connection, metadata: sa.MetaData) -> list[str]:
    """Create the tables and columns that ``connection``'s database lacks.

    Returns ``table.column`` for every column added. Runs inside the caller's transaction, which
    holds the write lock: of several processes that open an old ledger, one migrates it.
    """
    added = []
    found = sa.inspect(connection)
    existing = set(found.get_table_names())
    for table in metadata.sorted_tables:
        if table.name not in existing:
            continue
        there = {column["name"] for column in found.get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                _add(connection, table, column)
                added.append(f"{table.name}.{column.name}")
    metadata.create_all(connection, checkfirst=True)
    for table in metadata.sorted_tables:
        if table.name in existing:
            for index in table.indexes:
                index.create(connection, checkfirst=True)
    return added


def _add(connection: sa.Connection, table: sa.Table, column: sa.Column[object]) -> None:
    quote = connection.dialect.identifier_preparer.quote
    kind = column.type.compile(connection.dialect)
    text = f"ALTER TABLE {quote(table.name)} ADD COLUMN {quote(column.name)} {kind}"
    if not column.nullable:
        default = column.server_default
        if not isinstance(default, sa.DefaultClause):
            raise AssertionError(f"{table.name}.{column.name} is not null and has no default")
        value = sa.literal(default.arg).compile(
            dialect=connection.dialect, compile_kwargs={"literal_binds": True}
        )
        text += f" NOT NULL DEFAULT {value}"
    connection.exec_driver_sql(text)
