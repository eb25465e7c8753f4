"""A node on several hosts, all of them processes on loopback with a folder each."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
import yaml

from dicom_node.config import PeerSettings
from dicom_node.delivery.sender import Sender
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import Job, JobState, Transition
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.delivery.scripted_peer import ScriptedPeer, scripted_peer
from tests.dicom_samples import ct_series, write_series
from tests.ports import free_port
from tests.test_node import RESULT_CLASSES

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 240.0
SCANNER = "SCANNER"
_WRONG_CLOCK = """
import datetime, time
_time, _datetime = time.time, datetime.datetime

class Wrong(_datetime):
    @classmethod
    def now(cls, tz=None):
        return _datetime.now(tz) + datetime.timedelta(seconds={off_s})

time.time = lambda: _time() + {off_s}
datetime.datetime = Wrong
"""
_SLOW = """
import os, sys, threading
if "dicom_node.pipeline.worker" in " ".join(sys.orig_argv):
    import time
    time.sleep(60)
"""


def wait_until(done: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """The first true answer; AssertionError that names ``what`` without one."""
    deadline = time.monotonic() + patience_s
    while not (answer := done()):
        assert time.monotonic() < deadline, f"not within {patience_s:.0f} s: {what}"
        time.sleep(0.1)
    return answer


class HostProcess:
    """``dicom-node serve --only ROLES`` with a data folder of its own."""

    def __init__(self, folder: Path, roles: str, settings: Mapping[str, Any]) -> None:
        self.name, self.roles, self._folder = folder.name, roles, folder
        folder.mkdir(parents=True)
        self.port = free_port()
        self.log_path = folder / "node.log"
        own = {
            "ae_title": "DICOMNODE", "host": "127.0.0.1", "port": self.port,
            "data_dir": str(folder / "data"), "host_name": self.name,
        }
        (folder / "config.yaml").write_text(yaml.safe_dump({**settings, "node": own}))
        self._process: subprocess.Popen[bytes] | None = None
        self.was_ended = False

    def start(self, **environment: str) -> None:
        """Start, and wait for nothing."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dicom_node", "--config",
                 str(self._folder / "config.yaml"), "serve", "--only", self.roles],
                # Not where this version's code lies: PYTHONPATH says whose it runs.
                stdout=log, stderr=log, start_new_session=True, cwd=self._folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
            )

    @property
    def is_running(self) -> bool:
        """Whether its main process lives."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: int) -> None:
        """To the main process alone."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """As a machine without power: the main process and all it started."""
        assert self._process is not None
        self.was_ended = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pid in self._children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _children(self) -> list[int]:
        """Listeners have a session of their own; they say whose they are in their environment."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if str(self._folder).encode() in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        if self._process is None:
            return 0
        self.was_ended = True
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            return -9

    def log_text(self) -> str:
        """What it has logged."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""


class Site:
    """Hosts on one ledger and one folder of images, and an archive; a context manager."""

    def __init__(self, folder: Path, url: str, **changes: Any) -> None:
        self.folder, self.url, self._changes = folder, url, changes
        self.hosts: list[HostProcess] = []
        self._stack = ExitStack()
        self.archive: ScriptedPeer
        self.ledger: Ledger

    def __enter__(self) -> Self:
        self.archive = self._stack.enter_context(scripted_peer(sop_classes=RESULT_CLASSES))
        self.ledger = Ledger.open(self.url)
        self._stack.callback(self.ledger.close)
        write_model(self.folder / "models" / "bright", threshold_onnx(0.5), id="bright")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for host in self.hosts:
            host.stop()
        self._stack.close()
        if kind is not None:
            for host in self.hosts:
                print(f"--- {host.name}\n{host.log_text()[-5000:]}", file=sys.stderr)

    def settings(self) -> dict[str, Any]:
        """What all hosts share."""
        found = {
            "database": {"url": self.url},
            "storage": {"spool": str(self.folder / "spool"), "refuse_below_free_bytes": 0},
            "peers": {
                "pacs": {"ae_title": "SCRIPTED", "host": "127.0.0.1", "port": self.archive.port,
                         "storage_commitment": "off"},
                "scanner": {"ae_title": SCANNER, "host": "127.0.0.1", "port": 1, "query": "off"},
            },
            "completeness": {"after_release_s": 1, "quiet_period_s": 5, "give_up_after_s": 60},
            "intake": {"listener_processes": 1},
            "models": {"directories": [str(self.folder / "models")], "devices": ["cpu"]},
            "web": {"enabled": False},
            "logging": {"level": "info"},
            "rules": [{"name": "all CT", "when": {"Modality": "CT"}, "model": "bright",
                       "send_to": ["pacs"]}],
        }
        return json.loads(json.dumps(found | self._changes))

    def host(self, name: str, roles: str, **changes: Any) -> HostProcess:
        """A further host, started."""
        host = HostProcess(self.folder / name, roles, {**self.settings(), **changes})
        self.hosts.append(host)
        host.start()
        return host

    def wait_for(self, *names: str) -> None:
        """Wait until these are among the living."""
        wait_until(lambda: set(names) <= self.living(), f"{', '.join(names)} live")

    def living(self) -> set[str]:
        """The names of the hosts that live, as the ledger has it."""
        for host in self.hosts:
            assert host.is_running or host.was_ended, f"{host.name} ended:\n{host.log_text()}"
        return {one.host_name for one in self.ledger.hosts.all() if one.lives}

    def send(self, receiver: HostProcess, seed: int, shape: tuple[int, int, int] = (4, 32, 40),
             **values: Any) -> list[str]:
        """Send a series to a receiver; the SOP Instance UIDs that it took."""
        series = ct_series(shape, **values)
        paths = write_series(series, self.folder / "sent" / str(seed))
        peer = PeerSettings(
            name="node", ae_title="DICOMNODE", host="127.0.0.1", port=receiver.port
        )
        outcomes = Sender(SCANNER).send(peer, paths)
        assert all(one.stored for one in outcomes), outcomes
        return [one.sop_instance_uid for one in outcomes]

    def send_when_open(self, receiver: HostProcess, seed: int = 0) -> list[str]:
        """As `send`, once the receiver's doors are open."""
        wait_until(
            lambda: self.living() and "node listening" in receiver.log_text(),
            f"{receiver.name} listens",
        )
        return self.send(receiver, seed)

    def host_with_wrong_clock(self, name: str, roles: str, off_s: float) -> HostProcess:
        """A host, started, all of whose processes read the time of the day so many seconds off."""
        folder = self.folder / "wrong clock"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(_WRONG_CLOCK.format(off_s=off_s))
        host = HostProcess(self.folder / name, roles, self.settings())
        self.hosts.append(host)
        host.start(PYTHONPATH=f"{folder}:{ROOT}")
        return host

    def slow_worker(self, name: str) -> HostProcess:
        """A worker whose model takes long: its worker process is stopped while it loads.

        The weights are the same on all hosts; what is slow is the host.
        """
        host = HostProcess(self.folder / name, "work", self.settings())
        self.hosts.append(host)
        host.start(PYTHONPATH=f"{self._slowness()}:{ROOT}")
        return host

    def _slowness(self) -> Path:
        """A folder whose sitecustomize lets every model of a worker process wait."""
        folder = self.folder / "slowness"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(_SLOW)
        return folder

    def running_at(self, name: str) -> list[str]:
        """The jobs that run at a host."""
        self.living()
        processes = {
            one.process_id for one in self.ledger.hosts.all() if one.host_name == name
        }
        running = {(job.job_id, job.attempt) for job in self.ledger.jobs.running()}
        claims = self.ledger.claims.of()
        return [one[0] for one in running if claims.get(one) in processes]

    def transitions(self, key: str, kind: str = "job") -> list[Transition]:
        """The history of a job or a series."""
        return self.ledger.history(kind, key)

    def history(self, key: str, kind: str = "job") -> str:
        """Its reasons in one text."""
        return "; ".join(one.reason for one in self.transitions(key, kind))

    @contextmanager
    def ledger_that_takes_nothing_in(self) -> Iterator[None]:
        """What is received meanwhile is kept, and waits for the ledger."""
        url = sa.make_url(self.url).set(drivername="postgresql+psycopg")
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.execute(sa.text("LOCK TABLE instances IN EXCLUSIVE MODE"))
            yield
        engine.dispose()

    def open_associations(self) -> int:
        """How many associations count as open."""
        url = sa.make_url(self.url).set(drivername="postgresql+psycopg")
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            query = sa.text("SELECT count(*) FROM associations WHERE ended = ''")
            found = int(connection.execute(query).scalar_one())
        engine.dispose()
        return found

    def jobs(self, state: JobState | None = None) -> list[Job]:
        """The latest jobs."""
        return self.ledger.jobs.latest(state)

    def wait_quiet(self, jobs: int) -> None:
        """Wait until so many jobs are at an end and all they made is sent."""

        def is_quiet() -> bool:
            self.living()
            states = self.ledger.jobs.count_by_state()
            ended = sum(states.get(one, 0) for one in ("succeeded", "dead"))
            return ended >= jobs and not self.ledger.deliveries.open_shipments()

        wait_until(is_quiet, f"{jobs} jobs are done and sent: {self.ledger.jobs.count_by_state()}")


@contextmanager
def stopped(host: HostProcess) -> Iterator[None]:
    """The main process of a host stands still meanwhile."""
    host.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        if host.is_running:
            host.signal(signal.SIGCONT)
