"""What a PostgreSQL server says of itself: whether the ledger is safe on it, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from dicom_node.ledger import postgres
from dicom_node.ledger.database import unavailable

OLDEST_MAJOR = 14
_SETTINGS = (
    "fsync", "full_page_writes", "synchronous_commit", "server_encoding", "server_version",
    "server_version_num", "max_connections", "superuser_reserved_connections",
)
_ASKED = 5


@dataclass(frozen=True)
class DatabaseServer:
    """A server as one connection to one of its databases sees it.

    Attributes
    ----------
    settings
        By name; ``synchronous_commit`` is what this user has in this database.
    is_read_only
        Whether it follows another server, and takes no writes.
    has_ledger, may_create
        Whether a node has used the database; whether this user may make tables and schemas in it.
    connections
        How many clients it has in all.
    round_trip_s
        How long the shortest of a few questions took.
    """

    settings: Mapping[str, str]
    is_read_only: bool
    has_ledger: bool
    may_create: bool
    connections: int
    round_trip_s: float

    @property
    def version(self) -> str:
        """As it says, such as ``15.14 (Debian 15.14-0+deb12u1)``."""
        return self.settings["server_version"]

    @property
    def major(self) -> int:
        """Of its version."""
        return int(self.settings["server_version_num"]) // 10_000

    @property
    def most_connections(self) -> int:
        """How many clients may be connected that are no superusers."""
        reserved = int(self.settings["superuser_reserved_connections"])
        return int(self.settings["max_connections"]) - reserved


def look_at(url: str) -> DatabaseServer:
    """Ask the server at a ``postgresql://`` URL; nothing there is changed.

    Raises
    ------
    LedgerUnavailable
        It does not answer, or lets nobody in with this user and password.
    """
    engine = postgres.create_engine(sa.make_url(url), reading=True, read_only=True)
    try:
        with unavailable("the database does not answer"), engine.connect() as connection:
            return _look(connection)
    finally:
        engine.dispose()


def _look(connection: sa.Connection) -> DatabaseServer:
    named = sa.text("SELECT name, setting FROM pg_settings WHERE name = ANY(:names)")
    found = connection.execute(named, {"names": list(_SETTINGS)})
    settings = {row[0]: row[1] for row in found}
    row = connection.execute(
        sa.text(
            "SELECT pg_is_in_recovery(), to_regclass('transitions') IS NOT NULL,"
            " coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)"
            " AND has_database_privilege(current_database(), 'CREATE'),"
            " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')"
        )
    ).one()
    return DatabaseServer(
        settings, bool(row[0]), bool(row[1]), bool(row[2]), int(row[3]), _round_trip_s(connection)
    )


def _round_trip_s(connection: sa.Connection) -> float:
    taken = []
    for _ in range(_ASKED):
        begun = time.perf_counter()
        connection.execute(sa.text("SELECT 1")).scalar_one()
        taken.append(time.perf_counter() - begun)
    return min(taken)
