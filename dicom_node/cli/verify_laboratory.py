"""The part of the conformance suite that reaches into a model, in a process of its own.

``python -m dicom_node.cli.verify_laboratory`` reads one JSON document from stdin and writes the
checks to stdout, one a line. Whatever the model does to this process, the suite goes on; network
access by Python code is refused as in a worker.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ai_models.backends.reach import reachable
from ai_models.card import Card, load_card
from ai_models.conformance.check import Check, failed, judged, passed
from ai_models.conformance.memory import MEMORY, check_memory
from ai_models.conformance.weights import CHANGED_WEIGHTS, check_changed_weights
from ai_models.predictor import Predictor
from ai_models.trust import Site
from ai_models.types import ModelError, ModelInput
from dicom_node.pipeline.device_names import seen_from_inside
from dicom_node.pipeline.exchange import read_source, site_document, site_from, write_source
from dicom_node.pipeline.worker_network import NetworkGate

LOAD = "load"
# What comes beside the deadline of a job: starting Python, and three answers.
_LONGER, _STARTING_S = 4, 300.0
_LOOK_S = 0.5


def checks_in_laboratory(
    card: Card, device: str, site: Site, source: ModelInput, scratch: Path
) -> Iterator[Check]:
    """Run the process and hand on what it finds; the load comes first, and alone if it fails."""
    scratch.mkdir(parents=True, exist_ok=True)
    inside, changes = seen_from_inside(device, os.environ)
    request = {
        "card": str(card.folder), "content": card.content.decode(), "device": inside,
        "site": site_document(site), "source": write_source(scratch, source),
        "scratch": str(scratch), "asked_by": os.getpid(),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "dicom_node.cli.verify_laboratory"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        env={
            "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", **os.environ,
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry), **changes,
        },
    )
    allowed_s = _STARTING_S + _LONGER * card.runtime.deadline_s
    ended = ""
    try:
        answered, _ = process.communicate(json.dumps(request).encode(), timeout=allowed_s)
    except subprocess.TimeoutExpired:
        answered, ended = b"", f"took longer than {allowed_s:.0f} s"
    finally:
        # What a model started must not outlive it.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    found = [Check(**json.loads(line)) for line in answered.splitlines()]
    yield from found
    if process.returncode != 0 and not ended:
        ended = f"ended with {process.returncode}"
    if ended:
        names = (LOAD, MEMORY, CHANGED_WEIGHTS)
        yield failed(names[min(len(found), 2)], f"the process of the model {ended}")


def end_with(parent: int) -> None:
    """End this process and its group once ``parent`` is gone: nobody waits for the answers."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        os.killpg(os.getpgid(0), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="parent").start()


def _checks(told: dict[str, Any], gate: NetworkGate) -> Iterator[Check]:
    site = site_from(told["site"])
    card = load_card(Path(told["card"]), str(told["content"]).encode())
    predictor = Predictor(card, told["device"], site)
    with gate.reaching(reachable(card, site)):
        loaded = _judged(LOAD, lambda: _load(predictor, gate))
        yield loaded
        if loaded.outcome != "passed":
            return
        source = read_source(told["source"])
        yield _judged(MEMORY, lambda: check_memory(card, predictor, source))
        predictor.close()
        yield _judged(CHANGED_WEIGHTS, lambda: check_changed_weights(
            card, told["device"], site, Path(told["scratch"])
        ))


def _load(predictor: Predictor, gate: NetworkGate) -> Check:
    began = time.monotonic()
    predictor.backend.probe()
    predictor.load()
    predictor.warm_up()
    seconds = time.monotonic() - began
    if gate.refused:
        return failed(LOAD, f"it asked for the network: {gate.refused[0]}")
    notes = "; ".join(predictor.backend.notes)
    return passed(LOAD, f"probed, loaded and warm in {seconds:.1f} s without the network: {notes}")


def _judged(name: str, look: Any) -> Check:
    try:
        return judged(name, look)
    except Exception as error:  # noqa: BLE001 - process boundary: whatever a model raises
        return failed(name, f"{type(error).__name__}: {error}")


def main() -> None:
    """Answer the one request on stdin."""
    told = json.loads(sys.stdin.buffer.read())
    end_with(told["asked_by"])
    # Whatever a library prints goes to stderr.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    gate = NetworkGate()
    gate.close()
    try:
        for check in _checks(told, gate):
            answers.write(json.dumps(asdict(check)).encode() + b"\n")
    except ModelError as error:
        answers.write(json.dumps(asdict(failed(LOAD, f"{error.reason}: {error}"))).encode() + b"\n")


if __name__ == "__main__":
    main()
