"""A ledger of an earlier version is opened by this one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from dicom_node.ledger.ledger import Ledger


def columns(path: Path, table: str) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}


def test_a_ledger_without_newer_tables_and_columns_gets_them_and_keeps_its_rows(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.db"
    Ledger.open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO deliveries VALUES ('j:pacs:00','j','1.2','pacs','sent','',1,0,1.0,1.0,1.0,"
            "'asked')"
        )
        connection.execute("DROP INDEX deliveries_by_commitment")
        connection.execute("ALTER TABLE deliveries DROP COLUMN commitment")
        connection.execute("DROP TABLE circuits")
        connection.commit()
    ledger = Ledger.open(path)
    (delivery,) = ledger.deliveries.of_job("j")
    ledger.close()
    assert delivery.sop_instance_uid == "1.2"
    assert "commitment" in columns(path, "deliveries")
    assert "not_before" in columns(path, "circuits")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT commitment FROM deliveries").fetchone() == ("",)


def test_opening_a_current_ledger_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    Ledger.open(path).close()
    before = columns(path, "deliveries")
    Ledger.open(path).close()
    assert columns(path, "deliveries") == before
