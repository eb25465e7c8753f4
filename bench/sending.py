"""Sending files, in every way that is compared, to a peer that only answers."""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

from bench.child import ROOT, Child
from bench.processes import Watch
from bench.raw_scu import CT
from bench.rows import LIMIT, NODE, PEER, AgainstWay, Case, Sample, Way
from bench.senders import KINDS
from bench.synthetic import ct_slice

DCMSEND = "dcmsend, NODELAY"
_COUNTS = {"A": 200, "C": 1000}
# For senders that wait 40 ms for each.
_FEW = 50
_NAMES = {"A": "CT of 0.5 MB", "C": "small objects of 32 KB"}
_numbers = itertools.count()


def write_files(folder: Path, kind: str, count: int) -> list[Path]:
    """Part 10 files of a kind, each an instance of its own."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.filewriter import write_file_meta_info

    folder.mkdir(parents=True, exist_ok=True)
    pixels, paths = os.urandom(KINDS[kind]), []
    for number in range(count):
        uid = f"1.2.826.5.{number + 1}"
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.MediaStorageSOPClassUID, one.file_meta.MediaStorageSOPInstanceUID = CT, uid
        one.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        one.file_meta.ImplementationClassUID = "1.2.3.4"
        path = folder / f"{number:05d}.dcm"
        with path.open("wb") as file:
            file.write(bytes(128) + b"DICM")
            write_file_meta_info(file, one.file_meta, enforce_standard=True)
            file.write(ct_slice(uid, "1.2.826.1", "1.2.826.2", number + 1, pixels))
        paths.append(path)
    return paths


class Sink:
    """The peer, while its block lasts."""

    def __init__(self, how: str) -> None:
        self._how = how
        self.port = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.sink", self._how], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def by_node(port: str, folder: str) -> Callable[[], Mapping[str, float]]:
    """The node's own Sender, an association for each list of files."""
    from dicom_node.config import PeerSettings
    from dicom_node.delivery.sender import Sender

    peer = PeerSettings(name="sink", ae_title="SINK", host="127.0.0.1", port=int(port))
    paths, sender = sorted(Path(folder).iterdir()), Sender("DICOMNODE")

    def send(files: Sequence[Path]) -> None:
        outcomes = sender.send(peer, files)
        if not all(one.stored for one in outcomes):
            raise RuntimeError(next(one.reason for one in outcomes if not one.stored))

    send(paths[:3])
    return partial(_rate, len(paths), lambda: send(paths))


def by_pynetdicom(port: str, folder: str, no_delay: str) -> Callable[[], Mapping[str, float]]:
    """pynetdicom as its documentation shows it."""
    import pydicom
    from pynetdicom import AE

    paths = sorted(Path(folder).iterdir())

    def send(files: Sequence[Path]) -> None:
        entity = AE()
        entity.maximum_pdu_size = 131072
        entity.add_requested_context(CT, "1.2.840.10008.1.2.1")
        association = entity.associate("127.0.0.1", int(port), max_pdu=131072)
        if no_delay == "1":
            own: Any = association.dul.socket.socket
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for path in files:
            status = association.send_c_store(pydicom.dcmread(path))
            # Without an answer it is empty.
            if status.get("Status", -1) != 0:
                raise RuntimeError("an object was refused, or the association broke off")
        association.release()

    send(paths[:3])
    return partial(_rate, len(paths), lambda: send(paths))


def raw(port: str, folder: str) -> Callable[[], Mapping[str, float]]:
    """The files' bytes into a socket: nothing is asked for and nothing answered."""
    paths = sorted(Path(folder).iterdir())

    def send() -> None:
        with socket.create_connection(("127.0.0.1", int(port))) as connection:
            for path in paths:
                with path.open("rb") as file:
                    connection.sendfile(file)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)

    return partial(_rate, len(paths), send)


def _rate(count: int, send: Callable[[], None]) -> dict[str, float]:
    begun = time.perf_counter()
    send()
    return {"value": count / (time.perf_counter() - begun)}


class _Counted:
    """A child way whose CPU is counted by GB instead of by round."""

    def __init__(self, way: Child, size_gb: float) -> None:
        self._way, self._size_gb = way, size_gb
        self.name, self.role = way.name, way.role

    def __enter__(self) -> Self:
        self._way.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._way.__exit__()

    def once(self) -> Sample:
        one = self._way.once()
        return Sample(one.value, one.cpu_s / self._size_gb, one.peak_mb)


class Dcmsend:
    """DCMTK's dcmsend as a program: its start is a part of it, as of each use."""

    role = PEER

    def __init__(self, folder: Path, sink: Sink, instance_gb: float, *, no_delay: bool) -> None:
        self.name = DCMSEND if no_delay else "dcmsend, as shipped"
        self._folder, self._sink = folder, sink
        self._size_gb = instance_gb * len(list(folder.iterdir()))
        own = {key: value for key, value in os.environ.items() if key != "TCP_NODELAY"}
        self._environment = {**own, **({"TCP_NODELAY": "1"} if no_delay else {})}

    def __enter__(self) -> Self:
        if shutil.which("dcmsend") is None:
            raise RuntimeError("dcmsend is not installed")
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left."""

    def once(self) -> Sample:
        count = len(list(self._folder.iterdir()))
        command = ["dcmsend", "-ll", "fatal", "--scan-directories", "--max-send-pdu", "131072",
                   "127.0.0.1", str(self._sink.port), str(self._folder)]  # fmt: skip
        begun, cpu_begun_s = time.perf_counter(), _children_s()
        process = subprocess.Popen(command, env=self._environment)
        with Watch(process.pid, every_s=0.02) as watch:
            code = process.wait()
        seconds, cpu_s = time.perf_counter() - begun, _children_s() - cpu_begun_s
        if code:
            raise RuntimeError(f"dcmsend ended with {code}")
        return Sample(count / seconds, cpu_s / self._size_gb, watch.peak_mb)


def _children_s() -> float:
    """CPU seconds of the children that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cases(scratch: Path, *, short: bool) -> list[Case]:
    """What is measured of sending."""

    def ways(kind: str) -> list[Way]:
        folder, few = scratch / f"send-{kind}", scratch / f"send-few-{kind}"
        if not few.exists():
            write_files(folder, kind, _COUNTS[kind])
            write_files(few, kind, _FEW)
        return _ways(folder, few, KINDS[kind] / 1e9)

    return [
        Case("send", _NAMES[kind], "instances/s", "GB", partial(ways, kind),
             (AgainstWay(1, DCMSEND),), 2 if short else 5)
        for kind in _COUNTS
    ]  # fmt: skip


def _ways(folder: Path, few: Path, instance_gb: float) -> list[Way]:
    dicom, plain = _sinks()
    own = [
        ("node", NODE, "by_node", (dicom.port, folder)),
        ("bytes into a socket", LIMIT, "raw", (plain.port, folder)),
        ("pynetdicom", PEER, "by_pynetdicom", (dicom.port, few, 0)),
        ("pynetdicom, NODELAY", PEER, "by_pynetdicom", (dicom.port, few, 1)),
    ]
    found: list[Way] = [
        _Counted(
            Child(name, role, "bench.sending", function, *arguments),
            instance_gb * len(list(arguments[1].iterdir())),
        )
        for name, role, function, arguments in own
    ]
    for files, no_delay in ((folder, True), (few, False)):
        found.append(Dcmsend(files, dicom, instance_gb, no_delay=no_delay))
    return found


def _sinks() -> tuple[Sink, Sink]:
    """Both peers, until this process ends: then their stdin is closed."""
    if not _running:
        _running.extend(Sink(how).__enter__() for how in ("dicom", "raw"))
    return _running[0], _running[1]


_running: list[Sink] = []
