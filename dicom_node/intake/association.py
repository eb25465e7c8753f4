"""One accepted association: who may have it, its contexts, its end."""

from __future__ import annotations

import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from uuid import uuid4

from pynetdicom import evt
from pynetdicom.acse import ACSE
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import DimseServiceType
from pynetdicom.pdu_primitives import A_ASSOCIATE

from dicom_node import records
from dicom_node.events import Events
from dicom_node.intake.access import (
    CALLER_LIMIT,
    LOCAL_LIMIT,
    MALFORMED,
    NO_SPACE,
    Arrival,
    Refusal,
    caller_of,
    refusal,
)
from dicom_node.intake.active import ActiveAssociations
from dicom_node.intake.contexts import SupportedContexts
from dicom_node.intake.door import Visitor
from dicom_node.intake.normalised import MESSAGES, BoundedMessages, NormalisedServices
from dicom_node.intake.pressure import Claim, Room
from dicom_node.intake.quota import Quotas, limit_of
from dicom_node.intake.refusals import Refusals, printable
from dicom_node.intake.settings import Caller, ListenerSettings
from dicom_node.intake.store import Index, Limits, ReceivedAssociation
from dicom_node.intake.tls import secured, shake_hands
from dicom_node.intake.upper_layer import StreamedUpperLayer
from dicom_node.ledger import clock
from dicom_node.spool import Spool
from dicom_node.tls_context import Renewed, failure_reason, names_of

_KILL_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Surroundings:
    """What every association of a listener shares."""

    settings: ListenerSettings
    contexts: SupportedContexts
    spool: Spool
    index: Index
    events: Events
    refusals: Refusals
    active: ActiveAssociations
    services: NormalisedServices | None = None
    room: Room | None = None
    quotas: Quotas | None = None
    tls: Renewed[ssl.SSLContext] | None = None


class GuardedNegotiation(ACSE):
    """pynetdicom's negotiation after our access decision, with the contexts asked for only."""

    def _negotiate_as_acceptor(self) -> None:
        association = self.assoc
        assert isinstance(association, IntakeAssociation)  # noqa: S101 - made by one
        request = cast(A_ASSOCIATE, self.requestor.primitive)
        around = association.surroundings
        calling, called = str(request.calling_ae_title), str(request.called_ae_title)
        self.requestor.ae_title = request.calling_ae_title
        proposed = request.presentation_context_definition_list
        asked = [str(context.abstract_syntax) for context in proposed]
        if any(context.abstract_syntax is None for context in proposed):
            # pynetdicom takes the request apart no further than it has to, and falls over it later.
            refused: Refusal | None = MALFORMED
        else:
            refused = association.why_not(called, calling, asked)
        if refused is not None:
            association.tell_refusal(refused.reason, calling, called)
            self.send_reject(refused.result, refused.source, refused.diagnostic)
            evt.trigger(association, evt.EVT_REJECTED, {})
            association.kill()
            return
        association.begin(calling.strip(), called.strip())
        self.acceptor.supported_contexts = around.contexts.matching(asked)
        super()._negotiate_as_acceptor()


class IntakeAssociation(Association):
    """An accepted association on pynetdicom's own receive path (``receive_path: stock``)."""

    def __init__(self, ae: ApplicationEntity, surroundings: Surroundings) -> None:
        super().__init__(ae, "acceptor")
        self.surroundings = surroundings
        self.settings = surroundings.settings
        self.events = surroundings.events
        self.acse = GuardedNegotiation(self)
        self.dimse = BoundedMessages(self)
        self.activity = threading.Event()
        # Presentation context and transaction of storage commitments to report here.
        self.unreported: deque[tuple[int, str]] = deque()
        self.received: ReceivedAssociation | None = None
        self.visitor: Visitor | None = None
        self.is_cut = False
        self._is_refused = False
        self._certificate_names: frozenset[str] = frozenset()
        self._caller: Caller | None = None
        self._has_entered = False
        self._place: int | None = None
        self._claim: Claim | None = None
        self._message_id = 0

    def _bind_defaults(self) -> None:
        # pynetdicom's notification handlers format every PDU and data set for its log.
        for event in evt._INTERVENTION_EVENTS:
            self.bind(event, evt.get_default_handler(event))

    @property
    def address(self) -> str:
        """The IP address of the caller."""
        return self.visitor.address[0] if self.visitor is not None else ""

    @property
    def tls_identity(self) -> str:
        """The names of the caller's certificate, empty without one."""
        return " ".join(sorted(self._certificate_names))

    def why_not(
        self, called: str, calling: str, abstract_syntaxes: Sequence[str]
    ) -> Refusal | None:
        """Why the association is refused; None when its places and space are taken."""
        around, title = self.surroundings, calling.strip()
        arrival = Arrival(self.address, self._certificate_names)
        refused = refusal(self.settings, called, calling, arrival)
        if refused is not None:
            return refused
        self._caller = caller_of(self.settings, calling, arrival)
        if around.quotas is not None:
            limit = limit_of(self.settings, self._caller)
            self._place = around.quotas.enter(title, limit)
            if self._place is None:
                return CALLER_LIMIT
        self._has_entered = around.active.enter(self.settings.max_associations)
        if not self._has_entered:
            return LOCAL_LIMIT
        return None if self.claim(title, abstract_syntaxes) else NO_SPACE

    def tell_refusal(self, reason: str, calling: str = "", called: str = "") -> None:
        """Tell that no association was made."""
        self._is_refused = True
        self.surroundings.refusals.tell(
            self.address, reason, calling, called, self.tls_identity
        )

    def claim(self, calling_ae_title: str, abstract_syntaxes: Sequence[str]) -> bool:
        """Take space for what is to be stored; False when there is none for the moment.

        Who stores nothing (an echo, a report) needs none.
        """
        around = self.surroundings
        if around.room is None or not around.contexts.any_storage(abstract_syntaxes):
            return True
        self._claim = around.room.claim(calling_ae_title)
        return self._claim is not None

    def begin(self, calling_ae_title: str, called_ae_title: str) -> None:
        """The association is accepted."""
        around = self.surroundings
        opened = records.Association(
            uuid4().hex, calling_ae_title, around.index.listener_id, clock.now()
        )
        self.received = ReceivedAssociation(
            opened, self.settings.ae_title, around.spool, around.index, self.events,
            self._claim.brought if self._claim is not None else None,
            Limits(self.settings.max_instance_bytes, self.settings.max_sequence_depth),
            around.quotas.allowance(self._caller) if around.quotas is not None else None,
            self.address,
        )
        self.acse_timeout = self.settings.acse_timeout_s
        self.events.association_accepted(
            opened.association_id, printable(calling_ae_title),
            called_ae_title=printable(called_ae_title), address=self.address,
            tls_identity=printable(self.tls_identity, 200),
        )

    def run_reactor(self) -> None:
        """Run the association to its end, and tell how it ended."""
        try:
            if self._shake_hands():
                super().run_reactor()
        except Exception:  # noqa: BLE001 - a thread boundary: one association ends, not the node
            self.events.unexpected("intake.association")
            self.is_aborted = True
            self.close_hard()
        finally:
            self._clean_up()
            if self._has_entered:
                self.surroundings.active.leave()
            if self._place is not None and self.surroundings.quotas is not None:
                self.surroundings.quotas.leave(self._place)
            if self._claim is not None:
                self._claim.end()
            if self.unreported and self.surroundings.services is not None:
                self.surroundings.services.leave(self)
            if self.received is not None:
                self.received.end(self._how_it_ended())
            elif not self._is_refused:
                self.tell_refusal("access.no_association")

    def _shake_hands(self) -> bool:
        """Whether the connection is there; on a port that speaks TLS, after its handshake."""
        visitor, tls, wrapped = self.visitor, self.surroundings.tls, self.dul.socket
        if visitor is None or wrapped is None:
            return True
        if visitor.speaks_tls and tls is not None:
            try:
                # At once in its place, so that it can be cut off meanwhile.
                wrapped.socket = connection = secured(visitor.connection, tls.get())
                shake_hands(connection, visitor.deadline)
            except OSError as failure:
                self.is_aborted = self._kill = True
                self.tell_refusal(failure_reason(failure))
                return False
            self._certificate_names = names_of(connection.getpeercert())
            connection.settimeout(self._blocks_for_s())
        # What the handshake has left of the time to ask for an association.
        self.acse_timeout = max(0.1, visitor.deadline - time.monotonic())
        return not self.is_cut

    def _blocks_for_s(self) -> float:
        return self.settings.network_timeout_s

    def _serve_request(self, msg: DimseServiceType, context_id: int) -> None:
        services = self.surroundings.services
        if services is None:
            super()._serve_request(msg, context_id)
            return
        if not isinstance(msg, MESSAGES):
            super()._serve_request(msg, context_id)
        elif threading.current_thread() is not self:
            # pynetdicom serves reports in a new thread each; here one follows the other.
            self.dimse.msg_queue.put((context_id, msg))
            self.activity.set()
            return
        elif context_id in self._accepted_cx:
            services.serve(self, msg, self._accepted_cx[context_id])
        else:
            self.abort()
        services.report(self)

    def next_message_id(self) -> int:
        """The ID of a request of ours."""
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id

    @property
    def is_open(self) -> bool:
        """Whether nobody has asked for the end of the association."""
        return (
            self.is_established and not self._kill and self.dul.is_alive()
            and self.dul.peek_next_pdu() is None
        )

    @property
    def is_idle(self) -> bool:
        """Whether it is open and no message waits to be served."""
        return self.is_open and self.dimse.msg_queue.empty()

    def _how_it_ended(self) -> str:
        return "released" if self.is_released else "aborted"

    def _clean_up(self) -> None:
        # pynetdicom leaves the temporary file of a message that was cut off.
        message = self.dimse.message
        if message is not None and message._data_set_file is not None:
            message._data_set_file.close()
            Path(message._data_set_file.name).unlink(missing_ok=True)

    def close_hard(self) -> None:
        """Cut the connection."""
        self._kill = self.is_cut = True
        self.dul.kill_dul()
        wrapped = self.dul.socket
        if wrapped is not None and wrapped.socket is not None:
            wrapped._shutdown_socket()

    @property
    def is_busy(self) -> bool:
        """Whether a message is half received."""
        return self.dimse.message is not None

    def request_close(self) -> None:
        """End soon: at once when nothing is half received."""
        if not self.is_busy:
            threading.Thread(target=self.abort, daemon=True).start()


class StreamedAssociation(IntakeAssociation):
    """An accepted association whose data sets go straight to disk."""

    received: ReceivedAssociation

    def __init__(self, ae: ApplicationEntity, surroundings: Surroundings) -> None:
        super().__init__(ae, surroundings)
        self._close_requested = False
        self.dul: StreamedUpperLayer = StreamedUpperLayer(self)
        self.acse_timeout = self.settings.acse_timeout_s
        self.dimse_timeout = self.settings.dimse_timeout_s
        self.network_timeout = self.settings.network_timeout_s

    def kill(self) -> None:
        """End both threads; waits for the receiving one without polling."""
        self._reactor_checkpoint.set()
        self._kill = True
        self.is_established = False
        self._is_paused = True
        if self.dul.state_machine.current_state == "Sta1":
            self.dul.kill_dul()
        else:
            self.dul.wake()
        if threading.current_thread() is not self.dul:
            self.dul.join(_KILL_PATIENCE_S)
        if self.dul.is_alive():
            self.close_hard()

    def request_close(self) -> None:
        """End as soon as nothing is half received."""
        self._close_requested = True
        self.activity.set()

    @property
    def is_busy(self) -> bool:
        """Whether a message is half received."""
        return not self.dul.is_between_messages

    def _blocks_for_s(self) -> float:
        return 0.0

    def _clean_up(self) -> None:
        if self.dul.ident is None:
            self.dul.discard()
        if self.dul.is_alive() and threading.current_thread() is not self.dul:
            self.close_hard()
            self.dul.join(_KILL_PATIENCE_S)

    def _run_reactor(self) -> None:
        """Serve what the receiving thread does not: C-ECHO, release, abort, time-outs."""
        self._is_paused = False
        while not self._kill:
            self.activity.wait(1.0 if self._close_requested else None)
            self.activity.clear()
            self._is_paused = True
            self._reactor_checkpoint.wait()
            self._is_paused = False
            self._serve_messages()
            if self._serve_end():
                return

    def _serve_messages(self) -> None:
        while not self.dimse.msg_queue.empty():
            context_id, message = self.dimse.msg_queue.get(block=False)
            if message and context_id is not None:
                self._serve_request(message, context_id)

    def _serve_end(self) -> bool:
        """Whether the association is over."""
        if self.is_established and self.acse.is_release_requested():
            self.acse.send_release(is_response=True)
            self.is_released = True
            self.is_established = False
            evt.trigger(self, evt.EVT_RELEASED, {})
        elif self.acse.is_aborted():
            self.dul.receive_pdu(wait=False)
            self.is_aborted = True
            self.is_established = False
            evt.trigger(self, evt.EVT_ABORTED, {})
        elif self.dul.idle_timer_expired() or (self._close_requested and not self.is_busy):
            self.abort()
        elif self.dul.is_alive() and not self._kill:
            return False
        self.kill()
        return True


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Wait for `condition`, looking twenty times a second; whether it came true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
