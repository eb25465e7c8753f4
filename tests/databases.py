"""The databases that a ledger may be on, as one fixture: what takes it runs on each of them.

    database_url     a database of this test's own, on SQLite and then on PostgreSQL
    postgresql_url   the same on PostgreSQL alone
    node_database    what gives a running node a database of its own, on each of them
    postgres         the server, one for every process of pytest

On PostgreSQL a test has the marker ``postgresql``; without a server there it is skipped. What
takes longer than a few seconds runs there in `make test-long` only, where its module says

    pytestmark = pytest.mark.long_on_postgresql

and `make test-postgresql` runs all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.postgres_server import PostgresServer, database, empty_database

NodeDatabase = Callable[[], str | None]
"""The URL of a new and empty database; ``None``: SQLite, in the node's folder."""
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A running server, whose data no cut of the power will meet."""
    with PostgresServer(tmp_path_factory.mktemp("postgres"), durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def _emptied(postgres: PostgresServer) -> list[str]:
    """Databases with an empty ledger that no test uses now: to make one takes longer."""
    return []


@pytest.fixture
def postgresql_url(postgres: PostgresServer, _emptied: list[str]) -> Iterator[str]:
    """A database of this test's own on PostgreSQL, which may hold an empty ledger."""
    url = _emptied.pop() if _emptied else database(postgres.url, f"test_{next(_numbers)}")
    yield url
    empty_database(url)
    _emptied.append(url)


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]
)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of this test's own; on SQLite ``ledger.db`` in its folder."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    url: str = request.getfixturevalue("postgresql_url")
    return url


@pytest.fixture(
    scope="session", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]
)
def node_database(request: pytest.FixtureRequest) -> NodeDatabase:
    """What gives each node of a test a database of its own, on SQLite and then on PostgreSQL."""
    if request.param == "sqlite":
        return lambda: None
    server: PostgresServer = request.getfixturevalue("postgres")
    return lambda: database(server.url, f"node_{next(_numbers)}")


def mark_long(items: Sequence[pytest.Item]) -> None:
    """Leave what takes long on PostgreSQL to `make test-long`."""
    for item in items:
        if item.get_closest_marker("postgresql") and item.get_closest_marker("long_on_postgresql"):
            item.add_marker(pytest.mark.long)


def as_stranger(server: PostgresServer, url: str, user: str, password: str) -> str:
    """The same database for a user who may connect to it and nothing else."""
    engine = sa.create_engine(
        sa.make_url(server.url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool
    )
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {user} LOGIN PASSWORD '{password}'")
    return sa.make_url(url).set(username=user, password=password).render_as_string(False)
