"""What senders send to: a C-STORE SCP that answers and keeps nothing, and a socket that only reads.

    python -m bench.sink dicom|raw

The port is printed; it ends when stdin is closed. Every presentation context is accepted with the
transfer syntax that is proposed first, nothing is checked: it is to cost less than any sender.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading

from bench.raw_scu import command_set, element, item, pdu, value
from dicom_node.intake.command import decode_command

_PDU_BYTES = 131072
_BUFFER_BYTES = 1 << 20


def accept_all(request: bytes) -> bytes:
    """The A-ASSOCIATE-AC to the body of an A-ASSOCIATE-RQ (PS3.8 9.3.3)."""
    contexts, offset = b"", 68
    while offset < len(request):
        kind, length = struct.unpack_from(">BxH", request, offset)
        if kind == 0x20:
            body = request[offset + 4 : offset + 4 + length]
            contexts += item(0x21, bytes([body[0], 0, 0, 0]) + _first_syntax(body))
        offset += 4 + length
    user = item(0x50, item(0x51, struct.pack(">L", _PDU_BYTES)) + item(0x52, b"1.2.3.5"))
    return pdu(2, request[:68] + item(0x10, b"1.2.840.10008.3.1.1.1") + contexts + user)


def _first_syntax(context: bytes) -> bytes:
    offset = 4
    while True:
        kind, length = struct.unpack_from(">BxH", context, offset)
        if kind == 0x40:
            return context[offset : offset + 4 + length]
        offset += 4 + length


def _response(context_id: int, request: dict[int, bytes]) -> bytes:
    """Success to a C-STORE or C-ECHO request (PS3.7 9.3.1.2, 9.3.5.2)."""
    is_store = request[0x0100] == b"\1\0"
    elements = element(0x0002, request[0x0002]) + element(
        0x0100, struct.pack("<H", 0x8001 if is_store else 0x8030)
    )
    elements += element(0x0120, request[0x0110]) + element(0x0800, b"\1\1")
    elements += element(0x0900, b"\0\0")
    if is_store:
        elements += element(0x1000, request[0x1000])
    return pdu(4, value(context_id, 3, command_set(elements)))


class _Peer:
    """One association."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        self._view = memoryview(bytearray(_BUFFER_BYTES))
        self._start = self._end = 0

    def _need(self, count: int) -> memoryview:
        """The next bytes, few enough for the buffer."""
        if self._start + count > len(self._view):
            held = self._end - self._start
            self._view[:held] = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, held
        while self._end - self._start < count:
            read = self._connection.recv_into(self._view[self._end :])
            if not read:
                raise EOFError
            self._end += read
        found = self._view[self._start : self._start + count]
        self._start += count
        if self._start == self._end:
            self._start = self._end = 0
        return found

    def _skip(self, count: int) -> None:
        while count:
            some = min(count, _BUFFER_BYTES // 2)
            self._need(some)
            count -= some

    def serve(self) -> None:
        """Answer until the peer releases or leaves."""
        pending: tuple[int, dict[int, bytes]] | None = None
        command = b""
        while True:
            kind, left = struct.unpack(">BxL", self._need(6))
            if kind != 4:
                body = bytes(self._need(left))
                if kind == 1:
                    self._connection.sendall(accept_all(body))
                elif kind == 5:
                    self._connection.sendall(pdu(6, bytes(4)))
                else:
                    return
                continue
            while left:
                length, context_id, control = struct.unpack(">LBB", self._need(6))
                left -= 4 + length
                if control & 1:
                    command += bytes(self._need(length - 2))
                    if control & 2:
                        request, command = decode_command(command), b""
                        pending = (context_id, request)
                        if request[0x0800] == b"\1\1":
                            self._connection.sendall(_response(*pending))
                    continue
                self._skip(length - 2)
                if control & 2 and pending is not None:
                    self._connection.sendall(_response(*pending))


def _serve(connection: socket.socket, how: str) -> None:
    try:
        if how == "dicom":
            _Peer(connection).serve()
            return
        buffer = bytearray(_BUFFER_BYTES)
        while connection.recv_into(buffer):
            pass
    except (EOFError, OSError):
        pass
    finally:
        connection.close()


def main() -> None:
    """Listen; a thread for each connection, which sleeps in the kernel for most of its time."""
    how = sys.argv[1]
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listening.getsockname()[1], flush=True)

    def accept() -> None:
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=_serve, args=(connection, how), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
