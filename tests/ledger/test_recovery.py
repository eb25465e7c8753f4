"""A damaged ledger is found, set aside with all it has, and replaced."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.errors import LedgerDamaged, LedgerUnavailable
from dicom_node.ledger import tables
from dicom_node.ledger.guard import Guard, suspect_path
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.recovery import find_damage, heal
from dicom_node.records import DeliveryState, SendOutcome, SeriesState
from tests.ledger.conftest import START, delivery, instance, job, result

PAGE = 4096
NOW = datetime.now(UTC)


def filled(path: Path, *, jobs: int = 12, instances: int = 400) -> None:
    """A ledger of several hundred pages, written into its one file."""
    ledger = Ledger.open(path)
    ledger.index([instance(n) for n in range(instances)])
    for number in range(jobs):
        series = f"1.2.{number + 10}"
        ledger.index([instance(1, series=series)])
        ledger.receipts.change(series, SeriesState.COMPLETE, "quiet_period")
        name = f"job-{number}"
        ledger.jobs.route(series, [job(name, series=series)], "rule", seen=START)
        if number % 4:
            ledger.jobs.start(name, 1)
        if number % 4 == 1:
            sent = delivery(number, name)
            ledger.jobs.succeed(name, [result(number, name)], [sent], "result", {})
            outcome = SendOutcome(f"2.25.{number}", 0, True, False)
            ledger.deliveries.record(sent.delivery_id, outcome, retry_at=None)
        if number % 4 == 2:
            ledger.jobs.fail(name, "model.failed: odd", retry_at=None)
    ledger.jobs.cancel("job-0", "cancelled_by_operator")
    ledger.close()


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def pages_of(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        return int(connection.execute(query, (table,)).fetchone()[0])


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def damage_header(path: Path) -> None:
    overwrite(path, 0, b"\xa5" * 100)


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def damage_page(path: Path) -> None:
    overwrite(path, (pages_of(path, "instances") - 1) * PAGE, b"\x5a" * PAGE)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def drop_a_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE deliveries")


def not_a_database(path: Path) -> None:
    path.write_bytes(b"something else entirely\n" * 1000)


DAMAGE = [damage_header, truncate, damage_page, empty, drop_a_table, not_a_database]


@pytest.mark.parametrize("damage", DAMAGE)
def test_every_kind_of_damage_is_found_and_the_file_set_aside_as_it_was(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "ledger.db"
    filled(path)
    assert heal(url(path)) is None
    damage(path)
    was = path.read_bytes()
    found = heal(url(path))
    assert found is not None and found.kept_as == "ledger.db.damaged-1"
    assert (tmp_path / found.kept_as).read_bytes() == was
    assert heal(url(path)) is None
    ledger = Ledger.open(path)
    assert ledger.receipts.series_in(SeriesState.RECEIVING) == []
    (told,) = ledger.history("node", "ledger")
    assert told.to_state == "rebuilt" and found.kept_as in told.reason
    ledger.index([instance(1)])
    ledger.close()
    assert not list(tmp_path.glob("*.new*")) and not list(tmp_path.glob("*.suspect"))


def test_a_second_damaged_ledger_does_not_take_the_name_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    for number in (1, 2):
        filled(path, jobs=1)
        truncate(path)
        found = heal(url(path))
        assert found is not None and found.kept_as == f"ledger.db.damaged-{number}"
        path.unlink()


def test_a_log_full_of_garbage_costs_its_content_and_not_the_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    filled(path, jobs=1)
    (tmp_path / "ledger.db-wal").write_bytes(b"\x5a" * 20_000)
    (tmp_path / "ledger.db-shm").write_bytes(b"\x5a" * 32_768)
    assert heal(url(path)) is None
    ledger = Ledger.open(path)
    assert len(ledger.jobs.latest()) == 1
    ledger.close()


_WRITE_AND_DIE = """
import os, sys
from dicom_node.ledger.ledger import Ledger
from tests.ledger.conftest import instance
ledger = Ledger.open(sys.argv[1])
for number in range(200):
    ledger.index([instance(number, series=f"1.9.{number}")])
os._exit(1)
"""


def died_with_a_log(path: Path) -> None:
    filled(path, jobs=1)
    subprocess.run([sys.executable, "-c", _WRITE_AND_DIE, str(path)], check=False)
    assert Path(f"{path}-wal").stat().st_size > 10_000


def test_what_only_the_log_holds_is_kept_on_a_sound_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    died_with_a_log(path)
    assert heal(url(path)) is None
    ledger = Ledger.open(path)
    assert len(ledger.receipts.series_in(SeriesState.RECEIVING)) == 201
    ledger.close()


def test_the_log_goes_aside_with_its_file_and_never_meets_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    died_with_a_log(path)
    log = Path(f"{path}-wal").read_bytes()
    # Of some pages the log holds a newer state, so that all must go.
    overwrite(path, 0, b"\x5a" * path.stat().st_size)
    found = heal(url(path))
    assert found is not None
    assert Path(f"{path}.damaged-1-wal").read_bytes() == log
    assert not Path(f"{path}-wal").exists()


def test_a_ledger_whose_log_was_deleted_is_older_or_rebuilt_and_opens(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    died_with_a_log(path)
    Path(f"{path}-wal").unlink()
    heal(url(path))
    ledger = Ledger.open(path)
    ledger.index([instance(1)])
    ledger.close()


def test_jobs_and_deliveries_that_are_sound_go_over_whole(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    filled(path)
    damage_page(path)
    found = heal(url(path))
    assert found is not None
    assert (found.salvaged["jobs"], found.salvaged["deliveries"]) == (12, 3)
    ledger = Ledger.open(path)
    assert ledger.jobs.count_by_state() == {
        "succeeded": 3, "dead": 3, "running": 3, "queued": 2, "cancelled": 1,
    }
    assert ledger.deliveries.count_by_state() == {"sent": 3}
    assert ledger.history("job", "job-1")[-1].to_state == "succeeded"
    ledger.close()


@pytest.mark.parametrize("lost", ["results", "sqlite_autoindex_results_1"])
def test_of_unsound_books_only_what_is_true_by_itself_goes_over(tmp_path: Path, lost: str) -> None:
    path = tmp_path / "ledger.db"
    filled(path)
    overwrite(path, (pages_of(path, lost) - 1) * PAGE, b"\x5a" * PAGE)
    assert heal(url(path)) is not None
    ledger = Ledger.open(path)
    assert ledger.jobs.count_by_state() == {"dead": 3, "cancelled": 1}
    assert ledger.deliveries.count_by_state() == {"sent": 3}
    # Routed again, a job that had succeeded runs and finds its objects delivered.
    ledger.index([instance(1, series="1.2.11")])
    ledger.receipts.change("1.2.11", SeriesState.COMPLETE, "quiet_period")
    ledger.jobs.route("1.2.11", [job("job-1", series="1.2.11")], "rule", seen=NOW)
    assert ledger.jobs.start("job-1", 1) is not None
    ledger.jobs.succeed("job-1", [result(1)], [delivery(1, "job-1")], "result", {})
    assert [one.state for one in ledger.deliveries.of_job("job-1")] == [DeliveryState.SENT]
    ledger.close()


def test_rows_around_an_unreadable_page_are_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    filled(path, jobs=3, instances=1)
    with closing(sqlite3.connect(path)) as connection:
        others = ", ".join(c.name for c in tables.jobs.c if c.name != "job_id")
        for number in range(100):
            connection.execute(
                f"INSERT INTO jobs (job_id, {others}) SELECT 'many-{number:03}', {others} "
                "FROM jobs WHERE job_id = 'job-2'"
            )
        connection.commit()
        query = "SELECT pageno FROM dbstat WHERE name = 'jobs' AND pagetype = 'leaf'"
        try:
            leaves = [int(row[0]) for row in connection.execute(query)]
        except sqlite3.OperationalError:
            pytest.skip("this SQLite cannot tell on which pages a table is")
    overwrite(path, (leaves[len(leaves) // 2] - 1) * PAGE, b"\x5a" * PAGE)
    found = heal(url(path))
    assert found is not None
    assert 60 <= found.salvaged["jobs"] <= 101, "all but one page of dead jobs"


def test_a_start_that_was_cut_off_between_the_two_names_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    filled(path, jobs=4)
    path.rename(tmp_path / "ledger.db.new")
    assert heal(url(path)) is not None
    ledger = Ledger.open(path)
    assert len(ledger.jobs.latest()) == 4
    ledger.close()


_DROP_AND_DIE = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA wal_autocheckpoint=0")
connection.execute("UPDATE jobs SET state = 'held' WHERE job_id = 'job-0'")
connection.execute("DROP TABLE deliveries")
os._exit(1)
"""


@pytest.mark.parametrize("names", range(4))
def test_a_start_cut_off_at_any_name_does_not_go_on_with_the_file_without_its_log(
    tmp_path: Path, names: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.db"
    filled(path, jobs=1)
    subprocess.run([sys.executable, "-c", _DROP_AND_DIE, str(path)], check=False)
    log = Path(f"{path}-wal").read_bytes()
    given: list[str] = []
    rename = Path.rename

    def cut_off(former: Path, name: str) -> Path:
        if len(given) == names:
            raise KeyboardInterrupt
        given.append(name)
        return rename(former, name)

    with monkeypatch.context() as away:
        away.setattr(Path, "rename", cut_off)
        with pytest.raises(KeyboardInterrupt):
            heal(url(path))
    assert heal(url(path)) is not None
    assert heal(url(path)) is None
    ledger = Ledger.open(path)
    (job_0,) = ledger.jobs.latest()
    assert job_0.state == "held", "what the log alone holds went over"
    ledger.close()
    assert Path(f"{path}.damaged-1-wal").read_bytes() == log
    assert Path(f"{path}.damaged-1").exists() and not Path(f"{path}.new").exists()


def test_half_a_new_ledger_of_a_start_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    filled(path)
    damage_page(path)
    (tmp_path / "ledger.db.new").write_bytes(b"half a file")
    found = heal(url(path))
    assert found is not None and found.salvaged["jobs"] == 12


def test_a_ledger_that_is_new_or_postgresql_is_left_alone(tmp_path: Path) -> None:
    assert heal(url(tmp_path / "none.db")) is None
    assert heal("postgresql://node@db/ledger") is None
    assert not (tmp_path / "none.db").exists()


def test_damage_met_while_running_is_told_to_every_process_and_looked_at_closely(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.db"
    filled(path)
    ledger, other = Ledger.open(path), Ledger.open(path)
    other.check_sound()
    damage_page(path)
    with pytest.raises(LedgerDamaged):
        for number in range(400):
            ledger.receipts.instances("1.2.3")
            ledger.paths_known([instance(number).path])
    with pytest.raises(LedgerDamaged):
        other.check_sound()
    ledger.close()
    other.close()
    assert heal(url(path)) is not None
    Ledger.open(path).check_sound()


def test_a_false_word_of_damage_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    filled(path, jobs=1)
    suspect_path(path).write_text("a bit fell over in memory\n")
    assert heal(url(path)) is None
    assert not suspect_path(path).exists()


def test_a_ledger_that_others_have_open_is_not_set_aside_and_they_are_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    filled(path, jobs=1)
    other = Ledger.open(path)
    truncate(path)
    with pytest.raises(LedgerUnavailable, match="still"):
        heal(url(path), patience_s=0.2)
    with pytest.raises(LedgerDamaged):
        other.check_sound()
    other.close()
    assert heal(url(path)) is not None


def test_whoever_opens_a_ledger_waits_for_the_one_who_sets_it_aside(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    alone = Guard(path, alone=True)
    with pytest.raises(LedgerUnavailable, match="rebuilt"):
        Guard(path, patience_s=0.2)
    alone.release()
    Guard(path, patience_s=0.2).release()


def test_a_ledger_that_is_merely_locked_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    filled(path, jobs=1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert find_damage(path) == ""
