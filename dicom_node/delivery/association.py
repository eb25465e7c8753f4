"""One association as requestor: negotiate, C-STORE, C-ECHO, release, without threads or polling.

Every wait has an end: connecting, the answer to the association request, each write (the peer
must take a fragment) and the answer to each command. A peer that stalls costs a time limit and
never a thread. TCP_NODELAY is set: without it every instance waits 40 ms for a delayed ACK.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

from dicom_node.delivery import wire
from dicom_node.delivery.associate_request import Context, encode_request
from dicom_node.delivery.open_sockets import OpenSockets
from dicom_node.delivery.tls import secured, shake_hands
from dicom_node.errors import ConfigurationError, PeerUnavailable
from dicom_node.tls_context import failure_reason, outgoing

if TYPE_CHECKING:
    from dicom_node.config import PeerSettings

__all__ = ["MAX_CONTEXTS", "Association", "Context", "Timeouts"]

MAX_CONTEXTS = 128
_LONGEST_PDU_BYTES = 1 << 20
_LONGEST_COMMAND_BYTES = 1 << 16
_LARGEST_FRAGMENT_BYTES = 131_072 - 6
_READ_AHEAD_BYTES = 4096

# PS3.8 table 9-21: (source, reason) of an A-ASSOCIATE-RJ.
_REJECTIONS = {
    (1, 2): "application_context",
    (1, 3): "calling_ae_title",
    (1, 7): "called_ae_title",
    (2, 2): "protocol_version",
    (3, 1): "congestion",
    (3, 2): "local_limit",
}


@dataclass(frozen=True)
class Timeouts:
    """How long to wait for a peer, in seconds.

    ``connect_s`` for TCP, ``association_s`` for the answer to an association or release request,
    ``write_s`` for a fragment to be taken, ``response_s`` for the answer to a command once its
    data set is sent (archives index and copy before they answer).
    """

    connect_s: float = 10.0
    association_s: float = 30.0
    write_s: float = 60.0
    response_s: float = 120.0


class Association:
    """An established association; a context manager that releases, or aborts on an exception.

    Raises `PeerUnavailable` from every method when the association is not there any more.
    ``sockets`` keeps an eye on its connection, so that another thread can end it.
    """

    def __init__(
        self,
        peer: PeerSettings,
        calling_ae_title: str,
        contexts: Sequence[Context],
        timeouts: Timeouts,
        sockets: OpenSockets | None = None,
    ) -> None:
        self.rejected: dict[Context, int] = {}
        self._peer = peer
        self._timeouts = timeouts
        self._message_id = 0
        self._accepted: dict[Context, int] = {}
        self._sockets = sockets or OpenSockets()
        # What `has_bytes` had to read to see it.
        self._unread = b""
        self._socket = self._connect()
        self._sockets.add(self._socket)
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self._close)
            self._shake_hands()
            self._negotiate(calling_ae_title, contexts)
            on_failure.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.release()
        else:
            self.abort()

    def accepts(self, context: Context) -> bool:
        """Whether the peer accepted this class in this transfer syntax."""
        return context in self._accepted

    def knows(self, contexts: Sequence[Context]) -> bool:
        """Whether the peer was asked about all of these when the association was made."""
        return all(one in self._accepted or one in self.rejected for one in contexts)

    def is_quiet(self) -> bool:
        """Whether the peer has said nothing that nobody asked for, such as that it hangs up."""
        return not self.has_bytes(0.0)

    def has_bytes(self, within_s: float) -> bool:
        """Whether the peer says something, or hangs up, within so many seconds.

        Of TLS that is known only by reading: its own messages are none of the peer's.
        """
        connection = self._socket
        if self._unread:
            return True
        if not isinstance(connection, ssl.SSLSocket):
            watched = select.poll()
            watched.register(connection, select.POLLIN)
            return bool(watched.poll(1000 * within_s))
        try:
            connection.settimeout(max(0.0, within_s))
            self._unread = connection.recv(_READ_AHEAD_BYTES)
        except (TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError:
            return True
        return True

    def store(
        self, context: Context, sop_instance_uid: str, data_set: BinaryIO, length_bytes: int
    ) -> int:
        """Send one C-STORE-RQ with its data set and return the Status of the response.

        ``data_set`` stands at the data set's first byte, which is encoded in the context's
        transfer syntax; it is read in fragments and never held whole.

        Raises
        ------
        PeerUnavailable
            The association ended, or the peer did not answer in time; nothing is known about
            the object.
        OSError
            ``data_set`` could not be read; the association must then be aborted.
        """
        command = wire.encode_store_request(
            self._next_message_id(), context.sop_class_uid, sop_instance_uid
        )
        context_id = self._accepted[context]
        self._write(wire.pdv_pdu(context_id, wire.COMMAND_LAST, command))
        self._write_data_set(context_id, data_set, length_bytes)
        return self._response_status(context_id, wire.C_STORE_RESPONSE)

    def echo(self, context: Context) -> int:
        """Send one C-ECHO-RQ and return the Status of the response."""
        context_id = self._accepted[context]
        command = wire.encode_echo_request(self._next_message_id())
        self._write(wire.pdv_pdu(context_id, wire.COMMAND_LAST, command))
        return self._response_status(context_id, wire.C_ECHO_RESPONSE)

    def release(self) -> None:
        """Release; whatever the peer does, what it answered before stands."""
        try:
            self._write(wire.RELEASE_REQUEST_PDU)
            deadline = time.monotonic() + self._timeouts.association_s
            while True:
                kind, _ = self._read_pdu(deadline)
                if kind == wire.RELEASE_REQUEST:
                    # Both asked at once (PS3.8 7.2.2.7): the requestor answers first.
                    self._write(wire.RELEASE_RESPONSE_PDU)
                elif kind in (wire.RELEASE_RESPONSE, wire.ABORT):
                    break
        except PeerUnavailable:
            pass
        finally:
            self._close()

    def abort(self) -> None:
        """Tell the peer, as far as it still listens, that the association is over."""
        try:
            self._socket.settimeout(min(1.0, self._timeouts.write_s))
            self._socket.sendall(wire.ABORT_PDU)
        except OSError:
            pass
        finally:
            self._close()

    def _close(self) -> None:
        self._sockets.close_one(self._socket)

    def _connect(self) -> socket.socket:
        address = (self._peer.host, self._peer.port)
        try:
            how = outgoing(self._peer)
            connection = socket.create_connection(address, self._timeouts.connect_s)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return secured(connection, how)
        except ConfigurationError as error:
            # Files that are being renewed: what waits for this peer goes on waiting.
            raise self._unavailable(f"cannot be called by TLS: {error}", "tls.files") from error
        except OSError as error:
            raise self._unavailable(f"cannot be reached: {error}", "peer.unreachable") from error

    def _shake_hands(self) -> None:
        try:
            shake_hands(self._socket, self._timeouts.association_s)
        except OSError as error:
            reason = failure_reason(error)
            raise self._unavailable(f"cannot be called by TLS: {reason}", reason) from error

    def _negotiate(self, calling_ae_title: str, contexts: Sequence[Context]) -> None:
        identified = {2 * index + 1: context for index, context in enumerate(contexts)}
        self._write(encode_request(calling_ae_title, self._peer, identified))
        kind, body = self._read_pdu(time.monotonic() + self._timeouts.association_s)
        if kind == wire.ASSOCIATE_REJECT:
            raise self._rejection(body)
        if kind == wire.ABORT:
            raise self._unavailable("aborted the association request", "peer.aborted")
        if kind != wire.ASSOCIATE_ACCEPT:
            raise self._unavailable(f"answered with PDU {kind:02X}", "peer.protocol")
        try:
            acceptance = wire.decode_acceptance(body)
        except wire.MalformedPdu as error:
            raise self._unavailable(f"broke the protocol: {error}", "peer.protocol") from error
        for context_id, context in identified.items():
            # A context that the peer leaves out is one that it does not take.
            result, transfer_syntax_uid = acceptance.results.get(context_id, (2, ""))
            if result == 0 and transfer_syntax_uid == context.transfer_syntax_uid:
                self._accepted[context] = context_id
            else:
                self.rejected[context] = result
        self._fragment_bytes = self._choose_fragment_bytes(acceptance.maximum_pdu_bytes)

    def _choose_fragment_bytes(self, maximum_pdu_bytes: int) -> int:
        if maximum_pdu_bytes == 0:
            return _LARGEST_FRAGMENT_BYTES
        if maximum_pdu_bytes <= 6:
            raise self._unavailable(
                f"takes PDUs of {maximum_pdu_bytes} bytes only", "peer.protocol"
            )
        return min(maximum_pdu_bytes - 6, _LARGEST_FRAGMENT_BYTES)

    def _write_data_set(self, context_id: int, data_set: BinaryIO, length_bytes: int) -> None:
        buffer = bytearray(12 + min(self._fragment_bytes, max(length_bytes, 1)))
        view = memoryview(buffer)
        left_bytes = length_bytes
        while True:
            wanted_bytes = min(self._fragment_bytes, left_bytes)
            _read_exactly(data_set, view[12 : 12 + wanted_bytes])
            left_bytes -= wanted_bytes
            control = wire.DATA_SET_MORE if left_bytes else wire.DATA_SET_LAST
            view[:12] = wire.pdv_pdu_header(context_id, control, wanted_bytes)
            self._write(view[: 12 + wanted_bytes])
            if not left_bytes:
                return

    def _response_status(self, context_id: int, command_field: int) -> int:
        deadline = time.monotonic() + self._timeouts.response_s
        command = bytearray()
        while True:
            kind, body = self._read_pdu(deadline)
            if kind != wire.P_DATA:
                how = {wire.ABORT: "aborted", wire.RELEASE_REQUEST: "released"}.get(kind)
                if how is None:
                    raise self._unavailable(f"answered with PDU {kind:02X}", "peer.protocol")
                raise self._unavailable(f"{how} the association", f"peer.{how}")
            try:
                if self._gather_command(context_id, body, command):
                    return self._status_of(bytes(command), command_field)
            except wire.MalformedPdu as error:
                raise self._unavailable(f"broke the protocol: {error}", "peer.protocol") from error

    def _gather_command(self, context_id: int, body: bytes, command: bytearray) -> bool:
        for number, control, fragment in wire.iterate_pdvs(body):
            if number != context_id or not control & 1:
                raise wire.MalformedPdu("a value that is no part of the awaited response")
            command += fragment
            if len(command) > _LONGEST_COMMAND_BYTES:
                raise wire.MalformedPdu("a command set without end")
            if control & 2:
                return True
        return False

    def _status_of(self, command_set: bytes, command_field: int) -> int:
        elements = wire.decode_command(command_set)
        if wire.unsigned_short(elements, wire.COMMAND_FIELD) != command_field:
            raise wire.MalformedPdu("a response to another command")
        answered = wire.unsigned_short(elements, wire.MESSAGE_ID_BEING_RESPONDED_TO)
        if answered != self._message_id:
            raise wire.MalformedPdu(f"message {answered} answered, not {self._message_id}")
        return wire.unsigned_short(elements, wire.STATUS)

    def _write(self, data: bytes | memoryview) -> None:
        try:
            self._socket.settimeout(self._timeouts.write_s)
            self._socket.sendall(data)
        except TimeoutError as error:
            raise self._unavailable("stopped taking data", "peer.timeout") from error
        except OSError as error:
            raise self._lost(error) from error

    def _lost(self, error: OSError) -> PeerUnavailable:
        # By TLS 1.3 a peer that will not have our certificate says so only now.
        told = isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError)
        reason = failure_reason(error) if told else "peer.connection_lost"
        return self._unavailable(f"is gone: {error}", reason)

    def _read_pdu(self, deadline: float) -> tuple[int, bytes]:
        header = self._read(6, deadline)
        length = int.from_bytes(header[2:6], "big")
        if length > _LONGEST_PDU_BYTES:
            raise self._unavailable(f"announced a PDU of {length} bytes", "peer.protocol")
        return header[0], self._read(length, deadline)

    def _read(self, count: int, deadline: float) -> bytes:
        received = bytearray(self._unread[:count])
        self._unread = self._unread[count:]
        while len(received) < count:
            left_s = deadline - time.monotonic()
            try:
                if left_s <= 0:
                    raise TimeoutError
                self._socket.settimeout(left_s)
                chunk = self._socket.recv(count - len(received))
            except TimeoutError as error:
                raise self._unavailable("did not answer in time", "peer.timeout") from error
            except OSError as error:
                raise self._lost(error) from error
            if not chunk:
                raise self._unavailable("closed the connection", "peer.connection_lost")
            received += chunk
        return bytes(received)

    def _next_message_id(self) -> int:
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id

    def _rejection(self, body: bytes) -> PeerUnavailable:
        result, source, diagnostic = (*body[1:4], 0, 0, 0)[:3]
        word = _REJECTIONS.get((source, diagnostic), "no_reason")
        kind = "for good" if result == 1 else "for now"
        return self._unavailable(
            f"rejected the association {kind}: {word.replace('_', ' ')}", f"peer.rejected.{word}"
        )

    def _unavailable(self, what: str, reason: str) -> PeerUnavailable:
        peer = self._peer
        return PeerUnavailable(
            f"{peer.name} ({peer.ae_title} at {peer.host}:{peer.port}) {what}", reason=reason
        )


def _read_exactly(file: BinaryIO, view: memoryview) -> None:
    filled = 0
    while filled < len(view):
        chunk = file.read(len(view) - filled)
        if not chunk:
            raise OSError("the file became shorter while it was sent")
        view[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
