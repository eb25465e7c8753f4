"""What the journal costs: 10,000 instances from 8 associations, while jobs run and while not.

    python -m bench load [--instances N] [--rounds N]

Four ways to receive, one after the other in each round, medians over the rounds:

    node, jobs run        dicom-node serve: listener, ledger, and its own jobs with their deliveries
    no journal, jobs run  the same listener without a ledger, beside a node that only works
    listener and ledger   nothing else runs
    no journal            the same listener without a ledger, nothing else runs

and DCMTK's storescp, which syncs nothing, for comparison. The jobs run a tiny network on small CT
series that wait in the queue before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from bench.chaos_load import Account, Senders, make_series
from bench.chaos_site import MODEL, ROOT, settings
from bench.load_process import ASSOCIATIONS, send
from bench.receive import machine
from tests import peers
from tests.ai_models.tiny_models import threshold_onnx, write_model

RESULTS = Path(__file__).parent / "results"
_READY_WITHIN_S = 120.0
_INDEXED_WITHIN_S = 300.0


class Bench:
    """A folder with a model, a node's data with jobs in its queue, and an archive for results."""

    def __init__(self, folder: Path, jobs: int) -> None:
        self.folder = folder
        self.models = folder / "models"
        write_model(self.models / MODEL, threshold_onnx(0.5), id=MODEL)
        self.archive = peers.DcmtkStorescp(folder, ae_title="ORTHANC", options=("+xa", "-pm"))
        self._queued = folder / "queued"
        self._number = 0
        self._fill_queue(jobs)

    def _fill_queue(self, jobs: int) -> None:
        import random

        account, chance = Account(), random.Random(7)
        parcels = []
        for number in range(jobs):
            series_uid, files = make_series(self.folder / "series" / str(number), chance)
            account.add(series_uid, files)
            parcels.append([path for _, path in files])
        with self.node(self._queued, "--only", "intake") as (process, port):
            senders = Senders(account, port)
            senders.start(parcels, [0.0] * len(parcels))
            senders.finish()
            senders.close()
            _until(lambda: _count(self._queued, "jobs") == jobs, process)

    @contextmanager
    def node(self, data_dir: Path, *arguments: str) -> Iterator[tuple[Any, int]]:
        """``dicom-node serve`` on ``data_dir`` until the end of the block."""
        port = peers.free_port()
        config = self.folder / f"{data_dir.name}.yaml"
        values = settings(data_dir, self.models, self.archive.port, port)
        values["intake"]["listener_processes"] = 1
        values["access"] = {"accept_unknown_callers": True}
        values["logging"] = {"level": "warning"}
        config.write_text(yaml.safe_dump(values))
        command = [sys.executable, "-m", "dicom_node", "--config", str(config), "serve", *arguments]
        with _running(command) as process:
            if "work,deliver" not in arguments:
                _until(lambda: peers._answers(port), process)
            yield process, port

    @contextmanager
    def listener(self, data_dir: Path, how: str) -> Iterator[int]:
        """The node's listener alone, with a ledger or without."""
        data_dir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "bench.load_process", "listen", str(data_dir), how]
        with _running(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            yield int(process.stdout.readline())

    def fresh(self, *, queued: bool) -> Path:
        """A data directory of its own, with the queue or empty."""
        self._number += 1
        target = self.folder / f"data{self._number}"
        if queued:
            shutil.copytree(self._queued, target)
        return target


def measure(bench: Bench, way: str, instances: int) -> dict[str, float]:
    """One way, once: what was sent per second, the jobs meanwhile, and the ledger's delay."""
    data_dir = bench.fresh(queued="jobs run" in way)
    spare = bench.fresh(queued=False)
    try:
        if way == "node, jobs run":
            with bench.node(data_dir) as (process, port):
                return _measure(data_dir, port, instances, process, journal=True, jobs=True)
        if way == "no journal, jobs run":
            with (
                bench.node(data_dir, "--only", "work,deliver") as (process, _),
                bench.listener(spare, "none") as port,
            ):
                return _measure(data_dir, port, instances, process, journal=False, jobs=True)
        if way == "storescp, nothing synced":
            scp = peers.DcmtkStorescp(spare, options=("--fork", "+xa", "-pdu", "131072"))
            with scp:
                return _measure(spare, scp.port, instances, None, journal=False, jobs=False)
        journal = way == "listener and ledger"
        with bench.listener(spare, "journal" if journal else "none") as port:
            return _measure(spare, port, instances, None, journal=journal, jobs=False)
    finally:
        for folder in (data_dir, spare):
            shutil.rmtree(folder, ignore_errors=True)


WAYS = (
    "node, jobs run", "no journal, jobs run", "listener and ledger", "no journal",
    "storescp, nothing synced",
)  # fmt: skip


def _measure(
    data_dir: Path, port: int, instances: int, process: Any, *, journal: bool, jobs: bool
) -> dict[str, float]:
    if jobs:
        # The clock starts when the worker has its network and works off the queue.
        _until(lambda: _ended(data_dir) > 0, process)
    jobs_before = _ended(data_dir) if jobs else 0
    known = _count(data_dir, "instances") if journal else 0
    begun = time.monotonic()
    sent = send(port, instances)
    answered = time.monotonic()
    jobs_after = _ended(data_dir) if jobs else 0
    found = {
        "instances_per_s": sent.instances / sent.seconds,
        "mb_per_s": sent.size_bytes / 1e6 / sent.seconds,
        "jobs_per_s": (jobs_after - jobs_before) / (answered - begun),
    }
    if journal:
        _until(lambda: _count(data_dir, "instances") >= known + sent.instances, process)
        found["indexed_after_s"] = time.monotonic() - answered
    return found


def _count(data_dir: Path, table: str) -> int:
    return _ask(data_dir, f"SELECT count(*) FROM {table}")


def _ended(data_dir: Path) -> int:
    return _ask(data_dir, "SELECT count(*) FROM jobs WHERE state = 'succeeded'")


def _ask(data_dir: Path, statement: str) -> int:
    path = data_dir / "ledger.db"
    if not path.exists():
        return 0
    connection = sqlite3.connect(path, timeout=30.0)
    try:
        return int(connection.execute(statement).fetchone()[0])
    finally:
        connection.close()


def _until(condition: Any, process: Any) -> None:
    deadline = time.monotonic() + _INDEXED_WITHIN_S
    while not condition():
        if process is not None and process.poll() is not None:
            raise SystemExit("a process of the measurement ended")
        if time.monotonic() > deadline:
            raise SystemExit("a condition of the measurement did not come about")
        time.sleep(0.05)


@contextmanager
def _running(command: list[str], stdout: int | None = None) -> Iterator[Any]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("DICOM_NODE_")}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=stdout, text=True, cwd=ROOT,
        env={**inherited, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_READY_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def report(result: dict[str, Any]) -> str:
    """The table as Markdown."""
    lines = [
        "# Load", "", f"{result['machine']}. {result['conditions']}", "",
        "| way | instances/s | MB/s | jobs/s meanwhile | all indexed after s |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    for way, one in result["ways"].items():
        indexed = f"{one['indexed_after_s']:.1f}" if "indexed_after_s" in one else "-"
        jobs = f"{one['jobs_per_s']:.2f}" if "jobs run" in way else "-"
        lines.append(
            f"| {way} | {one['instances_per_s']:.0f} | {one['mb_per_s']:.1f} | {jobs} "
            f"| {indexed} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and write ``bench/results/load.*`` where it was the whole of it."""
    parser = argparse.ArgumentParser(prog="bench load")
    parser.add_argument("--instances", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=150, help="jobs in the queue at the start")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    if not peers.in_private_network():
        script = str(ROOT / "tests" / "in_private_network.sh")
        command = [script, sys.executable, "-m", "bench.load", *given]
        return subprocess.run(command, cwd=ROOT, check=False).returncode
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="load-", dir=os.environ.get("BENCH_SCRATCH")) as name:
        bench = Bench(Path(name), options.jobs)
        with bench.archive:
            for turn in range(options.rounds):
                for way in WAYS:
                    one = measure(bench, way, options.instances)
                    found.setdefault(way, []).append(one)
                    print(f"{turn} {way:26} {json.dumps(one)}", flush=True)
    ways = {
        way: {key: statistics.median(one[key] for one in many) for key in many[0]}
        for way, many in found.items()
    }
    result: dict[str, Any] = {
        "machine": machine(),
        "conditions": f"{options.instances} CT instances of 32 KiB from {ASSOCIATIONS} "
        f"associations, {options.rounds} interleaved rounds, medians.",
        "ways": ways,
    }
    print(report(result))
    if options.instances >= 10_000 and options.rounds >= 3:
        (RESULTS / "load.json").write_text(json.dumps(result, indent=1) + "\n")
        (RESULTS / "load.md").write_text(report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
