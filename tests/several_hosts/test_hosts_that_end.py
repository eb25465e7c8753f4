"""Hosts of a node that are killed, stand still or come back, under work."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.records import JobState
from tests.several_hosts.site import Site, stopped, wait_until

pytestmark = [pytest.mark.postgresql, pytest.mark.long, pytest.mark.timeout(900)]


def test_what_a_worker_computes_that_is_killed_is_done_by_another_one(
    tmp_path: Path, postgresql_url: str
) -> None:
    with Site(tmp_path, postgresql_url) as site:
        receiver = site.host("receiver", "intake,deliver")
        first = site.slow_worker("first")
        site.wait_for("receiver", "first")
        site.send_when_open(receiver, 1)
        wait_until(lambda: site.running_at("first"), "the job runs at the first worker")
        second = site.host("second", "work")
        site.wait_for("second")
        first.kill()
        site.wait_quiet(1)
        (job,) = site.jobs()
        assert (job.state, job.attempt > 1) == (JobState.SUCCEEDED, True), job
        assert "node.ended_while_running" in site.history(job.job_id)
        assert len(site.archive.received) == len(set(site.archive.received)) > 0
        assert second.is_running


def test_a_worker_that_stands_still_and_comes_back_finds_its_attempt_taken(
    tmp_path: Path, postgresql_url: str
) -> None:
    with Site(tmp_path, postgresql_url) as site:
        receiver = site.host("receiver", "intake,deliver")
        first = site.slow_worker("first")
        site.wait_for("receiver", "first")
        site.send_when_open(receiver, 1)
        wait_until(lambda: site.running_at("first"), "the job runs at the first worker")
        site.host("second", "work")
        site.wait_for("second")
        with stopped(first):
            site.wait_quiet(1)
        site.wait_for("first")
        wait_until(lambda: "overtaken" in first.log_text() or "worker.cancelled" in
                   first.log_text() or "another attempt" in first.log_text(), "it finds out")
        (job,) = site.jobs()
        assert job.state is JobState.SUCCEEDED
        ends = [one for one in site.transitions(job.job_id) if one.to_state == "succeeded"]
        assert len(ends) == 1
        assert len(site.archive.received) == len(set(site.archive.received))


def test_a_leader_that_stands_still_is_followed_and_leads_no_more_when_it_comes_back(
    tmp_path: Path, postgresql_url: str
) -> None:
    with Site(tmp_path, postgresql_url) as site:
        first = site.host("first", "intake")
        wait_until(lambda: "host leads" in first.log_text() and site.living(), "the first leads")
        second = site.host("second", "intake")
        site.host("worker", "work,deliver")
        site.wait_for("first", "second", "worker")
        site.send_when_open(second, 0)
        site.wait_quiet(1)
        with stopped(first):
            site.send(second, 1)
            site.wait_quiet(2)
            assert "host leads" in second.log_text()
        site.wait_for("first")
        wait_until(lambda: "leads no longer" in first.log_text(), "the first gives up")
        site.send(first, 2)
        site.wait_quiet(3)
        for job in site.jobs():
            (routed,) = [
                one for one in site.transitions(job.series_instance_uid, "series")
                if one.to_state == "routed"
            ]
            assert routed
        assert len(site.archive.received) == len(set(site.archive.received))


def test_what_a_receiver_kept_that_is_killed_before_it_told_the_ledger_is_not_lost(
    tmp_path: Path, postgresql_url: str
) -> None:
    with Site(tmp_path, postgresql_url) as site:
        first = site.host("first", "intake")
        wait_until(lambda: "host leads" in first.log_text() and site.living(), "the first leads")
        second = site.host("second", "intake", completeness={
            "after_release_s": 1, "quiet_period_s": 5, "give_up_after_s": 60})
        site.host("worker", "work,deliver")
        site.wait_for("first", "second", "worker")
        site.send_when_open(first, 0)
        site.send_when_open(second, 1)
        with site.ledger_that_takes_nothing_in():
            kept = site.send(second, 2)
            second.kill()
        wait_until(lambda: "had its files indexed" in first.log_text(), "its files are indexed")
        site.wait_quiet(3)
        series = {job.series_instance_uid for job in site.jobs()}
        indexed = {
            one.sop_instance_uid for uid in series for one in site.ledger.receipts.instances(uid)
        }
        assert set(kept) <= indexed
        assert not site.open_associations()


def test_what_a_receiver_takes_after_it_counts_as_gone_is_found_when_it_never_comes_back(
    tmp_path: Path, postgresql_url: str
) -> None:
    with Site(tmp_path, postgresql_url) as site:
        first = site.host("first", "intake")
        wait_until(lambda: "host leads" in first.log_text() and site.living(), "the first leads")
        second = site.host("second", "intake")
        site.host("worker", "work,deliver")
        site.wait_for("first", "second", "worker")
        site.send_when_open(second, 0)
        site.wait_quiet(1)
        # Its doors stay open: they are processes of their own, and cannot tell the ledger.
        with stopped(second):
            wait_until(lambda: "had its files indexed" in first.log_text(), "it counts as gone")
            with site.ledger_that_takes_nothing_in():
                kept = site.send(second, 1)
                second.kill()
        site.wait_quiet(2)
        series = {job.series_instance_uid for job in site.jobs()}
        indexed = {
            one.sop_instance_uid for uid in series for one in site.ledger.receipts.instances(uid)
        }
        assert set(kept) <= indexed
