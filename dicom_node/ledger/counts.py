"""How many series, jobs and deliveries are in each state, without looking at all of them.

SQLite counts a million rows one by one, so it is made to keep the counts as it goes: a small table
and triggers, in the same transaction as each change, whoever makes it. The table is no part of the
ledger's own: it can always be counted again, and is, where it is not there yet.

PostgreSQL is made to keep them as well, but not as numbers that change: every writer would wait for
the others. Each change adds lines of +1 and -1, which nobody waits for, and one change in some
hundred replaces the lines that it finds by their sums.
"""

from __future__ import annotations

import sqlalchemy as sa

from dicom_node.ledger import tables
from dicom_node.records import DeliveryState, JobState, SeriesState

_COUNTED = {"series": SeriesState, "jobs": JobState, "deliveries": DeliveryState}
_EXISTS_IN_POSTGRES = "SELECT to_regclass('state_changes')"
# Lines that another transaction sums up at this moment are left to it.
_COUNTING_IN_POSTGRES = """
CREATE FUNCTION note_state_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO state_changes VALUES (TG_TABLE_NAME, OLD.state, -1);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO state_changes VALUES (TG_TABLE_NAME, NEW.state, 1);
    END IF;
    IF random() < 0.003 THEN
        WITH gone AS (
            DELETE FROM state_changes WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM state_changes LIMIT 5000 FOR UPDATE SKIP LOCKED
            )) RETURNING kind, state, number
        )
        INSERT INTO state_changes SELECT kind, state, sum(number) FROM gone GROUP BY kind, state;
    END IF;
    RETURN NULL;
END $$
"""
_IS_KEPT = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'state_counts'"


def keep_counts(connection: sa.Connection) -> None:
    """Make the database keep the counts from now on; counts what is there where it did not yet.

    Runs inside the caller's transaction, which holds the write lock.
    """
    if connection.dialect.name != "sqlite":
        _keep_in_postgres(connection)
        return
    if connection.exec_driver_sql(_IS_KEPT).first() is not None:
        _add_newer_states(connection)
        return
    connection.exec_driver_sql(
        "CREATE TABLE state_counts (kind TEXT NOT NULL, state TEXT NOT NULL,"
        " number INTEGER NOT NULL, PRIMARY KEY (kind, state)) WITHOUT ROWID"
    )
    for kind, states in _COUNTED.items():
        # Every state has its row beforehand, so that a trigger is one UPDATE: what an INSERT
        # inside it does on a conflict would depend on the statement that fired it.
        for state in states:
            connection.exec_driver_sql(
                # Words of this program alone: no SQLite parameter can be a table.
                "INSERT INTO state_counts (kind, state, number)"  # noqa: S608
                f" SELECT '{kind}', '{state}', count(*) FROM {kind} WHERE state = '{state}'"
            )
        more = _change(kind, "NEW", "+ 1")
        less = _change(kind, "OLD", "- 1")
        for when, then in (
            ("INSERT", more),
            ("DELETE", less),
            ("UPDATE OF state", f"{less} {more}"),
        ):
            name = f"{kind}_counted_on_{when.partition(' ')[0].lower()}"
            connection.exec_driver_sql(
                f"CREATE TRIGGER {name} AFTER {when} ON {kind} BEGIN {then} END"
            )


def _keep_in_postgres(connection: sa.Connection) -> None:
    if connection.exec_driver_sql(_EXISTS_IN_POSTGRES).scalar_one() is not None:
        return
    connection.exec_driver_sql(
        "CREATE TABLE state_changes (kind text NOT NULL, state text NOT NULL,"
        " number bigint NOT NULL)"
    )
    connection.exec_driver_sql(_COUNTING_IN_POSTGRES)
    for kind in _COUNTED:
        column = tables.metadata.tables[kind].c.state
        counted = connection.execute(sa.select(column, sa.func.count()).group_by(column)).all()
        for state, number in counted:
            connection.exec_driver_sql(
                "INSERT INTO state_changes VALUES (%s, %s, %s)", (kind, state, number)
            )
        for when in (
            f"INSERT OR DELETE ON {kind}",
            f"UPDATE OF state ON {kind}",
        ):
            name = f"{kind}_counted_on_{when.partition(' ')[0].lower()}"
            changed = "WHEN (OLD.state <> NEW.state)" if when.startswith("UPDATE") else ""
            connection.exec_driver_sql(
                f"CREATE TRIGGER {name} AFTER {when} FOR EACH ROW {changed}"
                " EXECUTE FUNCTION note_state_change()"
            )


def keep_no_counts(connection: sa.Connection) -> None:
    """Until `keep_counts`, in the same transaction: PostgreSQL counts a whole ledger faster at once
    than row by row."""
    connection.exec_driver_sql("DROP TABLE IF EXISTS state_changes")
    connection.exec_driver_sql("DROP FUNCTION IF EXISTS note_state_change() CASCADE")


def _add_newer_states(connection: sa.Connection) -> None:
    """Count what an earlier version, which made the table, had no word for."""
    found = connection.exec_driver_sql("SELECT kind, state FROM state_counts")
    known = {(row.kind, row.state) for row in found}
    every = {(kind, str(state)) for kind, states in _COUNTED.items() for state in states}
    for row in sorted(every - known):
        connection.exec_driver_sql(
            "INSERT INTO state_counts (kind, state, number) VALUES (?, ?, 0)", row
        )


def _change(kind: str, row: str, by: str) -> str:
    # A trigger takes no parameters.
    return (
        f"UPDATE state_counts SET number = number {by}"  # noqa: S608
        f" WHERE kind = '{kind}' AND state = {row}.state;"
    )


def count_by_state(connection: sa.Connection, kind: str) -> dict[str, int]:
    """State to number of rows; states with none are left out.

    Parameters
    ----------
    kind
        ``series``, ``jobs`` or ``deliveries``.
    """
    is_sqlite = connection.dialect.name == "sqlite"
    asked = _IS_KEPT if is_sqlite else _EXISTS_IN_POSTGRES
    if not connection.exec_driver_sql(asked).scalar():
        column = tables.metadata.tables[kind].c.state
        found = connection.execute(sa.select(column, sa.func.count()).group_by(column))
    elif is_sqlite:
        query = "SELECT state, number FROM state_counts WHERE kind = ? AND number > 0"
        found = connection.exec_driver_sql(query, (kind,))
    else:
        query = (
            "SELECT state, sum(number) FROM state_changes WHERE kind = %s"
            " GROUP BY state HAVING sum(number) > 0"
        )
        found = connection.exec_driver_sql(query, (kind,))
    return {str(row[0]): int(row[1]) for row in found}
