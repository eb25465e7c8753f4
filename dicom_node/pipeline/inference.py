"""Models run in processes of their own: one worker per device, warm between jobs, killed when late.

    predict -> an idle worker -> source.npy + one request line -> one answer line + its arrays

A worker that dies (a CUDA fault, the kernel's out-of-memory killer) costs its own job and nothing
else: the job gets `WorkerLost`, the next one a fresh process. A worker past its deadline, or
without a heartbeat, is killed with its whole process group. Nothing heavy is imported here.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from ai_models.card import Card
from ai_models.trust import Site
from ai_models.types import ModelInput, Prediction
from dicom_node.errors import StorageFailed, WorkerLost
from dicom_node.events import Events
from dicom_node.pipeline.exchange import read_prediction, write_source
from dicom_node.pipeline.worker_process import POLL_S, Cancelled, WorkerProcess

HEARTBEAT_S = 30.0


def resolve_devices(setting: str | Sequence[str]) -> list[str]:
    """What ``models.devices`` means here: ``auto`` is every CUDA device, else the CPU.

    A host without an NVIDIA device node is answered at once; otherwise a short-lived worker is
    asked, so that this process never imports torch.
    """
    if not isinstance(setting, str):
        return list(setting)
    if setting != "auto":
        return [setting]
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return ["cpu"]
    try:
        found = subprocess.run(
            [sys.executable, "-m", "dicom_node.pipeline.worker", "--list-devices"],
            capture_output=True, timeout=120, check=True,
        )
    except (subprocess.SubprocessError, OSError) as error:
        raise WorkerLost(f"the devices could not be listed: {error}") from error
    return [str(device) for device in json.loads(found.stdout)] or ["cpu"]


class InferencePool:
    """Thread-safe: each call takes the first idle worker and waits while there is none.

    Parameters
    ----------
    devices
        ``cpu`` or ``cuda:<n>``, one worker each (see `resolve_devices`).
    site
        What this site allows its models.
    scratch
        Folder for arrays on their way; a memory file system such as /dev/shm saves time.
    heartbeat_s
        A worker that gives no sign of life for so long is killed; ten times as long while it
        starts or loads a model, which may keep everything else in the process waiting.
    """

    def __init__(
        self,
        devices: Sequence[str],
        site: Site,
        scratch: Path,
        events: Events,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self._scratch = scratch
        self._closed = threading.Event()
        self._workers = [
            WorkerProcess(device, site, events, heartbeat_s) for device in devices
        ]
        self._idle: queue.SimpleQueue[WorkerProcess] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)

    def predict(
        self,
        card: Card,
        source: ModelInput,
        *,
        deadline_s: float,
        cancelled: Cancelled | None = None,
    ) -> Prediction:
        """Run a model on a volume or an image.

        ``deadline_s`` counts from the moment a worker has the job (loading the model included).
        ``cancelled`` is asked a few times a second.

        Raises
        ------
        ModelFailed
            The model raised or broke its card; ``reason`` is that of its ModelError.
        UnsuitableInput
            The card does not allow this input (``input.*``).
        WorkerLost
            The worker died or gave no heartbeat (``worker.no_heartbeat``), the job was cancelled
            (``worker.cancelled``), or the pool closed.
        StorageFailed
            The scratch folder did not take the arrays.
        DeadlineExceeded
            It took longer; the worker was killed.
        """
        asked = cancelled if cancelled is not None else _never
        worker = self._wait_for_worker(asked)
        try:
            with tempfile.TemporaryDirectory(prefix="inference-", dir=self._scratch) as folder:
                return self._run(worker, Path(folder), card, source, deadline_s, asked)
        except OSError as error:
            raise StorageFailed(
                f"arrays could not pass through {self._scratch}: {error.strerror}"
            ) from error
        finally:
            self._idle.put(worker)

    def _wait_for_worker(self, cancelled: Cancelled) -> WorkerProcess:
        while True:
            if self._closed.is_set():
                raise WorkerLost("the node is stopping", reason="worker.stopping")
            if cancelled():
                raise WorkerLost("cancelled before it began", reason="worker.cancelled")
            try:
                return self._idle.get(timeout=POLL_S)
            except queue.Empty:
                continue

    def _run(
        self, worker: WorkerProcess, folder: Path, card: Card, source: ModelInput,
        deadline_s: float, cancelled: Cancelled,
    ) -> Prediction:
        request = {
            "request": folder.name, "card": str(card.folder), "fingerprint": card.fingerprint,
            "source": write_source(folder, source), "output": str(folder),
        }
        answer = worker.ask(
            request, deadline_s, lambda: cancelled() or self._closed.is_set()
        )
        return read_prediction(folder, answer["prediction"], source)

    def close(self) -> None:
        """End every worker; calls in progress get `WorkerLost`."""
        self._closed.set()
        for _ in self._workers:
            self._idle.get().end()


def _never() -> bool:
    return False
