"""The whole: from the last slice that is acknowledged to SEG and SR stored in Orthanc.

Every way has an Orthanc of its own, gets the same series under new UIDs, waits two seconds for
further slices, which do not count, and runs the same model. CPU is that of all processes of a way,
its archive among them.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self

import yaml

from bench.chaos_load import CALLED, CALLING
from bench.child import Child
from bench.load import _running
from bench.processes import Watch
from bench.rows import LIMIT, NODE, PEER, AtMost, Case, FigureOf, Sample, TimesPlus, Way
from bench.script_pipeline import loaded_predictor, volume_of
from bench.series import WireSeries, write_chest
from tests import peers
from tests.ai_models.tiny_models import threshold_onnx, write_model

QUIET_S = 2
MODEL_ALONE = "the model alone"
_PATIENCE_S = 300.0
_numbers = itertools.count()


def settings(folder: Path, model: str, pacs: int, port: int) -> dict[str, Any]:
    """A node with one rule and one archive, as a site would set it up."""
    return {
        "node": {
            "ae_title": CALLED, "host": "127.0.0.1", "port": port, "data_dir": str(folder / "data"),
        },
        "peers": {
            "pacs": {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": pacs},
            "scanner": {"ae_title": CALLING, "host": "127.0.0.1", "port": peers.free_port()},
        },
        "completeness": {"after_release_s": QUIET_S, "quiet_period_s": 20},
        "storage": {"refuse_below_free_bytes": 0, "make_room_below_free_bytes": 0},
        "models": {"devices": ["cpu"], "directories": [str(folder / "models")]},
        "web": {"enabled": False},
        "logging": {"level": "warning"},
        "rules": [
            {"name": "all CT", "when": {"Modality": "CT"}, "model": model, "send_to": ["pacs"]}
        ],
    }  # fmt: skip


class Pipeline:
    """Whatever takes a series and stores its results in its archive."""

    name, role, called = "", PEER, "ORTHANC"
    keeps_images = False

    def __init__(self, scratch: Path, wire: WireSeries, warm: WireSeries) -> None:
        self._folder = scratch / f"whole-{next(_numbers)}"
        self._wire, self._warm = wire, warm
        self._stack = ExitStack()
        self.pids: list[int] = []
        self.port = 0

    def start(self, archive: peers.Orthanc) -> None:
        """Start what receives and works; sets ``port`` and ``pids``."""
        raise NotImplementedError

    def configuration(self) -> dict[str, Any]:
        """Of the archive."""
        return {}

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True)
        try:
            with peers_that_are_here():
                self._archive = peers.Orthanc(self._folder, configuration=self.configuration())
            self._stack.enter_context(self._archive)
            process = self._archive._process
            assert process is not None
            self.pids = [process.pid]
            self.start(self._archive)
            self._send(self._warm)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def once(self) -> Sample:
        """One examination."""
        with Watch(*self.pids) as watch:
            answered, stored = self._send(self._wire)
        return Sample(
            stored - answered - QUIET_S, watch.cpu_s, watch.peak_mb, self.more(answered)
        )

    def more(self, answered: float) -> Mapping[str, float]:
        """What the pipeline itself says of the last examination."""
        return {}

    def _count(self) -> int:
        return int(json.loads(self._archive.get("/statistics"))["CountInstances"])

    def _send(self, wire: WireSeries) -> tuple[float, float]:
        """When the last slice was acknowledged, and when SEG and SR were there."""
        _, messages = wire.renamed()
        wanted = self._count() + 2 + (wire.slices if self.keeps_images else 0)
        answered = wire.send(self.port, self.called, messages)
        deadline = time.monotonic() + _PATIENCE_S
        while self._count() < wanted:
            if time.monotonic() > deadline:
                raise RuntimeError("no results within five minutes")
            time.sleep(0.03)
        stored = time.time()
        self.settle()
        return answered, stored

    def settle(self) -> None:
        """Wait until nothing of this examination is left to do."""


class NodeWay(Pipeline):
    """``dicom-node serve``."""

    name, role, called = "node", NODE, CALLED
    model = "lungs-ct"

    def start(self, archive: peers.Orthanc) -> None:
        self.port = peers.free_port()
        write_model(
            self._folder / "models" / "tiny", threshold_onnx(0.5), id="tiny",
            input__spacing_mm=[8.0, 8.0, 8.0],
        )
        config = self._folder / "config.yaml"
        config.write_text(
            yaml.safe_dump(settings(self._folder, self.model, archive.port, self.port))
        )
        command = [sys.executable, "-m", "dicom_node", "--config", str(config), "serve"]
        process = self._stack.enter_context(_running(command))
        self.pids.append(process.pid)
        deadline = time.monotonic() + _PATIENCE_S
        while not peers._answers(self.port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the node did not start")
            time.sleep(0.05)

    def _ask(self, statement: str) -> list[Any]:
        connection = sqlite3.connect(self._folder / "data" / "ledger.db", timeout=30.0)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    def settle(self) -> None:
        statement = "SELECT count(*) FROM deliveries WHERE state IN ('pending', 'failed')"
        while self._ask(statement)[0][0]:
            time.sleep(0.05)

    def more(self, answered: float) -> Mapping[str, float]:
        [(job, stages)] = self._ask(
            "SELECT job_id, seconds_by_stage FROM jobs ORDER BY created_at DESC LIMIT 1"
        )
        at = dict(self._ask(
            f"SELECT to_state, at FROM transitions WHERE kind = 'job' AND key = '{job}'"
        ))
        seconds = {f"{name}_s": float(taken) for name, taken in json.loads(stages).items()}
        return {
            **seconds, "job_started_s": at["running"] - answered - QUIET_S,
            "job_s": at["succeeded"] - at["running"],
        }


class _Tiny(NodeWay):
    """The node with a network that takes no time, so that all the rest is seen."""

    model = "tiny"

    def __init__(self, scratch: Path, wire: WireSeries, warm: WireSeries) -> None:
        super().__init__(scratch, wire, warm)
        self.name = f"node, {wire.slices:,} slices"

    def once(self) -> Sample:
        one, slices = super().once(), self._wire.slices
        return Sample(1e3 * one.value / slices, one.cpu_s / slices, one.peak_mb, one.more)


class OrthancAndScript(Pipeline):
    """Orthanc receives; a script reads what is stable by REST and posts results back."""

    name, keeps_images = "Orthanc and a script", True

    def configuration(self) -> dict[str, Any]:
        return {
            "StableAge": QUIET_S, "DicomCheckCalledAet": False, "MaximumPduLength": 131072,
        }

    def start(self, archive: peers.Orthanc) -> None:
        self.port = archive.port
        self.pids.append(_script(self._stack, "orthanc", archive.url))


class FolderHandOver(Pipeline):
    """storescp, a program for each file, a watched folder, a script, dcmsend: as mercure does."""

    name = "storescp, folder and a script"

    def start(self, archive: peers.Orthanc) -> None:
        options = (
            "--fork", "+xa", "-pdu", "131072", "--exec-on-reception",
            "dcmdump -q +P 0020,000e '#p/#f' > '#p/#f.tags'",
        )  # fmt: skip
        receiver = self._stack.enter_context(
            peers.DcmtkStorescp(self._folder, options=options)
        )
        assert receiver._process is not None
        self.port, self.called = receiver.port, receiver.ae_title
        self.pids += [
            receiver._process.pid,
            _script(self._stack, "folder", receiver.received, archive.port, QUIET_S),
        ]


def _script(stack: ExitStack, *arguments: object) -> int:
    command = [sys.executable, "-m", "bench.script_pipeline", *map(str, arguments)]
    process = stack.enter_context(_running(command, stdout=subprocess.PIPE))
    line = process.stdout.readline()
    if "ready" not in line:
        raise RuntimeError(f"the script ended: {line}")
    return int(process.pid)


class peers_that_are_here:  # noqa: N801 - reads as a sentence
    """Turns pytest's skip of a program that is missing into an error with its words."""

    def __enter__(self) -> None:
        """Nothing is needed."""

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        if kind is not None and kind.__name__ == "Skipped":
            raise RuntimeError(str(error)) from None


def model_alone(folder: str) -> Callable[[], None]:
    """The predictor on a volume that is in memory, nothing before and nothing after."""
    import pydicom

    predictor = loaded_predictor()
    volume = volume_of([pydicom.dcmread(path) for path in sorted(Path(folder).iterdir())])
    predictor.predict(volume)

    def work() -> None:
        predictor.predict(volume)

    return work


def cases(scratch: Path, *, short: bool) -> list[Case]:
    """What is measured of the whole."""
    slices, rounds = (100, 2) if short else (300, 3)

    def ways() -> list[Way]:
        folder = scratch / f"chest-{slices}"
        paths = sorted(folder.iterdir()) if folder.exists() else write_chest(folder, slices)
        wire, middle = WireSeries(paths), len(paths) // 2
        warm = WireSeries(paths[middle - 20 : middle + 20])
        return [
            NodeWay(scratch, wire, warm),
            Child(MODEL_ALONE, LIMIT, "bench.whole", "model_alone", folder),
            OrthancAndScript(scratch, wire, warm),
            FolderHandOver(scratch, wire, warm),
        ]

    budgets = (
        TimesPlus(1.15, MODEL_ALONE, 0.6),
        AtMost(0.5, "job_started_s", "job started after the quiet period, s"),
    )
    return [Case(
        "whole", f"last of {slices} slices acknowledged to SEG and SR in Orthanc", "s", "series",
        ways, budgets, rounds,
    )]


GROWTH = (100, 300, 1000)


def growth_cases(scratch: Path, *, short: bool) -> list[Case]:
    """The cost per slice of longer series."""
    counts = (50, 100) if short else GROWTH

    def ways() -> list[Way]:
        found: list[Way] = []
        for count in counts:
            paths = write_chest(scratch / f"growth-{count}", count, extent_mm=300.0)
            middle = count // 2
            found.append(
                _Tiny(scratch, WireSeries(paths), WireSeries(paths[middle - 10 : middle + 10]))
            )
        return found

    first, last = f"node, {counts[0]:,} slices", f"node, {counts[-1]:,} slices"
    return [Case(
        "growth", "results after the last slice, per slice, a network that takes no time", "ms",
        "slice", partial(ways), (FigureOf(1.2, first, "cpu_s", "CPU per slice"),
                                 FigureOf(1.2, first, "value", "time per slice")),
        1 if short else 3, last,
    )]
