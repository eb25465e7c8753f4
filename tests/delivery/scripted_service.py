"""A DICOMweb service that does as it is told, on 127.0.0.1: bare sockets, one thread."""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread

from dicom_node.config import PeerSettings
from dicom_node.config_peers import DicomWebSettings
from tests.dicom_samples import ct_series, write_instance


@dataclass(frozen=True)
class Request:
    """What was asked; ``body`` is what was read of it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def parts(self) -> list[bytes]:
        """The bodies of the parts of a multipart/related request."""
        found = re.search(r"boundary=([^;]+)", self.headers["content-type"])
        assert found is not None
        pieces = self.body.split(b"--" + found[1].encode())
        assert pieces[0] == b""
        assert pieces[-1] == b"--\r\n"
        return [piece.split(b"\r\n\r\n", 1)[1][:-2] for piece in pieces[1:-1]]

    @property
    def sop_instance_uid(self) -> str:
        """The UID of the object in the first part."""
        dataset = dcmread(BytesIO(self.parts[0]), specific_tags=["SOPInstanceUID"])
        return str(dataset.SOPInstanceUID)


Reply = bytes | Callable[[Request], bytes | Iterator[bytes]]


@dataclass
class ScriptedService:
    """What it answers to each request in turn (the last one for all the rest), and got.

    ``takes_bytes`` is how much of a body it reads before it answers and hangs up. After the
    request of number ``hold_from`` the connection is kept open and silent; ``close`` ends it after
    each answer.
    """

    replies: Sequence[Reply]
    takes_bytes: int | None = None
    hold_from: int | None = None
    close: bool = False
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    keeps_bodies: bool = True
    port: int = 0
    scheme: str = "http"

    def peer(
        self,
        *,
        token_file: Path | None = None,
        ca_file: Path | None = None,
        timeout_s: float = 30.0,
        path: str = "/dicom-web",
    ) -> PeerSettings:
        url = f"{self.scheme}://127.0.0.1:{self.port}{path}"
        web = DicomWebSettings(url=url, token_file=token_file, ca_file=ca_file, timeout_s=timeout_s)
        return PeerSettings(name="web", dicomweb=web)

    def serve(self, connection: socket.socket, stop: threading.Event) -> None:
        self.connections += 1
        with connection, connection.makefile("rb") as file:
            while not stop.is_set():
                request = self._read(file)
                if request is None:
                    return
                self.requests.append(request)
                reply = self.replies[min(len(self.requests), len(self.replies)) - 1]
                said = reply if isinstance(reply, bytes) else reply(request)
                for piece in [said] if isinstance(said, bytes) else said:
                    connection.sendall(piece)
                if self.hold_from is not None and len(self.requests) >= self.hold_from:
                    stop.wait()
                if self.takes_bytes is not None or self.close:
                    return

    def _read(self, file: BinaryIO) -> Request | None:
        line = file.readline().decode()
        if not line:
            return None
        method, path, _ = line.split()
        headers = {}
        while (line := file.readline().decode().strip()) != "":
            name, value = line.split(":", 1)
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", 0))
        wanted = length if self.takes_bytes is None else min(length, self.takes_bytes)
        if self.keeps_bodies:
            body = file.read(wanted)
            return Request(method, path, headers, body) if len(body) == wanted else None
        while wanted:
            wanted -= len(file.read(min(wanted, 1 << 16)))
        return Request(method, path, headers, b"")


@contextlib.contextmanager
def scripted_service(
    *replies: Reply,
    takes_bytes: int | None = None,
    hold_from: int | None = None,
    close: bool = False,
    tls: ssl.SSLContext | None = None,
) -> Iterator[ScriptedService]:
    """A service on a free port; one connection at a time, until the end of the block."""
    service = ScriptedService(
        replies or (stored,), takes_bytes, hold_from, close, scheme="https" if tls else "http"
    )
    stop = threading.Event()

    def accept() -> None:
        while not stop.is_set():
            if not select.select([listener], [], [], 0.05)[0]:
                continue
            connection, _ = listener.accept()
            # The client hangs up on what it does not like: that is its good right.
            with contextlib.suppress(OSError, UnicodeDecodeError):
                connection.settimeout(10)
                serving = tls.wrap_socket(connection, server_side=True) if tls else connection
                service.serve(serving, stop)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        service.port = listener.getsockname()[1]
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield service
        finally:
            stop.set()
            thread.join()


def answer(status: int, body: bytes | object = b"", **headers: str) -> bytes:
    """An HTTP answer; a body that is not bytes is sent as DICOM JSON."""
    kind = "text/html"
    if not isinstance(body, bytes):
        body, kind = json.dumps(body).encode(), "application/dicom+json"
    lines = [f"HTTP/1.1 {status} Said", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def verdict(
    *,
    stored: Sequence[str] = (),
    warning: int | None = None,
    failed: Sequence[str] = (),
    failure: int | None = None,
) -> dict[str, object]:
    """The data set of a STOW-RS answer (PS3.18 section 10.5.3.2) in DICOM JSON."""

    def item(uid: str, tag: str, number: int | None) -> dict[str, object]:
        found: dict[str, object] = {"00081155": {"vr": "UI", "Value": [uid]}} if uid else {}
        return found | ({tag: {"vr": "US", "Value": [number]}} if number is not None else {})

    document: dict[str, object] = {"00081190": {"vr": "UR", "Value": ["http://127.0.0.1/x"]}}
    if stored:
        items = [item(uid, "00081196", warning) for uid in stored]
        document["00081199"] = {"vr": "SQ", "Value": items}
    if failed:
        items = [item(uid, "00081197", failure) for uid in failed]
        document["00081198"] = {"vr": "SQ", "Value": items}
    return document


def stored(request: Request) -> bytes:
    """The answer of a service that stored the object, or found nothing."""
    if request.method == "GET":
        return answer(200, [])
    return answer(200, verdict(stored=[request.sop_instance_uid]))


def warned(number: int) -> Reply:
    """Stored, with a warning."""
    return lambda request: answer(202, verdict(stored=[request.sop_instance_uid], warning=number))


def failed(number: int | None, status: int = 409) -> Reply:
    """Not stored, for a reason."""
    return lambda request: answer(
        status, verdict(failed=[request.sop_instance_uid], failure=number)
    )


def uid_of(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def big_file(tmp_path: Path) -> Path:
    """Far more than the buffers of a loopback connection hold."""
    dataset = ct_series((1, 16, 16))[0]
    dataset.PixelData = bytes(64 << 20)
    return write_instance(dataset, tmp_path / "big.dcm")
