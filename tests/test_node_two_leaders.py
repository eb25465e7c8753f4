"""What is done once for all hosts, where two lead for a moment, or the lead is lost midway."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.config import CompletenessSettings
from dicom_node.events import Events
from dicom_node.intake.closing import SeriesCloser
from dicom_node.ledger.engine import Standing
from dicom_node.ledger.ledger import Ledger
from dicom_node.operations.retention import Retention, settle_removals
from dicom_node.records import DeliveryState, SeriesState
from tests.delivery.outbox import Outbox
from tests.delivery.scripted_peer import scripted_peer
from tests.ledger.conftest import START, instance, job
from tests.operations.retention_site import Site


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "ledger.db")


def test_of_two_that_close_and_route_a_series_one_does(ledger: Ledger) -> None:
    settings = CompletenessSettings(quiet_period_s=1, after_release_s=1, give_up_after_s=9)
    ledger.index([instance(1, at=datetime.now(UTC) - timedelta(seconds=60))])
    first, second = (SeriesCloser(ledger, settings, Events()) for _ in range(2))
    assert (first.close_complete(), second.close_complete()) == (1, 0)
    assert ledger.jobs.route("1.2.3", [job()], "rule", seen=START + timedelta(days=900))
    assert not ledger.jobs.route("1.2.3", [job()], "rule", seen=START + timedelta(days=900))
    history = [one.to_state for one in ledger.history("series", "1.2.3")]
    assert history == ["receiving", "complete", "routed"]


def test_who_leads_no_more_when_it_has_the_lock_closes_nothing(ledger: Ledger) -> None:
    settings = CompletenessSettings(quiet_period_s=1, after_release_s=1, give_up_after_s=9)
    ledger.index([instance(1, at=datetime.now(UTC) - timedelta(seconds=60))])
    answers = iter([0.0, 60.0])
    closer = SeriesCloser(ledger, settings, Events(), waiting_s=lambda: next(answers, 60.0))
    assert closer.close_complete() == 0
    found = ledger.receipts.find_series("1.2.3")
    assert found is not None and found.state is SeriesState.RECEIVING


def test_a_series_that_another_host_received_is_waited_for_by_the_time_that_is_seen_to_pass(
    ledger: Ledger,
) -> None:
    # Its clock was a minute slow, or it is: as if nothing had come for a minute.
    now_s = [100.0]
    settings = CompletenessSettings(quiet_period_s=20, after_release_s=2, give_up_after_s=99)
    ledger.index([instance(1, at=datetime.now(UTC) - timedelta(seconds=60))])
    closer = SeriesCloser(
        ledger, settings, Events(), lambda: now_s[0], knows_the_time=False
    )
    assert closer.close_complete() == 0
    now_s[0] += 19
    assert closer.close_complete() == 0
    now_s[0] += 2
    assert closer.close_complete() == 1


def test_a_removal_whose_leader_lost_the_lead_midway_is_none_and_its_files_come_back(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path)
    study = site.delivered(at=datetime.now(UTC) - timedelta(hours=25))
    kept = [path for path, _ in site.spool.stored_in_order()]
    # It is asked behind the lock, when the files are set aside.
    stale = Retention(site.config, site.ledger, site.spool, site.events, lambda: False)
    assert stale.remove(study) is None
    assert [path for path, _ in site.spool.stored_in_order()] == kept
    assert not site.spool.leaving.tokens()
    stale.tick()
    assert site.ledger.removals.latest() == []
    assert site.retention.remove(study) is not None


def test_files_that_a_leader_had_set_aside_are_back_when_the_next_one_begins(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path)
    study = site.delivered(at=datetime.now(UTC) - timedelta(hours=25))
    kept = [path for path, _ in site.spool.stored_in_order()]
    site.spool.leaving.set_aside("token", study, [])
    assert not [*site.spool.stored_in_order()]
    assert settle_removals(site.ledger, site.spool) == (1, 0)
    assert [path for path, _ in site.spool.stored_in_order()] == kept


def test_files_that_another_one_set_aside_that_led_in_between_and_ended_are_put_back(
    tmp_path: Path,
) -> None:
    # This one had lost the lead and has it again, and did not notice.
    site = Site(tmp_path)
    study = site.delivered(at=datetime.now(UTC))
    kept = [path for path, _ in site.spool.stored_in_order()]
    site.spool.leaving.set_aside("token", study, [])
    site.retention.tick()
    assert [path for path, _ in site.spool.stored_in_order()] == kept
    assert not site.spool.leaving.tokens()


def test_a_deliverer_sends_to_its_own_destinations_only_and_takes_over_with_a_new_attempt(
    tmp_path: Path,
) -> None:
    with scripted_peer() as peer:
        site = Outbox(tmp_path, {"pacs": peer.port, "other": peer.port})
        site.add_job(1, ("pacs", "other"))
        lanes = {"pacs"}
        site.dispatch = site.dispatch_for(site.engine, owns=lambda lane: lane in lanes)
        site.engine.start({"deliver": site.dispatch.run_attempt}, {})
        site.round()
        assert [one.state for one in site.of_job(1)] == [DeliveryState.SENT]
        assert [one.state for one in site.of_job(1, "other")] == [DeliveryState.PENDING]
        # Its deliverer is gone: what that one had handed out is in another engine.
        lanes.add("other")
        known = site.engine.standing
        site.engine.standing = lambda *name: (  # type: ignore[method-assign]
            Standing.ELSEWHERE if name[1:] == ("job-1:other", 1) else known(*name)
        )
        site.round()
        assert [one.attempt for one in site.of_job(1, "other")] == [2]
        site.round()
        assert [one.state for one in site.of_job(1, "other")] == [DeliveryState.SENT]
