"""The inference process of one device: ``python -m dicom_node.pipeline.worker --device cpu``.

One process holds the network and the device, so that a CUDA fault or an exhausted memory ends
this process and nothing else. It reads requests from stdin and answers on stdout, one JSON
document a line; arrays travel as ``.npy`` files (never pickled) that the node makes and removes.

    request  {"request", "card", "fingerprint", "source": {...}, "output"}
    answer   {"request", "prediction": {...}, "loaded": [model, ...]}
             {"request", "error": {"reason", "message"}, "ends": bool}
    before   {"alive": true, "loading": bool}, again and again while there is a request

"card" is the folder of the model's card, which must still have the fingerprint; arrays of the
prediction are written to the folder "output" (see `dicom_node.pipeline.exchange`).

The heartbeat comes from a thread of Python: a process that is stopped, or whose library neither
ends nor lets other threads run, gives none. When stdin closes the node is gone, and the process
ends at once, whatever it was doing. Whatever a library prints goes to stderr: file descriptor 1 is
taken away from it. Network access by Python code is refused for the life of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ai_models.backends.devices import find_cuda_devices
from ai_models.backends.protocol import is_out_of_memory
from ai_models.card import load_card
from ai_models.predictor import Predictor
from ai_models.trust import Site
from ai_models.types import ModelError
from dicom_node.pipeline.exchange import read_source, site_from, write_prediction

WARM_MODELS = 2
_REFUSED_AUDIT_EVENTS = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto")


class Worker:
    """Keeps the last `WARM_MODELS` models warm and answers requests."""

    def __init__(
        self,
        device: str,
        site: Site,
        loading: Callable[[bool], None] = lambda _loading: None,
    ) -> None:
        self._device = device
        self._loading = loading
        self._site = site
        self._warm: OrderedDict[tuple[str, str], Predictor] = OrderedDict()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer one request; what the model raises becomes part of the answer."""
        try:
            return self._predict(request)
        except ModelError as error:
            return {"error": {"reason": error.reason, "message": str(error)}, "ends": False}
        except Exception as error:  # noqa: BLE001 - process boundary: the node must learn of it
            message = f"{type(error).__name__}: {error}"
            return {
                "error": {"reason": _reason_of(error), "message": message},
                "ends": self._device != "cpu" or isinstance(error, MemoryError),
            }

    def _predict(self, request: dict[str, Any]) -> dict[str, Any]:
        predictor, seconds = self._predictor(Path(request["card"]), str(request["fingerprint"]))
        prediction = predictor.predict(read_source(request["source"]))
        return {
            "prediction": write_prediction(Path(request["output"]), prediction, seconds),
            "loaded": [predictor.card.id] if seconds else [],
        }

    def _predictor(self, folder: Path, fingerprint: str) -> tuple[Predictor, dict[str, float]]:
        card = load_card(folder)
        if card.fingerprint != fingerprint:
            raise ModelError(
                f"the card of {card.id} was changed meanwhile", reason="model.card_changed"
            )
        key = (str(card.folder), card.fingerprint)
        if key in self._warm:
            self._warm.move_to_end(key)
            return self._warm[key], {}
        while len(self._warm) >= WARM_MODELS:
            self._warm.popitem(last=False)[1].close()
        start = time.perf_counter()
        predictor = Predictor(card, self._device, self._site)
        self._loading(True)
        predictor.load()
        predictor.warm_up()
        self._loading(False)
        self._warm[key] = predictor
        return predictor, {"load": time.perf_counter() - start}


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


def _reason_of(error: Exception) -> str:
    if is_out_of_memory(error):
        return "worker.out_of_memory"
    if isinstance(error, OSError) and not isinstance(error, PermissionError):
        return "worker.storage_failed"
    return "model.failed"


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
    os._exit(0)


def _refuse_network(event: str, _arguments: object) -> None:
    if event in _REFUSED_AUDIT_EVENTS:
        raise PermissionError(f"{event} is refused in an inference worker")


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve requests until stdin closes."""
    parser = argparse.ArgumentParser(description="inference worker of one device")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--site", default="{}", metavar="JSON", help="see site_document")
    parser.add_argument("--beat", type=float, default=3.0, metavar="SECONDS")
    parser.add_argument("--list-devices", action="store_true")
    options = parser.parse_args(arguments)
    if options.list_devices:
        sys.stdout.write(json.dumps(find_cuda_devices()) + "\n")
        return
    requests, answers = _private_pipes()
    sys.addaudithook(_refuse_network)
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests, waiting), daemon=True).start()
    pulse = Pulse(answers, options.beat)
    pulse.start()
    worker = Worker(options.device, site_from(json.loads(options.site)), pulse.loading)
    while True:
        request = json.loads(waiting.get())
        pulse.begin()
        answer = {"request": request["request"], **worker.answer(request)}
        pulse.answer(answer)
        if answer.get("ends"):
            os._exit(1)


if __name__ == "__main__":
    main()
