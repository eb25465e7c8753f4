"""Receipts: what arrived, once each, and what a late slice does."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from dicom_node.ledger.ledger import Ledger
from dicom_node.records import Association, SeriesState
from tests.ledger.conftest import START, instance


def test_instances_of_a_batch_are_counted_once_however_often_they_are_indexed(
    ledger: Ledger,
) -> None:
    batch = [instance(n) for n in range(700)]
    ledger.index(batch)
    ledger.index(batch[:10] + batch[:10])
    series = ledger.receipts.find_series("1.2.3")
    assert series is not None
    assert series.instance_count == 700
    assert ledger.receipts.instances("1.2.3")[0] == sorted(
        batch, key=lambda i: i.sop_instance_uid
    )[0]


def test_a_late_slice_reopens_a_routed_series_and_says_why(ledger: Ledger) -> None:
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    ledger.receipts.change("1.2.3", SeriesState.ROUTED, "rule")
    ledger.index([instance(2, at=START + timedelta(minutes=5))])
    series = ledger.receipts.find_series("1.2.3")
    assert series is not None
    assert (series.state, series.instance_count) == (SeriesState.RECEIVING, 2)
    assert [t.to_state for t in ledger.history("series", "1.2.3")] == [
        "receiving", "complete", "routed", "receiving",
    ]
    assert ledger.history("series", "1.2.3")[-1].reason == "late_instances: 1 new, 0 replaced"


def test_the_identical_instance_sent_again_leaves_a_routed_series_alone(ledger: Ledger) -> None:
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    ledger.receipts.change("1.2.3", SeriesState.ROUTED, "rule")
    ledger.index([instance(1, at=START + timedelta(hours=1))])
    series = ledger.receipts.find_series("1.2.3")
    assert series is not None and series.state is SeriesState.ROUTED


def test_changed_bytes_under_the_same_uid_reopen_the_series(ledger: Ledger) -> None:
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    ledger.index([instance(1, fingerprint="b")])
    series = ledger.receipts.find_series("1.2.3")
    assert series is not None and series.state is SeriesState.RECEIVING
    assert ledger.receipts.instances("1.2.3")[0].fingerprint == "b"


def test_a_series_does_not_close_over_an_instance_that_the_decision_did_not_see(
    ledger: Ledger,
) -> None:
    ledger.index([instance(1)])
    ledger.index([instance(2, at=START + timedelta(seconds=1))])
    closed = ledger.receipts.change(
        "1.2.3", SeriesState.COMPLETE, "quiet_period", unless_received_after=START
    )
    assert not closed
    series = ledger.receipts.find_series("1.2.3")
    assert series is not None and series.state is SeriesState.RECEIVING


def test_the_end_of_an_association_is_evidence_for_the_series_it_brought(ledger: Ledger) -> None:
    opened = Association("one", "CT01", "listener-1", START)
    ledger.index([instance(1)], [opened])
    assert ledger.receipts.associations_of("1.2.3").open == 1
    closed = Association("one", "CT01", "listener-1", START, START + timedelta(seconds=9),
                         "released")
    ledger.index([], [closed])
    evidence = ledger.receipts.associations_of("1.2.3")
    assert (evidence.open, evidence.aborted) == (0, 0)
    assert evidence.last_closed_at == START + timedelta(seconds=9)


def test_associations_of_a_dead_listener_are_closed_as_lost(ledger: Ledger) -> None:
    ledger.index([instance(1)], [Association("one", "CT01", "listener-1", START)])
    assert ledger.receipts.lose_associations(["listener-2"]) == 1
    assert ledger.receipts.associations_of("1.2.3").aborted == 1


def test_two_series_that_claim_one_sop_instance_uid_keep_an_image_each(ledger: Ledger) -> None:
    first, other = instance(1), instance(1, series="1.2.4")
    other = replace(other, sop_instance_uid=first.sop_instance_uid)
    ledger.index([first, other])
    ledger.index([other])
    assert ledger.receipts.instances("1.2.3") == [first]
    assert ledger.receipts.instances("1.2.4") == [other]
    assert ledger.paths_known([first.path, other.path]) == {first.path, other.path}


def test_only_indexed_paths_are_known(ledger: Ledger) -> None:
    ledger.index([instance(1)])
    known = instance(1).path
    assert ledger.paths_known([known, "instances/elsewhere.dcm"]) == {known}


def test_an_arrival_that_says_it_came_earlier_is_noticed_by_who_decides(ledger: Ledger) -> None:
    ledger.index([instance(1)])
    seen = ledger.receipts.find_series("1.2.3")
    assert seen is not None
    ledger.index([instance(2, at=START - timedelta(hours=1))])
    decided = ledger.receipts.change(
        "1.2.3", SeriesState.COMPLETE, "quiet_period",
        unless_received_after=seen.last_received_at,
    )
    assert not decided


def test_what_a_header_says_against_its_standard_keeps_no_other_image_out(ledger: Ledger) -> None:
    strange = replace(
        instance(1, series="1." * 60 + "9"), modality="CT\0 and more than sixteen characters",
        calling_ae_title="A TITLE OF MORE THAN SIXTEEN", instance_number=99_999_999_999,
        number_of_frames=3_000_000_000, expected_instances=2**40,
    )
    ledger.index([strange, instance(1)])
    assert ledger.receipts.count_by_state() == {"receiving": 2}
    (found,) = ledger.receipts.instances(strange.series_instance_uid)
    assert (found.instance_number, found.number_of_frames) == (99_999_999_999, 3_000_000_000)
    assert ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "a reason \0 of a file")
