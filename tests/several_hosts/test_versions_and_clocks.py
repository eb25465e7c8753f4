"""Hosts whose clock is wrong, and hosts on a ledger that a later version has brought up to date."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.ledger import tables
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import JobState, SeriesState
from tests.ledger.conftest import START, delivery, instance, job, result
from tests.several_hosts.site import Site, wait_until

pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(900)]
A_MINUTE_FAST, A_MINUTE_SLOW = 60, -60


def as_a_later_version_has_it(url: str) -> None:
    """Every table has a further column with a default, and there are further tables."""
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        for table in tables.metadata.sorted_tables:
            connection.execute(
                sa.text(f"ALTER TABLE {table.name} ADD COLUMN of_later TEXT NOT NULL DEFAULT 'x'")
            )
        connection.execute(sa.text("CREATE TABLE of_later (name TEXT PRIMARY KEY)"))
    engine.dispose()


def as_this_version_has_it(url: str) -> None:
    """The database is used again by other tests."""
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        for table in tables.metadata.sorted_tables:
            connection.execute(sa.text(f"ALTER TABLE {table.name} DROP COLUMN of_later"))
        connection.execute(sa.text("DROP TABLE of_later"))
    engine.dispose()


def test_a_host_of_this_version_works_on_the_ledger_of_a_later_one(postgresql_url: str) -> None:
    Ledger.open(postgresql_url).close()
    as_a_later_version_has_it(postgresql_url)
    try:
        ledger = Ledger.open(postgresql_url)
        ledger.index([instance(1)])
        assert ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
        assert ledger.jobs.route("1.2.3", [job()], "rule", seen=START)
        assert ledger.claims.claim("job-1", 1, "a")
        assert ledger.jobs.start("job-1", 1) is not None
        ledger.jobs.succeed("job-1", [result(1)], [delivery(1)], "found", {}, attempt=1)
        (shipment,) = ledger.deliveries.open_shipments()
        assert (shipment.key, ledger.hosts.all()) == ("job-1:pacs", [])
        ledger.close()
    finally:
        as_this_version_has_it(postgresql_url)


@pytest.mark.long
def test_hosts_do_the_whole_way_on_the_ledger_of_a_later_version(
    tmp_path: Path, postgresql_url: str
) -> None:
    Ledger.open(postgresql_url).close()
    as_a_later_version_has_it(postgresql_url)
    try:
        with Site(tmp_path, postgresql_url) as site:
            receiver = site.host("receiver", "intake")
            site.host("worker", "work,deliver")
            site.wait_for("receiver", "worker")
            site.send_when_open(receiver)
            site.wait_quiet(1)
            assert [one.state for one in site.jobs()] == [JobState.SUCCEEDED]
    finally:
        as_this_version_has_it(postgresql_url)


@pytest.mark.long
@pytest.mark.parametrize("off_s", [A_MINUTE_FAST, A_MINUTE_SLOW])
def test_a_receiver_whose_clock_is_a_minute_wrong_neither_closes_early_nor_lets_jobs_wait(
    tmp_path: Path, postgresql_url: str, off_s: int
) -> None:
    with Site(tmp_path, postgresql_url) as site:
        began = datetime.now(UTC)
        receiver = site.host_with_wrong_clock("receiver", "intake", off_s)
        site.host("worker", "work,deliver")
        site.wait_for("receiver", "worker")
        uids = site.send_when_open(receiver)
        site.wait_quiet(1)
        ended = datetime.now(UTC)
        (done,) = site.jobs()
        assert began <= done.created_at <= ended
        assert began <= done.not_before <= ended
        history = site.transitions(done.series_instance_uid, "series")
        assert [one.to_state for one in history] == ["receiving", "complete", "routed"]
        assert f"{len(uids)} instances" in history[1].reason
        assert all(began <= one.at <= ended for one in history)
        (wrong,) = [one for one in site.ledger.hosts.all() if one.host_name == "receiver"]
        assert abs(wrong.clock_ahead_s - off_s) < 20
        assert wrong.lives


@pytest.mark.long
def test_another_deliverer_has_the_lane_of_one_that_is_killed(
    tmp_path: Path, postgresql_url: str
) -> None:
    with Site(tmp_path, postgresql_url) as site:
        receiver = site.host("receiver", "intake,work")
        first = site.host("first", "deliver")
        wait_until(lambda: site.living() and "lane pacs" in first.log_text(), "the first leads")
        second = site.host("second", "deliver")
        site.wait_for("receiver", "first", "second")
        site.send_when_open(receiver, 0)
        site.wait_quiet(1)
        assert "lane pacs" not in second.log_text()
        first.kill()
        site.send(receiver, 1)
        site.wait_quiet(2)
        assert "lane pacs" in second.log_text()
        assert len(site.archive.received) == len(set(site.archive.received)) > 0
