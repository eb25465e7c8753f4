"""Versions of results on one series: what is the newest, where it is, and what it ends."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.replanning import CLASS_REFUSED, Recipient
from dicom_node.ledger.versions import FORMER
from dicom_node.records import (
    DeliveryState,
    DestinationProfile,
    Job,
    Result,
    SendOutcome,
    SeriesState,
)
from tests.ledger.conftest import START, delivery, job, result


def made(number: int, job_id: str = "job-1", *, kind: str = "volumetric report",
         minute: int = 0, **changes: str) -> Result:
    return dataclasses.replace(
        result(number, job_id), kind=kind, created_at=START + timedelta(minutes=minute), **changes
    )


def succeed(ledger: Ledger, job_id: str, results: list[Result]) -> None:
    assert ledger.jobs.start(job_id, 1) is not None
    numbers = [int(one.sop_instance_uid.rsplit(".", 1)[1]) for one in results]
    ledger.jobs.succeed(job_id, results, [delivery(n, job_id) for n in numbers], "result", {})


def route_again(ledger: Ledger, job_id: str, **changes: str) -> Job:
    ledger.receipts.change("1.2.3", SeriesState.RECEIVING, "late_instances")
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    asked = dataclasses.replace(job(job_id), **changes)
    assert ledger.jobs.route("1.2.3", [asked], "rule: lungs", seen=START)
    return asked


def states(ledger: Ledger, job_id: str) -> list[str]:
    return [str(one.state) for one in ledger.deliveries.of_job(job_id)]


def test_the_first_result_on_a_series_has_no_predecessor(routed: Ledger) -> None:
    assert routed.versions.previous(job()) is None


def test_the_previous_version_is_what_the_last_job_made_and_its_reports_are_named(
    routed: Ledger,
) -> None:
    succeed(routed, "job-1", [made(1, kind="segmentation"), made(2, minute=1)])
    found = routed.versions.previous(route_again(routed, "job-2"))
    assert found is not None
    assert [one.sop_instance_uid for one in found.objects] == ["2.25.1", "2.25.2"]
    assert [one.sop_instance_uid for one in found.reports] == ["2.25.2"]


def test_of_several_versions_the_newest_counts_and_forms_are_objects_but_no_reports(
    routed: Ledger,
) -> None:
    succeed(routed, "job-1", [made(1)])
    route_again(routed, "job-2")
    text = made(3, "job-2", minute=3, form="text", made_from="2.25.2")
    succeed(routed, "job-2", [made(2, "job-2", minute=2), text])
    found = routed.versions.previous(route_again(routed, "job-3"))
    assert found is not None
    assert [one.sop_instance_uid for one in found.objects] == ["2.25.2", "2.25.3"]
    assert [one.sop_instance_uid for one in found.reports] == ["2.25.2"]


def test_another_rule_or_model_on_the_series_is_no_earlier_version(routed: Ledger) -> None:
    succeed(routed, "job-1", [made(1)])
    assert routed.versions.previous(route_again(routed, "job-2", rule="other")) is None
    assert routed.versions.previous(route_again(routed, "job-3", model_id="other")) is None


def test_what_waits_of_an_older_version_is_replaced_and_what_was_sent_stays(
    routed: Ledger,
) -> None:
    succeed(routed, "job-1", [made(1), made(2)])
    stored = SendOutcome("2.25.1", 0, True, False, "stored")
    routed.deliveries.record("job-1:pacs:01", stored, retry_at=None)
    route_again(routed, "job-2")
    succeed(routed, "job-2", [made(3, "job-2", minute=1)])
    assert states(routed, "job-1") == [str(DeliveryState.SENT), str(DeliveryState.REPLACED)]
    assert states(routed, "job-2") == [str(DeliveryState.PENDING)]
    last = routed.history("delivery", "job-1:pacs:02")[-1]
    assert last.reason == "superseded by job job-2"
    assert [one.job_id for one in routed.deliveries.open_shipments()] == ["job-2"]


def test_the_same_objects_of_another_job_replace_nothing(routed: Ledger) -> None:
    succeed(routed, "job-1", [made(1)])
    route_again(routed, "job-2")
    succeed(routed, "job-2", [made(1)])
    assert states(routed, "job-1") == [str(DeliveryState.PENDING)]


def test_what_a_destination_has_of_a_version_is_what_was_sent_or_waits(routed: Ledger) -> None:
    succeed(routed, "job-1", [made(1), made(2)])
    refused = SendOutcome("2.25.1", 0xC000, False, False, "peer.refused")
    routed.deliveries.record("job-1:pacs:01", refused, retry_at=None)
    found = routed.versions.previous(job())
    assert found is not None
    assert [one.sop_instance_uid for one in routed.versions.at(found, "pacs")] == ["2.25.2"]
    assert routed.versions.at(found, "elsewhere") == []


def test_an_answer_is_a_version_of_its_own_beside_the_result_of_the_same_job(
    routed: Ledger,
) -> None:
    assert routed.jobs.start("job-1", 1) is not None
    routed.jobs.fail("job-1", "model.failed: no", retry_at=None)
    (duty,) = routed.duties.waiting()
    dead = routed.jobs.find("job-1")
    assert dead is not None
    answer = made(1, kind="not analysed report")
    assert routed.answers.give(duty, dead, [answer], [delivery(1)])
    again = routed.jobs.retry("job-1")
    found = routed.versions.previous(again)
    assert found is not None and [o.sop_instance_uid for o in found.reports] == ["2.25.1"]
    assert routed.jobs.start("job-1", again.attempt) is not None
    routed.jobs.succeed("job-1", [made(2, minute=1)], [delivery(2)], "result", {})
    assert states(routed, "job-1") == [str(DeliveryState.REPLACED), str(DeliveryState.PENDING)]
    later = routed.versions.previous(again)
    assert later is not None and [o.sop_instance_uid for o in later.objects] == ["2.25.2"]


def test_what_is_dead_of_an_older_version_does_not_follow_the_newer_one(routed: Ledger) -> None:
    succeed(routed, "job-1", [made(1)])
    refused = SendOutcome("2.25.1", 0x0122, False, False, CLASS_REFUSED)
    routed.deliveries.record("job-1:pacs:01", refused, retry_at=None, recipient=Recipient("pacs"))
    route_again(routed, "job-2")
    succeed(routed, "job-2", [made(2, "job-2", minute=1)])
    everything = DestinationProfile("pacs", {result(1).sop_class_uid: ("1.2",)}, frozenset(), START)
    routed.replanning.learn(everything, Recipient("pacs"), forget_refusals=True)
    assert states(routed, "job-1") == [str(DeliveryState.REPLACED)]


def test_what_was_superseded_and_is_made_once_more_leaves_the_newer_version_on_its_way(
    routed: Ledger,
) -> None:
    succeed(routed, "job-1", [made(1)])
    route_again(routed, "job-2")
    succeed(routed, "job-2", [made(2, "job-2", minute=1)])
    route_again(routed, "job-3")
    succeed(routed, "job-3", [made(1)])
    assert states(routed, "job-1") == [str(DeliveryState.REPLACED)]
    assert states(routed, "job-2") == [str(DeliveryState.PENDING)]
    assert states(routed, "job-3") == []
    found = routed.jobs.find("job-3")
    assert found is not None and FORMER in found.reason


def test_what_was_written_and_never_sent_is_no_version(routed: Ledger) -> None:
    routed.outbox.add([made(1)])
    assert routed.versions.previous(job()) is None


def test_a_version_is_the_work_of_every_rule_that_sends_its_objects(routed: Ledger) -> None:
    succeed(routed, "job-1", [made(1)])
    asked = route_again(routed, "job-2", rule="other")
    assert routed.jobs.start("job-2", 1) is not None
    elsewhere = dataclasses.replace(delivery(1, "job-2"), destination="elsewhere")
    routed.jobs.succeed("job-2", [made(1)], [elsewhere], "result", {})
    found = routed.versions.previous(asked)
    assert found is not None and [o.sop_instance_uid for o in found.reports] == ["2.25.1"]
