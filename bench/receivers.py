"""What is measured: ours, pynetdicom's own path, DCMTK's storescp, and a bare socket to a file."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self


class Receiver:
    """One receiver as a tree of processes; use as a context manager."""

    name = ""
    is_raw = False
    is_silent = False
    port = 0

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process: subprocess.Popen[str] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True)
        self.process = subprocess.Popen(
            self.command(),
            env=self.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL if self.is_silent else subprocess.PIPE,
            stderr=subprocess.DEVNULL if self.is_silent else None,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        self.wait_ready()
        return self

    def wait_ready(self) -> None:
        assert self.process and self.process.stdout
        self.port = int(self.process.stdout.readline())

    def __exit__(self, *_: object) -> None:
        assert self.process and self.process.stdin
        self.process.stdin.close()
        self.process.terminate()
        self.process.wait(30)
        shutil.rmtree(self.directory, ignore_errors=True)

    def pids(self) -> list[int]:
        assert self.process
        found, new = [], [self.process.pid]
        while new:
            found += new
            new = [
                int(child)
                for pid in new
                for path in Path(f"/proc/{pid}/task").glob("*/children")
                for child in path.read_text().split()
            ]
        return found

    def cpu_s(self) -> float:
        """CPU of all processes, also of children that were waited for (s)."""
        ticks = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def rss_mb(self) -> float:
        return self._status_mb("VmRSS")

    def peak_mb(self) -> float:
        return self._status_mb("VmHWM")

    def _status_mb(self, key: str) -> float:
        """The greatest value of any one process, the parent left out when it has children."""
        pids = self.pids()
        values: list[float] = []
        for pid in pids[1:] or pids:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            values += [int(line.split()[1]) / 1024 for line in lines if line.startswith(key)]
        return max(values, default=0.0)


class Ours(Receiver):
    """Listener processes as the node starts them."""

    path = "streamed"
    processes = "0"

    def command(self) -> list[str]:
        return [
            sys.executable, "-m", "bench.receivers", "ours", str(self.directory), self.path,
            self.processes,
        ]  # fmt: skip


class OursStreamed(Ours):
    name = "ours, streamed"


class OursTwo(Ours):
    name = "ours, streamed, 2 processes"
    processes = "2"


class OursStock(Ours):
    name = "ours, stock pynetdicom path"
    path = "stock"


class Storescp(Receiver):
    """DCMTK, which does not sync."""

    name = "storescp --fork, NODELAY"
    port = 11190

    def command(self) -> list[str]:
        options = ["--fork", "-od", str(self.directory), "--accept-all", "-pdu", "131072"]
        return ["storescp", *options, str(self.port)]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "TCP_NODELAY": "1"}

    def wait_ready(self) -> None:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise SystemExit(f"{self.name} does not listen")


class StorescpAsShipped(Storescp):
    """DCMTK as it is installed: a small last segment waits for an acknowledgement."""

    name = "storescp --fork, as shipped"
    port = 11191

    def environment(self) -> dict[str, str]:
        return {key: value for key, value in os.environ.items() if key != "TCP_NODELAY"}


class OrthancReceiver(Receiver):
    """Orthanc, with TCP_NODELAY as DCMTK in it takes it from the environment."""

    name = "Orthanc, NODELAY"
    is_silent = True
    port = 11192

    def command(self) -> list[str]:
        settings = {
            "StorageDirectory": str(self.directory), "IndexDirectory": str(self.directory),
            "HttpServerEnabled": False, "DicomPort": self.port, "DicomAet": "ORTHANC",
            "DicomAlwaysAllowStore": True, "DicomCheckCalledAet": False, "Plugins": [],
            "DicomThreadsCount": 8, "MaximumPduLength": 131072,
        }  # fmt: skip
        path = self.directory / "orthanc.json"
        path.write_text(json.dumps(settings))
        return ["Orthanc", str(path)]

    def environment(self) -> dict[str, str]:
        path = f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"
        return {**os.environ, "TCP_NODELAY": "1", "PATH": path}

    def wait_ready(self) -> None:
        Storescp.wait_ready(self)  # type: ignore[arg-type]


class Pynetdicom(Receiver):
    """pynetdicom as its documentation shows it: a handler that saves the data set."""

    name = "pynetdicom, ds.save_as"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "bench.receivers", "pynetdicom", str(self.directory)]


class Floor(Receiver):
    """Raw TCP to one synced file an instance: the durable limit."""

    name = "raw TCP to fsynced file"
    is_raw = True

    def command(self) -> list[str]:
        return [sys.executable, "-m", "bench.receivers", "floor", str(self.directory)]


def receivers(directory: Path) -> Iterator[Receiver]:
    """Fresh receivers, each in a directory of its own."""
    only = os.environ.get("BENCH_ONLY", "")
    for number, kind in enumerate((OursStreamed, OursTwo, Floor, Storescp, OursStock)):
        if only in kind.name and not (kind is Storescp and shutil.which("storescp") is None):
            yield kind(directory / str(number))


def _run_ours(directory: Path, path: str, processes: int) -> None:
    from dicom_node.config import Config
    from dicom_node.intake.acceptor import start_listeners

    config = Config.model_validate(
        {
            "node": {"host": "127.0.0.1", "port": 0, "data_dir": directory},
            "access": {"accept_unknown_callers": True},
            "storage": {"refuse_below_free_bytes": 0},
            "intake": {"receive_path": path, "listener_processes": processes or None},
            "logging": {"level": "error"},
        }
    )
    listeners = start_listeners(config, f"sqlite:///{directory}/ledger.sqlite")
    print(listeners.port, flush=True)
    sys.stdin.read()
    listeners.close()


def _run_floor(directory: Path) -> None:
    """A process a connection: receive, write, sync, one byte back."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listening.getsockname()[1], flush=True)
    while True:
        connection, _ = listening.accept()
        if os.fork() == 0:
            _serve_floor(connection, directory)
            os._exit(0)


def _run_pynetdicom(directory: Path) -> None:
    from pynetdicom import AE, AllStoragePresentationContexts, evt

    def store(event: Any) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        dataset.save_as(directory / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
        return 0x0000

    entity = AE(ae_title="STOCK")
    entity.maximum_pdu_size = 131072
    entity.supported_contexts = AllStoragePresentationContexts
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    print(server.socket.getsockname()[1], flush=True)
    sys.stdin.read()
    server.shutdown()


def _serve_floor(connection: socket.socket, directory: Path) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    size_bytes = int.from_bytes(connection.recv(4), "little")
    view = memoryview(bytearray(1 << 18))
    number = 0
    while True:
        number += 1
        fd = os.open(directory / f"{os.getpid()}-{number}", os.O_WRONLY | os.O_CREAT, 0o640)
        left = size_bytes
        while left:
            count = connection.recv_into(view[: min(left, len(view))])
            if not count:
                return
            os.write(fd, view[:count])
            left -= count
        os.fsync(fd)
        os.close(fd)
        connection.sendall(b"\1")


if __name__ == "__main__":
    if sys.argv[1] == "ours":
        _run_ours(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    elif sys.argv[1] == "pynetdicom":
        _run_pynetdicom(Path(sys.argv[2]))
    else:
        _run_floor(Path(sys.argv[2]))
