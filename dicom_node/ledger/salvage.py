"""What can be read of a damaged SQLite ledger, copied into a new one.

The record of what arrived is the spool, and the new ledger is indexed from it; so nothing here is
needed for no image and no result to be lost. It spares work and keeps decisions:

-   jobs, their inputs, results and deliveries go over whole when SQLite finds all four tables
    sound: then a series that is routed again meets the jobs it had, and nothing is computed or
    sent again;
-   otherwise only what is true by itself goes over: that a delivery came to its end (the same
    object is then not sent there again), and that a job was held, cancelled or dead;
-   other tables go over when they are sound, the history as far as it can be read.

``instances``, ``associations`` and ``series`` never go over: half of a series would pass for all.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dicom_node.ledger import tables
from dicom_node.records import DeliveryState, JobState

_FROM_SPOOL = frozenset({"instances", "associations", "series"})
_TOGETHER = (
    ("jobs", "results", "deliveries", "job_inputs"),
    ("commitments", "commitment_items"),
)
_FACTS = {
    "jobs": f"state IN ('{JobState.HELD}', '{JobState.DEAD}') OR "
    f"(state = '{JobState.CANCELLED}' AND reason NOT LIKE 'superseded%')",
    "deliveries": f"state IN ('{DeliveryState.SENT}', '{DeliveryState.COMMITTED}')",
    "transitions": "1",
}
_AT_ONCE = 500
_ROWS_OF_A_PAGE = 200
_LONGEST_LEAP = 1 << 40


def open_to_read(path: Path) -> sqlite3.Connection:
    """The SQLite file at ``path``, with its write-ahead log and without writing to either."""
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=30.0)
    connection.isolation_level = None
    return connection


def salvage(damaged: Path, into: Path) -> dict[str, int]:
    """Copy what is worth having from one SQLite ledger to a new one; rows by table.

    Raises
    ------
    sqlite3.Error
        The new ledger cannot be written. What the damaged one does not give is left out.
    """
    copied: dict[str, int] = {}
    with closing(open_to_read(damaged)) as source, closing(sqlite3.connect(into)) as target:
        target.isolation_level = None
        target.execute("PRAGMA synchronous=FULL")
        target.execute("BEGIN IMMEDIATE")
        for group in _groups():
            whole = all(_is_sound(source, name) for name in group)
            for name in group:
                condition = "1" if whole else _FACTS.get(name)
                if condition is not None:
                    copied[name] = _copy(source, target, name, condition)
        # Who asked and was not answered is asked again: its transaction may be gone.
        if not copied.get("commitment_items"):
            target.execute("UPDATE deliveries SET commitment='wanted' WHERE commitment='asked'")
        target.execute("COMMIT")
    return {name: count for name, count in copied.items() if count}


def _groups() -> list[tuple[str, ...]]:
    grouped = {name for group in _TOGETHER for name in group}
    alone = set(tables.metadata.tables) - grouped - _FROM_SPOOL
    return [*_TOGETHER, *((name,) for name in sorted(alone))]


def _is_sound(source: sqlite3.Connection, table: str) -> bool:
    try:
        rows = source.execute(f"PRAGMA quick_check({table})").fetchall()
    except sqlite3.Error:
        return False
    return rows == [("ok",)]


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    try:
        return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    except sqlite3.Error:
        return []


def _copy(
    source: sqlite3.Connection, target: sqlite3.Connection, table: str, condition: str
) -> int:
    there = set(_columns(source, table))
    names = [name for name in _columns(target, table) if name in there]
    if not names:
        return 0
    listed = ", ".join(f'"{name}"' for name in names)
    # The names are those of our own tables, and the condition is one of this module.
    insert = f"INSERT OR IGNORE INTO {table} ({listed}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
    copied = 0
    for rows in _readable(source, table, listed, condition):
        for row in rows:
            try:
                copied += target.execute(insert, row).rowcount
            except sqlite3.IntegrityError:
                # A row that breaks the table's rules is damage too.
                continue
    return copied


def _readable(
    source: sqlite3.Connection, table: str, listed: str, condition: str
) -> Iterator[list[tuple[Any, ...]]]:
    """Rows of a table in the order of their numbers, leaping over what cannot be read.

    Without an index: an index may be damaged where its table is not.
    """
    query = (
        f"SELECT rowid, {listed} FROM {table} NOT INDEXED "  # noqa: S608 - our own names
        f"WHERE rowid > ? AND ({condition}) ORDER BY rowid LIMIT ?"
    )
    after, at_once, leap, failures = -1, _AT_ONCE, 1, 0
    while leap < _LONGEST_LEAP:
        try:
            rows = source.execute(query, (after, at_once)).fetchall()
        except sqlite3.Error:
            if at_once == 1:
                # One by one through what one page may hold, then in growing leaps.
                failures += 1
                after += leap
                leap *= 2 if failures > _ROWS_OF_A_PAGE else 1
            at_once = 1
            continue
        yield [row[1:] for row in rows]
        if len(rows) < at_once:
            return
        after, leap, failures = rows[-1][0], 1, 0
        at_once = min(2 * at_once, _AT_ONCE)
