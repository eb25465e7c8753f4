"""An hour of mixed load, and whether the node is after it what it was at its half.

    python -m bench soak [--minutes 60] [--folder DIR] [--keep]
    python -m bench soak --report DIR       the picture and the verdict of what DIR holds

CT series (some with late slices), radiographs, small objects, C-ECHO and the web page, deliveries
to two destinations, one of which goes away and comes back; studies that are done with are removed
after some minutes. Memory, file handles and threads of every process are sampled, and how long
C-STORE and results take. The second half decides: flat, or growing by how much an hour. An hour
or more is written to ``bench/results/soak.*`` as well.

The ledger grows by what it remembers of removed studies. What each of them costs is looked at
instead: it must be as much at the end as before.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from bench.chaos_site import MODEL, ROOT
from bench.load import _running, _until
from bench.processes import cpu_s_of, tree, use_of
from bench.receive import machine
from bench.soak_load import CALLED, CALLING, Load, Pace
from tests import peers
from tests.ai_models.tiny_models import threshold_onnx, write_model

RESULTS = Path(__file__).parent / "results"
_EVERY_S = 10.0
_SETTLED_WITHIN_S = 300.0
_CHESTS = "chests"
_OPEN_JOBS = "SELECT count(*) FROM jobs WHERE state IN ('queued', 'running', 'failed')"
_LEDGER = (
    "SELECT page_count, freelist_count, page_size, (SELECT count(*) FROM removals),"
    " (SELECT count(DISTINCT study_instance_uid) FROM series)"
    " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
)
_KINDS = {"dicom_node.intake.acceptor": "listener", "dicom_node.pipeline.worker": "worker"}


def write_models(folder: Path) -> None:
    """A tiny network for CT; for chests the one that is shipped, which here takes drawn ones."""
    write_model(folder / MODEL, threshold_onnx(0.5), id=MODEL)
    shutil.copytree(ROOT / "ai_models" / "zoo" / "pneumonia-dx", folder / _CHESTS)
    path = folder / _CHESTS / "model.yaml"
    card = yaml.safe_load(path.read_text())
    card["id"] = _CHESTS
    del card["input"]["quality"]
    path.write_text(yaml.safe_dump(card, sort_keys=False))


def settings(folder: Path, pacs: int, away: int, port: int, web: int) -> dict[str, Any]:
    """A node with two destinations that forgets studies soon."""
    data_dir = str(folder / "data")
    rules = [
        {"name": "all CT", "when": {"Modality": "CT"}, "model": MODEL, "send_to": ["pacs", "away"]},
        {"name": "chests", "when": {"Modality": "DX"}, "model": _CHESTS, "send_to": ["pacs"]},
    ]  # fmt: skip
    return {
        "node": {"ae_title": CALLED, "host": "127.0.0.1", "port": port, "data_dir": data_dir},
        "peers": {
            "pacs": {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": pacs},
            "away": {"ae_title": "STORESCP", "host": "127.0.0.1", "port": away},
            "scanner": {"ae_title": CALLING, "host": "127.0.0.1", "port": peers.free_port()},
        },
        "completeness": {"after_release_s": 2, "quiet_period_s": 10, "give_up_after_s": 300},
        "storage": {
            "refuse_below_free_bytes": 0, "make_room_below_free_bytes": 0,
            "keep_delivered_for_h": 0.1, "keep_declined_for_h": 0.1,
            "keep_committed_for_d": 0.005,
        },
        "intake": {"listener_processes": 1},
        "models": {"devices": ["cpu"], "directories": [str(folder / "models")]},
        "web": {"port": web},
        "logging": {"level": "warning"},
        "rules": rules,
    }  # fmt: skip


class Sampler:
    """One line of JSON each ten seconds, so that what was measured outlives whatever happens."""

    def __init__(self, folder: Path, pid: int, load: Load) -> None:
        self._folder, self._pid, self._load = folder, pid, load
        self._file = (folder / "samples.jsonl").open("a")
        self._begun = time.time()
        self._last_transition = 0
        self._answered: dict[str, float] = {}

    def take(self) -> None:
        """Look at every process, and at what became of stores and results since the last look."""
        processes = tree(self._pid)
        uses: dict[str, dict[str, float]] = {}
        for pid, words in processes.items():
            use = use_of(pid)
            if use is None:
                continue
            kind = next((name for part, name in _KINDS.items() if part in words), "other")
            of_kind = uses.setdefault("node" if pid == self._pid else kind, {
                "memory_mb": 0.0, "own_mb": 0.0, "handles": 0, "threads": 0, "processes": 0,
            })  # fmt: skip
            for key, value in {**use._asdict(), "processes": 1}.items():
                of_kind[key] += value
        stores = [taken_s for _, taken_s in self._load.take_store_s()]
        pages, free, page_bytes, removed, known = _ask(self._folder, _LEDGER)[0]
        line = {
            "at_s": time.time() - self._begun, "uses": uses, "cpu_s": cpu_s_of(processes),
            "store_ms": [round(1e3 * one, 2) for one in stores],
            "result_s": [round(one, 2) for one in self._results()],
            "ledger_mb": (pages - free) * page_bytes / 1e6, "removed": removed,
            "kept": known - removed,
            # What others on the machine do is in every time.
            "load": os.getloadavg()[0], "open_jobs": int(_ask(self._folder, _OPEN_JOBS)[0][0]),
        }  # fmt: skip
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def _results(self) -> list[float]:
        """Seconds from the last acknowledged slice until the last result lay in the archive."""
        question = (
            "SELECT t.id, j.series_instance_uid, t.at, j.model_id FROM transitions t"
            " JOIN deliveries d ON t.kind = 'delivery' AND d.delivery_id = t.key"
            " JOIN jobs j ON j.job_id = d.job_id"
            " WHERE t.id > ? AND t.to_state = 'sent' AND d.destination = 'pacs' ORDER BY t.id"
        )
        connection = sqlite3.connect(self._folder / "data" / "ledger.db", timeout=30.0)
        try:
            rows = connection.execute(question, (self._last_transition,)).fetchall()
        finally:
            connection.close()
        last: dict[str, float] = {}
        for number, series, at, _ in rows:
            self._last_transition = max(self._last_transition, number)
            last[series] = at
        acknowledged = self._load.told.series
        return [at - acknowledged[one] for one, at in last.items() if one in acknowledged]

    def close(self) -> None:
        """No more lines."""
        self._file.close()


def run(folder: Path, minutes: float, pace: Pace) -> None:
    """The load for so many minutes; lines and what was told go to ``folder``."""
    write_models(folder / "models")
    archive = peers.Orthanc(folder)
    away = peers.DcmtkStorescp(folder, options=("+xa", "-pm"))
    port, web = peers.free_port(), peers.free_port()
    (folder / "config.yaml").write_text(
        yaml.safe_dump(settings(folder, archive.port, away.port, port, web))
    )
    # Commitment reports come back on an association of the archive's own.
    archive._modalities["node"] = [CALLED, "127.0.0.1", port]
    command = [sys.executable, "-m", "dicom_node", "--config", str(folder / "config.yaml"), "serve"]
    with archive, away, _running(command) as process:
        _until(lambda: peers._answers(port) and peers._answers(web), process)
        load = Load(port, f"http://127.0.0.1:{web}", pace, (away.stop, away.start))
        sampler = Sampler(folder, process.pid, load)
        load.start()
        deadline = time.monotonic() + 60 * minutes
        while time.monotonic() < deadline:
            time.sleep(_EVERY_S)
            if process.poll() is not None:
                raise SystemExit("the node ended")
            sampler.take()
        load.close()
        open_work = _settle(folder)
        sampler.take()
        sampler.close()
        told = {
            key: value for key, value in vars(load.told).items() if key not in ("series", "store_s")
        }
        facts = {
            **told, "series": len(load.told.series), "minutes": minutes, "pace": vars(pace),
            "jobs": _counts(folder, "jobs"), "deliveries": _counts(folder, "deliveries"),
            "open_work": open_work, "in_archive": archive.count(), "machine": machine(),
            "removed_studies": _ask(folder, "SELECT count(*) FROM removals")[0][0],
        }  # fmt: skip
        (folder / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")


def _settle(folder: Path) -> int:
    """Wait until nothing is open; how much still is."""
    statement = (
        "SELECT (SELECT count(*) FROM series WHERE state IN ('receiving', 'complete'))"
        " + (SELECT count(*) FROM jobs WHERE state IN ('queued', 'running', 'failed'))"
        " + (SELECT count(*) FROM deliveries WHERE state IN ('pending', 'failed'))"
    )
    deadline = time.monotonic() + _SETTLED_WITHIN_S
    while (left := int(_ask(folder, statement)[0][0])) and time.monotonic() < deadline:
        time.sleep(1.0)
    return left


def _counts(folder: Path, table: str) -> dict[str, int]:
    return dict(_ask(folder, f"SELECT state, count(*) FROM {table} GROUP BY state"))


def _ask(folder: Path, statement: str) -> list[Any]:
    connection = sqlite3.connect(folder / "data" / "ledger.db", timeout=30.0)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def main(arguments: list[str] | None = None) -> int:
    """Run, or report on what was run; an hour or more goes to ``bench/results``."""
    from bench import soak_report

    parser = argparse.ArgumentParser(prog="bench soak")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--folder", type=Path, help="where samples go (default: a temporary one)")
    parser.add_argument("--report", type=Path, help="only read what a run left in this folder")
    parser.add_argument("--times", type=float, default=1.0, help="load, times the usual")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    if options.report is not None:
        return soak_report.write(options.report, RESULTS)
    if not peers.in_private_network():
        script = str(ROOT / "tests" / "in_private_network.sh")
        command = [script, sys.executable, "-m", "bench", "soak", *given]
        return subprocess.run(command, cwd=ROOT, check=False).returncode
    folder = options.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    pace = Pace()
    for name in ("series_s", "radiograph_s", "small_s", "query_s"):
        setattr(pace, name, getattr(pace, name) / options.times)
    run(folder, options.minutes, pace)
    is_whole = options.minutes >= 60
    code = soak_report.write(folder, RESULTS if is_whole else folder)
    if options.folder is None:
        shutil.rmtree(folder)
    return code


if __name__ == "__main__":
    sys.exit(main())
