"""PostgreSQL as the ledger's database: how it is opened, what its errors mean, who waits for whom.

It is opened so that a server, or another host, that is gone is noticed in seconds on both sides,
and so that a commit is on disk when it returns, whatever the server's settings say of that.

SQLite lets one transaction write at a time, so that what a transaction has read is true until it
ends. Here a transaction takes a lock of its own for that, which ends with it:

    on nothing in particular   alone: everybody else who writes waits, as on SQLite
    on some things             beside all that write on others, after all that write alone

The second is for what happens often and decides by the rows of one series alone. A transaction
takes the locks of all its things in one order; what it takes later comes from another kind.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

# Its own space among advisory locks: those with one number are of others (PostgreSQL 13.3.5).
_SPACE = 0x444E_4C47
_WHOLE = 0
PATIENCE_S = 30
"""How long a transaction waits for others."""
LONGEST_STATEMENT_S = 120
_LONGEST_PAUSE_S = 15
"""How long a transaction may do nothing: then its host is stuck, and the others go on."""
_GONE_AFTER_S = 10
_POOL, _POOL_AT_MOST = 5, 15

_SETTINGS = {
    "statement_timeout": f"{LONGEST_STATEMENT_S}s",
    "lock_timeout": f"{PATIENCE_S}s",
    "idle_in_transaction_session_timeout": f"{_LONGEST_PAUSE_S}s",
    "default_transaction_isolation": "read\\ committed",
    # How the server notices that a client's machine is gone, and lets go of its locks.
    "tcp_keepalives_idle": "4",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": f"{_GONE_AFTER_S}s",
    "client_connection_check_interval": "5s",
}
_CONNECTING: Mapping[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": _GONE_AFTER_S * 1000,
    "application_name": "dicom-node",
}
# What passes, or what whoever runs the database mends (PostgreSQL appendix A): connection, access,
# no such database, rollback, resources, operator, system; a server that only reads, a pause that
# was too long, a lock that was waited for, data that are damaged, a user who may not do it.
_PASSING = (
    "08", "28", "3D", "40", "53", "57", "58", "25006", "25P03", "55P03", "XX001", "XX002", "42501",
)


def create_engine(parsed: sa.URL, *, reading: bool, read_only: bool) -> sa.Engine:
    """An SQLAlchemy engine for a PostgreSQL URL.

    What the URL says itself of connecting, as ``?connect_timeout=`` or ``?options=``, counts.

    Parameters
    ----------
    reading
        Whether every statement is its own transaction.
    read_only
        Whether the server refuses every statement that writes.
    """
    settings = [f"-c {name}={value}" for name, value in _SETTINGS.items()]
    if read_only:
        settings.append("-c default_transaction_read_only=on")
    query = parsed.query
    own = query.get("options", "")
    arguments = {name: value for name, value in _CONNECTING.items() if name not in query}
    arguments["options"] = " ".join([*settings, *([own] if isinstance(own, str) else own)])
    engine = sa.create_engine(
        parsed.set(drivername="postgresql+psycopg").difference_update_query(["options"]),
        connect_args=arguments,
        pool_pre_ping=True,
        pool_use_lifo=True,
        pool_size=_POOL,
        max_overflow=_POOL_AT_MOST - _POOL,
        pool_timeout=PATIENCE_S,
        hide_parameters=True,
        **({"isolation_level": "AUTOCOMMIT"} if reading else {}),
    )
    if not reading:
        sa.event.listen(engine, "connect", _commit_to_disk)
    return engine


def _commit_to_disk(dbapi_connection: Any, _record: Any) -> None:
    """A server set up for speed loses the last half second: not what the node says it has done."""
    cursor = dbapi_connection.cursor()
    cursor.execute(
        "SELECT set_config('synchronous_commit', 'on', false)"
        " WHERE current_setting('synchronous_commit') = 'off'"
    )
    cursor.close()
    dbapi_connection.commit()


def is_passing(cause: object) -> bool:
    """Whether an error of the driver is one of the server's state and not of the statement."""
    state = getattr(cause, "sqlstate", None)
    return isinstance(state, str) and state.startswith(_PASSING)


def lock(connection: sa.Connection, on: Iterable[str] | None) -> None:
    """Begin a transaction: alone, or on some things beside all that write on others."""
    if on is None:
        connection.execute(
            sa.text("SELECT pg_advisory_xact_lock(:space, :whole)"),
            {"space": _SPACE, "whole": _WHOLE},
        )
        return
    connection.execute(
        sa.text("SELECT pg_advisory_xact_lock_shared(:space, :whole)"),
        {"space": _SPACE, "whole": _WHOLE},
    )
    lock_more(connection, on)


def lock_more(connection: sa.Connection, on: Iterable[str]) -> None:
    """Within a transaction on some things: on these as well."""
    keys = sorted({_key(name) for name in on})
    if keys:
        connection.execute(
            sa.text(
                "SELECT pg_advisory_xact_lock(:space, key) FROM unnest(CAST(:keys AS int[])) AS key"
            ),
            {"space": _SPACE, "keys": keys},
        )


def _key(name: str) -> int:
    """A number of 32 bits with a sign, never the one of the whole; two names may share one."""
    return ((zlib.crc32(name.encode()) or 1) ^ 0x8000_0000) - 0x8000_0000


def take_time(connection: sa.Connection) -> None:
    """Let a transaction take as long as it takes: an index over all that is kept is made once."""
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
