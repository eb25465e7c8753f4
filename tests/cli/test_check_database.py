"""`check` says whether the database answers, which it is, and what of it is unsafe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dicom_node.cli import check_database
from dicom_node.cli.main import run_command
from dicom_node.config import Config
from dicom_node.ledger.database_server import DatabaseServer, look_at
from dicom_node.ledger.ledger import Ledger
from dicom_node.operations.doctor import Outcome
from tests.cli.running import Site
from tests.databases import as_stranger
from tests.delivery.scripted_peer import scripted_peer
from tests.ports import free_port
from tests.postgres_server import PostgresServer, database

pytestmark = pytest.mark.postgresql


@pytest.fixture(scope="module")
def safe_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """As a hospital has it."""
    with PostgresServer(tmp_path_factory.mktemp("safe")) as server:
        yield server


def config(url: str) -> Config:
    return Config.model_validate({"database": {"url": url}})


def found(url: str) -> tuple[Outcome, str]:
    finding = check_database.database(config(url))
    return finding.outcome, finding.found


def test_a_server_that_is_well_is_told_with_its_version_and_nothing_is_made_in_it(
    safe_server: PostgresServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = database(safe_server.url, "well")
    outcome, text = found(url)
    assert outcome is Outcome.OK
    assert text.startswith("PostgreSQL 1") and " ms away, " in text and " connections" in text
    file = tmp_path / "config.yaml"
    file.write_text(f"node: {{data_dir: {tmp_path}}}\ndatabase: {{url: '{url}'}}\n")
    run_command(["--config", str(file), "check", "--no-network", "--no-selftest"])
    said = capsys.readouterr().out
    assert "will be created at the first start" in said
    assert str(sa.make_url(url).password) not in said
    assert not look_at(url).has_ledger
    Ledger.open(url).close()
    assert look_at(url).has_ledger


def test_a_database_that_no_node_has_used_is_well_and_looking_makes_no_ledger_there(
    safe_server: PostgresServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = database(safe_server.url, "never_used")
    site = Site(tmp_path, capsys)
    with scripted_peer(sop_classes=["1.2.840.10008.5.1.4.1.1.88.34"]) as peer:
        site.settings(peer.port, more=f"database: {{url: '{url}'}}\n")
        found = {one["check"]: one for one in site("check", "--json").json()["checks"]}
    assert found["results to pacs"]["ok"]
    assert found["hosts"]["found"] == "none so far"
    assert found["models"]["ok"] and "will be created" in found["ledger"]["found"]
    assert not look_at(url).has_ledger
    for command in (["status"], ["retry", "--state", "dead"]):
        answer = site(*command)
        assert answer.code and "start the node once" in answer.out + answer.err
    assert not look_at(url).has_ledger


def test_a_password_that_every_user_can_read_fails_the_check(
    safe_server: PostgresServer, tmp_path: Path
) -> None:
    file = tmp_path / "database"
    file.write_text(safe_server.url)
    for mode, outcome in ((0o644, Outcome.FAILED), (0o640, Outcome.OK)):
        file.chmod(mode)
        settings = {"url": safe_server.url, "url_file": str(file)}
        finding = check_database.database(Config.model_validate({"database": settings}))
        assert finding.outcome is outcome, finding
        assert ("can be read" in finding.found) == (mode == 0o644)


def test_a_server_that_may_lose_what_it_committed_is_a_warning(
    postgres: PostgresServer, safe_server: PostgresServer
) -> None:
    outcome, text = found(postgres.url)
    assert outcome is Outcome.WARNING and "fsync and full_page_writes off" in text
    url = database(safe_server.url, "hasty")
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER DATABASE hasty SET synchronous_commit = off")
    engine.dispose()
    outcome, text = found(url)
    assert outcome is Outcome.WARNING and "synchronous_commit is off" in text


def test_who_may_make_no_tables_is_told_before_the_node_starts(
    safe_server: PostgresServer
) -> None:
    url = as_stranger(safe_server, database(safe_server.url, "closed"), "guest", "of-guest")
    outcome, text = found(url)
    assert outcome is Outcome.FAILED and "may make no tables" in text


def test_a_server_that_does_not_answer_fails_the_check_and_names_no_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    url = f"postgresql://node:of-the-node@127.0.0.1:{free_port()}/ledger"
    file.write_text(f"node: {{data_dir: {tmp_path}}}\ndatabase: {{url: '{url}'}}\n")
    assert run_command(["--config", str(file), "check", "--no-network", "--no-selftest"]) == 1
    said = capsys.readouterr()
    assert "database" in said.out and "does not answer" in said.out
    assert "of-the-node" not in said.out + said.err


@pytest.mark.parametrize(
    ("changes", "outcome", "text"),
    [
        ({"is_read_only": True}, Outcome.FAILED, "follows another server"),
        ({"connections": 90}, Outcome.WARNING, "may be refused"),
        ({"round_trip_s": 0.05}, Outcome.WARNING, "50.0 ms away"),
        ({"server_version_num": "130012"}, Outcome.WARNING, "older than"),
        ({"server_encoding": "SQL_ASCII"}, Outcome.WARNING, "encoding is SQL_ASCII"),
    ],
)
def test_what_else_may_be_wrong_is_told(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], outcome: Outcome, text: str
) -> None:
    settings = {
        "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on",
        "server_encoding": "UTF8", "server_version": "15.14", "server_version_num": "150014",
        "max_connections": "100", "superuser_reserved_connections": "3",
    }
    others = {name: changes[name] for name in changes if name not in settings}
    server = DatabaseServer(
        settings | {name: changes[name] for name in changes if name in settings},
        is_read_only=False, has_ledger=True, may_create=True, connections=10, round_trip_s=0.001,
    )
    server = replace(server, **others)
    monkeypatch.setattr("dicom_node.ledger.database_server.look_at", lambda _url: server)
    finding = check_database.database(config("postgresql://node@db/ledger"))
    assert finding.outcome is outcome and text in finding.found
    assert finding.todo
