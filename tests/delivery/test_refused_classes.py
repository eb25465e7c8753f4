"""Destinations that do not take what a result is: nothing is lost, and the choice is made anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.delivery.shipping import Shipping
from dicom_node.events import Events
from dicom_node.ledger.duties import FORMS
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import DeliveryState, DestinationProfile
from tests.delivery.outbox import Outbox, outbox
from tests.delivery.scripted_peer import scripted_peer
from tests.delivery.scripted_service import failed, scripted_service, stored
from tests.ledger.conftest import delivery, result

# What the ledger says that results are, and what the files of the sample outbox are.
SEGMENTATION, CT = result(1).sop_class_uid, "1.2.840.10008.5.1.4.1.1.2"
REPORT, CAPTURE = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.7"


def forget(ledger: Ledger) -> None:
    """As if no destination had ever been asked."""
    with ledger._database.write() as connection:
        connection.exec_driver_sql("DELETE FROM destination_profiles")


def owed(opened: Outbox) -> list[str]:
    return [duty.key for duty in opened.ledger.duties.waiting(FORMS)]


def test_a_destination_that_was_never_asked_is_asked_before_it_gets_what_it_does_not_take(
    tmp_path: Path,
) -> None:
    with (
        scripted_peer(sop_classes=[CT, CAPTURE, REPORT]) as peer,
        outbox(tmp_path, {"pacs": peer.port}) as opened,
    ):
        forget(opened.ledger)
        opened.add_job(1)
        for _ in range(3):
            opened.round()
        assert (peer.associations, peer.received) == (1, [])
        assert opened.states(1) == [DeliveryState.PENDING]
        assert owed(opened) == ["job-1:pacs"]
        opened.ledger.deliveries.replace("job-1", "pacs", ["2.25.101"], [], "nothing else fits")
        for _ in range(3):
            opened.round()
        assert peer.received == ["2.25.101"]
    assert opened.states(1) == [DeliveryState.SENT]


def test_a_destination_that_takes_it_gets_it_with_the_first_shipment_and_is_asked_once(
    tmp_path: Path,
) -> None:
    with (
        scripted_peer(sop_classes=[CT, SEGMENTATION]) as peer,
        outbox(tmp_path, {"pacs": peer.port}) as opened,
    ):
        forget(opened.ledger)
        for number in (1, 2):
            opened.add_job(number)
            opened.round()
        assert peer.received == ["2.25.101", "2.25.201"]
        assert peer.associations == 3
    assert owed(opened) == []


@pytest.mark.parametrize(
    ("answers", "classes", "reason"),
    [
        ((0x0122,), [CT], "peer.refused.sop_class_not_supported"),
        ((), [REPORT], "peer.context_rejected.sop_class_not_supported"),
    ],
)
def test_a_refused_class_is_dead_with_its_reason_and_the_choice_is_owed_anew(
    tmp_path: Path, answers: tuple[int, ...], classes: list[str], reason: str
) -> None:
    with (
        scripted_peer(*answers, sop_classes=classes) as peer,
        outbox(tmp_path, {"pacs": peer.port}) as opened,
    ):
        opened.add_job(1)
        opened.add_job(2)
        opened.round()
    dead = opened.of_job(1)[0]
    assert (dead.state, dead.reason) == (DeliveryState.DEAD, reason)
    profile = opened.ledger.profiles.find("pacs")
    assert profile is not None and not profile.takes(SEGMENTATION)
    assert owed(opened) == ["job-1:pacs", "job-2:pacs"]


def test_any_other_refusal_is_of_the_object_and_nothing_is_chosen_anew(tmp_path: Path) -> None:
    with scripted_peer(0xC000) as peer, outbox(tmp_path, {"pacs": peer.port}) as opened:
        opened.add_job(1)
        opened.round()
        assert opened.states(1) == [DeliveryState.DEAD]
        assert owed(opened) == []


def test_the_next_form_goes_out_behind_what_is_kept(tmp_path: Path) -> None:
    with (
        scripted_peer(0x0122, 0x0000) as peer,
        outbox(tmp_path, {"pacs": peer.port}) as opened,
    ):
        opened.add_job(1, results=3)
        # The third object is the other form of the first: it is asked for by the choice alone.
        with opened.ledger._database.write() as connection:
            connection.exec_driver_sql("DELETE FROM deliveries WHERE delivery_id LIKE '%:103'")
        opened.round()
        opened.ledger.deliveries.replace(
            "job-1", "pacs", ["2.25.102"], [delivery(103, "job-1")], "no segmentation there"
        )
        for _ in range(3):
            opened.round()
        assert peer.received == ["2.25.101", "2.25.102", "2.25.103"]
    assert opened.states(1) == [
        DeliveryState.REPLACED, DeliveryState.SENT, DeliveryState.SENT,
    ]


def test_what_was_replaced_under_its_name_holds_nothing_back_for_the_sender(
    tmp_path: Path,
) -> None:
    with scripted_peer() as peer, outbox(tmp_path, {"ct01": peer.port}) as opened:
        opened.add_job(1, ("ct01", "sender"))
        opened.ledger.deliveries.replace("job-1", "ct01", [], [], "another form")
        opened.round()
        assert peer.received == ["2.25.101"]
    assert opened.states(1, "ct01") == [DeliveryState.REPLACED]
    assert opened.states(1, "sender") == [DeliveryState.SENT]


def test_a_dicomweb_service_that_refuses_a_class_is_not_asked_and_chosen_for_anew(
    tmp_path: Path,
) -> None:
    with scripted_service(failed(0x0122), stored) as service, outbox(tmp_path, {}) as opened:
        web = service.peer().model_copy(update={"name": "pacs"})
        config = opened.config.model_copy(update={"peers": {"pacs": web}})
        opened.add_job(1)
        shipping = Shipping(config, opened.ledger, opened.spool, Events(), clock=opened.clock)
        shipping.run_attempt("job-1:pacs", 1)
        assert [request.method for request in service.requests] == ["POST"]
    assert opened.of_job(1)[0].reason == "peer.refused.sop_class_not_supported"
    assert opened.ledger.profiles.find("pacs") == DestinationProfile(
        "pacs", {}, frozenset({SEGMENTATION}), None
    )
    assert owed(opened) == ["job-1:pacs"]
