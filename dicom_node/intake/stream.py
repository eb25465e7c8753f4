"""P-DATA-TF parsed in place: the streamed receive path, free of sockets and of pynetdicom.

    PduStream      bytes as they come -> fragments (PS3.8 sections 9.3.5 and E.2)
    MessageStream  fragments -> a C-STORE whose data set goes on as views of the same bytes,
                   or, unchanged, any other message for the stock path

Bytes may be cut anywhere. Views are only valid until `PduStream.feed` returns: whoever takes
them has written them by then. Whatever breaks a rule raises `ProtocolViolation`; no length is
believed before it fits in the one around it.
"""

from __future__ import annotations

import struct
from typing import Protocol

from dicom_node.intake.command import (
    C_STORE_RQ,
    COMMAND_LIMIT_BYTES,
    ProtocolViolation,
    StoreRequest,
    command_field,
    decode_command,
    has_data_set,
    store_request,
)

P_DATA_TF = 0x04
HEADER_BYTES = 6
_COMMAND, _LAST = 1, 2
_FOREIGN_LIMIT_BYTES = 16 << 20
_HEADER = struct.Struct(">BxL")
_PDV_HEADER = struct.Struct(">LBB")


class DataSet(Protocol):
    """Where the data set of one C-STORE goes."""

    def write(self, pieces: list[memoryview]) -> None:
        """Take the next bytes; never raises for what the disk does."""
        ...

    def finish(self) -> None:
        """The data set is complete: keep it and answer."""
        ...

    def abandon(self) -> None:
        """It will never be complete: leave nothing behind."""
        ...


class Messages(Protocol):
    """What a `MessageStream` hands its findings to."""

    def is_accepted(self, context_id: int) -> bool:
        """Whether the presentation context was accepted in this association."""
        ...

    def store(self, request: StoreRequest) -> DataSet | None:
        """A C-STORE begins; None when it was answered at once (it has no data set)."""
        ...

    def other(self, context_id: int, control: int, fragment: bytes) -> None:
        """One fragment, complete, of a message that is not a C-STORE request."""
        ...


class Fragments(Protocol):
    """What a `PduStream` hands its findings to."""

    def fragment(self, context_id: int, control: int, view: memoryview, ends: bool) -> None:
        """Bytes of one presentation data value; `ends` with its last ones."""
        ...

    def flush(self) -> None:
        """The views given so far are about to become invalid."""
        ...


class PduStream:
    """Finds the fragments in P-DATA-TF PDUs; stops before any other kind of PDU."""

    def __init__(self, fragments: Fragments, maximum_pdu_bytes: int) -> None:
        self._fragments = fragments
        self._maximum_pdu_bytes = maximum_pdu_bytes
        self._pdu_left = 0
        self._value_left = 0
        self._context_id = 0
        self._control = 0
        self.pdus = 0

    @property
    def is_between_pdus(self) -> bool:
        """Whether the next byte begins a PDU."""
        return not self._pdu_left and not self._value_left

    def feed(self, view: memoryview) -> int:
        """Take what can be taken of `view`; returns how many bytes, the rest comes again.

        Stops early at a PDU of another kind (`is_between_pdus` is then true).
        """
        offset, end = 0, len(view)
        try:
            while True:
                if self._value_left:
                    offset = self._take(view, offset, end)
                    if self._value_left:
                        return offset
                elif end - offset < HEADER_BYTES:
                    return offset
                elif self._pdu_left:
                    self._begin_value(view, offset)
                    offset += HEADER_BYTES
                elif view[offset] == P_DATA_TF:
                    self._begin_pdu(view, offset)
                    offset += HEADER_BYTES
                else:
                    return offset
        finally:
            self._fragments.flush()

    def _begin_pdu(self, view: memoryview, offset: int) -> None:
        length = _HEADER.unpack_from(view, offset)[1]
        if not HEADER_BYTES <= length <= self._maximum_pdu_bytes:
            raise ProtocolViolation("a P-DATA-TF PDU is empty or above our maximum length")
        self._pdu_left = length
        self.pdus += 1

    def _begin_value(self, view: memoryview, offset: int) -> None:
        length, self._context_id, self._control = _PDV_HEADER.unpack_from(view, offset)
        if length < 2 or length + 4 > self._pdu_left:
            raise ProtocolViolation("a presentation data value does not fit in its PDU")
        self._pdu_left -= length + 4
        if 0 < self._pdu_left < HEADER_BYTES:
            raise ProtocolViolation("a PDU ends within the header of a presentation data value")
        self._value_left = length - 2
        if not self._value_left:
            self._fragments.fragment(self._context_id, self._control, view[:0], True)

    def _take(self, view: memoryview, offset: int, end: int) -> int:
        taken = min(self._value_left, end - offset)
        if taken:
            self._value_left -= taken
            piece = view[offset : offset + taken]
            self._fragments.fragment(
                self._context_id, self._control, piece, not self._value_left
            )
        return offset + taken


class MessageStream:
    """Assembles messages of fragments: command set first, then the data set it announces."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self._context_id = 0
        self._command = bytearray()
        self._pieces: list[memoryview] = []
        self._data_set: DataSet | None = None
        self._foreign: bytearray | None = None
        self._foreign_bytes = 0

    @property
    def is_between_messages(self) -> bool:
        """Whether the next fragment begins a message."""
        return self._data_set is None and self._foreign is None and not self._context_id

    def fragment(self, context_id: int, control: int, view: memoryview, ends: bool) -> None:
        """See `Fragments`."""
        if not self._context_id:
            if not self._messages.is_accepted(context_id):
                raise ProtocolViolation("a message comes in a context that was not accepted")
            self._context_id = context_id
        elif context_id != self._context_id:
            raise ProtocolViolation("a message changes its presentation context")
        last = bool(control & _LAST) and ends
        if control & _COMMAND:
            self._take_command(view, last)
        elif self._data_set is not None:
            self._pieces.append(view)
            if last:
                self._finish()
        elif self._foreign is not None:
            self._take_foreign(self._foreign, view, control, ends)
        else:
            raise ProtocolViolation("a data set comes before its command set")

    def flush(self) -> None:
        """See `Fragments`."""
        if self._pieces and self._data_set is not None:
            self._data_set.write(self._pieces)
            self._pieces = []

    def abandon(self) -> None:
        """The association is over: leave nothing of an unfinished message."""
        self._pieces = []
        if self._data_set is not None:
            self._data_set.abandon()
            self._data_set = None

    def _take_command(self, view: memoryview, last: bool) -> None:
        if self._data_set is not None or self._foreign is not None:
            raise ProtocolViolation("a command set comes within a data set")
        self._command += view
        if len(self._command) > COMMAND_LIMIT_BYTES:
            raise ProtocolViolation("a command set is too long")
        if last:
            command, self._command = bytes(self._command), bytearray()
            self._begin_message(command)

    def _begin_message(self, command: bytes) -> None:
        values = decode_command(command)
        if command_field(values) == C_STORE_RQ:
            self._data_set = self._messages.store(store_request(values, self._context_id))
            if self._data_set is None:
                self._context_id = 0
            return
        context_id = self._context_id
        if has_data_set(values):
            self._foreign, self._foreign_bytes = bytearray(), 0
        else:
            self._context_id = 0
        self._messages.other(context_id, _COMMAND | _LAST, command)

    def _take_foreign(
        self, foreign: bytearray, view: memoryview, control: int, ends: bool
    ) -> None:
        foreign += view
        self._foreign_bytes += len(view)
        if self._foreign_bytes > _FOREIGN_LIMIT_BYTES:
            raise ProtocolViolation("a message other than C-STORE is too long")
        if ends:
            context_id, self._foreign = self._context_id, bytearray()
            if control & _LAST:
                self._foreign, self._context_id = None, 0
            self._messages.other(context_id, control & _LAST, bytes(foreign))

    def _finish(self) -> None:
        self.flush()
        data_set, self._data_set, self._context_id = self._data_set, None, 0
        if data_set is not None:
            data_set.finish()
