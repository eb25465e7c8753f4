"""``dicom-node models bench MODEL``: seconds by stage, first and warm, and memory, in a worker."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import named_card, open_config
from dicom_node.cli.output import print_json, print_table
from dicom_node.errors import ConfigurationError

if TYPE_CHECKING:
    from ai_models.card import Card
    from ai_models.types import ModelInput
    from dicom_node.config import Config
    from dicom_node.pipeline.worker_process import WorkerProcess

_TOTAL, _HAND_OVER = "total", "hand over"
_MILLION = 1e6


def add_parser(actions: Any) -> None:
    """Declare the action."""
    parser = actions.add_parser(
        "bench", help="seconds of a model by stage, first and warm, and its memory"
    )
    parser.add_argument("model", metavar="MODEL",
                        help="a model, ID@VERSION, or the folder of a card")
    parser.add_argument("--version", metavar="V", help="this version of it")
    parser.add_argument("--on", nargs="+", type=Path, default=(), metavar="PATH",
                        help="a DICOM series in the place of what is generated")
    parser.add_argument("--runs", type=_runs, default=3, metavar="N",
                        help="warm runs after the first (default 3)")
    parser.set_defaults(run=run)


def _runs(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError("from 1 to 1000")
    return value


@dataclass(frozen=True)
class Measured:
    """One job: seconds by stage (`total` is what the node waited) and what the worker told."""

    seconds: dict[str, float]
    peak_mib: float
    held_mib: float
    notes: tuple[str, ...]


def run(arguments: argparse.Namespace) -> int:
    """Run the model once cold and some times warm, on one input, in a process of its own."""
    from ai_models.prediction.quality import without_quality
    from ai_models.trust import why_refused
    from dicom_node.events import configure_logging
    from dicom_node.node_models import site_of

    configure_logging("warning", "console")
    config = open_config(arguments)
    card = named_card(config, arguments)
    refusal = why_refused(card, site_of(config))
    if refusal:
        raise ConfigurationError(refusal, key_path="models.site_use")
    what, source, read_s = _shown(card, arguments.on)
    if not arguments.on:
        card = without_quality(card)
    with (
        tempfile.TemporaryDirectory(prefix="dicom-node-bench-") as scratch,
        _worker(config) as worker,
    ):
        jobs = [
            _one(worker, card, source, Path(scratch), config) for _ in range(arguments.runs + 1)
        ]
        of_device = {"device": worker.device, "device_kind": worker.kind}
    document = _document(card, source, what, read_s, jobs) | of_device
    if arguments.json:
        print_json(document)
    else:
        _print(document)
    return 0


def _shown(card: Card, given: Sequence[Path]) -> tuple[str, ModelInput, float]:
    """What is shown to the model, and how long reading it took (0 of what is generated)."""
    from ai_models.conformance.scene import scene_for
    from dicom_node.cli.series_roles import largest_together, loaded_together

    shown = largest_together(given, card.input)
    if shown is None:
        scene = scene_for(card, quick=False)
        return scene.what, scene.reference, 0.0
    began = time.perf_counter()
    source = loaded_together(shown, card.input).model_input
    read_s = time.perf_counter() - began
    size = " x ".join(str(edge) for edge in source.array.shape)
    return f"the given series of {size}", source, read_s


@contextmanager
def _worker(config: Config) -> Iterator[WorkerProcess]:
    from dicom_node.events import Events
    from dicom_node.node_models import site_of
    from dicom_node.pipeline.inference import HEARTBEAT_S, resolve_devices
    from dicom_node.pipeline.worker_process import WorkerProcess

    device = resolve_devices(config.models.devices)[0]
    budget = config.models.device_memory_mib.get(device)
    worker = WorkerProcess(device, site_of(config), Events(), HEARTBEAT_S, budget)
    try:
        yield worker
    finally:
        worker.end()


def _one(
    worker: WorkerProcess, card: Card, source: ModelInput, scratch: Path, config: Config
) -> Measured:
    from dicom_node.pipeline.exchange import read_prediction, write_source
    from dicom_node.pipeline.memory import estimated_mib, voxels_of

    deadline_s = min(config.models.deadline_s, card.runtime.deadline_s)
    with tempfile.TemporaryDirectory(prefix="job-", dir=scratch) as name:
        folder = Path(name)
        # Starting Python and its libraries is the node's, once for all jobs.
        worker.start(time.monotonic() + deadline_s, _never)
        began = time.perf_counter()
        answer = worker.ask(
            {
                "request": folder.name, "card": str(card.folder),
                "content": card.content.decode(), "output": str(folder),
                "need_mib": estimated_mib(card, voxels_of(card, source)),
                "source": write_source(folder, source),
            },
            time.monotonic() + deadline_s, _never,
        )
        prediction = read_prediction(folder, answer["prediction"], source)
        total = time.perf_counter() - began
    seconds = dict(prediction.seconds_by_stage)
    seconds[_HAND_OVER] = max(0.0, total - sum(seconds.values()))
    seconds[_TOTAL] = total
    memory = answer.get("memory", {})
    return Measured(
        seconds, float(memory.get("peak_mib", 0.0)), float(memory.get("held_mib", 0.0)),
        prediction.notes,
    )


def _document(
    card: Card, source: ModelInput, what: str, read_s: float, jobs: Sequence[Measured]
) -> dict[str, Any]:
    from ai_models.types import Volume, reference_of
    from dicom_node.pipeline.memory import SERVED_ELSEWHERE, voxels_of

    first, warm = jobs[0], jobs[1:]
    stages = list(dict.fromkeys(stage for job in jobs for stage in job.seconds))
    stages.sort(key=lambda stage: (stage == _TOTAL, stage == _HAND_OVER))
    median = {
        stage: statistics.median(job.seconds.get(stage, 0.0) for job in warm) for stage in stages
    }
    elsewhere, shown = card.runtime.backend in SERVED_ELSEWHERE, reference_of(source)
    return {
        "model": {"id": card.id, "version": card.version, "backend": card.runtime.backend,
                  "task": card.task},
        "input": {
            "what": what, "shape": list(source.array.shape),
            "spacing_mm": list(shown.spacing_mm) if isinstance(shown, Volume) else None,
            "voxels_for_the_model": voxels_of(card, source), "seconds_to_read": round(read_s, 4),
        },
        "warm_runs": len(warm),
        "seconds": {
            stage: {"first": round(first.seconds.get(stage, 0.0), 4),
                    "warm": round(median[stage], 4)}
            for stage in stages
        },
        "seconds_of_warm_runs": [round(job.seconds[_TOTAL], 4) for job in warm],
        "memory_mib": {
            "peak": None if elsewhere else round(max(job.peak_mib for job in jobs), 1),
            "model_when_idle": None if elsewhere else round(jobs[-1].held_mib, 1),
        },
        "notes": list(dict.fromkeys(note for job in jobs for note in job.notes)),
    }


def _print(document: Mapping[str, Any]) -> None:
    model, shown, memory = document["model"], document["input"], document["memory_mib"]
    print(f"{model['id']} {model['version']} ({model['backend']}) on {document['device']}"
          f" ({document['device_kind']})")
    read_s = f", read in {shown['seconds_to_read']:.2f} s" if shown["seconds_to_read"] else ""
    print(f"{shown['what']}{read_s}: "
          f"{shown['voxels_for_the_model'] / _MILLION:.2f} million voxels for the model")
    print_table(
        ("seconds", "first", f"warm, median of {document['warm_runs']}"),
        [(stage, f"{one['first']:.3f}", f"{one['warm']:.3f}")
         for stage, one in document["seconds"].items()],
    )
    if memory["peak"] is None:
        print("memory: another host's")
    else:
        print(f"memory: {memory['peak']:.0f} MiB at most, {memory['model_when_idle']:.0f} MiB of "
              "them stay while the model is warm")
    for note in document["notes"]:
        print(f"note: {note}")


def _never() -> bool:
    return False
