"""The inference process of one device: ``python -m dicom_node.pipeline.worker --device cpu``.

One process holds the network and the device, so that a CUDA fault or an exhausted memory ends
this process and nothing else. It reads requests from stdin and answers on stdout, one JSON
document a line; arrays travel as ``.npy`` files (never pickled) that the node makes and removes.

    first    {"ready": {"kind", "budget_mib"}}: the make of its device, what models may take of it
    request  {"request", "card", "content", "need_mib", "beside_mib", "source": {...}, "output"}
    answer   {"request", "prediction": {...}, "memory": {"peak_mib", "held_mib"}}
             {"request", "error": {"reason", "message"}, "ends": bool}
    request  {"request", "card", "content", "need_mib", "beside_mib", "ahead": true}
    answer   {"request", "ahead": bool}: whether there was room to load the model
    request  {"request", "beside_mib"}: let go of models until the rest fits beside so much
    answer   {"request"}
    request  {"request", "writer", "content", "messages": [{"role", "content"}]}
    answer   {"request", "text", "notes", "memory": {"peak_mib", "held_mib"}}
    before   {"alive": true, "loading": bool}, again and again while there is a request

Every answer also says what was "loaded" and "evicted" for it, and in "warm" what each loaded model
holds, in MiB. "card" is the folder of the model's card and "content" what the card says: its file
may have been changed since, and the node goes on with the last good one. "need_mib" is what the job
is predicted to take, "beside_mib" what others than models have of the device. Who is asked of a
"writer" (the folder of its card) is asked of nothing else (`dicom_node.pipeline.worker_writer`).
Arrays of the prediction are written to the folder "output" (see `dicom_node.pipeline.exchange`).

The heartbeat comes from a thread of Python: a process that is stopped, or whose library neither
ends nor lets other threads run, gives none. When stdin closes the node is gone, and the process
ends at once with all that it started, whatever it was doing. Whatever a library prints goes to
stderr: file descriptor 1 is taken away from it. Network access by Python code is refused for the
life of the process, but for the host that serves the model of a request.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ai_models.backends.device_memory import MemoryMeter, meter_of
from ai_models.backends.devices import describe_devices, find_cuda_devices
from ai_models.backends.protocol import is_device_failure, is_out_of_memory
from ai_models.backends.reach import reachable
from ai_models.card import CARD_NAME, Card, load_card
from ai_models.trust import Site
from ai_models.types import ModelError
from dicom_node.freed_memory import give_back, keep_between_jobs
from dicom_node.pipeline.exchange import read_source, site_from, write_prediction
from dicom_node.pipeline.retry import DEVICE_FAILED, OUT_OF_MEMORY
from dicom_node.pipeline.warm_models import WarmModels
from dicom_node.pipeline.worker_network import NetworkGate
from dicom_node.pipeline.worker_writer import Writing

_OUT_OF_MEMORY_SCORE = "500"
# As long as other processes of the node keep what they have freed.
_IDLE_S = 60.0
# What is wrong with files that somebody may just be replacing.
_OF_FILES = frozenset({"model.hash_mismatch", "model.weights_missing"})


class Worker:
    """Answers requests with models that it keeps warm (`dicom_node.pipeline.warm_models`).

    Parameters
    ----------
    device
        As this process sees it: ``cpu`` or ``cuda:<n>``.
    site
        What this site allows its models.
    budget_mib
        What models may take of the device together; ``None``: the device's share.
    loading
        Told when a model begins to be loaded, and when it was.
    gate
        Lets requests through to the host that serves their model.
    """

    def __init__(
        self,
        device: str,
        site: Site,
        budget_mib: float | None = None,
        loading: Callable[[bool], None] = lambda _loading: None,
        gate: NetworkGate | None = None,
    ) -> None:
        self._device = device
        self._site = site
        self._gate = gate or NetworkGate()
        self._meter = _meter_of(device)
        fitted = self._meter.fitted()
        budget_mib = fitted.budget_mib if budget_mib is None else budget_mib
        self.ready = {"kind": fitted.kind, "budget_mib": budget_mib}
        self._models = WarmModels(device, site, self._meter, budget_mib, loading)
        self._writing = Writing(device, site, self._meter, loading)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer one request; what the model raises becomes part of the answer."""
        self._models.loaded, self._models.evicted = [], []
        told = self._outcome(request)
        if _ran_out_of_memory(told) and self._make_all_room(request):
            # Beside others it did not fit; alone it may.
            told = self._outcome(request)
        return {
            **told, "warm": self._models.held_mib,
            "loaded": self._models.loaded, "evicted": self._models.evicted,
        }

    def _outcome(self, request: dict[str, Any]) -> dict[str, Any]:
        self._models.beside_mib = float(request.get("beside_mib", 0.0))
        try:
            if "writer" in request:
                return self._writing.answer(request)
            if "card" not in request:
                self._models.make_room()
                return {}
            card = _card_of(request)
            with self._gate.reaching(reachable(card, self._site)):
                return self._load_ahead(card, request) or self._predict(card, request)
        except ModelError as error:
            reason = OUT_OF_MEMORY if is_out_of_memory(error) else error.reason
            if self._lost_its_device(error):
                reason = DEVICE_FAILED
            if reason in _OF_FILES and "card" in request and _is_being_changed(request):
                reason = "model.card_changed"
            return {
                "error": {"reason": reason, "message": str(error)},
                "ends": reason == DEVICE_FAILED,
            }
        except Exception as error:  # noqa: BLE001 - process boundary: the node must learn of it
            message = f"{type(error).__name__}: {error}"
            reason = DEVICE_FAILED if self._lost_its_device(error) else _reason_of(error)
            return {
                "error": {"reason": reason, "message": message},
                "ends": self._device != "cpu" or isinstance(error, MemoryError),
            }

    def _lost_its_device(self, error: Exception) -> bool:
        # On the processor such words come from a program or a host, whose device is not ours.
        return self._device != "cpu" and is_device_failure(error)

    def _make_all_room(self, request: dict[str, Any]) -> bool:
        try:
            card = _card_of(request)
        except (ModelError, KeyError):
            return False
        return self._models.evict_all_but(card)

    def _load_ahead(self, card: Card, request: dict[str, Any]) -> dict[str, Any] | None:
        if not request.get("ahead"):
            return None
        has_room = self._models.has_room(card, float(request["need_mib"]))
        if has_room:
            self._models.take(card, float(request["need_mib"]))
        return {"ahead": has_room}

    def _predict(self, card: Card, request: dict[str, Any]) -> dict[str, Any]:
        warm, seconds = self._models.take(card, float(request["need_mib"]))
        before_mib = self._meter.held_mib()
        self._meter.begin()
        prediction = warm.predictor.predict(read_source(request["source"]))
        peak_mib = warm.held_mib + self._meter.peak_mib()
        self._models.used(warm, before_mib)
        return {
            "prediction": write_prediction(Path(request["output"]), prediction, seconds),
            "memory": {"peak_mib": peak_mib, "held_mib": warm.held_mib},
        }


class Pulse:
    """Writes to the node: a heartbeat every ``every_s`` while there is a request, and answers."""

    def __init__(self, answers: BinaryIO, every_s: float) -> None:
        self._answers = answers
        self._every_s = every_s
        self._lock = threading.Lock()
        self._busy = threading.Event()
        self._is_loading = False

    def start(self) -> None:
        """Begin; heartbeats are written while a request is."""
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def tell(self, document: dict[str, Any]) -> None:
        """Say something that is no answer."""
        with self._lock:
            self._write(document)

    def begin(self) -> None:
        """There is a request."""
        self._busy.set()

    def loading(self, begins: bool) -> None:
        """A model begins to be loaded, or was: told at once, for loading may hold up the pulse."""
        self._is_loading = begins
        self._write_heartbeat()

    def answer(self, answer: dict[str, Any]) -> None:
        """End a request; no heartbeat follows, which nobody would read."""
        with self._lock:
            self._busy.clear()
            self._is_loading = False
            self._write(answer)

    def _beat(self) -> None:
        while self._busy.wait():
            self._write_heartbeat()
            time.sleep(self._every_s)

    def _write_heartbeat(self) -> None:
        with self._lock:
            if self._busy.is_set():
                self._write({"alive": True, "loading": self._is_loading})

    def _write(self, document: dict[str, Any]) -> None:
        left = memoryview(json.dumps(document).encode() + b"\n")
        while left:
            left = left[self._answers.write(left) :]


def _card_of(request: dict[str, Any]) -> Card:
    return load_card(Path(request["card"]), str(request["content"]).encode())


def _is_being_changed(request: dict[str, Any]) -> bool:
    """Whether the folder holds another card than the node has: its weights are the other's then."""
    try:
        there = (Path(request["card"]) / CARD_NAME).read_bytes()
    except OSError:
        return True
    return there != str(request["content"]).encode()


def _meter_of(device: str) -> MemoryMeter:
    try:
        return meter_of(device)
    except (ImportError, RuntimeError, AssertionError):
        # Torch has no such device; whatever runs here runs on the processor, and says so.
        return meter_of("cpu")


def _ran_out_of_memory(told: dict[str, Any]) -> bool:
    return bool(told.get("error", {}).get("reason") == OUT_OF_MEMORY)


def _reason_of(error: Exception) -> str:
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    if isinstance(error, OSError) and not isinstance(error, PermissionError):
        return "worker.storage_failed"
    return "model.failed"


def _go_first_when_memory_is_out() -> None:
    """The kernel, short of memory, takes this process and what it starts, and no listener."""
    try:
        Path("/proc/self/oom_score_adj").write_text(_OUT_OF_MEMORY_SCORE)
    except OSError:
        # Somebody gave the node a higher score already, or this is no Linux: so be it.
        return


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Take stdin and stdout for the protocol; libraries get /dev/null and stderr instead."""
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _read_requests(requests: BinaryIO, waiting: queue.SimpleQueue[bytes]) -> None:
    rest = b""
    while chunk := requests.read(65536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            waiting.put(line)
    if os.getpgrp() == os.getpid():
        # What a model started must not outlive it; this process is one of the group.
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)


def _next(waiting: queue.SimpleQueue[bytes]) -> bytes:
    """The next request; who waits for one for a while gives back what the last left free."""
    try:
        return waiting.get(timeout=_IDLE_S)
    except queue.Empty:
        give_back()
        return waiting.get()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve requests until stdin closes."""
    parser = argparse.ArgumentParser(description="inference worker of one device")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--site", default="{}", metavar="JSON", help="see site_document")
    parser.add_argument("--budget-mib", type=float, help="what models may take of the device")
    parser.add_argument("--beat", type=float, default=3.0, metavar="SECONDS")
    parser.add_argument("--list-devices", action="store_true")
    parser.add_argument("--describe-devices", action="store_true", help="libraries and memory too")
    options = parser.parse_args(arguments)
    if options.list_devices:
        sys.stdout.write(json.dumps(find_cuda_devices()) + "\n")
        return
    if options.describe_devices:
        sys.stdout.write(json.dumps(describe_devices()) + "\n")
        return
    requests, answers = _private_pipes()
    _go_first_when_memory_is_out()
    keep_between_jobs()
    gate = NetworkGate()
    gate.close()
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests, waiting), daemon=True).start()
    pulse = Pulse(answers, options.beat)
    pulse.start()
    site = site_from(json.loads(options.site))
    worker = Worker(options.device, site, options.budget_mib, pulse.loading, gate)
    pulse.tell({"ready": worker.ready})
    while True:
        request = json.loads(_next(waiting))
        pulse.begin()
        answer = {"request": request["request"], **worker.answer(request)}
        pulse.answer(answer)
        if answer.get("ends"):
            os._exit(1)


if __name__ == "__main__":
    main()
