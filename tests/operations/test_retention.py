"""What is removed, and when; what is forgotten."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.ledger import job_inputs, tables
from dicom_node.ledger.commitment_requests import CommitmentRequest
from dicom_node.ledger.states import IllegalTransition
from dicom_node.operations.retention import keeping_of
from dicom_node.records import JobInput
from tests.operations.retention_site import CT, LONG_AGO, D, J, S, Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, keep_delivered_for_h=24, keep_declined_for_h=48)
    yield made
    made.retention.stop()
    made.ledger.close()


def test_a_delivered_study_is_removed_after_its_time_and_not_before(site: Site) -> None:
    now = datetime.now(UTC)
    young = site.delivered(at=now - timedelta(hours=23))
    old = site.delivered(at=now - timedelta(hours=25))
    site.work()
    assert (site.is_here(young), site.is_here(old)) == (True, False)
    (told,) = (one for one in site.told if one["event"] == "study_removed")
    assert (told["instances"], told["reason"]) == (2, "delivered")
    assert told["size_bytes"] == 2 * len(b"pixels") + len(b"result")
    (series,) = site.ledger.receipts.series_of_study(old)
    last = site.ledger.history("series", series.series_instance_uid)[-1]
    assert (last.to_state, last.reason) == ("removed", "delivered")
    keeping = keeping_of(young, site.ledger, site.config)
    assert keeping.because == "its results are delivered"
    assert keeping.until is not None
    assert abs(keeping.until - now - timedelta(hours=1)) < timedelta(seconds=1)


def test_what_no_rule_took_has_an_age_of_its_own(site: Site) -> None:
    now = datetime.now(UTC)
    ages = (now - timedelta(hours=30), now - timedelta(hours=49))
    young, old = (
        site.study(series=S.DECLINED, reason="no_rule_matched", at=at) for at in ages
    )
    site.work()
    assert (site.is_here(young), site.is_here(old)) == (True, False)


def test_what_is_declined_for_an_error_stays_until_somebody_removes_it(site: Site) -> None:
    study = site.study(series=S.DECLINED, reason="unexpected.KeyError")
    site.work()
    assert site.is_here(study)
    assert "could not be routed" in keeping_of(study, site.ledger, site.config).because
    site.ledger.removals.ask(study)
    site.work()
    assert not site.is_here(study)


@pytest.mark.parametrize("commitment", ["off", "not_offered", "unanswered"])
def test_what_is_sent_goes_where_nobody_commits(site: Site, commitment: str) -> None:
    study = site.delivered(deliveries={"a": [(D.SENT, commitment, "pacs")]})
    site.work()
    assert not site.is_here(study)


def test_what_the_model_could_not_take_goes_once_that_is_answered(site: Site) -> None:
    dead = {"a": (J.DEAD, "input.gap: too wide")}
    told = site.delivered(series=S.DECLINED, reason="input.gap: too wide", jobs=dead)
    silent = site.study(series=S.DECLINED, reason="input.gap: too wide", jobs=dead)
    site.work()
    assert (site.is_here(told), site.is_here(silent)) == (False, True)


def test_a_study_that_is_sent_again_may_send_its_results_again(site: Site) -> None:
    study = site.delivered()
    assert site.retention.remove(study)
    site.received(study, f"{study}.1", 1, calling_ae_title="OTHER")
    (series,) = site.ledger.receipts.series_of_study(study)
    assert (series.state, series.instance_count) == (S.RECEIVING, 1)
    assert series.calling_ae_title == "OTHER"
    (former,) = site.ledger.jobs.of_series(series.series_instance_uid)
    assert site.ledger.jobs.results(former.job_id) == []
    assert site.ledger.deliveries.of_job(former.job_id) == []


def test_what_the_node_committed_to_stays_longer_and_no_lack_of_room_shortens_that(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path, keep_delivered_for_h=0, make_room_below_free_bytes=1 << 60)
    study = site.delivered()
    request = CommitmentRequest("9.9", "CT01", ((CT, f"{study}.1.1"),), (), 1, LONG_AGO)
    now = datetime.now(UTC)
    site.ledger.commitment_requests.record("9.9", "CT01", request.items, now=now, report_at=now)
    assert site.retention.remove(study) is None
    site.ledger.commitment_requests.end(request, "reported", "same_association", now)
    assert site.retention.remove(study) is None
    keeping = keeping_of(study, site.ledger, site.config)
    assert keeping.until is not None
    assert timedelta(days=29) < keeping.until - now < timedelta(days=31)
    site.ledger.close()


def test_without_room_the_oldest_delivered_studies_go_before_their_time(tmp_path: Path) -> None:
    site = Site(tmp_path, keep_delivered_for_h=1000, make_room_below_free_bytes=2 << 30)
    now = datetime.now(UTC)
    studies = [site.delivered(at=now - timedelta(hours=hours)) for hours in (4, 9, 2)]
    waiting = site.study(jobs={"a": (J.HELD, "")}, at=now - timedelta(hours=20))

    def free_bytes() -> int:
        # Each study that goes makes room for half a gibibyte.
        return (1 << 30) + (1 << 29) * len(site.ledger.removals.latest(9))

    site.spool.free_for_kept_bytes = free_bytes  # type: ignore[method-assign]
    # Nothing has just been received.
    with site.ledger._database.write() as connection:
        connection.execute(sa.update(tables.series).values(last_received_at=0.0))
    site.work()
    assert [site.is_here(one) for one in studies] == [False, False, True]
    assert site.is_here(waiting)
    assert {one.reason for one in site.ledger.removals.latest()} == {"delivered, to make room"}
    site.ledger.close()


@pytest.mark.parametrize(("line", "stays"), [(1, False), (0, True)])
def test_room_is_made_before_images_are_refused_or_not_at_all(
    tmp_path: Path, line: int, stays: bool
) -> None:
    site = Site(
        tmp_path, keep_delivered_for_h=100_000, make_room_below_free_bytes=line,
        refuse_below_free_bytes=1 << 60,
    )
    study = site.delivered(at=datetime.now(UTC) - timedelta(hours=9))
    site.work()
    assert site.is_here(study) == stays
    site.ledger.close()


def test_a_removed_study_is_forgotten_in_the_end_and_nothing_else_is(site: Site) -> None:
    gone, here = site.delivered(), site.study(jobs={"a": (J.HELD, "")})
    assert site.retention.remove(gone)
    later = datetime.now(UTC) + timedelta(seconds=1)
    assert site.ledger.pruning.removed_series(later, 10) == 1
    site.ledger.pruning.old_rows(later, 100)
    assert site.ledger.receipts.series_of_study(gone) == []
    assert site.ledger.removals.latest() == []
    with site.ledger._database.read() as connection:
        left = {
            table.name: [str(row) for row in connection.execute(sa.select(table))]
            for table in tables.metadata.sorted_tables
        }
    for name, found in left.items():
        assert not [row for row in found if f"{gone}." in row], name
    assert len(site.ledger.receipts.series_of_study(here)) == 1
    assert len(left["jobs"]) == 1


def test_a_job_whose_images_were_removed_is_not_tried_again(site: Site) -> None:
    study = site.study(
        jobs={"a": (J.DEAD, "model.crashed")}, deliveries={"a": [(D.DEAD, "", "pacs")]}
    )
    site.ledger.removals.ask(study)
    site.work()
    (former,) = site.ledger.jobs.of_series(f"{study}.1")
    assert former.state is J.CANCELLED
    assert [one.state for one in site.ledger.deliveries.of_job(former.job_id)] == [D.REPLACED]
    with pytest.raises(IllegalTransition):
        site.ledger.jobs.retry(former.job_id)


def test_a_removal_that_cannot_be_done_now_is_wanted_no_more(site: Site) -> None:
    study = site.study(jobs={"a": (J.RUNNING, "")})
    site.ledger.removals.ask(study)
    site.work()
    assert site.is_here(study)
    assert site.ledger.removals.asked() == []


def test_a_study_that_shares_a_series_is_not_removed_by_request_either(site: Site) -> None:
    study = site.delivered()
    other = site.received("9.9", f"{study}.1", 7)
    with site.ledger._database.write() as connection:
        connection.execute(sa.update(tables.series).values(state=str(S.ROUTED)))
    site.ledger.removals.ask(study)
    site.work()
    assert (site.spool.root / "instances" / study).exists()
    # The other study's image is not forgotten with it.
    assert other.path in {one.path for one in site.ledger.receipts.instances(f"{study}.1")}


def test_old_files_leave_the_quarantine(site: Site) -> None:
    names = [site.spool.quarantined.add(__file__, "dataset.x", "a test")]
    other = site.folder / "other"
    other.write_bytes(b"other")
    names.append(site.spool.quarantined.add(str(other), "dataset.x", "a test"))
    old = (site.spool.root / names[0]).with_suffix(".json")
    os.utime(old, (0, 0))
    site.work()
    assert [(site.spool.root / name).exists() for name in names] == [False, True]
    assert not old.exists()


def test_the_thread_deletes_what_is_set_aside(site: Site) -> None:
    site.retention.start()
    study = site.delivered()
    assert site.retention.remove(study)
    deadline = datetime.now(UTC) + timedelta(seconds=60)
    while list((site.spool.root / "removing").iterdir()):
        assert datetime.now(UTC) < deadline, "its files are still there"
        site.retention._stopping.wait(0.02)



def test_a_study_stays_while_a_job_of_another_takes_one_of_its_series(site: Site) -> None:
    earlier = site.study(series=S.DECLINED, reason="fetched_as_prior")
    taken = JobInput("prior", f"{earlier}.1", earlier, "the latest before this one")
    present = site.study(jobs={"a": (J.QUEUED, "waits")})
    name = f"{present.rpartition('.')[2]}-a"
    with site.ledger._database.write() as connection:
        job_inputs.insert(connection, name, [taken])
    assert keeping_of(earlier, site.ledger, site.config).because == (
        f"job {name} of another study takes one of its series"
    )
    assert site.retention.remove(earlier) is None
    site.ledger.decisions.cancel(name, answer=False)
    assert keeping_of(earlier, site.ledger, site.config).removed_as == "declined"
