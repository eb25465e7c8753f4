"""Models run in processes of their own: one worker per device, warm between jobs, killed when late.

    predict -> an idle worker -> volume.npy + one request line -> one answer line + labels.npy

A worker that dies (a CUDA fault, the kernel's out-of-memory killer) costs its own job and nothing
else: the job gets `WorkerLost`, the next one a fresh process. A worker past its deadline is killed
with its whole process group. Nothing heavy is imported here.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ai_models.types import Algorithm, Code, Label, SegmentationPrediction, Volume
from dicom_node.errors import (
    DeadlineExceeded,
    ModelFailed,
    NodeError,
    StorageFailed,
    UnsuitableInput,
    WorkerLost,
)
from dicom_node.events import Events

POLL_S = 0.2
FAREWELL_S = 5.0
MAX_ANSWER_BYTES = 4 * 1024 * 1024
Cancelled = Callable[[], bool]


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
    model_directories
        Model folders beside the built-in zoo.
    scratch
        Folder for arrays on their way; a memory file system such as /dev/shm saves time.
    """

    def __init__(
        self,
        devices: Sequence[str],
        model_directories: Sequence[Path],
        scratch: Path,
        events: Events,
    ) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self._scratch = scratch
        self._closed = threading.Event()
        self._workers = [_WorkerProcess(device, model_directories, events) for device in devices]
        self._idle: queue.SimpleQueue[_WorkerProcess] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)

    def predict(
        self,
        model_id: str,
        volume: Volume,
        *,
        deadline_s: float,
        cancelled: Cancelled | None = None,
    ) -> SegmentationPrediction:
        """Run a model on a volume.

        ``deadline_s`` counts from the moment a worker has the job (loading the model included).
        ``cancelled`` is asked a few times a second.

        Raises
        ------
        ModelFailed
            The model raised or broke its card; ``reason`` is that of its ModelError.
        UnsuitableInput
            The card does not allow this volume (``input.*``).
        WorkerLost
            The worker died, or the job was cancelled (``worker.cancelled``) or the pool closed.
        StorageFailed
            The scratch folder did not take the arrays.
        DeadlineExceeded
            It took longer; the worker was killed.
        """
        asked = cancelled if cancelled is not None else _never
        worker = self._wait_for_worker(asked)
        try:
            with tempfile.TemporaryDirectory(prefix="inference-", dir=self._scratch) as folder:
                return self._run(worker, Path(folder), model_id, volume, deadline_s, asked)
        except OSError as error:
            raise StorageFailed(
                f"arrays could not pass through {self._scratch}: {error.strerror}"
            ) from error
        finally:
            self._idle.put(worker)

    def _wait_for_worker(self, cancelled: Cancelled) -> _WorkerProcess:
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
        self, worker: _WorkerProcess, folder: Path, model_id: str, volume: Volume,
        deadline_s: float, cancelled: Cancelled,
    ) -> SegmentationPrediction:
        np.save(folder / "volume.npy", volume.array, allow_pickle=False)
        request = {
            "request": folder.name, "model": model_id, "unit": volume.unit,
            "affine_lps": volume.affine_lps.tolist(),
            "input": str(folder / "volume.npy"), "output": str(folder / "labels.npy"),
        }
        answer = worker.ask(
            request, deadline_s, lambda: cancelled() or self._closed.is_set()
        )
        label_map = np.load(folder / "labels.npy", allow_pickle=False)
        if label_map.shape != volume.array.shape or label_map.dtype != np.uint8:
            raise ModelFailed(
                f"labels {label_map.dtype} {label_map.shape} for a volume {volume.array.shape}",
                reason="model.wrong_output",
            )
        return _prediction(label_map, answer["prediction"])

    def close(self) -> None:
        """End every worker; calls in progress get `WorkerLost`."""
        self._closed.set()
        for _ in self._workers:
            self._idle.get().end()


@dataclass(frozen=True)
class _Live:
    process: subprocess.Popen[bytes]
    requests: IO[bytes]
    answers: IO[bytes]


class _WorkerProcess:
    """One device and the process that has it, started when needed; used by one thread at a time."""

    def __init__(
        self, device: str, model_directories: Sequence[Path], events: Events
    ) -> None:
        self._device = device
        self._arguments = ["--device", device]
        for directory in model_directories:
            self._arguments += ["--models", str(directory)]
        self._events = events
        self._live: _Live | None = None

    def ask(
        self, request: dict[str, Any], deadline_s: float, cancelled: Cancelled
    ) -> dict[str, Any]:
        """Send one request and wait for its answer; after a lost answer the process is dead."""
        live = self._running()
        deadline = time.monotonic() + deadline_s
        try:
            live.requests.write(json.dumps(request).encode() + b"\n")
            live.requests.flush()
        except OSError as error:
            raise self._lost(live) from error
        answer = _parsed(self._read_line(live, deadline, cancelled))
        if answer.get("request") != request["request"]:
            self._kill(live, "answered off the protocol")
            raise WorkerLost(f"the worker on {self._device} answered off the protocol")
        for model_id in answer.get("loaded", ()):
            self._events.worker_changed(self._device, "model loaded", str(model_id))
        if "error" in answer:
            if answer.get("ends"):
                self._kill(live, str(answer["error"]["reason"]))
            raise _typed_error(answer["error"])
        return answer

    def _running(self) -> _Live:
        if self._live is not None and self._live.process.poll() is None:
            return self._live
        if self._live is not None:
            self._kill(self._live, "found dead")
        process = subprocess.Popen(
            [sys.executable, "-m", "dicom_node.pipeline.worker", *self._arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
            env=_worker_environment(),
        )
        if process.stdin is None or process.stdout is None:
            raise WorkerLost("the worker was started without pipes")
        self._live = _Live(process, process.stdin, process.stdout)
        self._events.worker_changed(self._device, "started", f"pid {process.pid}")
        return self._live

    def _read_line(self, live: _Live, deadline: float, cancelled: Cancelled) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n"):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                self._kill(live, "deadline")
                raise DeadlineExceeded(f"the model on {self._device} passed its deadline")
            if cancelled():
                self._kill(live, "cancelled")
                raise WorkerLost("cancelled, the worker was killed", reason="worker.cancelled")
            if not select.select([live.answers], [], [], min(POLL_S, remaining))[0]:
                continue
            chunk = os.read(live.answers.fileno(), 65536)
            line += chunk
            if not chunk or len(line) > MAX_ANSWER_BYTES:
                raise self._lost(live)
        return bytes(line)

    def _lost(self, live: _Live) -> WorkerLost:
        how = "closed its pipe"
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = live.process.wait(timeout=FAREWELL_S)
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited ({code})"
        self._kill(live, how)
        return WorkerLost(f"the worker on {self._device} {how} while it held a job")

    def _kill(self, live: _Live, why: str) -> None:
        """Kill the whole process group: what a model started must not outlive it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(live.process.pid, signal.SIGKILL)
        self._reap(live)
        self._events.worker_changed(self._device, "killed", why)

    def _reap(self, live: _Live) -> None:
        live.process.wait()
        for pipe in (live.requests, live.answers):
            # A pipe to a dead process cannot be flushed; it is closed all the same.
            with contextlib.suppress(OSError):
                pipe.close()
        self._live = None

    def end(self) -> None:
        """Close stdin, by which the process ends itself; kill it if it does not."""
        live = self._live
        if live is None:
            return
        with contextlib.suppress(OSError):
            live.requests.close()
        try:
            live.process.wait(timeout=FAREWELL_S)
        except subprocess.TimeoutExpired:
            self._kill(live, "did not end by itself")
            return
        self._reap(live)
        self._events.worker_changed(self._device, "ended")


def _worker_environment() -> dict[str, str]:
    """Ours, with our import path; model hubs are told that there is no network.

    One BLAS thread unless said otherwise: the array work is a few large products, and threads
    that wait for each other by spinning take the cores from the listeners.
    """
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {
        "OPENBLAS_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1",
    }


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _typed_error(error: dict[str, Any]) -> NodeError:
    reason, message = str(error["reason"]), str(error["message"])
    if reason.startswith("input."):
        return UnsuitableInput(message, reason=reason)
    if reason.startswith("worker."):
        return WorkerLost(message, reason=reason)
    return ModelFailed(message, reason=reason)


def _prediction(label_map: Any, told: dict[str, Any]) -> SegmentationPrediction:
    algorithm = {**told["algorithm"], "family": Code(**told["algorithm"]["family"])}
    return SegmentationPrediction(
        label_map,
        tuple(_label(entry) for entry in told["labels"]),
        Algorithm(**algorithm),
        {str(stage): float(seconds) for stage, seconds in told["seconds_by_stage"].items()},
        tuple(str(note) for note in told["notes"]),
    )


def _label(entry: dict[str, Any]) -> Label:
    codes = {
        name: Code(**entry[name]) if entry[name] is not None else None
        for name in ("category", "type", "laterality", "anatomic_region")
    }
    return Label(**{**entry, **codes, "color_rgb": tuple(entry["color_rgb"])})


def _never() -> bool:
    return False
