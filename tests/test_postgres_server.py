"""The server of the tests: what is written stays, also when it is killed; nobody needs root."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from tests.postgres_server import PostgresServer, database, drop_database


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as running:
        yield running


def ask(url: str, statement: str) -> list[str]:
    parsed = sa.make_url(url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(parsed, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        done = connection.exec_driver_sql(statement)
        return [str(row[0]) for row in done] if done.returns_rows else []


def test_a_commit_is_on_disk_and_is_there_after_the_server_was_killed(
    server: PostgresServer,
) -> None:
    url = database(server.url, "kept")
    assert ask(url, "SHOW fsync") == ["on"]
    ask(url, "CREATE TABLE kept (name text)")
    ask(url, "INSERT INTO kept VALUES ('one')")
    server.kill()
    server.start()
    assert ask(url, "SELECT name FROM kept") == ["one"]
    server.stop()
    server.start()
    assert ask(url, "SELECT name FROM kept") == ["one"]


def test_a_database_is_empty_or_a_copy_and_goes_when_it_is_dropped(server: PostgresServer) -> None:
    first = database(server.url, "first")
    ask(first, "CREATE TABLE notes (name text)")
    assert ask(database(server.url, "copy", template="first"), "SELECT name FROM notes") == []
    second = database(server.url, "second")
    assert ask(second, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []
    drop_database(second)
    assert "second" not in ask(server.url, "SELECT datname FROM pg_database")


def test_nobody_connects_without_the_password(server: PostgresServer) -> None:
    wrong = sa.make_url(server.url).set(password="wrong").render_as_string(hide_password=False)
    with pytest.raises(sa.exc.OperationalError, match="password authentication failed"):
        ask(wrong, "SELECT 1")


def test_texts_are_sorted_by_the_rules_of_a_language(server: PostgresServer) -> None:
    sorted_texts = ask(server.url, "SELECT * FROM (VALUES ('B'), ('a'), ('-c')) t ORDER BY 1")
    assert sorted_texts != sorted(sorted_texts)
