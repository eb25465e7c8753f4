"""The Storage Commitment Push Model as SCU on one association (PS3.4 annex J.3).

    ask      N-ACTION, its status
    reports  the N-EVENT-REPORTs that come on the same association, each answered when the
             caller has kept it
"""

from __future__ import annotations

import contextlib
import io
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dicom_node import references
from dicom_node.delivery import wire
from dicom_node.delivery.association import Association, Context
from dicom_node.errors import PeerUnavailable
from dicom_node.references import PUSH_MODEL, PUSH_MODEL_INSTANCE

# Implicit first: every application has it (PS3.5 section 10.1).
CONTEXTS = (
    Context(PUSH_MODEL, "1.2.840.10008.1.2"),
    Context(PUSH_MODEL, "1.2.840.10008.1.2.1"),
)
_EXPLICIT = "1.2.840.10008.1.2.1"
_REQUEST_STORAGE_COMMITMENT = 1
_N_EVENT_REPORT_RQ, _N_EVENT_REPORT_RSP = 0x0100, 0x8100
_N_ACTION_RQ, _N_ACTION_RSP = 0x0130, 0x8130
_EVENT_TYPE_ID, _ACTION_TYPE_ID = 0x1002, 0x1008
_REQUESTED_SOP_CLASS_UID, _REQUESTED_SOP_INSTANCE_UID = 0x0003, 0x1001
_DATA_SET_FOLLOWS = 0x0000
_UNRECOGNISED_OPERATION = 0x0211
_LONGEST_COMMAND_BYTES = 1 << 16
_LONGEST_REPORT_BYTES = 16 << 20
_LOOK_EVERY_S = 0.2


@dataclass(frozen=True)
class Report:
    """An N-EVENT-REPORT request; ``data_set`` is its Event Information, still encoded."""

    event_type_id: int
    data_set: bytes
    explicit_vr: bool


@dataclass(frozen=True)
class _Message:
    context_id: int
    elements: dict[int, bytes]
    data_set: bytes


class CommitmentAssociation(Association):
    """An association on which storage commitment is asked for; `Association` says what it raises.

    ``keep`` takes every report and returns the status that answers it; it is called before the
    answer goes out, so what it has made durable is what the peer may forget.
    """

    keep: Callable[[Report], int]
    _values: deque[tuple[int, int, bytes]]

    @property
    def context(self) -> Context | None:
        """The context to ask in; None where the peer does not offer storage commitment."""
        return next((one for one in CONTEXTS if self.accepts(one)), None)

    def ask(
        self,
        context: Context,
        transaction_uid: str,
        instances: Sequence[tuple[str, str]],
        keep: Callable[[Report], int],
    ) -> int:
        """Ask to commit ``instances`` (class, instance); the status of the answer."""
        self.keep, self._values = keep, deque()
        message_id, context_id = self._next_message_id(), self._accepted[context]
        command = encode_command(
            (_REQUESTED_SOP_CLASS_UID, PUSH_MODEL),
            (wire.COMMAND_FIELD, _N_ACTION_RQ),
            (wire.MESSAGE_ID, message_id),
            (wire.COMMAND_DATA_SET_TYPE, _DATA_SET_FOLLOWS),
            (_REQUESTED_SOP_INSTANCE_UID, PUSH_MODEL_INSTANCE),
            (_ACTION_TYPE_ID, _REQUEST_STORAGE_COMMITMENT),
        )
        data_set = references.encode(
            {
                references.TRANSACTION_UID: transaction_uid,
                references.REFERENCED_SOP_SEQUENCE: [
                    references.reference(*instance) for instance in instances
                ],
            },
            explicit_vr=context.transfer_syntax_uid == _EXPLICIT,
        )
        self._write(wire.pdv_pdu(context_id, wire.COMMAND_LAST, command))
        self._write_data_set(context_id, io.BytesIO(data_set), len(data_set))
        deadline = time.monotonic() + self._timeouts.response_s
        with self._by_the_rules():
            while True:
                message = self._message(deadline)
                field = wire.unsigned_short(message.elements, wire.COMMAND_FIELD)
                if field != _N_ACTION_RSP:
                    self._serve(message)
                elif self._answers(message, message_id):
                    return wire.unsigned_short(message.elements, wire.STATUS)

    def reports(self, wait_s: float, is_awaited: Callable[[], bool]) -> None:
        """Serve what the peer reports for ``wait_s`` seconds, or until nothing is awaited."""
        deadline = time.monotonic() + wait_s
        with self._by_the_rules():
            while is_awaited() and (left_s := deadline - time.monotonic()) > 0:
                if self._values or self.has_bytes(min(left_s, _LOOK_EVERY_S)):
                    self._serve(self._message(time.monotonic() + self._timeouts.response_s))

    @contextlib.contextmanager
    def _by_the_rules(self) -> Iterator[None]:
        try:
            yield
        except wire.MalformedPdu as error:
            raise self._unavailable(f"broke the protocol: {error}", "peer.protocol") from error

    def _answers(self, message: _Message, message_id: int) -> bool:
        answered = wire.unsigned_short(message.elements, wire.MESSAGE_ID_BEING_RESPONDED_TO)
        return answered == message_id

    def _serve(self, message: _Message) -> None:
        """Answer a request of the peer; its answers to nothing that we asked are passed over."""
        elements = message.elements
        field = wire.unsigned_short(elements, wire.COMMAND_FIELD)
        if field & 0x8000:
            return
        status = _UNRECOGNISED_OPERATION
        answer = [
            (wire.COMMAND_FIELD, field | 0x8000),
            (wire.MESSAGE_ID_BEING_RESPONDED_TO, wire.unsigned_short(elements, wire.MESSAGE_ID)),
            (wire.COMMAND_DATA_SET_TYPE, wire.NO_DATA_SET),
        ]
        if field == _N_EVENT_REPORT_RQ:
            event_type_id = wire.unsigned_short(elements, _EVENT_TYPE_ID)
            explicit_vr = any(
                one.transfer_syntax_uid == _EXPLICIT and number == message.context_id
                for one, number in self._accepted.items()
            )
            status = self.keep(Report(event_type_id, message.data_set, explicit_vr))
            answer.append((_EVENT_TYPE_ID, event_type_id))
        command = encode_command(*answer, (wire.STATUS, status))
        self._write(wire.pdv_pdu(message.context_id, wire.COMMAND_LAST, command))

    def _message(self, deadline: float) -> _Message:
        """The next whole message."""
        context_id, command = self._gather(None, True, _LONGEST_COMMAND_BYTES, deadline)
        elements = wire.decode_command(command)
        data_set = b""
        if wire.unsigned_short(elements, wire.COMMAND_DATA_SET_TYPE) != wire.NO_DATA_SET:
            _, data_set = self._gather(context_id, False, _LONGEST_REPORT_BYTES, deadline)
        return _Message(context_id, elements, data_set)

    def _gather(
        self, context_id: int | None, is_command: bool, most_bytes: int, deadline: float
    ) -> tuple[int, bytes]:
        gathered = bytearray()
        while True:
            number, control, fragment = self._value(deadline)
            if bool(control & 1) is not is_command or number != (context_id or number):
                raise wire.MalformedPdu("a value that is no part of the message under way")
            context_id = number
            gathered += fragment
            if len(gathered) > most_bytes:
                raise wire.MalformedPdu("a message without end")
            if control & 2:
                return number, bytes(gathered)

    def _value(self, deadline: float) -> tuple[int, int, bytes]:
        while not self._values:
            kind, body = self._read_pdu(deadline)
            if kind != wire.P_DATA:
                raise self._ended(kind)
            self._values.extend(wire.iterate_pdvs(body))
        return self._values.popleft()

    def _ended(self, kind: int) -> PeerUnavailable:
        how = {wire.ABORT: "aborted", wire.RELEASE_REQUEST: "released"}.get(kind)
        if how is None:
            return self._unavailable(f"answered with PDU {kind:02X}", "peer.protocol")
        if kind == wire.RELEASE_REQUEST:
            self._write(wire.RELEASE_RESPONSE_PDU)
        return self._unavailable(f"{how} the association", f"peer.{how}")


def encode_command(*elements: tuple[int, int | str]) -> bytes:
    """A command set of unsigned shorts and UIDs, in the order of their tags (PS3.7 section 6.3)."""
    body = bytearray()
    for number, value in sorted(elements):
        if isinstance(value, int):
            encoded = struct.pack("<H", value)
        else:
            encoded = value.encode("ascii")
            encoded += b"\0" * (len(encoded) % 2)
        body += struct.pack("<HHL", 0, number, len(encoded)) + encoded
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + bytes(body)
