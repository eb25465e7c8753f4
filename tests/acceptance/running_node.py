"""A node as an operator runs it: its own process, its own settings file, looked at from outside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import yaml

from dicom_node.config import PeerSettings
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import Delivery, Job
from tests import peers

ROOT = Path(__file__).resolve().parents[2]
SCANNER = "SCANNER1"
_ENDED_WITHIN_S = 60.0
_ENDED = ("succeeded", "dead")
# One inference takes seconds here and minutes on a busy machine; nothing is measured by this.
PATIENCE_S = 280.0


def wait_until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """The first true answer of ``condition``; AssertionError that names ``what`` without one."""
    deadline = time.monotonic() + patience_s
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {patience_s:.0f} s: {what}"
        time.sleep(0.1)


def dicom_node(
    *arguments: str | Path, config: Path | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one command of ``dicom-node`` to its end."""
    options = [] if config is None else ["--config", str(config)]
    return subprocess.run(
        [sys.executable, "-m", "dicom_node", *options, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        cwd=folder,
        env=_environment(),
    )


def settings(
    data_dir: Path, pacs: PeerSettings, port: int, database: str | None
) -> dict[str, Any]:
    """Settings of a node on loopback with one archive, one scanner and short waits."""
    return {
        "database": {"url": database},
        "node": {
            "ae_title": "DICOMNODE",
            "host": "127.0.0.1",
            "port": port,
            "data_dir": str(data_dir),
        },
        "peers": {
            "pacs": {"ae_title": pacs.ae_title, "host": pacs.host, "port": pacs.port},
            "scanner": {"ae_title": SCANNER, "host": "127.0.0.1", "port": peers.free_port()},
        },
        "completeness": {"after_release_s": 1, "quiet_period_s": 20, "give_up_after_s": 120},
        "storage": {"refuse_below_free_bytes": 0},
        "intake": {"listener_processes": 2},
        "models": {"devices": ["cpu"]},
        # Many nodes of tests run at once, and the port of the page is the same for all.
        "web": {"enabled": False},
        "rules": [
            {
                "name": "lungs on CT",
                "when": {"Modality": "CT"},
                "model": "lungs-ct",
                "send_to": ["pacs"],
            },
            {
                "name": "MR by mistake",
                "when": {"Modality": "MR"},
                "model": "lungs-ct",
                "send_to": ["pacs"],
            },
        ],
    }


class RunningNode:
    """``dicom-node serve`` in a process group of its own.

    Parameters
    ----------
    directory
        Where settings, data and log go.
    pacs
        Where results go.
    roles
        What it does, as ``serve --only`` takes it; empty: everything.
    database
        URL of its database, from the fixture ``node_database``; ``None``: SQLite in its folder.
    """

    def __init__(
        self, directory: Path, pacs: PeerSettings, roles: str = "", *, database: str | None
    ) -> None:
        peers.need_private_network()
        directory.mkdir(parents=True, exist_ok=True)
        self.config = directory / "config.yaml"
        self.data_dir = directory / "data"
        self.port = peers.free_port()
        self.config.write_text(yaml.safe_dump(settings(self.data_dir, pacs, self.port, database)))
        self.ledger_url = database or f"sqlite:///{self.data_dir / 'ledger.db'}"
        self._log_path = directory / "node.log"
        self._roles = roles
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: list[int] = []
        self._ledger: Ledger | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._end_groups()
            raise
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        try:
            self.stop()
        finally:
            self._end_groups()
            if kind is not None:
                # pytest shows captured stderr of a failed test.
                print(f"--- node.log\n{self.log_text()[-6000:]}", file=sys.stderr)

    def start(self) -> None:
        """Start, also again after :meth:`stop` or :meth:`kill`, and wait until it answers."""
        process = self._process = self.start_beside(self._roles)

        def answers() -> bool:
            assert process.poll() is None, f"the node ended:\n{self.log_text()}"
            return self.echoes()

        wait_until(answers, "the node answers C-ECHO")
        self._ledger = Ledger.open(self.ledger_url)

    def start_beside(self, roles: str) -> subprocess.Popen[bytes]:
        """Start a process with the same settings; it ends with the others."""
        only = ["--only", roles] if roles else []
        with self._log_path.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dicom_node", "--config", str(self.config), "serve", *only],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=_environment(),
            )
        self._groups.append(process.pid)
        return process

    def echoes(self) -> bool:
        """Whether a C-ECHO of the scanner is answered with success."""
        arguments = ["-aet", SCANNER, "-aec", "DICOMNODE", "127.0.0.1", str(self.port)]
        return peers.run_program("echoscu", arguments, check=False).returncode == 0

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        process, self._process = self._process, None
        self._close_ledger()
        if process is None:
            return 0
        process.terminate()
        return process.wait(_ENDED_WITHIN_S)

    def kill(self) -> None:
        """SIGKILL for the main process only, as the kernel's out-of-memory killer would."""
        process, self._process = self._process, None
        self._close_ledger()
        assert process is not None
        process.kill()
        process.wait()

    def living(self) -> list[int]:
        """Processes of this node, of any start, that run."""
        return [pid for group in self._groups for pid in _living(group)]

    def send(self, paths: Sequence[Path], *, options: Sequence[str] = ()) -> None:
        """Send with DCMTK's storescu in one association; every answer must be success."""
        done = peers.storescu(
            paths, port=self.port, called="DICOMNODE", calling=SCANNER, options=("-v", *options)
        )
        stored = (done.stdout + done.stderr).count("Received Store Response (Success)")
        assert stored == len(paths), done.stdout + done.stderr

    def command(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """A command of ``dicom-node`` with this node's settings."""
        return dicom_node(*arguments, config=self.config)

    def read(self, *arguments: str) -> Any:
        """The JSON document that a reading command prints."""
        done = self.command(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @property
    def ledger(self) -> Ledger:
        """The node's ledger, opened beside it."""
        assert self._ledger is not None
        return self._ledger

    def wait_for_series(self, series_instance_uid: str, *, jobs: int = 1) -> list[Job]:
        """Wait until ``jobs`` jobs of a series ended and nothing of them is still to be sent."""

        def ended() -> list[Job]:
            assert self._process is not None and self._process.poll() is None, self.log_text()
            found = self.ledger.jobs.of_series(series_instance_uid)
            done = [job for job in found if job.state in _ENDED]
            waiting = {s.job_id for s in self.ledger.deliveries.open_shipments()}
            return done if len(done) >= jobs and not waiting & {j.job_id for j in done} else []

        found: list[Job] = wait_until(ended, f"{jobs} jobs of the series end and are delivered")
        return found

    def wait_for_decline(self, series_instance_uid: str) -> str:
        """Wait until a series is declined; returns the reason."""

        def declined() -> str:
            series = self.ledger.receipts.find_series(series_instance_uid)
            return series.reason if series is not None and series.state == "declined" else ""

        reason: str = wait_until(declined, "the series is declined")
        return reason

    def wait_for_running(self, series_instance_uid: str) -> None:
        """Wait until a job of a series runs; a job that ended first is an error."""

        def runs() -> bool:
            jobs = self.ledger.jobs.of_series(series_instance_uid)
            ended = [f"{job.state}: {job.reason}" for job in jobs if job.state in _ENDED]
            assert not ended, ended
            return any(job.state == "running" for job in jobs)

        wait_until(runs, "a job of the series runs")

    def deliveries(self, series_instance_uid: str) -> list[Delivery]:
        """All deliveries of a series' jobs."""
        jobs = self.ledger.jobs.of_series(series_instance_uid)
        return [d for job in jobs for d in self.ledger.deliveries.of_job(job.job_id)]

    def times_sent(self, series_instance_uid: str) -> dict[str, int]:
        """How often each result of a series became ``sent``, by SOP Instance UID."""
        return {
            d.sop_instance_uid: sum(
                t.to_state == "sent" for t in self.ledger.history("delivery", d.delivery_id)
            )
            for d in self.deliveries(series_instance_uid)
        }

    def log_text(self) -> str:
        """What the node has logged."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    def _close_ledger(self) -> None:
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            ledger.close()

    def _end_groups(self) -> None:
        for group in self._groups:
            if _living(group):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)


def _environment() -> Mapping[str, str]:
    """This process's, without settings of its own, and with the project on the path."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("DICOM_NODE_")}
    return {**inherited, "PYTHONPATH": str(ROOT)}


def _living(session: int) -> list[int]:
    """Processes of a session that are not zombies (proc(5): state, ppid, pgrp, session)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, belongs_to = stat.read_text().rpartition(")")[2].split()[:4]
            if int(belongs_to) == session and state != "Z":
                found.append(int(stat.parent.name))
    return found
