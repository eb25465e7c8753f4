"""How soon a model can begin when the last slice is in, with reading ahead and without it.

    python -m bench arrival [--slices N] [--rounds N]

A chest of 300 slices of 512 x 512 is sent to ``dicom-node serve`` on one association, native and as
JPEG 2000 (lossless), 30 images a second and as fast as they are taken; then the association is
released. Each time the node has just been started, so that its model is not loaded yet. Of each:

    job started    from the last C-STORE response to the start of the job; 2 s of it is
                   ``completeness.after_release_s``, which a node waits for further images
    input ready    from the start of the job until the volume is ready for the model
    model answers  from there to the prediction: starting a worker and loading the model, where
                   that is not done ahead, and a very small network
    results        from the last response until the results are in the outbox

The results of all ways must have the same UIDs, which are derived from what was read.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from bench.chaos_site import MODEL, settings
from bench.load import _ask, _running, _until
from bench.raw_scu import EXPLICIT, RawScu, bare_data_set, store_message
from bench.receive import machine
from tests import peers
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.dicom_samples import ct_series, write_series

RESULTS = Path(__file__).parent / "results"
SLICES, SIDE = 300, 512
_JPEG_2000 = "1.2.840.10008.1.2.4.90"
_SYNTAXES = {"native": EXPLICIT, "JPEG 2000": _JPEG_2000}
_PACES = {"30 images/s": 30.0, "as fast as it goes": 0.0}
_READ_AHEAD_MIB = {"without": 0, "read ahead": 1024}
_BUSY = " The machine was busy with other work from the start: the figures are rough."
_MEASURES = ("job_started_s", "input_ready_s", "model_answers_s", "results_s")


class Way(NamedTuple):
    """One way to send a series, to a node that reads ahead or does not."""

    syntax: str
    pace: str
    node: str


WAYS = [
    Way(syntax, pace, node) for syntax in _SYNTAXES for pace in _PACES for node in _READ_AHEAD_MIB
]


def chest(slices: int) -> np.ndarray[Any, np.dtype[np.int16]]:
    """A body with lungs in HU, (slices, rows, columns), with the noise of a CT of low dose."""
    rows, columns = np.mgrid[-1.0 : 1.0 : SIDE * 1j, -1.0 : 1.0 : SIDE * 1j]
    plane = np.where(rows**2 / 0.5 + columns**2 / 0.8 < 1, 40.0, -1000.0)
    for side in (-0.4, 0.4):
        plane[rows**2 / 0.25 + (columns - side) ** 2 / 0.09 < 1] = -850.0
    chance = np.random.default_rng(11)
    noise = chance.normal(0.0, 20.0, (slices, SIDE, SIDE)).astype(np.float32)
    noise[:, plane < -900] *= 0.3
    return np.clip(np.rint(plane + noise), -1024, 3000).astype(np.int16)


class Series:
    """The same series in each syntax, as bytes for the wire."""

    def __init__(self, folder: Path, slices: int) -> None:
        datasets = ct_series((slices, SIDE, SIDE), (1.0, 0.7, 0.7), values_hu=chest(slices))
        self.messages: dict[str, list[bytes]] = {}
        for name, syntax in _SYNTAXES.items():
            paths = write_series(datasets, folder / name, transfer_syntax_uid=syntax)
            found = [bare_data_set(path) for path in paths]
            self.messages[name] = [
                store_message(1, sop_class, uid, data) for sop_class, uid, _, data in found
            ]

    def send(self, port: int, syntax: str, images_per_s: float) -> float:
        """Send all of it; the time of the last response."""
        messages = self.messages[syntax]
        contexts = [(1, "1.2.840.10008.5.1.4.1.1.2", [_SYNTAXES[syntax]])]
        scu = RawScu(port, contexts, timeout_s=120)
        begun = time.monotonic()
        for number, message in enumerate(messages):
            if images_per_s:
                time.sleep(max(0.0, begun + number / images_per_s - time.monotonic()))
            scu.send(message)
            if scu.status():
                raise SystemExit("an image was refused")
        answered = time.time()
        scu.release()
        return answered


@contextmanager
def node(folder: Path, read_ahead_mib: int) -> Iterator[tuple[Any, int, Path]]:
    """A node that has just been started: its process, its port, its data."""
    port, data_dir = peers.free_port(), folder / "data"
    values = settings(data_dir, folder.parent / "models", 1, port)
    values["intake"]["listener_processes"] = 1
    values["access"] = {"accept_unknown_callers": True}
    values["logging"] = {"level": "warning"}
    values["jobs"] = {"read_ahead_mib": read_ahead_mib}
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "dicom_node", "--config", str(config), "serve"]
    with _running(command) as process:
        _until(lambda: peers._answers(port), process)
        yield process, port, data_dir


def measure(series: Series, folder: Path, way: Way) -> tuple[dict[str, float], list[str]]:
    """One way, once: its seconds, and the UIDs of the results."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as name,
        node(Path(name), _READ_AHEAD_MIB[way.node]) as (process, port, data_dir),
    ):
        answered = series.send(port, way.syntax, _PACES[way.pace])
        ended = "SELECT count(*) FROM jobs WHERE state IN ('succeeded', 'dead')"
        _until(lambda: _ask(data_dir, ended) == 1, process)
        return _seconds(data_dir, answered)


def _seconds(data_dir: Path, answered: float) -> tuple[dict[str, float], list[str]]:
    connection = sqlite3.connect(data_dir / "ledger.db", timeout=30.0)
    try:
        state, stages = connection.execute("SELECT state, seconds_by_stage FROM jobs").fetchone()
        if state != "succeeded":
            raise SystemExit("the job failed")
        at = dict(connection.execute("SELECT to_state, at FROM transitions WHERE kind = 'job'"))
        uids = [row[0] for row in connection.execute("SELECT sop_instance_uid FROM results")]
    finally:
        connection.close()
    seconds = json.loads(stages)
    return {
        "job_started_s": at["running"] - answered,
        "input_ready_s": seconds["load"],
        "model_answers_s": seconds["model"],
        "results_s": at["succeeded"] - answered,
    }, sorted(uids)


def report(result: dict[str, Any]) -> str:
    """The table as Markdown."""
    lines = [
        "# Arrival", "", f"{result['machine']}. {result['conditions']}", "",
        "| syntax | pace | node | job started s | input ready s | model answers s | results s |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for one in result["ways"]:
        figures = " | ".join(f"{one[measure]:.2f}" for measure in _MEASURES)
        lines.append(f"| {one['syntax']} | {one['pace']} | {one['node']} | {figures} |")
    lines += [
        "",
        "Job started and results: from the last C-STORE response, 2 s of it waiting for further "
        "images (`completeness.after_release_s`). Input ready: from the start of the job. Model "
        "answers: from there; without reading ahead a worker is started and loads the model. "
        "Every way made the same results.",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and write ``bench/results/arrival.*`` where the series is the full one."""
    parser = argparse.ArgumentParser(prog="bench arrival")
    parser.add_argument("--slices", type=int, default=SLICES)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    busy = _BUSY if os.getloadavg()[0] > 1 else ""
    found: dict[Way, list[dict[str, float]]] = {way: [] for way in WAYS}
    made: set[tuple[str, ...]] = set()
    with tempfile.TemporaryDirectory(prefix="arrival-") as name:
        folder = Path(name)
        # A coarse grid: what is measured is the way to the model, not the model.
        write_model(
            folder / "models" / MODEL, threshold_onnx(0.5), id=MODEL,
            input__spacing_mm=[8.0, 8.0, 8.0],
        )
        series = Series(folder / "series", options.slices)
        for turn in range(options.rounds):
            for way in WAYS:
                seconds, uids = measure(series, folder, way)
                found[way].append(seconds)
                made.add(tuple(uids))
                print(f"{turn} {' / '.join(way):46} {json.dumps(seconds)}", flush=True)
    if len(made) != 1:
        raise SystemExit("the ways did not make the same results")
    result: dict[str, Any] = {
        "machine": machine(),
        "conditions": f"{options.slices} CT slices of {SIDE} x {SIDE}, rounds: {options.rounds}, "
        f"medians.{busy}",
        "ways": [
            {**way._asdict(), **{key: statistics.median(one[key] for one in many)
                                 for key in _MEASURES}}
            for way, many in found.items()
        ],
    }
    print(report(result))
    if options.slices >= SLICES:
        (RESULTS / "arrival.json").write_text(json.dumps(result, indent=1) + "\n")
        (RESULTS / "arrival.md").write_text(report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
