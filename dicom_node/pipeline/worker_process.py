"""One inference process seen from the node: started, asked, listened to, killed.

    the node  --one request a line-->  dicom_node.pipeline.worker
              <--what its device is, then heartbeats and one answer a line--
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

from ai_models.trust import Site
from ai_models.types import writable
from dicom_node.errors import (
    DeadlineExceeded,
    ModelFailed,
    NodeError,
    UnsuitableInput,
    WorkerLost,
)
from dicom_node.events import Events
from dicom_node.pipeline.device_names import seen_from_inside
from dicom_node.pipeline.exchange import site_document

POLL_S = 0.2
FAREWELL_S = 5.0
MAX_ANSWER_BYTES = 4 * 1024 * 1024
BEATS_PER_HEARTBEAT = 10
SLOW_FACTOR = 10
Cancelled = Callable[[], bool]


@dataclass
class _Live:
    """A process, its pipes, and what was read of a line that is not whole yet."""

    process: subprocess.Popen[bytes]
    requests: IO[bytes]
    answers: IO[bytes]
    rest: bytearray = field(default_factory=bytearray)
    may_be_slow: bool = True
    is_ready: bool = False


class WorkerProcess:
    """One device and the process that has it, started when needed; used by one thread at a time.

    Attributes
    ----------
    device
        Its name in the settings, or ``name`` where that is given.
    kind
        The make of the device, as the process told; empty until it did.
    budget_mib
        What models may take of it; ``None`` until that is set or told.
    warm_mib
        What each loaded model holds there, by `dicom_node.pipeline.memory.key_of`.
    deadline
        Of the job that it has, by `time.monotonic`; 0 without one.
    """

    def __init__(
        self, device: str, site: Site, events: Events, heartbeat_s: float,
        budget_mib: float | None = None, name: str = "",
    ) -> None:
        self.device = name or device
        self.kind = ""
        self.budget_mib = budget_mib
        self.warm_mib: dict[str, float] = {}
        self.deadline = 0.0
        self._heartbeat_s = heartbeat_s
        inside, changes = seen_from_inside(device, os.environ)
        self._environment = changes
        self._arguments = ["--device", inside, "--beat", str(heartbeat_s / BEATS_PER_HEARTBEAT)]
        self._arguments += ["--site", json.dumps(site_document(site))]
        if budget_mib is not None:
            self._arguments += ["--budget-mib", str(budget_mib)]
        self._events = events
        self._live: _Live | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, where one runs."""
        live = self._live
        return live.process.pid if live is not None and live.process.poll() is None else None

    def start(self, deadline: float, cancelled: Cancelled) -> None:
        """Have the process running, and know its device; quick where it runs already.

        ``deadline`` is of `time.monotonic`. Raises as `ask` does.
        """
        live = self._running()
        if live.is_ready:
            return
        told = self._wait_for_answer(live, deadline, cancelled).get("ready")
        if not isinstance(told, dict):
            raise self._off_the_protocol(live)
        live.is_ready = True
        self.kind, self.budget_mib = str(told["kind"]), float(told["budget_mib"])

    def ask(
        self, request: dict[str, Any], deadline: float, cancelled: Cancelled
    ) -> dict[str, Any]:
        """Send one request and wait for its answer; after a lost answer the process is dead.

        ``deadline`` is of `time.monotonic`. Raises what
        `dicom_node.pipeline.inference.InferencePool.predict` says.
        """
        self.start(deadline, cancelled)
        live = self._running()
        try:
            live.requests.write(json.dumps(request).encode() + b"\n")
            live.requests.flush()
        except OSError as error:
            raise self._lost(live) from error
        answer = self._wait_for_answer(live, deadline, cancelled)
        if answer.get("request") != request["request"]:
            raise self._off_the_protocol(live)
        for what in ("evicted", "loaded"):
            for model_id in answer.get(what, ()):
                self._events.worker_changed(self.device, f"model {what}", str(model_id))
        self.warm_mib = {
            str(key): float(held) for key, held in answer.get("warm", {}).items()
        }
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
            env=_worker_environment() | self._environment,
        )
        if process.stdin is None or process.stdout is None:
            raise WorkerLost("the worker was started without pipes")
        self._live = _Live(process, process.stdin, process.stdout)
        self._events.worker_changed(self.device, "started", f"pid {process.pid}")
        return self._live

    def _wait_for_answer(
        self, live: _Live, deadline: float, cancelled: Cancelled
    ) -> dict[str, Any]:
        """The first line that is no heartbeat."""
        heard = time.monotonic()
        while True:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                self._kill(live, "deadline")
                raise DeadlineExceeded(f"the model on {self.device} passed its deadline")
            if cancelled():
                self._kill(live, "cancelled")
                raise WorkerLost("cancelled, the worker was killed", reason="worker.cancelled")
            if not select.select([live.answers], [], [], min(POLL_S, remaining))[0]:
                # Only when nothing lies in the pipe: this process may have been stopped itself.
                self._judge_silence(live, time.monotonic() - heard)
                continue
            for line in self._read_lines(live):
                heard = time.monotonic()
                answer = _parsed(line)
                if "alive" not in answer:
                    return answer
                live.may_be_slow = bool(answer.get("loading"))

    def _read_lines(self, live: _Live) -> list[bytes]:
        chunk = os.read(live.answers.fileno(), 65536)
        live.rest += chunk
        *lines, rest = bytes(live.rest).split(b"\n")
        live.rest[:] = rest
        if not chunk or len(rest) > MAX_ANSWER_BYTES:
            raise self._lost(live)
        return lines

    def _off_the_protocol(self, live: _Live) -> WorkerLost:
        self._kill(live, "answered off the protocol")
        return WorkerLost(f"the worker on {self.device} answered off the protocol")

    def _judge_silence(self, live: _Live, silent_s: float) -> None:
        """Stopped, or held up in code that lets no other thread run: it will not answer."""
        if silent_s > self._heartbeat_s * (SLOW_FACTOR if live.may_be_slow else 1):
            self._kill(live, "no heartbeat")
            raise WorkerLost(
                f"the worker on {self.device} gave no sign of life for {silent_s:.0f} s",
                reason="worker.no_heartbeat",
            )

    def _lost(self, live: _Live) -> WorkerLost:
        how = "closed its pipe"
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = live.process.wait(timeout=FAREWELL_S)
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited ({code})"
        self._kill(live, how)
        return WorkerLost(f"the worker on {self.device} {how} while it held a job")

    def _kill(self, live: _Live, why: str) -> None:
        """Kill the whole process group: what a model started must not outlive it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(live.process.pid, signal.SIGKILL)
        self._reap(live)
        self._events.worker_changed(self.device, "killed", why)

    def _reap(self, live: _Live) -> None:
        live.process.wait()
        for pipe in (live.requests, live.answers):
            # A pipe to a dead process cannot be flushed; it is closed all the same.
            with contextlib.suppress(OSError):
                pipe.close()
        self._live = None
        self.warm_mib = {}

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
        self._events.worker_changed(self.device, "ended")


def _worker_environment() -> dict[str, str]:
    """Ours, with our import path; model hubs are told that there is no network.

    Without settings of the node, which may hold passwords: models may bring code of their own.
    Unless said otherwise one BLAS thread, as the array work is a few large products, and threads
    of OpenMP that sleep while they wait: those that spin take the cores from the listeners, and
    from each other (a small network beside one busy core: 27 s of CPU, asleep 2 s).
    """
    path = os.pathsep.join(entry for entry in sys.path if entry)
    ours = {
        name: value for name, value in os.environ.items()
        if not name.startswith(("DICOM_NODE__", "AWS_"))
    }
    patient = {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return {**patient, **ours, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _typed_error(error: dict[str, Any]) -> NodeError:
    reason, message = writable(str(error["reason"]), 64), writable(str(error["message"]))
    if reason.startswith("input."):
        return UnsuitableInput(message, reason=reason)
    if reason.startswith("worker."):
        return WorkerLost(message, reason=reason)
    return ModelFailed(message, reason=reason)
