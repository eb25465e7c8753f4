"""A wire tap between the node and its archive: what was sent, by its content, and what came back.

The archive cannot be asked how often an object came, nor whether it came with two contents: it
keeps the first. So every C-STORE passes through here byte for byte, is hashed on its way, and an
answer can be made to get lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct
import threading
import time
from collections import Counter, defaultdict

from dicom_node.intake.command import ProtocolViolation, decode_command

_STORE_RQ, _STORE_RSP = 0x0001, 0x8001
_P_DATA = 4


class _Half:
    """One direction of an association: bytes in, whole commands and data set hashes out."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._command = bytearray()
        self._data_set = hashlib.sha256()

    def feed(self, data: bytes) -> list[dict[int, bytes] | str]:
        """What became complete: command sets as dictionaries, data sets as hex SHA-256."""
        self._buffer += data
        found: list[dict[int, bytes] | str] = []
        while len(self._buffer) >= 6:
            kind, length = struct.unpack_from(">BxL", self._buffer)
            if len(self._buffer) < 6 + length:
                break
            body = bytes(self._buffer[6 : 6 + length])
            del self._buffer[: 6 + length]
            if kind == _P_DATA:
                found += self._values(body)
        return found

    def _values(self, body: bytes) -> list[dict[int, bytes] | str]:
        found: list[dict[int, bytes] | str] = []
        offset = 0
        while offset + 6 <= len(body):
            length, _, control = struct.unpack_from(">LBB", body, offset)
            fragment = body[offset + 6 : offset + 4 + length]
            offset += 4 + length
            if control & 1:
                self._command += fragment
                if control & 2:
                    found.append(decode_command(bytes(self._command)))
                    self._command.clear()
            else:
                self._data_set.update(fragment)
                if control & 2:
                    found.append(self._data_set.hexdigest())
                    self._data_set = hashlib.sha256()
        return found


class Tee:
    """Listens and passes every association on to the archive's port of 127.0.0.1.

    Parameters
    ----------
    archive_port
        Where the archive listens.
    host, port
        Where this listens; any free port without one.

    Attributes
    ----------
    contents
        SOP Instance UID to the digests of the data sets that were sent under it.
    stored
        SOP Instance UID to how often the archive answered its C-STORE with 0x0000.
    stored_at
        SOP Instance UID to when it did so first, in seconds since the epoch.
    """

    def __init__(self, archive_port: int, host: str = "127.0.0.1", port: int = 0) -> None:
        self._archive_port = archive_port
        self._lock = threading.Lock()
        self._lose_answers = 0
        self.contents: dict[str, set[str]] = defaultdict(set)
        self.stored: Counter[str] = Counter()
        self.stored_at: dict[str, float] = {}
        self.statuses: Counter[int] = Counter()
        self.lost_answers = 0
        self._listening = socket.create_server((host, port), backlog=64)
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, name="tee", daemon=True).start()

    def lose_answers(self, number: int) -> None:
        """Let the archive store so many more objects whose answers do not reach the node."""
        with self._lock:
            self._lose_answers = number

    def sent_again(self) -> int:
        """How many times an object was stored that had been answered with 0x0000 before."""
        with self._lock:
            return sum(number - 1 for number in self.stored.values())

    def close(self) -> None:
        """Take no more associations."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            archive = socket.create_connection(("127.0.0.1", self._archive_port), 5.0)
        except OSError:
            client.close()
            return
        archive.settimeout(None)
        for one in (client, archive):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=self._answers, args=(archive, client), daemon=True)
        back.start()
        self._requests(client, archive)
        back.join()
        client.close()
        archive.close()

    def _requests(self, client: socket.socket, archive: socket.socket) -> None:
        half, sop_instance_uid = _Half(), ""
        with contextlib.suppress(OSError, ProtocolViolation):
            while data := client.recv(1 << 16):
                for one in half.feed(data):
                    if isinstance(one, str):
                        if sop_instance_uid:
                            with self._lock:
                                self.contents[sop_instance_uid].add(one)
                        sop_instance_uid = ""
                    elif _field(one) == _STORE_RQ:
                        sop_instance_uid = _uid(one)
                archive.sendall(data)
        _end(archive)

    def _answers(self, archive: socket.socket, client: socket.socket) -> None:
        half = _Half()
        with contextlib.suppress(OSError, ProtocolViolation):
            while data := archive.recv(1 << 16):
                if any(self._is_to_be_lost(one) for one in half.feed(data)):
                    break
                client.sendall(data)
        _end(client)
        _end(archive)

    def _is_to_be_lost(self, one: dict[int, bytes] | str) -> bool:
        if isinstance(one, str) or _field(one) != _STORE_RSP:
            return False
        status = int.from_bytes(one.get(0x0900, b"\xff\xff"), "little")
        with self._lock:
            self.statuses[status] += 1
            if status == 0:
                self.stored[_uid(one)] += 1
                self.stored_at.setdefault(_uid(one), time.time())
            if self._lose_answers:
                self._lose_answers -= 1
                self.lost_answers += 1
                return True
        return False


def _field(command: dict[int, bytes]) -> int:
    return int.from_bytes(command.get(0x0100, b""), "little")


def _uid(command: dict[int, bytes]) -> str:
    return command.get(0x1000, b"").rstrip(b"\0 ").decode("ascii", "replace")


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
