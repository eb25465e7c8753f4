"""An older ledger under a newer node: columns that are missing are added, nothing is removed.

Every change to `dicom_node.ledger.tables` is an addition with a default, so a node of an earlier
version can be started again on the same ledger.
"""

from __future__ import annotations

import sqlalchemy as sa

_BY_BYTES = "sorted by bytes"


def migrate(connection: sa.Connection, metadata: sa.MetaData) -> list[str]:
    """Create the tables and columns that ``connection``'s database lacks.

    Returns ``table.column`` for every column added. Runs inside the caller's transaction, which
    holds the write lock: of several processes that open an old ledger, one migrates it.
    """
    if connection.dialect.name == "postgresql":
        _sort_by_bytes(metadata)
    found = sa.inspect(connection)
    columns = {name: there for (_, name), there in found.get_multi_columns().items()}
    there = {table: {one["name"] for one in columns[table]} for table in columns}
    missing = [
        (table, column)
        for table in metadata.sorted_tables if table.name in there
        for column in table.columns if column.name not in there[table.name]
    ]
    for table, column in missing:
        _add(connection, table, column)
    new = [table for table in metadata.sorted_tables if table.name not in there]
    metadata.create_all(connection, tables=new, checkfirst=False)
    # Asked for all at once: a question for each is a second, where the database is far.
    indexes = {one["name"] for some in found.get_multi_indexes().values() for one in some}
    for table in metadata.sorted_tables:
        if table.name in there:
            for index in table.indexes:
                if index.name not in indexes:
                    index.create(connection)
    return [f"{table.name}.{column.name}" for table, column in missing]


def _sort_by_bytes(metadata: sa.MetaData) -> None:
    """Let new columns of PostgreSQL compare texts as SQLite does, and not as a language does.

    An index by the rules of a language is wrong once an update of the operating system changes
    them, and none of them finds what lies behind a path.
    """
    for table in metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, sa.String) and not column.info.get(_BY_BYTES):
                column.info[_BY_BYTES] = True
                own = type(column.type)(column.type.length, collation="C")
                column.type = column.type.with_variant(own, "postgresql")


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
