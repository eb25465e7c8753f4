"""One attempt to deliver: what each answer of a real peer leaves in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from pydicom.uid import UID

from dicom_node.config import Config
from dicom_node.delivery.sender import Sender
from dicom_node.delivery.shipping import Shipping
from dicom_node.errors import LedgerUnavailable
from dicom_node.events import Events
from dicom_node.ledger import tables
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import CircuitState, DeliveryState, SendOutcome, SeriesState
from dicom_node.spool import Spool
from tests.delivery.outbox import know_what_is_taken
from tests.delivery.scripted_peer import scripted_peer
from tests.dicom_samples import ct_series, write_instance
from tests.ledger.conftest import START, delivery, instance, job, result
from tests.peers import free_port


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A job with three results for the destination ``pacs``, sent by CT01."""
    opened = Ledger.open(tmp_path / "ledger.db")
    opened.index([instance(1)])
    opened.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    opened.jobs.route("1.2.3", [job()], "rules", seen=START)
    opened.jobs.start("job-1", 1)
    numbers = (1, 2, 3)
    deliveries = [delivery(n) for n in numbers] + [delivery(1, destination="sender")]
    opened.jobs.succeed("job-1", [result(n) for n in numbers], deliveries, "result", {})
    know_what_is_taken(opened, "pacs", "scanner")
    yield opened
    opened.close()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    kept = Spool(tmp_path / "spool")
    for number, dataset in enumerate(ct_series((3, 8, 8)), start=1):
        dataset.SOPInstanceUID = UID(f"2.25.{number}")
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        path = tmp_path / f"{number}.dcm"
        write_instance(dataset, path)
        kept.put_result("job-1", dataset.SOPInstanceUID, _copy_of(path))
    return kept


def _copy_of(path: Path) -> Callable[[BinaryIO], object]:
    return lambda file: file.write(path.read_bytes())


@pytest.fixture
def shipping(ledger: Ledger, spool: Spool) -> Callable[..., Shipping]:
    def make(port: int, *, ae_title: str = "CT01", retry_for_h: float = 96.0) -> Shipping:
        values: dict[str, Any] = {
            "peers": {"pacs": {"ae_title": "SCRIPTED", "host": "127.0.0.1", "port": port},
                      "scanner": {"ae_title": ae_title, "host": "127.0.0.1", "port": port}},
            "delivery": {"retry_for_h": retry_for_h},
        }
        return Shipping(Config.model_validate(values), ledger, spool, Events())

    return make


def states(ledger: Ledger, destination: str = "pacs") -> list[tuple[DeliveryState, int]]:
    found = ledger.deliveries.of_job("job-1")
    return [(d.state, d.attempt) for d in found if d.destination == destination]


def reasons(ledger: Ledger) -> set[str]:
    return {d.reason for d in ledger.deliveries.of_job("job-1") if d.destination == "pacs"}


def test_all_objects_arrive_in_the_order_of_the_results(
    ledger: Ledger, shipping: Callable[..., Shipping]
) -> None:
    with scripted_peer() as peer:
        shipping(peer.port).run_attempt("job-1:pacs", 1)
        assert peer.received == ["2.25.1", "2.25.2", "2.25.3"]
    assert states(ledger) == [(DeliveryState.SENT, 1)] * 3


def test_each_object_ends_as_its_own_answer_says(
    ledger: Ledger, shipping: Callable[..., Shipping]
) -> None:
    with scripted_peer(0x0000, 0xC000, 0xA700, 0x0000) as peer:
        node = shipping(peer.port)
        node.run_attempt("job-1:pacs", 1)
        assert states(ledger) == [
            (DeliveryState.SENT, 1), (DeliveryState.DEAD, 1), (DeliveryState.PENDING, 2),
        ]
        node.run_attempt("job-1:pacs", 2)
        assert peer.received[3:] == ["2.25.3"]
    assert states(ledger)[2] == (DeliveryState.SENT, 2)


def test_what_stands_behind_an_object_that_may_be_taken_later_waits_for_it(
    ledger: Ledger, shipping: Callable[..., Shipping]
) -> None:
    with scripted_peer(0xA700, 0x0000) as peer:
        node = shipping(peer.port)
        node.run_attempt("job-1:pacs", 1)
        assert peer.received == ["2.25.1"], "the report of a segmentation that is not there"
        assert states(ledger) == [(DeliveryState.PENDING, 2)] * 3
        said = ledger.history("delivery", "job-1:pacs:02")
        assert [t.to_state for t in said] == ["pending"], "it was not tried, so it did not fail"
        node.run_attempt("job-1:pacs", 2)
        assert peer.received[1:] == ["2.25.1", "2.25.2", "2.25.3"]
    assert states(ledger) == [(DeliveryState.SENT, 2)] * 3


def test_what_waits_behind_a_dead_object_goes_out_without_it(
    ledger: Ledger, shipping: Callable[..., Shipping]
) -> None:
    d = tables.deliveries
    long_ago = (datetime.now(UTC) - timedelta(hours=97)).timestamp()
    with ledger._database.write() as connection:
        connection.execute(d.update().values(created_at=long_ago))
    with scripted_peer(0xA700, 0x0000) as peer:
        node = shipping(peer.port)
        node.run_attempt("job-1:pacs", 1)
        (due,) = [s for s in ledger.deliveries.open_shipments() if s.destination == "pacs"]
        assert due.not_before <= datetime.now(UTC)
        node.run_attempt("job-1:pacs", due.attempt)
    assert [state for state, _ in states(ledger)] == [
        DeliveryState.DEAD, DeliveryState.SENT, DeliveryState.SENT,
    ]


def test_an_attempt_that_is_not_the_ledgers_sends_nothing(
    ledger: Ledger, shipping: Callable[..., Shipping]
) -> None:
    with scripted_peer() as peer:
        for number in (0, 2):
            shipping(peer.port).run_attempt("job-1:pacs", number)
        shipping(peer.port).run_attempt("job-9:pacs", 1)
        assert peer.received == []
    assert states(ledger) == [(DeliveryState.PENDING, 1)] * 3


def test_a_peer_that_is_away_is_tried_again_later(
    ledger: Ledger, shipping: Callable[..., Shipping]
) -> None:
    shipping(free_port()).run_attempt("job-1:pacs", 1)
    assert states(ledger) == [(DeliveryState.PENDING, 2)] * 3
    assert all(reason.startswith("peer.") for reason in reasons(ledger))
    circuit = ledger.circuits.find("pacs")
    assert (circuit.state, circuit.failures) == (CircuitState.OPEN, 1)
    assert circuit.not_before > circuit.changed_at
    (pacs,) = [s for s in ledger.deliveries.open_shipments() if s.destination == "pacs"]
    assert pacs.not_before <= datetime.now(UTC), "its circuit alone says when it goes"


def test_after_the_time_for_retries_a_delivery_is_dead_until_an_operator_asks(
    ledger: Ledger, shipping: Callable[..., Shipping]
) -> None:
    d = tables.deliveries
    long_ago = (datetime.now(UTC) - timedelta(hours=97)).timestamp()
    with ledger._database.write() as connection:
        connection.execute(d.update().values(created_at=long_ago))
    away = shipping(free_port())
    away.run_attempt("job-1:pacs", 1)
    assert states(ledger) == [(DeliveryState.DEAD, 1)] * 3
    ledger.deliveries.retry_dead("job-1")
    assert ledger.circuits.find("pacs").state is CircuitState.CLOSED
    away.run_attempt("job-1:pacs", 2)
    assert states(ledger) == [(DeliveryState.PENDING, 3)] * 3


def test_a_destination_that_is_no_longer_configured_is_a_dead_letter(
    ledger: Ledger, spool: Spool
) -> None:
    Shipping(Config(), ledger, spool, Events()).run_attempt("job-1:pacs", 1)
    assert states(ledger) == [(DeliveryState.DEAD, 1)] * 3
    assert reasons(ledger) == {"configuration.unknown_name"}


def test_the_sender_gets_its_results_by_its_ae_title(
    ledger: Ledger, shipping: Callable[..., Shipping]
) -> None:
    with scripted_peer() as peer:
        shipping(peer.port).run_attempt("job-1:sender", 1)
        assert peer.received == ["2.25.1"]
    assert states(ledger, "sender") == [(DeliveryState.SENT, 1)]


def test_a_sender_that_is_no_peer_is_a_dead_letter(
    ledger: Ledger, shipping: Callable[..., Shipping]
) -> None:
    shipping(free_port(), ae_title="OTHER").run_attempt("job-1:sender", 1)
    (found,) = [d for d in ledger.deliveries.of_job("job-1") if d.destination == "sender"]
    assert (found.state, found.reason) == (DeliveryState.DEAD, "peer.sender_unknown")


def test_a_result_that_vanished_does_not_hold_back_the_others(
    ledger: Ledger, spool: Spool, shipping: Callable[..., Shipping]
) -> None:
    spool.remove("outbox/job-1/2.25.2.dcm")
    with scripted_peer() as peer:
        shipping(peer.port).run_attempt("job-1:pacs", 1)
    assert [state for state, _ in states(ledger)] == [
        DeliveryState.SENT, DeliveryState.DEAD, DeliveryState.SENT,
    ]


def test_an_unforeseen_error_is_tried_again(
    ledger: Ledger, shipping: Callable[..., Shipping], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> list[SendOutcome]:
        raise ZeroDivisionError

    monkeypatch.setattr(Sender, "send", broken)
    shipping(1).run_attempt("job-1:pacs", 1)
    assert states(ledger) == [(DeliveryState.PENDING, 2)] * 3
    assert reasons(ledger) == {"unexpected.ZeroDivisionError"}


def test_an_unavailable_ledger_leaves_the_delivery_as_it_was(
    ledger: Ledger, shipping: Callable[..., Shipping], monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: object) -> None:
        raise LedgerUnavailable("locked")

    monkeypatch.setattr(ledger.jobs, "find_result", locked)
    with pytest.raises(LedgerUnavailable):
        shipping(1).run_attempt("job-1:pacs", 1)
    assert states(ledger) == [(DeliveryState.PENDING, 1)] * 3


def test_two_attempts_at_once_record_each_object_once(
    ledger: Ledger, shipping: Callable[..., Shipping], monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted_peer() as peer:
        node = shipping(peer.port)
        original = Sender.send
        inside: list[bool] = []

        def meanwhile(
            sender: Sender, to: Any, paths: Sequence[Path], **options: bool
        ) -> list[SendOutcome]:
            if not inside:
                inside.append(True)
                node.run_attempt("job-1:pacs", 1)
            return original(sender, to, paths, **options)

        monkeypatch.setattr(Sender, "send", meanwhile)
        node.run_attempt("job-1:pacs", 1)
    assert states(ledger) == [(DeliveryState.SENT, 1)] * 3
    history = ledger.history("delivery", "job-1:pacs:01")
    assert [t.to_state for t in history] == ["pending", "sent"]
