"""pynetdicom's upper layer, waiting on events, with P-DATA-TF streamed past it in Sta6.

One thread an association reads the socket, writes the file and sends the C-STORE response.
Negotiation, C-ECHO, release and abort stay pynetdicom's state machine and primitives: this
class only decides when they run, and hands them whole PDUs whose length it has checked.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from typing import TYPE_CHECKING

from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError
from pynetdicom.pdu_primitives import P_DATA, _PDUPrimitiveType
from pynetdicom.timer import Timer

from dicom_node.intake.accepted_socket import wait_for
from dicom_node.intake.command import ProtocolViolation, StoreRequest, encode_store_response
from dicom_node.intake.store import Receipt
from dicom_node.intake.stream import HEADER_BYTES, P_DATA_TF, MessageStream, PduStream

if TYPE_CHECKING:
    from dicom_node.intake.association import StreamedAssociation

BUFFER_BYTES = 1 << 18
_ASSOCIATE_LIMIT_BYTES = 1 << 20
_LINGER_S = 2.0
_LONGEST_WAIT_S = 30.0
# What a peer must bring of a message within `network_timeout_s`: a link of 70 bytes a second does.
LEAST_PROGRESS_BYTES = 4096


class _StreamedDataSet:
    """The data set of one C-STORE, and its response when it is complete."""

    def __init__(self, upper_layer: StreamedUpperLayer, request: StoreRequest, receipt: Receipt):
        self._upper_layer = upper_layer
        self._request = request
        self._receipt = receipt
        self.write = receipt.write
        self.abandon = receipt.abandon

    def finish(self) -> None:
        answer = self._receipt.finish()
        self._upper_layer.respond(self._request, answer.status, answer.comment)


class StreamedUpperLayer(DULServiceProvider):
    """The receiving thread of one accepted association.

    ``has_stalled`` is set when the peer kept silent for too long, or brought too little of what it
    had begun: less than `LEAST_PROGRESS_BYTES` within ``network_timeout_s``, or within
    ``dimse_timeout_s`` nothing at all.
    """

    def __init__(self, association: StreamedAssociation) -> None:
        super().__init__(association)
        self.daemon = True
        self._association = association
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._whole: bytearray | None = None
        self._whole_bytes = 0
        self._messages = MessageStream(self)
        self._pdus = PduStream(self._messages, association.settings.max_pdu_bytes)
        self._progress_since: float | None = None
        self._progress_bytes = 0
        self._linger_until: float | None = None
        self.has_stalled = False

    # What the association's own thread calls.

    def send_pdu(self, primitive: _PDUPrimitiveType) -> None:
        """See `DULServiceProvider.send_pdu`; wakes the receiving thread."""
        super().send_pdu(primitive)
        self.wake()

    def kill_dul(self) -> None:
        """See `DULServiceProvider.kill_dul`; wakes the receiving thread."""
        super().kill_dul()
        self.wake()

    def wake(self) -> None:
        """Make the receiving thread look at its queues."""
        try:
            self._wake_writer.send(b"\0")
        except OSError:
            # Full: it is awake already. Closed: it has ended.
            return

    def discard(self) -> None:
        """Leave nothing behind; for an association whose receiving thread never ran, too."""
        self._messages.abandon()
        self._wake_reader.close()
        self._wake_writer.close()

    @property
    def is_between_messages(self) -> bool:
        """Whether nothing is half received."""
        return self._messages.is_between_messages and self._pdus.is_between_pdus

    def idle_timer_expired(self) -> bool:
        """Whether the association thread is to abort for silence."""
        return self.has_stalled

    # The receiving thread.

    def run_reactor(self) -> None:
        """Run until the state machine is idle again or the thread is killed."""
        self._idle_timer.start()
        self.assoc._dul_ready.set()
        try:
            while not self._kill_thread:
                self._turn()
        except InvalidEventError:
            # A primitive of ours crossed the peer's abort: there is nobody left to send it to.
            self._close_hard()
        except Exception:  # noqa: BLE001 - a thread boundary: one association ends, not the node
            self._association.events.unexpected("intake.upper_layer")
            self._close_hard()
        finally:
            self.discard()
            # The association thread may wait for a request that will not come any more.
            self.to_user_queue.put(None)
            self._association.activity.set()

    def _close_hard(self) -> None:
        self._association.is_aborted = True
        self._association.is_established = False
        self._association._kill = True
        self._kill_thread = True
        if self.socket is not None and self.socket.socket is not None:
            self.socket._shutdown_socket()

    def _turn(self) -> None:
        if self.artim_timer.expired:
            self.artim_timer.stop()
            self.event_queue.put("Evt18")
        if self._process_recv_primitive() or not self.event_queue.empty():
            self._act()
        elif not (self._filled and self._consume()):
            self._receive()

    def _act(self) -> None:
        event = self.event_queue.get(block=False)
        before = self.state_machine.current_state
        self.state_machine.do_action(event)
        if before == "Sta6" and self.state_machine.current_state != "Sta6":
            self._messages.abandon()
        self._association.activity.set()

    def _receive(self) -> None:
        wrapped = self.socket
        connection = wrapped.socket if wrapped is not None else None
        if wrapped is None or connection is None:
            self._wait_for_wake()
            return
        if self.state_machine.current_state == "Sta13" and self._has_lingered():
            wrapped.close()
            return
        try:
            taken = self._recv(connection)
        except (BlockingIOError, ssl.SSLWantReadError):
            self._wait_for_peer(connection, select.POLLIN)
            return
        except ssl.SSLWantWriteError:
            self._wait_for_peer(connection, select.POLLOUT)
            return
        except OSError:
            taken = 0
        if not taken:
            self._messages.abandon()
            wrapped.close()
            return
        self._filled += taken
        self._progress_bytes += taken
        self._idle_timer.restart()

    def _recv(self, connection: socket.socket) -> int:
        """Bytes read into the buffer; of TLS, whose records are small, all that has been read."""
        taken = connection.recv_into(self._view[self._filled :])
        if taken and isinstance(connection, ssl.SSLSocket):
            while (at := self._filled + taken) < BUFFER_BYTES:
                try:
                    more = connection.recv_into(self._view[at:])
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    break
                if not more:
                    break
                taken += more
        return taken

    def _has_lingered(self) -> bool:
        # Closing with unread bytes would reset the connection before the peer has read why.
        now = time.monotonic()
        if self._linger_until is None:
            self._linger_until = now + _LINGER_S
        return now >= self._linger_until

    def _wait_for_wake(self) -> None:
        wait_for(self._wake_reader, select.POLLIN, 1.0)
        self._drain_wake()

    def _wait_for_peer(self, connection: socket.socket, events: int) -> None:
        timeout_s = self._timeout_s()
        if timeout_s <= 0:
            return
        poller = select.poll()
        poller.register(connection, events)
        poller.register(self._wake_reader, select.POLLIN)
        ready = poller.poll(timeout_s * 1000 + 1)
        if any(fd == self._wake_reader.fileno() for fd, _ in ready):
            self._drain_wake()

    def _drain_wake(self) -> None:
        try:
            while self._wake_reader.recv(64):
                continue
        except BlockingIOError:
            return

    def _timeout_s(self) -> float:
        """How long to wait for bytes (s); tells the association when that is over."""
        left_s = [_LONGEST_WAIT_S, _left_s(self.artim_timer)]
        if self._linger_until is not None:
            left_s.append(self._linger_until - time.monotonic())
        elif self.state_machine.current_state == "Sta6" and not self.has_stalled:
            settings = self._association.settings
            left_s.append(_left_s(self._idle_timer))
            if not self._messages.is_between_messages:
                silence_s = settings.network_timeout_s - _left_s(self._idle_timer)
                left_s.append(settings.dimse_timeout_s - silence_s)
            if self._progress_since is not None:
                slow_s = time.monotonic() - self._progress_since
                left_s.append(settings.network_timeout_s - slow_s)
            if min(left_s) <= 0:
                self.has_stalled = True
                self._association.activity.set()
                return _LONGEST_WAIT_S
        return min(left_s)

    # What has been read.

    def _consume(self) -> bool:
        """Take from the buffer; whether anything was taken."""
        before = self._filled, self.event_queue.qsize()
        try:
            self._parse()
        except ProtocolViolation:
            self._refuse_bytes()
        self._note_progress()
        return before != (self._filled, self.event_queue.qsize())

    def _parse(self) -> None:
        state = self.state_machine.current_state
        if state == "Sta13":
            self._filled = 0
        elif self._whole is not None:
            self._continue_whole(self._whole)
        elif state == "Sta6":
            used = self._pdus.feed(self._view[: self._filled])
            self._drop(used)
            if self._pdus.is_between_pdus and self._filled >= HEADER_BYTES:
                self._begin_whole()
        elif self._filled >= HEADER_BYTES:
            self._begin_whole()

    def _drop(self, used: int) -> None:
        left = self._filled - used
        if used and left:
            self._view[:left] = bytes(self._view[used : self._filled])
        self._filled = left

    def _begin_whole(self) -> None:
        """Any PDU but P-DATA-TF in Sta6 is gathered whole, within a limit."""
        pdu_type, length = struct.unpack_from(">BxL", self._buffer)
        if pdu_type == P_DATA_TF:
            raise ProtocolViolation("P-DATA-TF outside of an association")
        if pdu_type not in range(1, 8):
            raise ProtocolViolation("a PDU of no known type")
        if length > _ASSOCIATE_LIMIT_BYTES or (pdu_type >= P_DATA_TF and length != 4):
            raise ProtocolViolation("a PDU is too long for its type")
        self._whole, self._whole_bytes = bytearray(), HEADER_BYTES + length
        self._continue_whole(self._whole)

    def _continue_whole(self, whole: bytearray) -> None:
        used = min(self._filled, self._whole_bytes - len(whole))
        whole += self._view[:used]
        self._drop(used)
        if len(whole) < self._whole_bytes:
            return
        self._whole = None
        try:
            pdu, event = self._decode_pdu(whole)
            # What decodes may still be none that it says it is; pynetdicom would find out too late.
            pdu.to_primitive()
        except Exception as failure:  # because pynetdicom raises all kinds on bad bytes
            raise ProtocolViolation("a PDU cannot be decoded") from failure
        self._recv_pdu.put(pdu)
        self.event_queue.put(event)

    def _note_progress(self) -> None:
        if self.is_between_messages and self._whole is None and not self._filled:
            self._progress_since = None
        elif self._progress_since is None or self._progress_bytes >= LEAST_PROGRESS_BYTES:
            self._progress_since = time.monotonic()
            self._progress_bytes = 0

    def _refuse_bytes(self) -> None:
        self._messages.abandon()
        self._filled = 0
        self._whole = None
        self.event_queue.put("Evt19")

    # `Messages` of the stream.

    def is_accepted(self, context_id: int) -> bool:
        """See `Messages`."""
        return context_id in self._association._accepted_cx

    def store(self, request: StoreRequest) -> _StreamedDataSet | None:
        """See `Messages`."""
        context = self._association._accepted_cx[request.context_id]
        receipt = self._association.received.begin(
            request, str(context.abstract_syntax), str(context.transfer_syntax[0])
        )
        data_set = _StreamedDataSet(self, request, receipt)
        if request.has_data_set:
            return data_set
        data_set.finish()
        return None

    def other(self, context_id: int, control: int, fragment: bytes) -> None:
        """See `Messages`: the same bytes for pynetdicom's own DIMSE provider."""
        primitive = P_DATA()
        primitive.presentation_data_value_list = [
            [context_id, bytes([control]) + fragment]  # type: ignore[list-item]
        ]
        try:
            self._association.dimse.receive_primitive(primitive)
        except Exception as failure:  # because pynetdicom raises all kinds on bad bytes
            raise ProtocolViolation("a DIMSE message cannot be decoded") from failure
        self._association.activity.set()

    def respond(self, request: StoreRequest, status: int, comment: str) -> None:
        """Send the C-STORE response from the receiving thread."""
        maximum = self._association.requestor.maximum_length or 0
        if self.socket is not None:
            self.socket.send(encode_store_response(request, status, comment, maximum))
        self._idle_timer.restart()


def _left_s(timer: Timer) -> float:
    if timer.timeout is None or timer._start_time is None or timer._end_time is not None:
        return _LONGEST_WAIT_S
    return float(timer.remaining)
