"""Storage commitment that a modality asks the node for, over both receive paths."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.pdu import P_DATA_TF

from dicom_node.errors import LedgerUnavailable
from dicom_node.intake import commitment_reports
from dicom_node.references import PUSH_MODEL, PUSH_MODEL_INSTANCE
from tests.dicom_samples import ct_series
from tests.intake.serving import ServingNode as Node

PATIENCE_S = 60.0
CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"


@dataclass
class Reported:
    """What a modality was told, and what it answers."""

    status: int = 0x0000
    events: list[tuple[int | None, Dataset]] = field(default_factory=list)
    told: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)

    def take(self, event: Event) -> tuple[int, None]:
        self.events.append((event.event_type, event.event_information))
        self.told.set()
        return self.status, None

    def sent(self, event: Event) -> None:
        if self.told.is_set() and isinstance(event.pdu, P_DATA_TF):
            self.answered.set()

    @property
    def committed(self) -> list[str]:
        (_, information) = self.events[-1]
        items = information.get("ReferencedSOPSequence", [])
        return [one.ReferencedSOPInstanceUID for one in items]

    @property
    def failed(self) -> dict[str, int]:
        (_, information) = self.events[-1]
        items = information.get("FailedSOPSequence", [])
        return {one.ReferencedSOPInstanceUID: one.FailureReason for one in items}


@contextmanager
def modality(node: Node, reported: Reported, ae_title: str = "CT01") -> Iterator[Association]:
    entity = AE(ae_title)
    entity.add_requested_context(CT)
    entity.add_requested_context(PUSH_MODEL)
    entity.dimse_timeout = PATIENCE_S
    association = entity.associate(
        "127.0.0.1", node.port, ae_title="DICOMNODE",
        evt_handlers=[(evt.EVT_N_EVENT_REPORT, reported.take), (evt.EVT_PDU_SENT, reported.sent)],
    )
    assert association.is_established
    try:
        yield association
        # A release that overtakes the answer makes an unanswered report of it.
        assert not reported.told.is_set() or reported.answered.wait(PATIENCE_S)
    finally:
        association.release()


@contextmanager
def listening_modality(
    reported: Reported, sop_classes: Sequence[str] = (PUSH_MODEL,)
) -> Iterator[int]:
    entity = AE("CT01")
    for sop_class in sop_classes:
        entity.add_supported_context(sop_class, scu_role=True, scp_role=True)
    server = entity.start_server(
        ("127.0.0.1", 0), block=False,
        evt_handlers=[(evt.EVT_N_EVENT_REPORT, reported.take)],
    )
    assert server is not None
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()


def ask(
    association: Association, items: Sequence[tuple[str, str]], transaction_uid: str = "",
    **changed: Any,
) -> int | None:
    information = Dataset()
    information.TransactionUID = transaction_uid or generate_uid()
    information.ReferencedSOPSequence = []
    for sop_class_uid, sop_instance_uid in items:
        item = Dataset()
        item.ReferencedSOPClassUID = sop_class_uid
        item.ReferencedSOPInstanceUID = sop_instance_uid
        information.ReferencedSOPSequence.append(item)
    values: dict[str, Any] = {
        "dataset": information, "action_type": 1, "class_uid": PUSH_MODEL,
        "instance_uid": PUSH_MODEL_INSTANCE,
    }
    answer, _ = association.send_n_action(**{**values, **changed})
    status: int | None = answer.get("Status")
    return status


def until(condition: Callable[[], bool], what: str) -> None:
    waiting = threading.Event()
    deadline = datetime.now(UTC) + timedelta(seconds=PATIENCE_S)
    while not condition():
        assert datetime.now(UTC) < deadline, what
        waiting.wait(0.05)


def store(association: Association, count: int = 3) -> list[tuple[str, str]]:
    datasets = ct_series((count, 8, 8))
    for dataset in datasets:
        assert association.send_c_store(dataset).Status == 0x0000
    return [(CT, str(dataset.SOPInstanceUID)) for dataset in datasets]


def due_later(node: Node) -> bool:
    return bool(node.ledger.commitment_requests.titles_due(datetime.now(UTC)))


def test_what_was_just_stored_is_committed_on_the_same_association(node: Node) -> None:
    reported = Reported()
    with modality(node, reported) as association:
        items = store(association)
        assert ask(association, items) == 0x0000
        assert reported.told.wait(PATIENCE_S)
    assert reported.events[-1][0] == 1
    assert (reported.committed, reported.failed) == ([uid for _, uid in items], {})


def test_what_is_not_there_is_named_with_its_reason(node: Node) -> None:
    reported = Reported()
    with modality(node, reported) as association:
        (first, second, third) = store(association)
        lost = (CT, "1.2.3.4.5")
        other_class = (MR, second[1])
        assert ask(association, [first, other_class, third, lost]) == 0x0000
        assert reported.told.wait(PATIENCE_S)
    assert reported.events[-1][0] == 2
    assert reported.committed == [first[1], third[1]]
    assert reported.failed == {second[1]: 0x0119, lost[1]: 0x0112}


def test_an_indexed_file_that_is_gone_is_not_committed(streamed: Node) -> None:
    reported = Reported()
    with modality(streamed, reported) as association:
        items = store(association, 2)
        requests = streamed.ledger.commitment_requests
        until(lambda: len(requests.kept(uid for _, uid in items)) == 2, "the index")
        (gone,) = requests.kept([items[0][1]])[items[0][1]]
        streamed.spool.remove(gone.path)
        assert ask(association, items) == 0x0000
        assert reported.told.wait(PATIENCE_S)
    assert reported.failed == {items[0][1]: 0x0112}


def test_a_modality_that_releases_is_told_on_a_new_association(node: Node) -> None:
    here, there = Reported(), Reported()
    with modality(node, here) as association:
        items = store(association)
        assert ask(association, items) == 0x0000
    until(lambda: due_later(node), "the end of the association")
    with listening_modality(there) as port:
        reports = node.reports(port)
        # The index follows behind the answer: the first round may be too early.
        until(lambda: bool(reports.tick()) or there.told.is_set(), "a report")
        reports.stop()
    assert (here.events, sorted(there.committed)) == ([], sorted(uid for _, uid in items))
    assert not due_later(node)


def test_what_came_a_moment_ago_and_is_not_indexed_yet_is_not_called_missing(
    streamed: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    with modality(streamed, Reported()) as association:
        ask(association, [(CT, "1.2.3.4.5")], "1.2.3")
    until(lambda: due_later(streamed), "the end of the association")
    requests = streamed.ledger.commitment_requests
    (request,) = requests.due("CT01", datetime.now(UTC))
    there = Reported()
    with listening_modality(there) as port:
        reports = streamed.reports(port)
        assert reports.report(request, reports._config.peers["ct"])
        assert (there.events, requests.due("CT01", datetime.now(UTC))) == ([], [])
        (again,) = requests.due("CT01", datetime.now(UTC) + timedelta(seconds=2))
        monkeypatch.setattr(commitment_reports, "_INDEX_PATIENCE", timedelta(0))
        assert reports.report(again, reports._config.peers["ct"])
    assert there.failed == {"1.2.3.4.5": 0x0112}


def test_a_modality_that_is_away_is_told_later(streamed: Node) -> None:
    reported = Reported()
    with modality(streamed, Reported()) as association:
        items = store(association, 1)
        ask(association, items, "1.2.3")
    until(lambda: due_later(streamed), "the end of the association")
    requests = streamed.ledger.commitment_requests
    until(lambda: bool(requests.kept([items[0][1]])), "the index")
    (request,) = requests.due("CT01", datetime.now(UTC))
    reports = streamed.reports(1)
    assert not reports.report(request, reports._config.peers["ct"])
    assert not due_later(streamed)
    later = datetime.now(UTC) + timedelta(minutes=1)
    (request,) = requests.due("CT01", later)
    with listening_modality(reported) as port:
        reports = streamed.reports(port)
        assert reports.report(request, reports._config.peers["ct"])
    assert reported.committed == [items[0][1]]
    assert requests.due("CT01", later) == []


def test_a_caller_without_an_address_is_not_tried_for_ever(streamed: Node) -> None:
    with modality(streamed, Reported(), "STRANGER") as association:
        ask(association, [(CT, "1.2")], "1.2.3")
    until(lambda: due_later(streamed), "the end of the association")
    streamed.reports(1).tick()
    assert streamed.ledger.commitment_requests.find("1.2.3", "STRANGER") is None


def test_two_requests_under_one_transaction_uid_are_told_apart(streamed: Node) -> None:
    reported = Reported()
    with modality(streamed, reported) as association:
        first, second = store(association, 2)
        ask(association, [first], "1.2.3")
        ask(association, [second], "1.2.3")
        until(lambda: bool(reported.events) and second[1] in reported.failed, "a report")
    assert reported.failed == {second[1]: 0x0131}
    assert reported.committed == [first[1]]


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"action_type": 7}, 0x0123),
        ({"instance_uid": "1.2.3"}, 0x0112),
        ({"class_uid": "1.2.840.10008.1.20.2", "meta_uid": PUSH_MODEL}, 0x0118),
        ({"dataset": None}, 0x0115),
        ({"dataset": Dataset.from_json('{"00081195": {"vr": "UI", "Value": ["1.2"]}}')}, 0x0115),
    ],
)
def test_a_malformed_request_gets_a_status_and_the_association_goes_on(
    node: Node, changed: dict[str, Any], status: int
) -> None:
    reported = Reported()
    with modality(node, reported) as association:
        items = store(association, 1)
        assert ask(association, items, **changed) == status
        assert ask(association, items) == 0x0000
        assert reported.told.wait(PATIENCE_S)
    assert reported.committed == [items[0][1]]


def test_a_service_that_is_not_one_gets_a_status(node: Node) -> None:
    with modality(node, Reported()) as association:
        answer, _ = association.send_n_get([Tag(0x00100010)], PUSH_MODEL, PUSH_MODEL_INSTANCE)
        assert answer.Status == 0x0211
        assert ask(association, [(CT, "1.2")]) == 0x0000


def test_a_request_that_the_ledger_does_not_keep_is_not_acknowledged(
    streamed: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: object, **__: object) -> bool:
        raise LedgerUnavailable("locked")

    monkeypatch.setattr(streamed.ledger.commitment_requests, "record", locked)
    with modality(streamed, Reported()) as association:
        assert ask(association, [(CT, "1.2")]) == 0x0110


def test_a_report_of_a_peer_that_negotiates_its_role_is_taken(streamed: Node) -> None:
    entity = AE("PACS")
    entity.add_requested_context(PUSH_MODEL)
    association = entity.associate(
        "127.0.0.1", streamed.port, ae_title="DICOMNODE",
        ext_neg=[build_role(PUSH_MODEL, scp_role=True)],
    )
    assert association.is_established
    (context,) = association.accepted_contexts
    assert (context.as_scu, context.as_scp) == (False, True)
    information = Dataset()
    information.TransactionUID = "1.2.3"
    answer, _ = association.send_n_event_report(information, 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)
    association.release()
    assert answer.Status == 0x0112
