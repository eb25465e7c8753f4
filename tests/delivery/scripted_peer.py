"""Peers that do as they are told, on 127.0.0.1: a pynetdicom SCP, and bare sockets."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import CTImageStorage, Verification

from dicom_node.config import PeerSettings

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
PATIENCE_S = 120.0
Answer = int | Callable[[Event], int]


@dataclass
class ScriptedPeer:
    """What the SCP answers to each C-STORE in turn (the last one for all the rest), and got."""

    answers: Sequence[Answer] = (0x0000,)
    reject_storage: bool = False
    received: list[str] = field(default_factory=list)
    data_sets: list[bytes] = field(default_factory=list)
    transfer_syntaxes: list[str] = field(default_factory=list)
    proposed: list[tuple[str, list[str]]] = field(default_factory=list)
    associations: int = 0
    released: int = 0
    aborted: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    open: list[Any] = field(default_factory=list)
    port: int = 0

    def peer(self, ae_title: str = "SCRIPTED") -> PeerSettings:
        return peer_at(self.port, ae_title)

    def on_store(self, event: Event) -> int:
        number = len(self.received)
        self.received.append(event.request.AffectedSOPInstanceUID)
        self.data_sets.append(event.request.DataSet.getvalue())
        self.transfer_syntaxes.append(event.context.transfer_syntax)
        answer = self.answers[min(number, len(self.answers) - 1)]
        return answer if isinstance(answer, int) else answer(event)

    def on_requested(self, event: Event) -> None:
        self.associations += 1
        self.open.append(event.assoc)
        for context in event.assoc.requestor.requested_contexts:
            self.proposed.append((context.abstract_syntax, list(context.transfer_syntax)))
        if self.reject_storage and self.proposed[-1][0] != Verification:
            event.assoc.acse.send_reject(0x02, 0x03, 0x02)
            event.assoc.kill()

    def hang_up(self) -> None:
        """Abort the associations that are open, and wait until the peer is told."""
        for association in self.open:
            association.abort()
        self.open.clear()

    def on_released(self, event: Event) -> None:
        self.released += 1
        self.ended.set()

    def on_aborted(self, event: Event) -> None:
        self.aborted += 1
        self.ended.set()


def peer_at(port: int, ae_title: str = "SCRIPTED") -> PeerSettings:
    return PeerSettings(name="scripted", ae_title=ae_title, host="127.0.0.1", port=port)


@contextlib.contextmanager
def scripted_peer(
    *answers: Answer,
    transfer_syntaxes: Sequence[str] = (EXPLICIT, IMPLICIT),
    sop_classes: Sequence[str] = (CTImageStorage,),
    maximum_pdu_bytes: int = 16_384,
    require_called: bool = False,
    require_calling: Sequence[str] = (),
    verification: bool = True,
    reject_storage: bool = False,
    port: int = 0,
) -> Iterator[ScriptedPeer]:
    script = ScriptedPeer(answers or (0x0000,), reject_storage=reject_storage)
    ae = AE("SCRIPTED")
    ae.maximum_pdu_size = maximum_pdu_bytes
    ae.require_called_aet = require_called
    ae.require_calling_aet = list(require_calling)
    for sop_class in sop_classes:
        ae.add_supported_context(sop_class, list(transfer_syntaxes))
    if verification:
        ae.add_supported_context(Verification)
    server = ae.start_server(
        ("127.0.0.1", port),
        block=False,
        evt_handlers=[
            (evt.EVT_C_STORE, script.on_store),
            (evt.EVT_REQUESTED, script.on_requested),
            (evt.EVT_RELEASED, script.on_released),
            (evt.EVT_ABORTED, script.on_aborted),
        ],
    )
    script.port = server.server_address[1]
    try:
        yield script
    finally:
        server.shutdown()


def abort(event: Event) -> int:
    """Answer by aborting the association."""
    event.assoc.abort()
    return 0x0000


def answer_after(seconds: float, status: int = 0x0000) -> Answer:
    """Answer later than a slow archive's client would like."""

    def slow(event: Event) -> int:
        time.sleep(seconds)
        return status

    return slow


def answer_when(told: threading.Event, status: int = 0x0000) -> Answer:
    """Answer when the test says so."""

    def waiting(event: Event) -> int:
        told.wait(PATIENCE_S)
        return status

    return waiting


@contextlib.contextmanager
def socket_peer(*replies: bytes, hold: bool = True) -> Iterator[PeerSettings]:
    """A listener that answers each thing it reads with the next bytes, then goes silent.

    With ``hold`` the connection stays open until the end, and nothing more is read from it;
    without, it is closed after the last reply.
    """
    stop = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            for reply in replies:
                connection.recv(65_536)
                connection.sendall(reply)
            if hold:
                stop.wait()

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield peer_at(listener.getsockname()[1])
        finally:
            stop.set()
            # Wakes an accept() that nobody connected to.
            with contextlib.suppress(OSError), socket.create_connection(listener.getsockname(), 1):
                pass
            thread.join()
