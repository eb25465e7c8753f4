"""The database is opened as a durable store, and says so when it cannot be one."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.errors import ConfigurationError, LedgerUnavailable
from dicom_node.ledger import database
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import SeriesState
from tests.ledger.conftest import START, instance

_OPEN = """
import sys
from dicom_node.ledger.ledger import Ledger
print("ready", flush=True)
sys.stdin.readline()
ledger = Ledger.open(sys.argv[1])
print(sorted(ledger.receipts.count_by_state()), flush=True)
"""


def _pragmas(connection: sa.Connection) -> tuple[object, ...]:
    names = ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
    return tuple(connection.exec_driver_sql(f"PRAGMA {n}").scalar_one() for n in names)


@pytest.mark.parametrize("immediate", [True, False])
def test_every_pooled_connection_is_set_up_for_durability(tmp_path: Path, immediate: bool) -> None:
    engine = database.create_engine(f"sqlite:///{tmp_path / 'a.db'}", immediate=immediate)
    with ExitStack() as stack:
        opened = [stack.enter_context(engine.connect()) for _ in range(8)]
        if immediate:
            opened = opened[:1]
        assert {_pragmas(one) for one in opened} == {("wal", 2, 30_000, 1)}


def test_a_write_transaction_holds_the_write_lock_from_its_beginning(tmp_path: Path) -> None:
    db = database.Database(f"sqlite:///{tmp_path / 'a.db'}")
    with db.write() as connection:
        connection.execute(sa.text("SELECT 1"))
        other = sqlite3.connect(tmp_path / "a.db", timeout=0, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()
    db.close()


def test_reading_never_waits_for_a_writer(tmp_path: Path) -> None:
    db = database.Database(f"sqlite:///{tmp_path / 'a.db'}")
    with db.write(), db.read() as connection:
        count = connection.execute(sa.text("SELECT count(*) FROM series")).scalar_one()
    assert count == 0
    db.close()


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = tmp_path / "on the net"
    escaped = str(folder).replace(" ", "\\040")
    mounts = f"/dev/sda / ext4 rw 0 0\nhost:/export {escaped} {kind} rw 0 0\n"
    read_text = Path.read_text

    def told(path: Path, *args: str) -> str:
        return mounts if str(path) == "/proc/self/mounts" else read_text(path, *args)

    monkeypatch.setattr(Path, "read_text", told)
    folder.mkdir()
    with pytest.raises(ConfigurationError, match=kind):
        Ledger.open(folder / "ledger.db")
    Ledger.open(tmp_path / "ledger.db").close()


def test_processes_that_open_a_new_ledger_at_once_all_get_it(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _OPEN, str(tmp_path / "ledger.db")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60) for process in processes]
    assert [out for out, _ in answers] == ["[]\n"] * 3, answers


def test_a_new_ledger_waits_for_another_process_that_is_making_it(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    ends = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    ends.start()
    Ledger.open(file).close()
    ends.join()
    other.close()


def test_ten_thousand_instances_are_indexed_and_counted(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.db")
    ledger.index([instance(n) for n in range(10_000)])
    found = ledger.receipts.find_series("1.2.3")
    assert found is not None and found.instance_count == 10_000
    assert len(ledger.paths_known(i.path for i in ledger.receipts.instances("1.2.3"))) == 10_000
    ledger.close()


def test_threads_that_index_the_same_series_lose_no_instance(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.db")
    batches = [[instance(n) for n in range(start, 200, 8)] for start in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ledger.index, batches))
    found = ledger.receipts.find_series("1.2.3")
    assert found is not None and found.instance_count == 200
    ledger.close()


def test_a_locked_ledger_is_unavailable_and_takes_the_same_batch_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0)
    ledger = Ledger.open(tmp_path / "ledger.db")
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailable, match="locked"):
        ledger.index([instance(1)])
    other.execute("ROLLBACK")
    other.close()
    ledger.index([instance(1)])
    assert ledger.receipts.count_by_state() == {"receiving": 1}
    ledger.close()


def test_a_full_ledger_is_unavailable_and_keeps_what_it_has(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.db")
    ledger.index([instance(1)])
    with ledger._database._writing.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(LedgerUnavailable, match="full"):
        ledger.index([instance(n) for n in range(2, 2000)])
    assert [i.instance_number for i in ledger.receipts.instances("1.2.3")] == [1]
    ledger.close()


def test_a_read_only_ledger_is_unavailable(tmp_path: Path) -> None:
    Ledger.open(tmp_path / "ledger.db").close()
    ledger = Ledger.open(f"sqlite:///file:{tmp_path / 'ledger.db'}?mode=ro&uri=true")
    with pytest.raises(LedgerUnavailable, match="readonly"):
        ledger.index([instance(1)])
    ledger.close()


@pytest.mark.parametrize(
    "content", [b"this is no database" * 100, b"SQLite format 3\0" + b"x" * 9000]
)
def test_a_damaged_ledger_is_unavailable_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ledger.db").write_bytes(content)
    with pytest.raises(LedgerUnavailable):
        Ledger.open(tmp_path / "ledger.db")
    assert (tmp_path / "ledger.db").read_bytes() == content


def test_a_ledger_in_a_folder_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable):
        Ledger.open(tmp_path / "nowhere" / "ledger.db")


def test_an_error_of_the_database_does_not_quote_uids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0)
    ledger = Ledger.open(tmp_path / "ledger.db")
    with ledger._database.write() as connection:
        connection.exec_driver_sql("DROP TABLE associations")
    with pytest.raises(LedgerUnavailable) as caught:
        ledger.receipts.associations_of("1.2.840.99.12345")
    told: BaseException | None = caught.value
    while told is not None:
        assert "1.2.840.99.12345" not in str(told)
        told = told.__cause__
    ledger.close()


def test_a_transaction_that_fails_in_the_middle_changes_nothing(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.db")
    ledger.index([instance(1)])
    with pytest.raises(ZeroDivisionError), ledger._database.write() as connection:
        connection.exec_driver_sql("DELETE FROM instances")
        raise ZeroDivisionError
    assert len(ledger.receipts.instances("1.2.3")) == 1
    ledger.close()


def test_a_change_is_refused_from_another_state_than_the_decision_knew(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.db")
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    # A clock that was set back: the late slice does not move the time of the last receipt.
    ledger.index([instance(2, at=START - timedelta(hours=1))])
    assert not ledger.receipts.change(
        "1.2.3", SeriesState.DECLINED, "no_rule_matched",
        unless_received_after=START, only_from=SeriesState.COMPLETE,
    )
    assert not ledger.jobs.route("1.2.3", [], "rules", seen=START)
    ledger.close()
