"""Where the ledger's rows live: one SQLite file, or PostgreSQL by URL.

SQLite is opened as a durable store and not as the library's defaults have it: write-ahead log,
``synchronous=FULL`` (a commit is on disk when it returns), ``BEGIN IMMEDIATE`` (a transaction
that reads and then writes cannot be overtaken between the two), 30 s of patience with other
writers. Reads run in autocommit and never wait for a writer. How PostgreSQL is opened, and what
stands there for ``BEGIN IMMEDIATE``, says `dicom_node.ledger.postgres`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dicom_node.errors import ConfigurationError, LedgerDamaged, LedgerUnavailable
from dicom_node.ledger import clock, postgres, tables
from dicom_node.ledger.counts import keep_counts
from dicom_node.ledger.guard import Guard, suspect, suspect_path
from dicom_node.ledger.migration import migrate

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

BUSY_TIMEOUT_S = 30
_LOOK_EVERY_S = 0.02
# SQLITE_CORRUPT and SQLITE_NOTADB; the upper bits of a code tell where it was met.
_DAMAGE = frozenset({11, 26})
_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs"})


def _set_up_connection(dbapi_connection: Any, _record: Any) -> None:
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000}")
    _write_ahead(cursor)
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _write_ahead(cursor: Any) -> None:
    """Change to write-ahead log; while another process does so SQLite waits for it in part only."""
    patience = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > patience:
                raise
            time.sleep(_LOOK_EVERY_S)


def _set_up_reading(dbapi_connection: Any, _record: Any) -> None:
    dbapi_connection.isolation_level = None
    dbapi_connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000}")
    dbapi_connection.execute("PRAGMA query_only=ON")


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def sqlite_url(path: Path) -> str:
    """The database URL of a SQLite file."""
    return f"sqlite:///{path}"


def sqlite_path(url: str) -> Path | None:
    """The file of a SQLite database URL; ``None`` for any other, in memory or given as a URI."""
    parsed = sa.make_url(url)
    name = parsed.database or ""
    is_file = parsed.drivername.startswith("sqlite") and not name.startswith(("file:", ":memory:"))
    return Path(name) if is_file and name else None


def create_engine(
    url: str, *, immediate: bool = True, read_only: bool = False
) -> sa.Engine:
    """An SQLAlchemy engine for ``url``, set up as the module says.

    Parameters
    ----------
    url
        ``sqlite:////absolute/path`` or ``postgresql://user@host/database``.
    immediate
        Whether there are transactions, which take SQLite's write lock at their beginning; without
        it every statement is its own, which is right for reading only.
    read_only
        Whether the database refuses every statement that writes.

    Raises
    ------
    ConfigurationError
        When the SQLite file would lie on a network file system, where its locks do not hold.
    """
    parsed = sa.make_url(url)
    if not parsed.drivername.startswith("sqlite"):
        return postgres.create_engine(parsed, reading=not immediate, read_only=read_only)
    refuse_network_file_system(Path(parsed.database or ".").parent)
    # An error's text would quote the parameters of its statement, UIDs among them.
    engine = sa.create_engine(parsed, pool_timeout=BUSY_TIMEOUT_S, hide_parameters=True)
    sa.event.listen(engine, "connect", _set_up_reading if read_only else _set_up_connection)
    if immediate:
        sa.event.listen(engine, "begin", _begin_immediate)
    return engine


def refuse_network_file_system(folder: Path) -> None:
    """Raise `ConfigurationError` if ``folder`` is on a file system whose locks cannot be trusted.

    Read from ``/proc/self/mounts``: the longest mount point that holds the folder decides.
    """
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return
    best, kind = "", ""
    resolved = str(folder.resolve())
    for line in mounts.read_text("utf-8", "replace").splitlines():
        parts = line.split(" ")
        point = parts[1].replace("\\040", " ")
        inside = resolved == point or resolved.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, parts[2]
    if kind in _NETWORK_FILE_SYSTEMS:
        raise ConfigurationError(
            f"{folder} is on a network file system ({kind}), where SQLite's locks do not hold; "
            "expected a local disk, or a postgresql:// URL",
            key_path="database.url",
        )


def is_damage(error: object) -> bool:
    """Whether SQLite says that the file is malformed or no database: waiting does not help."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF in _DAMAGE


@contextmanager
def unavailable(what: str) -> Iterator[None]:
    """Turn what a database does when it is not well into `LedgerUnavailable`.

    Locked, full, read-only, unreachable, or no database at all (`LedgerDamaged`); a statement
    that is wrong in itself stays what it is: a defect of the node.
    """
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        cause = getattr(error, "orig", None)
        if is_damage(cause):
            raise LedgerDamaged(f"{what}: the ledger is damaged ({cause})") from error
        damaged = type(error) is sa.exc.DatabaseError
        passing = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError)
        if not damaged and not isinstance(error, passing) and not postgres.is_passing(cause):
            raise
        found = str(cause or error).splitlines()[0]
        raise LedgerUnavailable(f"{what}: {found}") from error


class Database:
    """Two engines on one database: transactions that write, and reads that never wait.

    Damage that is met is written down beside the file (`dicom_node.ledger.guard`), for every
    process of the node to see.

    Parameters
    ----------
    guarded
        Whether a SQLite file is held open for all to see; without it nobody else may know it.
    read_only
        Whether only to look: then nothing is created, migrated, locked or written.

    Raises
    ------
    LedgerUnavailable
        When it cannot be opened; with ``read_only`` also when there is none.
    """

    def __init__(self, url: str, *, guarded: bool = True, read_only: bool = False) -> None:
        self.url = url
        self._guard: Guard | None = None
        self._path = sqlite_path(url)
        self._read_only = read_only
        self._writing = create_engine(url, read_only=read_only)
        self._reading = create_engine(url, immediate=False, read_only=read_only)
        self.is_sqlite = self._writing.dialect.name == "sqlite"
        if read_only:
            self._need_ledger()
            return
        if self._path is not None and guarded:
            self._guard = Guard(self._path)
        # Several processes may open a new database at once: the write lock lets one create.
        with self.write() as connection:
            if not self.is_sqlite:
                postgres.take_time(connection)
            migrate(connection, tables.metadata)
            keep_counts(connection)

    def _need_ledger(self) -> None:
        if self._path is not None:
            if not self._path.exists():
                raise LedgerUnavailable(f"there is no ledger at {self._path}")
            return
        with self.read() as connection:
            if not self.is_sqlite and not sa.inspect(connection).has_table("transitions"):
                raise LedgerUnavailable("there is no ledger in the database: start the node once")

    @contextmanager
    def write(self, on: Iterable[str] | None = None) -> Iterator[sa.Connection]:
        """One transaction: committed at the end of the block, rolled back on an error.

        What it reads stays true until it ends. SQLite lets nobody else write meanwhile, and
        PostgreSQL nobody who writes ``on`` one of the same things; without ``on`` nobody at all.

        Parameters
        ----------
        on
            Names of all that the transaction decides by, as the functions of
            `dicom_node.ledger.things` give them; empty where it decides by nothing.

        Raises
        ------
        LedgerUnavailable
            When the database is locked, full, read-only or unreachable.
        """
        with self._watched("the ledger cannot be written"), self._writing.begin() as connection:
            if not self.is_sqlite:
                postgres.lock(connection, on)
            yield connection

    def write_more(self, connection: sa.Connection, on: Iterable[str]) -> None:
        """Within a transaction on some things: let nobody else write on these either.

        They must be of a kind that no transaction begins with: two that wait for each other end
        in `LedgerUnavailable`.
        """
        if not self.is_sqlite:
            postgres.lock_more(connection, on)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection for reading; each statement sees the last committed state."""
        with self._watched("the ledger cannot be read"), self._reading.connect() as connection:
            yield connection

    @contextmanager
    def read_at_once(self) -> Iterator[sa.Connection]:
        """A connection for one statement whose many rows are fetched a few at a time."""
        with self.read() as connection:
            if not self.is_sqlite:
                # What a server keeps for later belongs to a transaction.
                connection.execution_options(isolation_level="READ COMMITTED")
            yield connection

    @contextmanager
    def _watched(self, what: str) -> Iterator[None]:
        try:
            with unavailable(what):
                yield
        except LedgerDamaged as error:
            if not self._read_only:
                self.condemn(str(error))
            raise

    def keep_time(self) -> None:
        """Set `dicom_node.ledger.clock` by PostgreSQL's clock; on SQLite it is the computer's."""
        if self.is_sqlite:
            return
        query = sa.select(sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()), sa.Double))
        with self.read() as connection:
            asked_s = time.monotonic()
            found = float(connection.execute(query).scalar_one())
            clock.set_by_database(found, (asked_s + time.monotonic()) / 2)

    def condemn(self, found: str) -> None:
        """Leave word for every process of the node, and for the next start, that it is damaged."""
        if self._path is not None:
            suspect(self._path, found)

    def check_sound(self) -> None:
        """Raise `LedgerDamaged` when some process of the node has met damage in the ledger."""
        if self._path is not None and suspect_path(self._path).exists():
            raise LedgerDamaged("the ledger is damaged: the next start rebuilds it")

    def insert(self, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
        """An INSERT of this database's dialect, which knows ``on_conflict_do_...``."""
        # A dialect costs a command line its start, and only one of them is ever used.
        if self.is_sqlite:
            from sqlalchemy.dialects import sqlite

            return sqlite.insert(table)
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)

    def close(self) -> None:
        """Give all connections back."""
        self._writing.dispose()
        self._reading.dispose()
        if self._guard is not None:
            self._guard.release()
