"""PostgreSQL as the ledger's database: what happens when it, or a host, is not well."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.errors import LedgerUnavailable
from dicom_node.ledger import postgres
from dicom_node.ledger.ledger import Ledger
from tests.databases import as_stranger
from tests.ledger.conftest import instance
from tests.ports import free_port
from tests.postgres_server import PostgresServer, database

pytestmark = pytest.mark.postgresql
ROOT = Path(__file__).resolve().parents[2]


def with_options(url: str, options: str) -> str:
    return sa.make_url(url).update_query_dict({"options": options}).render_as_string(False)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[PostgresServer]:
    """A server that a test may kill."""
    with PostgresServer(tmp_path, durable=False) as server:
        yield server


@pytest.fixture
def ledger(postgresql_url: str) -> Iterator[Ledger]:
    opened = Ledger.open(postgresql_url)
    yield opened
    opened.close()


def test_nothing_that_was_written_is_lost_when_the_server_dies_under_those_who_write(
    own_server: PostgresServer,
) -> None:
    url, hosts, images = database(own_server.url, "ledger"), 3, 40
    Ledger.open(url).close()
    troubles = []

    def receive(host: int) -> None:
        ledger = Ledger.open(url)
        for number in range(images):
            while True:
                try:
                    ledger.index([instance(host * images + number, association_id=str(host))])
                    break
                except LedgerUnavailable as error:
                    troubles.append(str(error))
                    time.sleep(0.05)
        ledger.close()

    with ThreadPoolExecutor(hosts) as pool:
        done = [pool.submit(receive, host) for host in range(hosts)]
        for end in (own_server.kill, own_server.stop):
            known = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
            _wait_for_more_than(known, 5)
            end()
            known.dispose()
            own_server.start()
        for one in done:
            one.result(120)
    ledger = Ledger.open(url)
    series = ledger.receipts.find_series("1.2.3")
    assert series is not None and series.instance_count == hosts * images
    assert len(ledger.receipts.instances("1.2.3")) == hosts * images
    ledger.close()
    assert troubles, "nobody noticed"
    assert not [one for one in troubles if sa.make_url(url).password in one]


def _wait_for_more_than(engine: sa.Engine, count: int) -> None:
    begun = time.monotonic()
    with engine.connect() as connection:
        query = sa.text("SELECT count(*) FROM instances")
        before = connection.execute(query).scalar_one()
        while connection.execute(query).scalar_one() < before + count:
            assert time.monotonic() < begun + 60
            connection.rollback()


def test_an_open_ledger_goes_on_when_the_server_is_back(own_server: PostgresServer) -> None:
    ledger = Ledger.open(database(own_server.url, "ledger"))
    ledger.index([instance(1)])
    own_server.stop()
    for ask in (ledger.receipts.count_by_state, lambda: ledger.index([instance(2)])):
        with pytest.raises(LedgerUnavailable):
            ask()
    own_server.start()
    ledger.index([instance(2)])
    assert ledger.receipts.count_by_state() == {"receiving": 1}
    ledger.close()


def test_a_host_that_stands_still_in_a_transaction_does_not_keep_the_others(
    postgresql_url: str,
) -> None:
    stuck = Ledger.open(
        with_options(postgresql_url, "-c idle_in_transaction_session_timeout=300ms")
    )
    other = Ledger.open(postgresql_url)
    with pytest.raises(LedgerUnavailable), stuck._database.write() as connection:
        other.index([instance(1)])
        connection.execute(sa.text("SELECT 1"))
    assert other.receipts.count_by_state() == {"receiving": 1}
    # Its next transaction has a new connection.
    stuck.notes.add("disk", "accepting", "refusing", "full")
    stuck.close()
    other.close()


def test_who_waits_for_another_for_too_long_is_told_so(ledger: Ledger) -> None:
    hurried = Ledger.open(with_options(ledger.url, "-c lock_timeout=200ms"))
    with (
        ledger._database.write(), pytest.raises(LedgerUnavailable, match="lock timeout"),
    ):
        hurried.index([instance(1)])
    hurried.index([instance(1)])
    hurried.close()


def test_series_do_not_wait_for_each_other(ledger: Ledger) -> None:
    hurried = Ledger.open(with_options(ledger.url, "-c lock_timeout=200ms"))
    with ledger._database.write(on=["series 1.2.3"]):
        hurried.index([instance(1, series="1.2.4")])
        with pytest.raises(LedgerUnavailable, match="lock timeout"):
            hurried.index([instance(1, series="1.2.3")])
        with pytest.raises(LedgerUnavailable, match="lock timeout"):
            hurried.notes.add("disk", "accepting", "refusing", "full")
    hurried.close()


def test_two_that_wait_for_each_other_are_told_so_and_nothing_is_half_done(
    ledger: Ledger,
) -> None:
    begun = threading.Barrier(2)

    def write(first: str, second: str) -> str:
        try:
            with ledger._database.write(on=[first]) as connection:
                begun.wait(30)
                ledger._database.write_more(connection, [second])
                connection.execute(sa.text("UPDATE series SET reason = reason"))
        except LedgerUnavailable as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(write, ("a", "b"), ("b", "a")))
    assert sorted(map(bool, said)) == [False, True]
    assert "deadlock" in "".join(said)


def test_a_commit_is_on_disk_whatever_the_database_is_set_to(postgresql_url: str) -> None:
    name = sa.make_url(postgresql_url).database
    ledger = Ledger.open(postgresql_url)
    with ledger._database.write() as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
        connection.exec_driver_sql(
            f'ALTER DATABASE "{name}" SET default_transaction_isolation = serializable'
        )
    ledger.close()
    again = Ledger.open(postgresql_url)
    with again._database.write() as connection:
        for setting, expected in (
            ("synchronous_commit", "on"), ("transaction_isolation", "read committed"),
        ):
            found = connection.exec_driver_sql(f"SHOW {setting}").scalar_one()
            assert found == expected
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" RESET ALL')
    again.close()


def test_a_database_that_only_reads_cannot_be_written_and_that_passes(
    postgresql_url: str,
) -> None:
    Ledger.open(postgresql_url).close()
    with pytest.raises(LedgerUnavailable, match="read-only transaction"):
        Ledger.open(
            with_options(postgresql_url, "-c default_transaction_read_only=on")
        ).notes.add("disk", "accepting", "refusing", "full")


def test_a_user_who_may_make_no_tables_is_told_so(postgres: PostgresServer) -> None:
    named = as_stranger(
        postgres, database(postgres.url, "of_another"), "stranger", "secret-of-stranger"
    )
    with pytest.raises(LedgerUnavailable, match="permission denied") as refused:
        Ledger.open(named)
    assert "secret" not in str(refused.value)
    wrong = sa.make_url(named).set(password="wrong-secret").render_as_string(False)
    with pytest.raises(LedgerUnavailable, match="password authentication failed") as refused:
        Ledger.open(wrong)
    assert "secret" not in str(refused.value)


def test_a_database_that_no_node_has_used_is_not_looked_at(postgres: PostgresServer) -> None:
    url = database(postgres.url, "nothing_in_it")
    with pytest.raises(LedgerUnavailable, match="there is no ledger in the database"):
        Ledger.open(url, read_only=True)


def test_the_first_server_of_several_that_takes_writes_is_used(ledger: Ledger) -> None:
    """As after the other has taken over: one URL names both."""
    named = sa.make_url(ledger.url)
    both = named.set(host=None, port=None).update_query_dict(
        {
            "host": (f"127.0.0.1:{free_port()}", f"{named.host}:{named.port}"),
            "target_session_attrs": "read-write",
        }
    )
    found = Ledger.open(both.render_as_string(False))
    found.index([instance(1)])
    assert ledger.receipts.count_by_state() == {"receiving": 1}
    found.close()


def test_texts_are_compared_byte_by_byte_whatever_the_language_of_the_server(
    ledger: Ledger,
) -> None:
    ledger.index([instance(1, series="1.10"), instance(1, series="1.9"), instance(1, series="1.1")])
    found = [path for path, _ in ledger.files_after("", 10)]
    assert found == sorted(found)
    assert ledger.files_after(found[0], 1)[0][0] == found[1]
    with ledger._database.read() as connection:
        # Whether the order can come from an index at all: three rows are read without one.
        connection.exec_driver_sql("SET enable_seqscan = off")
        plan = connection.exec_driver_sql(
            "EXPLAIN SELECT path FROM instances WHERE path > '' ORDER BY path LIMIT 1"
        )
        assert "Index" in "".join(row[0] for row in plan)


def test_names_are_numbers_that_the_server_takes_and_never_that_of_the_whole() -> None:
    keys = {postgres._key(str(number)) for number in range(10_000)}
    assert all(-(2**31) <= key < 2**31 and key != postgres._WHOLE for key in keys)


def test_a_process_that_is_killed_in_a_transaction_leaves_no_lock(ledger: Ledger) -> None:
    code = (
        "import sys, time; from dicom_node.ledger.ledger import Ledger\n"
        "with Ledger.open(sys.argv[1])._database.write():\n"
        "    print('holds', flush=True); time.sleep(600)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, ledger.url], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"holds\n"
    holder.kill()
    ledger.index([instance(1)])
    holder.wait()
    holder.stdout.close()
