"""A damaged SQLite ledger is found at start, set aside and replaced by a new one.

    heal(url)  ->  None, or what was found and done; then `Ledger.open` as always

The damaged file keeps everything it had, under the name ``ledger.db.damaged-<n>``; nothing of it
is ever deleted. The new one holds what `dicom_node.ledger.salvage` could read, and the node
indexes the spool into it on its normal way.

The new ledger is complete on disk before the old one loses its name, so that the power may go
at any moment: what is found half done is begun again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from dicom_node.errors import LedgerUnavailable
from dicom_node.ledger import rows
from dicom_node.ledger.database import Database, is_damage, sqlite_path, sqlite_url
from dicom_node.ledger.guard import Guard, suspect, suspect_path
from dicom_node.ledger.salvage import open_to_read, salvage

_BELONGING = ("-wal", "-shm")
_CORE = frozenset(
    {"instances", "associations", "series", "jobs", "results", "deliveries", "transitions"}
)
_PATIENCE_S = 90.0


@dataclass(frozen=True)
class Recovery:
    """What was wrong with the ledger, what it is called now, and what went over (rows by table)."""

    reason: str
    kept_as: str
    salvaged: dict[str, int] = field(default_factory=dict)


def heal(url: str, *, patience_s: float = _PATIENCE_S) -> Recovery | None:
    """Replace the SQLite ledger at ``url`` if it is damaged; ``None`` when there is no need.

    PostgreSQL looks after itself. Waits ``patience_s`` for other processes that have it open.

    Raises
    ------
    LedgerUnavailable
        The disk does not let us, or others keep the ledger open.
    """
    path = sqlite_path(url)
    if path is None:
        return None
    with _disk_errors():
        shared = Guard(path)
        try:
            found = find_damage(path)
        finally:
            shared.release()
        if not found:
            suspect_path(path).unlink(missing_ok=True)
            return None
        # Others that have it open see this, and end.
        suspect(path, found)
        alone = Guard(path, alone=True, patience_s=patience_s)
        try:
            found = find_damage(path)
            if found:
                return _replace(path, found)
            suspect_path(path).unlink(missing_ok=True)
            return None
        finally:
            alone.release()


def find_damage(path: Path) -> str:
    """What is wrong with a SQLite ledger, or an empty string; one that is not there is well.

    Reads the whole file once; when somebody has called it damaged, the indexes are compared with
    their tables as well.

    Raises
    ------
    LedgerUnavailable
        It cannot be looked at: locked, or the disk refuses.
    """
    if not path.exists():
        left = [name for name in (*_BELONGING, ".new") if Path(f"{path}{name}").exists()]
        return "the file is missing and what belongs to it is there" if left else ""
    if not path.stat().st_size:
        return "the file is empty"
    check = "integrity_check" if suspect_path(path).exists() else "quick_check"
    try:
        with closing(open_to_read(path)) as connection:
            found = [str(row[0]) for row in connection.execute(f"PRAGMA {check}(3)")]
            missing = _CORE - _tables(connection)
    except sqlite3.Error as error:
        if not is_damage(error):
            raise LedgerUnavailable(f"the ledger cannot be checked: {error}") from error
        return str(error)
    if found != ["ok"]:
        return "; ".join(found).replace("\n", " ")[:300]
    if missing and missing != _CORE:
        return f"tables are missing: {', '.join(sorted(missing))}"
    return ""


def _tables(connection: sqlite3.Connection) -> set[str]:
    query = "SELECT name FROM sqlite_master WHERE type='table'"
    return {str(row[0]) for row in connection.execute(query)}


def _replace(path: Path, found: str) -> Recovery:
    new = Path(f"{path}.new")
    if not path.exists() and new.exists() and not find_damage(new):
        # The power went between the names: the new one is complete, or the old one had its own.
        # A log that is still there belongs to the old one, and never meets the new.
        _set_aside(path, _last_name(path))
        return _finish(path, new, Recovery(found, "as the ledger's own history says"))
    aside = _free_name(path)
    for name in ("", *_BELONGING):
        Path(f"{new}{name}").unlink(missing_ok=True)
    salvaged: dict[str, int] = {}
    Database(sqlite_url(new), guarded=False).close()
    if path.exists():
        try:
            salvaged = salvage(path, new)
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"a new ledger cannot be written: {error}") from error
    recovery = Recovery(found, aside.name, salvaged)
    _record(new, recovery)
    _sync(new)
    # The file first: a start that is cut off here finds none, and goes on with the new one. The
    # old file without its log may look sound, and would be taken for the ledger.
    _set_aside(path, aside)
    return _finish(path, new, recovery)


def _set_aside(path: Path, aside: Path) -> None:
    for name in ("", *_BELONGING):
        former = Path(f"{path}{name}")
        if former.exists():
            former.rename(f"{aside}{name}")
            _sync(path.parent)


def _finish(path: Path, new: Path, recovery: Recovery) -> Recovery:
    new.rename(path)
    suspect_path(path).unlink(missing_ok=True)
    _sync(path.parent)
    return recovery


def _free_name(path: Path) -> Path:
    number = 1
    while any(Path(f"{path}.damaged-{number}{name}").exists() for name in ("", *_BELONGING)):
        number += 1
    return Path(f"{path}.damaged-{number}")


def _last_name(path: Path) -> Path:
    """The name that the file got whose log kept its own; a free one where there is none."""
    number = 1
    while Path(f"{path}.damaged-{number + 1}").exists():
        number += 1
    last = Path(f"{path}.damaged-{number}")
    taken = any(Path(f"{last}{name}").exists() for name in _BELONGING)
    return last if last.exists() and not taken else _free_name(path)


def _record(new: Path, recovery: Recovery) -> None:
    database = Database(sqlite_url(new), guarded=False)
    reason = f"{recovery.reason}; kept as {recovery.kept_as}"
    with database.write() as connection:
        rows.record_transition(
            connection, "node", "ledger", "damaged", "rebuilt", reason, 0,
            datetime.now(UTC).timestamp(),
        )
    # The last one to close it writes the log into the file: one file is to be renamed, not three.
    database.close()


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        raise LedgerUnavailable(f"the ledger cannot be set aside: {failure.strerror}") from failure
