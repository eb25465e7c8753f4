"""What is handed out between two looks at everything that waits."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.delivery.choice import Turn, Waiting
from dicom_node.delivery.next_up import NextUp
from dicom_node.ledger.deliveries import Shipment
from dicom_node.records import DeliveryState, Priority, SendOutcome
from tests.delivery.outbox import Outbox, outbox
from tests.delivery.scripted_peer import scripted_peer


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Outbox]:
    with scripted_peer() as peer, outbox(tmp_path, {"pacs": peer.port}) as opened:
        yield opened


def next_up(box: Outbox, turns: int = 2, not_ours: str = "") -> NextUp:
    def waiting(one: Shipment) -> Waiting | None:
        turn = Turn(one.destination, one.study_instance_uid)
        return None if one.job_id == not_ours else Waiting(
            one.key, turn, one.created_at, one.attempt, one.not_before, one.priority == "STAT"
        )

    return NextUp(box.ledger.deliveries, waiting, turns)


def keys(found: NextUp) -> list[str]:
    return sorted(one.key.partition(":")[0] for one in found.waiting)


def now(box: Outbox) -> datetime:
    box.clock.catch_up()
    return box.clock()


def test_a_look_keeps_the_first_of_a_destination_and_what_is_under_way(box: Outbox) -> None:
    for number in range(1, 6):
        box.add_job(number)
    found = next_up(box)
    found.look((), {"job-4:pacs", "gone:pacs"}, now(box))
    assert keys(found) == ["job-1", "job-2", "job-4"]
    found.look({"pacs"}, (), now(box))
    assert keys(found) == []


def test_what_is_made_after_a_look_is_found_without_another(box: Outbox) -> None:
    box.add_job(1)
    found = next_up(box, not_ours="job-3")
    found.look((), (), now(box))
    box.add_job(2, priority=Priority.STAT)
    box.add_job(3)
    found.follow(now(box))
    assert keys(found) == ["job-1", "job-2"]


def test_what_was_sent_goes_and_what_was_refused_waits(box: Outbox) -> None:
    for number in (1, 2):
        box.add_job(number)
    found = next_up(box)
    found.look((), (), now(box))
    later = box.clock() + timedelta(minutes=10)
    for number, status in ((1, 0x0000), (2, 0xA700)):
        for one in box.of_job(number):
            outcome = SendOutcome(one.sop_instance_uid, status, not status, bool(status))
            box.ledger.deliveries.record(one.delivery_id, outcome, retry_at=later)
        found.ended(f"job-{number}:pacs")
    assert keys(found) == ["job-1", "job-2"]
    found.follow(now(box))
    [left] = found.waiting
    assert left.key == "job-2:pacs" and left.not_before == later
    assert not found.confirm("job-2:pacs", box.clock())
    assert found.confirm("job-2:pacs", later)


def test_what_somebody_took_back_since_the_look_is_not_to_go(box: Outbox) -> None:
    box.add_job(1)
    found = next_up(box)
    found.look((), (), now(box))
    shipment = found.shipment("job-1:pacs")
    box.ledger.deliveries.give_up(shipment, box.clock() + timedelta(hours=1), "operator")
    assert box.states(1) == [DeliveryState.DEAD]
    assert not found.confirm("job-1:pacs", box.clock())
    assert keys(found) == []
