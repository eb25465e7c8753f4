"""A ledger moves from SQLite to PostgreSQL: all of it, once, while nothing runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.ledger.ledger import Ledger
from dicom_node.records import SeriesState
from tests.cli.running import Site
from tests.ledger.conftest import START, instance

pytestmark = pytest.mark.postgresql


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str], postgresql_url: str) -> Site:
    made = Site(tmp_path, capsys)
    made.fill()
    made.settings(more=f"database: {{url: '{postgresql_url}'}}\n")
    return made


def test_everything_goes_over_and_the_ledger_goes_on_from_there(
    site: Site, postgresql_url: str
) -> None:
    former = Ledger.open(site.data_dir / "ledger.db")
    answer = site("move-ledger")
    assert answer.code == 0, answer.err
    assert "1 series, 2 jobs, 2 deliveries" in answer.out
    moved = Ledger.open(postgresql_url)
    assert moved.receipts.recent_series(9) == former.receipts.recent_series(9)
    for job_id in ("job-1", "job-2"):
        assert moved.jobs.find(job_id) == former.jobs.find(job_id) is not None
    assert moved.deliveries.of_job("job-1") == former.deliveries.of_job("job-1")
    assert moved.jobs.count_by_state() == former.jobs.count_by_state()
    assert moved.deliveries.count_by_state() == former.deliveries.count_by_state()
    for kind, key in (("series", "1.2.3"), ("job", "job-1"), ("job", "job-2")):
        assert moved.history(kind, key) == former.history(kind, key)
    assert moved.measures.last_change() == former.measures.last_change()
    last = moved.measures.last_change()
    moved.index([instance(2, at=START)])
    assert moved.measures.last_change() == last + 1
    series = moved.receipts.find_series("1.2.3")
    assert series is not None and series.state is SeriesState.RECEIVING
    former.close()
    moved.close()


def test_two_ledgers_do_not_become_one(site: Site, postgresql_url: str) -> None:
    assert site("move-ledger").code == 0
    again = site("move-ledger")
    assert again.code == 1 and "there is a ledger in the database already" in again.err
    assert str(postgresql_url) not in again.err


def test_a_database_that_a_node_has_once_begun_in_is_not_written_over(
    site: Site, postgresql_url: str
) -> None:
    former, begun = site.ledger(), Ledger.open(postgresql_url)
    for one in (former, begun):
        one.profiles.refuse("pacs", "1.2.3")
        one.close()
    answer = site("move-ledger")
    assert answer.code == 1 and "there is a ledger in the database already" in answer.err


def test_without_postgresql_in_the_settings_nothing_is_moved(site: Site) -> None:
    site.settings()
    answer = site("move-ledger")
    assert answer.code == 1 and "no PostgreSQL" in answer.err
