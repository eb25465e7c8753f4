"""Another choice of forms in place of the first: what ends, what is added, and in which order."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dicom_node.ledger.duties import FORMS
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import Delivery, DeliveryState, SendOutcome
from tests.ledger.conftest import START, delivery, result

SEGMENTATION, REPORT, CAPTURE, OTHER = 1, 2, 3, 4
WHY = "pacs takes no segmentation: secondary capture"


@pytest.fixture
def made(routed: Ledger) -> Ledger:
    """A job with a segmentation and a report for ``pacs``, and two objects of other forms."""
    routed.jobs.start("job-1", 1)
    numbers = (SEGMENTATION, REPORT)
    routed.jobs.succeed(
        "job-1", [result(n) for n in numbers], [delivery(n) for n in numbers], "result", {}
    )
    routed.outbox.add([result(CAPTURE), result(OTHER)])
    return routed


def uid(number: int) -> str:
    return f"2.25.{number}"


def states(ledger: Ledger) -> dict[str, DeliveryState]:
    return {one.sop_instance_uid: one.state for one in ledger.deliveries.of_job("job-1")}


def answer(ledger: Ledger, number: int, outcome: SendOutcome) -> DeliveryState:
    return ledger.deliveries.record(
        delivery(number).delivery_id, outcome, retry_at=START + timedelta(minutes=1)
    )


STORED = SendOutcome("", 0, stored=True, transient=False)
REFUSED = SendOutcome("", 0xC000, stored=False, transient=False, reason="refused")


def replace(ledger: Ledger, keep: list[int], *additions: int) -> None:
    ledger.deliveries.replace(
        "job-1", "pacs", [uid(n) for n in keep], [delivery(n) for n in additions], WHY
    )


def test_what_is_not_chosen_any_more_ends_with_its_reason_and_what_is_added_goes_behind(
    made: Ledger,
) -> None:
    replace(made, [REPORT], CAPTURE, OTHER)
    assert states(made)[uid(SEGMENTATION)] is DeliveryState.REPLACED
    last = made.history("delivery", "job-1:pacs:01")[-1]
    assert (last.to_state, last.reason) == ("replaced", WHY)
    sent = made.deliveries.pending("job-1", "pacs")
    assert [one.sop_instance_uid for one in sent] == [uid(REPORT), uid(CAPTURE), uid(OTHER)]
    assert [one.delivery_id for one in sent] == ["job-1:pacs:02", "job-1:pacs:03", "job-1:pacs:04"]


def test_what_was_sent_stays_sent_and_what_died_is_replaced(made: Ledger) -> None:
    answer(made, SEGMENTATION, REFUSED)
    answer(made, REPORT, STORED)
    replace(made, [], CAPTURE)
    assert states(made) == {
        uid(SEGMENTATION): DeliveryState.REPLACED, uid(REPORT): DeliveryState.SENT,
        uid(CAPTURE): DeliveryState.PENDING,
    }


def test_what_had_been_replaced_is_sent_after_all_when_it_is_chosen_again(made: Ledger) -> None:
    replace(made, [REPORT], CAPTURE)
    replace(made, [REPORT], SEGMENTATION)
    assert states(made) == {
        uid(SEGMENTATION): DeliveryState.PENDING, uid(REPORT): DeliveryState.PENDING,
        uid(CAPTURE): DeliveryState.REPLACED,
    }
    assert made.deliveries.count_by_state() == {"pending": 2, "replaced": 1}


def test_an_addition_that_is_there_stays_as_it_is(made: Ledger) -> None:
    answer(made, REPORT, STORED)
    answer(made, SEGMENTATION, REFUSED)
    replace(made, [], SEGMENTATION, REPORT)
    assert states(made) == {
        uid(SEGMENTATION): DeliveryState.DEAD, uid(REPORT): DeliveryState.SENT,
    }


def test_the_hundredth_object_is_sent_behind_the_ninety_ninth(made: Ledger) -> None:
    numbers = list(range(10, 115))
    made.outbox.add([result(n) for n in numbers])
    replace(made, [SEGMENTATION, REPORT], *numbers)
    sent = made.deliveries.pending("job-1", "pacs")
    assert [one.sop_instance_uid for one in sent] == [uid(n) for n in (1, 2, *numbers)]


def test_the_duty_ends_with_the_choice_and_not_when_it_was_added_again_meanwhile(
    made: Ledger,
) -> None:
    made.duties.add(FORMS, "job-1:pacs", "first")
    (duty,) = made.duties.waiting()
    made.duties.add(FORMS, "job-1:pacs", "second")
    made.deliveries.replace("job-1", "pacs", [uid(REPORT)], [], WHY, duty=duty)
    assert [one.reason for one in made.duties.waiting()] == ["second"]
    replace(made, [REPORT])
    assert made.duties.waiting() == []


def test_a_shipment_waits_for_the_choice_and_not_for_ever(made: Ledger) -> None:
    made.duties.add(FORMS, "job-1:pacs", "pacs takes other objects")
    assert made.deliveries.pending("job-1", "pacs") == made.deliveries.open_shipments() == []
    assert set(states(made).values()) == {DeliveryState.PENDING}
    for _ in range(5):
        (duty,) = made.duties.waiting()
        made.duties.put_off(duty, START, "no room")
    assert len(made.deliveries.open_shipments()) == 1
    assert len(made.deliveries.pending("job-1", "pacs")) == 2


def test_what_was_under_way_when_it_was_replaced_and_arrived_was_sent(made: Ledger) -> None:
    replace(made, [REPORT], CAPTURE)
    assert answer(made, SEGMENTATION, REFUSED) is DeliveryState.REPLACED
    assert answer(made, SEGMENTATION, STORED) is DeliveryState.SENT


def test_what_was_replaced_is_at_its_end(made: Ledger) -> None:
    replace(made, [], CAPTURE)
    answer(made, CAPTURE, STORED)
    made.deliveries.replace("job-1", "pacs", [uid(CAPTURE)], [], WHY)
    assert made.deliveries.open_shipments() == made.deliveries.jobs_with_dead() == []
    assert made.deliveries.retry_dead("job-1") == made.deliveries.hurry("job-1") == 0
    assert made.decisions.stop_deliveries("job-1") == 0
    assert states(made)[uid(REPORT)] is DeliveryState.REPLACED


def test_the_other_destinations_of_the_job_keep_what_was_chosen_for_them(made: Ledger) -> None:
    made.deliveries.replace("job-1", "archive", [], [delivery(CAPTURE, destination="archive")], WHY)
    there: list[Delivery] = made.deliveries.pending("job-1", "archive")
    assert [one.sop_instance_uid for one in there] == [uid(CAPTURE)]
    assert len(made.deliveries.pending("job-1", "pacs")) == 2
