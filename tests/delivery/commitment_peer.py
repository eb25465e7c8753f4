"""An archive that is asked for storage commitment and does as it is told."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event

from dicom_node.references import PUSH_MODEL, PUSH_MODEL_INSTANCE

PATIENCE_S = 60.0
CT = "1.2.840.10008.5.1.4.1.1.2"
Judge = Callable[[list[tuple[str, str]]], tuple[list[tuple[str, str]], list[tuple[str, str, int]]]]


def everything(
    items: list[tuple[str, str]],
) -> tuple[list[tuple[str, str]], list[tuple[str, str, int]]]:
    """Commit to all."""
    return items, []


@dataclass
class CommitmentPeer:
    """What it answers to N-ACTION, and what it was asked: transaction and items of each."""

    status: int = 0x0000
    judge: Judge = everything
    when_asked: Callable[[], object] = lambda: None
    on_same_association: bool = False
    asked: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)
    answers: list[int | None] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    port: int = 0

    def on_action(self, event: Event) -> tuple[int, None]:
        self.when_asked()
        information = event.action_information
        items = [
            (str(one.ReferencedSOPClassUID), str(one.ReferencedSOPInstanceUID))
            for one in information.ReferencedSOPSequence
        ]
        self.asked.append((str(information.TransactionUID), items))
        if self.on_same_association and self.status == 0x0000:
            thread = threading.Thread(target=self.report, args=(event.assoc,))
            self.threads.append(thread)
            thread.start()
        return self.status, None

    def information(self, number: int = -1) -> tuple[int, Dataset]:
        """Event type and Event Information for one of the requests."""
        transaction_uid, items = self.asked[number]
        committed, failed = self.judge(items)
        dataset = Dataset()
        dataset.TransactionUID = transaction_uid
        if committed:
            dataset.ReferencedSOPSequence = [_item(*one) for one in committed]
        if failed:
            dataset.FailedSOPSequence = [_item(*one) for one in failed]
        return (2 if failed else 1), dataset

    def report(self, association: Association, number: int = -1) -> int | None:
        """Report on an open association; the status of the answer."""
        event_type, dataset = self.information(number)
        answer, _ = association.send_n_event_report(
            dataset, event_type, PUSH_MODEL, PUSH_MODEL_INSTANCE
        )
        self.answers.append(answer.get("Status"))
        return self.answers[-1]

    def call(
        self, port: int, number: int = -1, *, ae_title: str = "SCRIPTED", with_role: bool = True
    ) -> int | None:
        """Report on a new association to the node."""
        entity = AE(ae_title)
        entity.dimse_timeout = PATIENCE_S
        association = entity.associate(
            "127.0.0.1", port, ae_title="DICOMNODE", contexts=[build_context(PUSH_MODEL)],
            ext_neg=[build_role(PUSH_MODEL, scp_role=True)] if with_role else None,
        )
        assert association.is_established
        try:
            return self.report(association, number)
        finally:
            association.release()


def _item(sop_class_uid: str, sop_instance_uid: str, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    if reason is not None:
        item.FailureReason = reason
    return item


@contextlib.contextmanager
def commitment_peer(
    sop_classes: Sequence[str] = (PUSH_MODEL,), **script: object
) -> Iterator[CommitmentPeer]:
    """An archive with the AE title SCRIPTED; ``script`` are fields of `CommitmentPeer`."""
    peer = CommitmentPeer(**script)  # type: ignore[arg-type]
    entity = AE("SCRIPTED")
    for sop_class in (CT, *sop_classes):
        entity.add_supported_context(sop_class)
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_ACTION, peer.on_action)]
    )
    assert server is not None
    peer.port = int(server.server_address[1])
    try:
        yield peer
    finally:
        for thread in peer.threads:
            thread.join(PATIENCE_S)
        server.shutdown()
