"""An older ledger under a newer node: columns that are missing are added, nothing is removed.

Every change to `dicom_node.ledger.tables` is an addition with a default, so a node of an earlier
version can be started again on the same ledger.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

_IS_WIDE = "is as wide on PostgreSQL as on SQLite"


def migrate(connection: sa.Connection, metadata: sa.MetaData) -> list[str]:
    """Create the tables and columns that ``connection``'s database lacks.

    Returns ``table.column`` for every column added. Runs inside the caller's transaction, which
    holds the write lock: of several processes that open an old ledger, one migrates it.
    """
    if connection.dialect.name == "postgresql":
        _take_what_sqlite_takes(metadata)
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


class _Text(TypeDecorator[str]):
    """A text of PostgreSQL as SQLite has it: of any length, and compared byte by byte.

    An index by the rules of a language is wrong once an update of the operating system changes
    them, and none of them finds what lies behind a path. What comes from outside may be longer
    than its standard allows, or hold a NUL: no reason to refuse all that is written with it.
    """

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return value.replace("\0", "") if value and "\0" in value else value


def _take_what_sqlite_takes(metadata: sa.MetaData) -> None:
    """Let columns of PostgreSQL take the texts and numbers that those of SQLite do."""
    for table in metadata.sorted_tables:
        for column in table.columns:
            if column.info.get(_IS_WIDE):
                continue
            column.info[_IS_WIDE] = True
            if isinstance(column.type, sa.String):
                column.type = column.type.with_variant(_Text(collation="C"), "postgresql")
            elif type(column.type) is sa.Integer:
                column.type = column.type.with_variant(sa.BigInteger(), "postgresql")


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
