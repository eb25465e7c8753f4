"""The site of a chaos run: a node as a service manager keeps it, a disk that fills, an archive."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa
import yaml

from bench.chaos_load import CALLED, CALLING
from bench.chaos_tee import Tee
from bench.processes import tree
from bench.raw_scu import IMPLICIT, VERIFICATION, Closed, RawScu, Rejected
from dicom_node.ledger import postgres
from dicom_node.ledger.database import create_engine
from tests import peers
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.postgres_server import PostgresServer, database

ROOT = Path(__file__).resolve().parents[1]
DISK_BYTES = 512 << 20
OPEN_WORK = {
    "series": "SELECT count(*) FROM series WHERE state IN ('receiving', 'complete')",
    "jobs": "SELECT count(*) FROM jobs WHERE state IN ('queued', 'running', 'failed')",
    "deliveries": "SELECT count(*) FROM deliveries WHERE state IN ('pending', 'failed')",
    "commitments": "SELECT count(*) FROM deliveries WHERE state = 'sent'"
    " AND commitment IN ('wanted', 'asked')",
}
_READY_WITHIN_S = 180.0
_STOPPED_WITHIN_S = 120.0
MODEL = "tiny"


class Disk:
    """The node's disk: a tmpfs of its own where that is allowed, so that it can be filled."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._filler = folder / "filler"
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "chaos", str(folder)]
        done = subprocess.run(command, capture_output=True, check=False)
        self.can_fill = done.returncode == 0

    def fill(self, leave_bytes: int) -> None:
        """Leave no more than ``leave_bytes`` free."""
        with self._filler.open("wb") as file:
            for _ in range(100):
                found = os.statvfs(self.folder)
                free_bytes = found.f_bavail * found.f_frsize
                # The node takes from the same space: then less is left to ask for.
                with contextlib.suppress(OSError):
                    os.posix_fallocate(file.fileno(), 0, max(1, free_bytes - leave_bytes))
                    return

    def release(self) -> None:
        """Give the space back."""
        self._filler.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount."""
        if self.can_fill:
            self.release()
            subprocess.run(["umount", "--lazy", str(self.folder)], check=False)
            self.can_fill = False


def settings(
    data_dir: Path, models: Path, pacs_port: int, port: int, url: str
) -> dict[str, Any]:
    """A node that closes series soon, with one rule, and results that go to the wire tap."""
    return {
        "database": {"url": url},
        "node": {"ae_title": CALLED, "host": "127.0.0.1", "port": port, "data_dir": str(data_dir)},
        "peers": {
            "pacs": {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": pacs_port},
            "scanner": {"ae_title": CALLING, "host": "127.0.0.1", "port": peers.free_port()},
        },
        "completeness": {"after_release_s": 2, "quiet_period_s": 12, "give_up_after_s": 300},
        # A report that came while the node was down is asked for again soon.
        "delivery": {"commitment_within_s": 10},
        "storage": {"refuse_below_free_bytes": 0},
        "intake": {"listener_processes": 2},
        "models": {"devices": ["cpu"], "directories": [str(models)]},
        "rules": [
            {"name": "all CT", "when": {"Modality": "CT"}, "model": MODEL, "send_to": ["pacs"]}
        ],
    }


class ChaosNode:
    """``dicom-node serve``, started again whenever it ended, as systemd does."""

    def __init__(
        self, directory: Path, data_dir: Path, models: Path, pacs_port: int, url: str | None = None
    ) -> None:
        self.data_dir = data_dir
        self.ledger_url = url or f"sqlite:///{data_dir / 'ledger.db'}"
        self.port = peers.free_port()
        self.starts = self.failed_starts = 0
        self.log_path = directory / "node.log"
        self._config = directory / "config.yaml"
        self._config.write_text(
            yaml.safe_dump(settings(data_dir, models, pacs_port, self.port, self.ledger_url))
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: dict[int, str] = {}

    @property
    def pid(self) -> int | None:
        """The main process, if it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def ensure_running(self) -> None:
        """Start until it answers a C-ECHO; what fails to start is started again a second later.

        Raises
        ------
        AssertionError
            It does not come back.
        """
        deadline = time.monotonic() + _READY_WITHIN_S
        while not self._echoes():
            if self.pid is None:
                if self._process is not None and self._process.poll() not in (None, -9, 0):
                    self.failed_starts += 1
                    time.sleep(1.0)
                self.spawn()
            assert time.monotonic() < deadline, f"the node does not come back:\n{self.log_tail()}"
            time.sleep(0.1)
        self.processes()

    def spawn(self) -> None:
        """Start the main process and wait for nothing."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("DICOM_NODE_")}
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dicom_node", "--config", str(self._config), "serve"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**inherited, "PYTHONPATH": str(ROOT)},
            )
        self.starts += 1

    def _echoes(self) -> bool:
        if self.pid is None:
            return False
        try:
            scu = RawScu(
                self.port, [(1, VERIFICATION, [IMPLICIT])], calling=CALLING, called=CALLED,
                timeout_s=10.0,
            )  # fmt: skip
            answered = scu.echo(1) == 0
            scu.release()
        except (OSError, Closed, Rejected):
            return False
        return answered

    def processes(self) -> dict[int, str]:
        """Process id to command line of the main process and all below it."""
        found = tree(self.pid) if self.pid is not None else {}
        self._seen |= {one: _started(one) for one in found}
        return found

    def of_kind(self, words: str) -> list[int]:
        """Processes whose command line holds ``words``, in order of their ids."""
        return sorted(pid for pid, command in self.processes().items() if words in command)

    def signal_all(self, number: signal.Signals) -> None:
        """Signal every process of the node, children first."""
        for pid in sorted(self.processes(), reverse=True):
            send_signal(pid, number)

    def wait_ended(self, patience_s: float = _STOPPED_WITHIN_S) -> int:
        """Wait for the main process; its exit code."""
        assert self._process is not None
        return self._process.wait(patience_s)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        if self.pid is None:
            return 0
        self.processes()
        assert self._process is not None
        self._process.terminate()
        return self.wait_ended()

    def log_tail(self, length: int = 4000) -> str:
        """The end of what the node has logged."""
        if not self.log_path.exists():
            return ""
        return self.log_path.read_text(errors="replace")[-length:]

    def close(self) -> None:
        """End every process of every start."""
        self.processes()
        for pid, started in self._seen.items():
            if started and _started(pid) == started:
                send_signal(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()


class Site:
    """Node, disk, archive and the wire tap between; a context manager.

    With a ``server`` of PostgreSQL, the ledger is in a new database of it.
    """

    def __init__(self, directory: Path, server: PostgresServer | None = None) -> None:
        self.directory = directory
        self.server = server
        url = None if server is None else database(server.url, "chaos")
        directory.mkdir(parents=True, exist_ok=True)
        models = directory / "models"
        write_model(models / MODEL, threshold_onnx(0.5), id=MODEL)
        self.disk = Disk(directory / "disk")
        self.archive = peers.Orthanc(directory, configuration={"StableAge": 5})
        self.tee = Tee(self.archive.port)
        self.node = ChaosNode(directory, self.disk.folder / "data", models, self.tee.port, url)
        # Storage commitment reports come back on an association of the archive's own.
        self.archive._modalities["node"] = [CALLED, "127.0.0.1", self.node.port]

    def __enter__(self) -> Self:
        try:
            self.archive.start()
            self.node.ensure_running()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything that was started and give the disk back."""
        self.node.close()
        self.tee.close()
        self.archive.stop()
        self.disk.close()

    def query(self, statement: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows of the node's ledger, read from outside."""
        engine = create_engine(self.node.ledger_url, immediate=False, read_only=True)
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.exec_driver_sql(statement, parameters)]
        finally:
            engine.dispose()

    def open_work(self) -> Mapping[str, int]:
        """What the ledger has not brought to an end, by kind; empty when the node is quiet."""
        found = {kind: int(self.query(text)[0][0]) for kind, text in OPEN_WORK.items()}
        return {kind: number for kind, number in found.items() if number}


def close_to_all(connection: sa.Connection) -> None:
    """Take the lock of whoever writes to the ledger, until the transaction ends."""
    if connection.dialect.name == "postgresql":
        postgres.lock(connection, None)


def send_signal(pid: int, number: signal.Signals) -> None:
    """A signal to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _started(pid: int) -> str:
    """When a process started, as the kernel counts: tells it from a later one of the same id."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
