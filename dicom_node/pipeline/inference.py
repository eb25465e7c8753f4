"""Models run in processes of their own: one worker per device, warm between jobs, killed when late.

    predict -> the line -> a device -> source.npy + one request line -> one answer line + its arrays

A worker that dies (a CUDA fault, the kernel's out-of-memory killer) costs its own job and nothing
else: the job gets `WorkerLost`, the next one a fresh process. A worker past its deadline, or
without a heartbeat, is killed with its whole process group. A job that is tried again goes to
another device than before, where there is one. Nothing heavy is imported here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ai_models.card import Card
from ai_models.trust import Site
from ai_models.types import ModelInput, Prediction
from dicom_node.errors import DeadlineExceeded, ModelFailed, NodeError, StorageFailed, WorkerLost
from dicom_node.events import Events
from dicom_node.pipeline.admission import Admission, Asked
from dicom_node.pipeline.exchange import read_prediction
from dicom_node.pipeline.laid_out import OF_REQUESTS, LaidOut
from dicom_node.pipeline.memory import MeasuredMemory, voxels_of
from dicom_node.pipeline.retry import LEAVES_A_DEVICE, OUT_OF_MEMORY, cause_of
from dicom_node.pipeline.worker_process import Cancelled, WorkerProcess
from dicom_node.records import Priority

HEARTBEAT_S = 30.0
# Nobody waits for a model that is loaded ahead, and others wait for its device.
_LONGEST_AHEAD_S = 300.0
# A job of another model waits no longer for one that is loaded ahead: its worker is begun anew.
_AHEAD_WAITED_FOR_S = 15.0
# Of jobs that were given up elsewhere nobody tells the pool.
_MOST_LOST_JOBS = 1000


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
    """Thread-safe: each call takes a device by `dicom_node.pipeline.placement`, or stands in line.

    Parameters
    ----------
    devices
        ``cpu``, ``cuda:<n>``, ``GPU-<uuid>`` or ``MIG-<uuid>``, one worker each (see
        `resolve_devices`).
    site
        What this site allows its models.
    scratch
        Folder for arrays on their way; a memory file system such as /dev/shm saves time.
    heartbeat_s
        A worker that gives no sign of life for so long is killed; ten times as long while it
        starts or loads a model, which may keep everything else in the process waiting.
    device_memory_mib
        What models may take of a device together; of one that is not in it, what its worker says.
    measured
        File of what models took (see `dicom_node.pipeline.memory`); ``None``: nothing is kept.

    Attributes
    ----------
    laid_out
        Inputs that are written already for who will ask for a prediction of them.
    """

    def __init__(
        self,
        devices: Sequence[str],
        site: Site,
        scratch: Path,
        events: Events,
        heartbeat_s: float = HEARTBEAT_S,
        *,
        device_memory_mib: Mapping[str, float] | None = None,
        measured: Path | None = None,
    ) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self._scratch = scratch
        self.laid_out = LaidOut(scratch)
        self._events = events
        self._closed = threading.Event()
        budgets = device_memory_mib or {}
        self._workers = [
            WorkerProcess(device, site, events, heartbeat_s, budgets.get(device))
            for device in devices
        ]
        self._memory = MeasuredMemory(measured)
        self._admission = Admission(self._workers, self._memory)
        self.guests = self._admission.guests
        self._lost: OrderedDict[str, set[int]] = OrderedDict()
        self._lost_lock = threading.Lock()

    def predict(
        self,
        card: Card,
        source: ModelInput,
        *,
        deadline_s: float,
        cancelled: Cancelled | None = None,
        job_id: str = "",
        priority: Priority = Priority.ROUTINE,
        makes_way: bool = False,
    ) -> Prediction:
        """Run a model on a volume or an image.

        ``deadline_s`` counts from the moment a worker has the job (loading the model included).
        ``cancelled`` is asked a few times a second. A job of the same ``job_id`` avoids the devices
        on which it was lost before. With ``makes_way`` it stands behind all others; that it is to
        end when they wait is for its ``cancelled`` to say (`others_wait`).

        Raises
        ------
        ModelFailed
            The model raised or broke its card; ``reason`` is that of its ModelError.
        UnsuitableInput
            The card does not allow this input (``input.*``).
        WorkerLost
            The worker died, gave no heartbeat (``worker.no_heartbeat``), had too little memory
            (``worker.out_of_memory``) or lost its device (``worker.device_failed``), the job was
            cancelled (``worker.cancelled``), or the pool closed.
        StorageFailed
            The scratch folder did not take the arrays.
        DeadlineExceeded
            It took longer; the worker was killed.
        """
        stop = cancelled if cancelled is not None else _never
        asked = Asked(card, voxels_of(card, source), self._lost_on(job_id), priority,
                      makes_way=makes_way)
        prediction = None
        while prediction is None:
            number = self._admission.take(asked, stop)
            try:
                prediction = self._try(number, asked, source, deadline_s, stop)
            except (WorkerLost, DeadlineExceeded) as error:
                if error.reason == OUT_OF_MEMORY and self.guests.send_away(number):
                    continue
                self._remember(job_id, number, error)
                raise
            finally:
                self._workers[number].deadline = 0.0
                self._admission.give_back(number)
        with self._lost_lock:
            self._lost.pop(job_id, None)
        return prediction

    @contextmanager
    def room(
        self, mib: float, deadline: float, stop: Cancelled, *, on_processor: bool = True
    ) -> Iterator[tuple[int, str]]:
        """A device that has ``mib`` beside models and guests: its number and name.

        Models are let go of for it. A `Guest` that comes inside of the block keeps the room; the
        device is held until its end only. Without ``on_processor`` it is no processor.

        Raises
        ------
        WorkerLost
            ``worker.out_of_memory``: no device has so much. Else as `predict`.
        ModelFailed
            ``model.backend_missing``: there is only a processor.
        DeadlineExceeded
            ``deadline`` is of `time.monotonic`.
        """
        numbers = range(len(self._workers))
        avoid = [n for n in numbers if self._workers[n].device == "cpu" and not on_processor]
        if len(avoid) == len(numbers):
            raise ModelFailed("it needs a GPU, and there is none", reason="model.backend_missing")
        asked = Asked(None, 0, avoid, mib=mib)
        given_up = self._or_closed(lambda: stop() or time.monotonic() > deadline)
        while True:
            number = self._admission.take(asked, given_up)
            try:
                self._workers[number].start(deadline, given_up)
                if not self._admission.is_misplaced(asked, number):
                    self._let_go_for(mib, number, deadline, given_up)
                    yield number, self._workers[number].device
                    return
            finally:
                self._admission.give_back(number)

    def _let_go_for(self, mib: float, number: int, deadline: float, stop: Cancelled) -> None:
        worker, beside_mib = self._workers[number], mib + self.guests.held_mib(number)
        budget_mib = worker.budget_mib or 0.0
        if beside_mib > budget_mib:
            raise WorkerLost(
                f"{beside_mib:.0f} MiB are needed, and {worker.device} has {budget_mib:.0f}",
                reason=OUT_OF_MEMORY,
            )
        if beside_mib + sum(worker.warm_mib.values()) > budget_mib:
            worker.ask({"request": "room", "beside_mib": beside_mib}, deadline, stop)

    def prepare(self, card: Card) -> bool:
        """Load a model on an idle device that has room, beside the caller; whether that began.

        Nothing is let go of for it, and a model that cannot be loaded is no failure here: the job
        will say so.
        """
        number = self._admission.take_ahead(card)
        if number is None:
            return False
        threading.Thread(
            target=self._prepare, args=(card, number), name="prepare", daemon=True
        ).start()
        return True

    def others_wait(self, longer_than_s: float) -> bool:
        """Whether a job that does not make way has waited for a device for so long."""
        return self._admission.others_wait(longer_than_s)

    @property
    def is_closed(self) -> bool:
        """Whether the pool takes nothing any more."""
        return self._closed.is_set()

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that run, and of guests."""
        workers = [pid for one in self._workers if (pid := one.pid) is not None]
        return workers + self.guests.pids()

    def held_mib(self) -> dict[str, float]:
        """What the models that are loaded hold of each device, and guests."""
        return {
            one.device: self.guests.held_mib(number)
            + (sum(one.warm_mib.values()) if one.pid is not None else 0.0)
            for number, one in enumerate(self._workers)
        }

    def kinds(self) -> str:
        """The makes of the devices, as far as their workers have told: one, as a rule."""
        return ", ".join(sorted({one.kind for one in self._workers if one.kind}))

    def overdue_s(self) -> float:
        """By how much the latest of the jobs that are still held is past its deadline; 0: none.

        A worker past its deadline is killed at once: who is late for longer does not look.
        """
        now = time.monotonic()
        deadlines = [one.deadline for one in self._workers]
        return max([0.0, *(now - deadline for deadline in deadlines if deadline)])

    def close(self) -> None:
        """End every worker; calls in progress get `WorkerLost`."""
        self._closed.set()
        self.laid_out.close()
        self.guests.send_away()
        self._admission.close(lambda number: self._workers[number].end())

    def _try(
        self, number: int, asked: Asked, source: ModelInput, deadline_s: float, stop: Cancelled
    ) -> Prediction | None:
        """The prediction, or ``None``: the device told its size just now, and it is too small."""
        deadline = self._workers[number].deadline = time.monotonic() + deadline_s
        try:
            self._workers[number].start(deadline, self._or_closed(stop))
        except OSError as error:
            raise WorkerLost(f"no worker can be started: {error.strerror}") from error
        if self._admission.is_misplaced(asked, number):
            return None
        if not self._admission.fits_beside_guests(asked, number):
            self.guests.send_away(number)
        return self._run(number, asked, source, deadline, stop)

    def _run(
        self, number: int, asked: Asked, source: ModelInput, deadline: float, stop: Cancelled
    ) -> Prediction:
        worker = self._workers[number]
        is_alone = not self.guests.are_busy(number)
        try:
            with tempfile.TemporaryDirectory(prefix=OF_REQUESTS, dir=self._scratch) as name:
                folder = Path(name)
                request = self._request(folder.name, number, asked) | {
                    "source": self.laid_out.told(source, folder), "output": str(folder),
                }
                answer = worker.ask(request, deadline, self._or_closed(stop))
                prediction = read_prediction(folder, answer["prediction"], source)
        except OSError as error:
            raise StorageFailed(
                f"arrays could not pass through {self._scratch}: {error.strerror}"
            ) from error
        if is_alone and not self.guests.are_busy(number):
            # A driver counts what others take meanwhile as ours.
            self._keep_peak(asked, worker, answer)
        return prediction

    def _request(self, name: str, number: int, asked: Asked) -> dict[str, Any]:
        return {
            "request": name, "card": str(asked.model.folder),
            "content": asked.model.content.decode(),
            "need_mib": self._admission.need_mib(asked, number),
            "beside_mib": self.guests.held_mib(number),
        }

    def _keep_peak(self, asked: Asked, worker: WorkerProcess, answer: dict[str, Any]) -> None:
        peak_mib = float(answer.get("memory", {}).get("peak_mib", -1.0))
        try:
            self._memory.keep(asked.model, asked.voxels, worker.kind, peak_mib)
        except NodeError as error:
            # The job has its result; what is not kept is measured again.
            self._events.worker_changed(worker.device, "memory not kept", error.reason)

    def _prepare(self, card: Card, number: int) -> None:
        worker = self._workers[number]
        deadline = time.monotonic() + min(card.runtime.deadline_s, _LONGEST_AHEAD_S)
        worker.deadline = deadline
        try:
            stop = self._or_closed(lambda: self._admission.keeps_waiting(card, _AHEAD_WAITED_FOR_S))
            worker.start(deadline, stop)
            request = self._request("ahead", number, Asked(card, 1)) | {"ahead": True}
            worker.ask(request, deadline, stop)
        except NodeError as error:
            self._events.worker_changed(worker.device, "model not loaded ahead", error.reason)
        # A boundary: a thread that nobody waits for must give its device back all the same.
        except Exception:  # noqa: BLE001
            self._events.unexpected("loading a model ahead")
        finally:
            worker.deadline = 0.0
            self._admission.give_back(number)

    def _or_closed(self, stop: Cancelled) -> Cancelled:
        return lambda: stop() or self._closed.is_set()

    def _lost_on(self, job_id: str) -> frozenset[int]:
        with self._lost_lock:
            return frozenset(self._lost.get(job_id, ()))

    def _remember(self, job_id: str, number: int, error: NodeError) -> None:
        if not job_id or cause_of(error.reason) not in LEAVES_A_DEVICE:
            return
        with self._lost_lock:
            self._lost.setdefault(job_id, set()).add(number)
            self._lost.move_to_end(job_id)
            while len(self._lost) > _MOST_LOST_JOBS:
                self._lost.popitem(last=False)


def _never() -> bool:
    return False
