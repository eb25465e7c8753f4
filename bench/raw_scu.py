"""A C-STORE SCU of bare sockets: bytes are sent exactly as given, as fast as they are taken.

Used by the measurements, where the sender must cost nothing, and by tests, which must send what
no library would.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from dicom_node.intake.command import decode_command

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"


class Rejected(Exception):
    """A-ASSOCIATE-RJ; ``args`` are result, source, reason."""


class Closed(Exception):
    """The peer aborted (``args[0]`` is the A-ABORT PDU) or closed the connection (empty)."""


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxL", kind, len(body)) + body


def value(context_id: int, control: int, fragment: bytes) -> bytes:
    return struct.pack(">LBB", len(fragment) + 2, context_id, control) + fragment


def element(number: int, data: bytes) -> bytes:
    return struct.pack("<HHL", 0, number, len(data)) + data


def uid(text: str) -> bytes:
    return (text + "\0" * (len(text) % 2)).encode()


def command_set(elements: bytes) -> bytes:
    return element(0, struct.pack("<L", len(elements))) + elements


def store_command(sop_class: str, sop_instance: str, message_id: int = 1) -> bytes:
    return command_set(
        element(0x0002, uid(sop_class))
        + element(0x0100, struct.pack("<H", 1))
        + element(0x0110, struct.pack("<H", message_id))
        + element(0x0700, struct.pack("<H", 0))
        + element(0x0800, struct.pack("<H", 1))
        + element(0x1000, uid(sop_instance))
    )


def echo_command(message_id: int = 1) -> bytes:
    return command_set(
        element(0x0002, uid(VERIFICATION))
        + element(0x0100, struct.pack("<H", 0x30))
        + element(0x0110, struct.pack("<H", message_id))
        + element(0x0800, struct.pack("<H", 0x0101))
    )


def data_pdus(context_id: int, data: bytes, fragment_bytes: int) -> Iterable[bytes]:
    """P-DATA-TF PDUs of one data set, one value each."""
    for start in range(0, max(1, len(data)), fragment_bytes):
        is_last = start + fragment_bytes >= len(data)
        fragment = data[start : start + fragment_bytes]
        yield pdu(4, value(context_id, 2 if is_last else 0, fragment))


def store_message(
    context_id: int, sop_class: str, sop_instance: str, data: bytes, pdu_bytes: int = 131072
) -> bytes:
    """A whole C-STORE request as bytes for the wire."""
    command = pdu(4, value(context_id, 3, store_command(sop_class, sop_instance)))
    return command + b"".join(data_pdus(context_id, data, pdu_bytes - 6))


def associate_request(
    calling: str, called: str, contexts: Sequence[tuple[int, str, Sequence[str]]]
) -> bytes:
    proposed = b"".join(
        item(
            0x20,
            struct.pack(">B3x", context_id)
            + item(0x30, abstract.encode())
            + b"".join(item(0x40, transfer.encode()) for transfer in transfers),
        )
        for context_id, abstract, transfers in contexts
    )
    user = item(0x50, item(0x51, struct.pack(">L", 131072)) + item(0x52, b"1.2.3.4"))
    titles = called.ljust(16).encode() + calling.ljust(16).encode()
    application = item(0x10, b"1.2.840.10008.3.1.1.1")
    return pdu(1, struct.pack(">H2x", 1) + titles + bytes(32) + application + proposed + user)


class RawScu:
    """One association; ``accepted`` maps context id to its result (0 is accepted)."""

    def __init__(
        self,
        port: int,
        contexts: Sequence[tuple[int, str, Sequence[str]]] = ((1, CT, [EXPLICIT]),),
        *,
        calling: str = "SCU",
        called: str = "DICOMNODE",
        timeout_s: float = 30.0,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.socket = socket.create_connection((host, port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.socket.sendall(associate_request(calling, called, contexts))
        kind, body = self.read_pdu()
        if kind == 3:
            raise Rejected(body[1], body[2], body[3])
        self.accepted: dict[int, int] = {}
        self.transfer_syntax: dict[int, str] = {}
        offset = 68
        while offset < len(body):
            kind, length = struct.unpack_from(">BxH", body, offset)
            inner = body[offset + 4 : offset + 4 + length]
            if kind == 0x21:
                self.accepted[inner[0]] = inner[2]
                self.transfer_syntax[inner[0]] = inner[8:].decode()
            offset += 4 + length

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                piece = self.socket.recv(count - len(data))
            except ConnectionError:
                piece = b""
            if not piece:
                raise Closed(b"")
            data += piece
        return data

    def read_pdu(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxL", self._exactly(6))
        body = self._exactly(length)
        if kind == 7:
            raise Closed(body)
        return kind, body

    def response(self) -> dict[int, bytes]:
        """The elements of the next response command set."""
        command = b""
        while True:
            _, body = self.read_pdu()
            offset = 0
            while offset < len(body):
                length, _, control = struct.unpack_from(">LBB", body, offset)
                command += body[offset + 6 : offset + 4 + length]
                offset += 4 + length
                if control & 2:
                    return decode_command(command)

    def status(self) -> int:
        return int(struct.unpack("<H", self.response()[0x0900])[0])

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def store(self, sop_class: str, sop_instance: str, data: bytes, context_id: int = 1) -> int:
        self.send(store_message(context_id, sop_class, sop_instance, data))
        return self.status()

    def echo(self, context_id: int) -> int:
        self.send(pdu(4, value(context_id, 3, echo_command())))
        return self.status()

    def release(self) -> None:
        self.send(pdu(5, bytes(4)))
        kind, _ = self.read_pdu()
        if kind != 6:
            raise Closed(bytes([kind]))
        self.socket.close()

    def abort(self) -> None:
        self.send(pdu(7, bytes(4)))
        self.socket.close()


def bare_data_set(path: Path) -> tuple[str, str, str, bytes]:
    """SOP class, SOP instance, transfer syntax and the data set bytes of a Part 10 file."""
    import pydicom

    with path.open("rb") as file:
        meta = pydicom.filereader.read_file_meta_info(path)
        file.seek(0)
        head = file.read(144)
        offset = 144 + int.from_bytes(head[140:144], "little")
        file.seek(offset)
        return (
            str(meta.MediaStorageSOPClassUID),
            str(meta.MediaStorageSOPInstanceUID),
            str(meta.TransferSyntaxUID),
            file.read(),
        )
