"""The latest studies for people, and what an operator routes by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.states import IllegalTransition
from dicom_node.records import DeliveryState, SendOutcome, SeriesState
from tests.ledger.conftest import START, delivery, instance, job, result


def test_the_study_that_received_something_last_comes_first(ledger: Ledger) -> None:
    for number, study in enumerate(("1.2", "1.3", "1.4")):
        one = instance(1, series=f"{study}.7", at=START + timedelta(minutes=number))
        ledger.index([replace(one, study_instance_uid=study)])
    late = instance(2, series="1.2.8", at=START + timedelta(hours=1))
    ledger.index([late])
    found = ledger.overview.latest(2)
    assert [one.study_instance_uid for one in found] == ["1.2", "1.4"]
    assert [one.series_instance_uid for one in found[0].series] == ["1.2.7", "1.2.8"]
    assert [study for study, _ in ledger.overview.names()] == ["1.2", "1.4", "1.3", "1.2"]
    assert len(ledger.overview.received_since(START + timedelta(minutes=2), 10)) == 2


def test_deliveries_that_stand_alike_are_one_line(ledger: Ledger) -> None:
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    ledger.jobs.route("1.2.3", [job()], "rules", seen=START)
    ledger.jobs.start("job-1", 1)
    ledger.jobs.succeed("job-1", [result(1), result(2)], [delivery(1), delivery(2)], "result", {})
    (study,) = ledger.overview.latest(5)
    assert [(one.state, one.number) for one in study.sendings] == [(DeliveryState.PENDING, 2)]
    ledger.deliveries.record(
        "job-1:pacs:01", SendOutcome("2.25.1", 0, True, False), retry_at=None
    )
    (study,) = ledger.overview.latest(5)
    assert sorted((str(one.state), one.number) for one in study.sendings) == [
        ("pending", 1), ("sent", 1),
    ]
    changes = ledger.overview.histories("delivery", ["job-1:pacs:01", "job-1:pacs:02"])
    assert [one.to_state for one in changes] == ["pending", "pending", "sent"]


def test_what_still_arrives_is_not_routed_by_hand(ledger: Ledger) -> None:
    ledger.index([instance(1)])
    with pytest.raises(IllegalTransition):
        ledger.jobs.route_by_hand("1.2.3", [job()], "by hand: x")
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    with pytest.raises(IllegalTransition):
        ledger.jobs.route_by_hand("1.2.3", [job()], "by hand: x")
    ledger.receipts.change("1.2.3", SeriesState.DECLINED, "no_rule_matched")
    assert ledger.jobs.route_by_hand("1.2.3", [job()], "by hand: x")
    assert not ledger.jobs.route_by_hand("1.2.3", [job()], "by hand: x")
    found = ledger.receipts.find_series("1.2.3")
    assert found is not None
    assert (found.state, found.reason) == (SeriesState.ROUTED, "by hand: x")
