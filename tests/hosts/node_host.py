"""One host of a node: a network address, a disk of its own, and a part of the node's work."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.raw_scu import IMPLICIT, VERIFICATION, Closed, RawScu, Rejected
from tests.hosts.network import Host

ROOT = Path(__file__).resolve().parents[2]
AE_TITLE, MODALITY, ARCHIVE = "DICOMNODE", "SCANNER1", "ARCHIVE"
DICOM_PORT = 11112
_READY_WITHIN_S = 180.0
_STOPPED_WITHIN_S = 120.0


def wait_until(done: Callable[[], bool], what: str, within_s: float = _READY_WITHIN_S) -> None:
    """Wait for a state of the world.

    Raises
    ------
    AssertionError
        It did not come in time.
    """
    deadline = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.1)


class NodeHost:
    """``dicom-node serve --only ROLES`` on a host of its own, with a local data directory.

    Parameters
    ----------
    host
        Where it runs.
    roles
        As ``--only`` takes them.
    settings
        Those that all hosts share; the host's own are added.
    folder
        For its settings, its data and its log.

    Attributes
    ----------
    is_on
        Whether it was started and not without power since.
    """

    def __init__(self, host: Host, roles: str, settings: dict[str, Any], folder: Path) -> None:
        self.host, self.roles, self.name = host, roles, host.name
        self.data_dir = folder / "data"
        self.log_path = folder / "node.log"
        self._config = folder / "config.yaml"
        folder.mkdir(parents=True)
        own = {
            "ae_title": AE_TITLE, "host": host.address, "port": DICOM_PORT,
            "data_dir": str(self.data_dir), "host_name": self.name,
        }
        self._config.write_text(json.dumps({**settings, "node": own}))
        self._process: Any = None
        self.is_on = False

    @property
    def has_failed(self) -> bool:
        """Whether its main process ended by itself."""
        return self._process is not None and self._process.poll() not in (None, -9, 0)

    def start(self) -> None:
        """Start, and wait for nothing."""
        command = [
            sys.executable, "-m", "dicom_node", "--config", str(self._config), "serve",
            "--only", self.roles,
        ]
        self.is_on = True
        self._process = self.host.start(command, self.log_path, {"PYTHONPATH": str(ROOT)})

    def wait_ready(self) -> None:
        """Wait until it answers, where it is a receiver."""

        def answers() -> bool:
            assert not self.has_failed, f"{self.name} ended:\n{self.log_tail()}"
            return self.echoes()

        if "intake" in self.roles.split(","):
            wait_until(answers, f"{self.name} answers C-ECHO")

    def echoes(self) -> bool:
        """Whether it answers a C-ECHO that comes from its own machine."""
        return self.host.run(echoes, self.host.address)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        return int(self._process.wait(_STOPPED_WITHIN_S))

    def power_off(self) -> None:
        """The machine is gone, and nobody is told; a later :meth:`start` boots it."""
        self.is_on = False
        self.host.power_off()
        self._process.wait()

    def boot(self) -> None:
        """Start again after `power_off`, with the disk as it was left."""
        self.host.plug_in()
        self.start()

    def command(self, *arguments: str) -> str:
        """What a command of ``dicom-node`` prints on this host."""
        import subprocess

        done = self.host.run(
            subprocess.run,
            [sys.executable, "-m", "dicom_node", "--config", str(self._config), *arguments],
            capture_output=True, text=True, check=False, cwd=ROOT,
        )
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    def log_text(self) -> str:
        """What it has logged."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, length: int = 3000) -> str:
        """The end of what it has logged."""
        return f"--- {self.name}\n{self.log_text()[-length:]}"


def echoes(address: str) -> bool:
    """Whether a node answers a C-ECHO at an address."""
    try:
        scu = RawScu(
            DICOM_PORT, [(1, VERIFICATION, [IMPLICIT])], calling=MODALITY, called=AE_TITLE,
            timeout_s=10.0, host=address,
        )
        answered = scu.echo(1) == 0
        scu.release()
    except (OSError, Closed, Rejected):
        return False
    return answered
