"""The counts by state that a database keeps: always what counting would give."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.ledger import tables
from dicom_node.ledger.counts import count_by_state, keep_no_counts
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import SendOutcome, SeriesState
from tests.ledger.conftest import START, delivery, instance, job, result


def counted(ledger: Ledger, kind: str) -> dict[str, int]:
    with ledger._database.read() as connection:
        rows = connection.execute(
            sa.text(f"SELECT state, count(*) FROM {kind} GROUP BY state")
        )
        return {row[0]: row[1] for row in rows}


def agree(ledger: Ledger) -> None:
    assert ledger.receipts.count_by_state() == counted(ledger, "series")
    assert ledger.jobs.count_by_state() == counted(ledger, "jobs")
    assert ledger.deliveries.count_by_state() == counted(ledger, "deliveries")


def work(ledger: Ledger) -> None:
    """A series from its first image to its results, and the counts after every step."""
    ledger.index([instance(1), instance(2), instance(1, series="1.2.4")])
    agree(ledger)
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    ledger.jobs.route("1.2.3", [job()], "rules", seen=START)
    agree(ledger)
    ledger.jobs.start("job-1", 1)
    ledger.jobs.fail("job-1", "model.failed", retry_at=START, attempt=1)
    agree(ledger)
    ledger.jobs.start("job-1", 2)
    ledger.jobs.succeed("job-1", [result(1)], [delivery(1)], "result", {}, attempt=2)
    ledger.jobs.route("1.2.3", [job()], "rules", seen=START)
    agree(ledger)
    outcome = SendOutcome("2.25.1", 0, stored=True, transient=False)
    ledger.deliveries.record(delivery(1).delivery_id, outcome, retry_at=None)
    agree(ledger)
    ledger.index([instance(3, at=START + timedelta(minutes=1))])
    agree(ledger)


def test_the_kept_counts_are_those_of_counting_after_every_change(ledger: Ledger) -> None:
    work(ledger)
    assert ledger.receipts.count_by_state() == {"receiving": 2}
    assert ledger.jobs.count_by_state() == {"succeeded": 1}
    assert ledger.deliveries.count_by_state() == {"sent": 1}


def test_a_ledger_that_kept_no_counts_is_counted_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger.open(path)
    ledger.index([instance(1), instance(1, series="1.2.4")])
    ledger.close()
    with sqlite3.connect(path) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in names.fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("DROP TABLE state_counts")
    again = Ledger.open(path)
    agree(again)
    again.index([instance(1, series="1.2.5")])
    assert again.receipts.count_by_state() == {"receiving": 3}
    again.close()


def test_rows_that_are_written_or_removed_past_the_ledger_are_counted_too(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger.open(path)
    ledger.index([instance(1), instance(1, series="1.2.4")])
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT OR IGNORE INTO series SELECT * FROM series")
        connection.execute("UPDATE series SET state = 'routed'")
        connection.execute("DELETE FROM series WHERE series_instance_uid = '1.2.4'")
    agree(ledger)
    assert ledger.receipts.count_by_state() == {"routed": 1}
    ledger.close()


def test_a_transaction_that_fails_leaves_the_counts_as_they_were(ledger: Ledger) -> None:
    ledger.index([instance(1)])
    with pytest.raises(ZeroDivisionError), ledger._database.write() as connection:
        connection.execute(sa.text("UPDATE series SET state = 'routed'"))
        raise ZeroDivisionError
    assert ledger.receipts.count_by_state() == {"receiving": 1}


def test_a_ledger_without_kept_counts_is_counted_on_demand(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'plain.db'}")
    tables.metadata.create_all(engine)
    with engine.begin() as connection:
        assert count_by_state(connection, "jobs") == {}
        connection.exec_driver_sql(
            "INSERT INTO series VALUES ('1.2', '1', 'CT', 'routed', '', 'CT01', 1, 0, 0, 0)"
        )
        assert count_by_state(connection, "series") == {"routed": 1}
    engine.dispose()


def test_a_state_that_an_earlier_version_did_not_know_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    Ledger.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM state_counts WHERE state = 'replaced'")
    ledger = Ledger.open(path)
    work(ledger)
    with ledger._database.write() as connection:
        connection.execute(sa.text("UPDATE deliveries SET state = 'replaced'"))
    agree(ledger)
    assert ledger.deliveries.count_by_state() == {"replaced": 1}
    ledger.close()


@pytest.mark.postgresql
def test_postgresql_sums_up_what_it_noted_while_several_write(postgresql_url: str) -> None:
    ledger = Ledger.open(postgresql_url)
    ledger.index([instance(1, series=f"1.2.3.{one}") for one in range(20)])

    def change(begin: int) -> None:
        for turn in range(80):
            state = "routed" if turn % 2 else "complete"
            with ledger._database.write(()) as connection:
                connection.exec_driver_sql(
                    "UPDATE series SET state = %s WHERE series_instance_uid = ANY(%s)",
                    (state, [f"1.2.3.{one}" for one in range(begin, begin + 5)]),
                )

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(change, (0, 5, 10, 15)))
    agree(ledger)
    assert ledger.receipts.count_by_state() == {"routed": 20}
    with ledger._database.read() as connection:
        # 3,220 lines were noted; one change in some hundred sums up what is there.
        lines = connection.exec_driver_sql("SELECT count(*) FROM state_changes").scalar_one()
    assert lines < 3000
    ledger.close()


@pytest.mark.postgresql
def test_a_ledger_of_postgresql_that_kept_no_counts_is_counted_when_it_is_opened(
    postgresql_url: str,
) -> None:
    ledger = Ledger.open(postgresql_url)
    ledger.index([instance(1), instance(1, series="1.2.4")])
    with ledger._database.write() as connection:
        keep_no_counts(connection)
    agree(ledger)
    again = Ledger.open(postgresql_url)
    again.index([instance(1, series="1.2.5")])
    with again._database.write() as connection:
        connection.execute(sa.text("DELETE FROM series WHERE series_instance_uid = '1.2.4'"))
    agree(again)
    assert again.receipts.count_by_state() == {"receiving": 2}
    ledger.close()
    again.close()
