"""Ten backbones, by torch and by ONNX Runtime: latency of one image, throughput of several.

    python -m bench backbones [--backbones NAME ...] [--rounds N]

Random weights, 36 classes, and images of the size that a backbone was published with. Every way
loads its files as a node does, in a process of its own; these are asked by turns, so that what
else the machine does falls on all alike. Results of all ten go to ``bench/results/backbones.*``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ai_models.networks.backbones import BACKBONES
from bench.receive import machine

RESULTS = Path(__file__).parent / "results"
CLASSES, AT_ONCE = 36, 8
WAYS = {"torch": "torch", "torch bf16": "torch", "ONNX": "onnx", "ONNX int8": "onnx"}
"""What is compared, and what runs it."""
_REFERENCE = "torch"
# As dicom_node.pipeline.worker_process starts what runs models.
_AS_A_WORKER = {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
_SETTLING_S = 0.1


class Asked:
    """A process that has loaded one way, and measures when it is told to."""

    def __init__(self, way: str, directory: Path) -> None:
        self.way = way
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.backbones_process", "ask", way, str(directory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**_AS_A_WORKER, **os.environ},
        )
        self.told: dict[str, Any] = {}

    def wait(self) -> None:
        """Until it has loaded; several load beside each other."""
        self.told = self._line()

    def measure(self, images: int) -> dict[str, Any]:
        """What it took to ask of so many images at once."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{images}\n")
        self._process.stdin.flush()
        return self._line()

    def end(self) -> None:
        """Let it go."""
        self._process.communicate()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.way} ended with {self._process.wait()}")
        told: dict[str, Any] = json.loads(line)
        return told


def measured(backbone: str, rounds: int) -> dict[str, Any]:
    """All ways of one backbone, by turns."""
    with tempfile.TemporaryDirectory(prefix="backbones-") as scratch:
        directory = Path(scratch)
        subprocess.run(
            [sys.executable, "-m", "bench.backbones_process", "prepare", backbone, scratch],
            check=True, stdout=subprocess.DEVNULL,
        )
        prepared = json.loads((directory / "prepared.json").read_text())
        asked: list[Asked] = []
        try:
            asked.extend(Asked(way, directory) for way in WAYS)
            for one in asked:
                one.wait()
            found: dict[str, dict[int, list[dict[str, Any]]]] = {
                way: {1: [], AT_ONCE: []} for way in WAYS
            }
            for _ in range(rounds):
                for images in (1, AT_ONCE):
                    for one in asked:
                        time.sleep(_SETTLING_S)
                        found[one.way][images].append(one.measure(images))
        finally:
            for one in asked:
                one.end()
        answers = {way: np.load(directory / f"{way}.npy") for way in WAYS}
    return {
        "edge": BACKBONES[backbone].edge, "parameters": prepared["parameters"],
        "spread_of_logits": float(answers[_REFERENCE].std()),
        "ways": {
            one.way: {
                "bytes": prepared["bytes"][one.way], **one.told, **summary(found[one.way]),
                "largest_difference": float(
                    np.abs(answers[one.way] - answers[_REFERENCE]).max()),
            }
            for one in asked
        },
    }


def summary(found: dict[int, list[dict[str, Any]]]) -> dict[str, float]:
    """Medians over the rounds, and how far these lie from each other."""
    one, many = (
        [statistics.median(each["seconds"]) for each in found[images]] for images in (1, AT_ONCE)
    )
    return {
        "latency_ms": 1000 * statistics.median(one),
        "latency_spread_ms": 1000 * (max(one) - min(one)),
        "images_per_s": AT_ONCE / statistics.median(many),
        "images_per_s_lowest": AT_ONCE / max(many), "images_per_s_highest": AT_ONCE / min(many),
        "cpu_ms_per_image": 1000 * statistics.median(each["cpu_s"] for each in found[1]),
        "peak_mb": max(each["peak_mb"] for images in (1, AT_ONCE) for each in found[images]),
    }


def report(result: dict[str, Any]) -> str:
    """The tables as Markdown."""
    lines = [
        "# Backbones",
        "",
        f"{result['machine']}. Random weights, {CLASSES} classes, images of the size that each was "
        f"published with; loaded as a node loads them, with as many threads as there are cores. "
        f"{result['rounds']} rounds, all ways of a backbone by turns, each in a process of its "
        f"own; medians, and from the lowest to the highest round. Latency: one image at a time. "
        f"Throughput: {AT_ONCE} at once. Torch and ONNX compute in fp32 where nothing else is "
        "said. Difference: the largest of a logit to torch in fp32, and what that is of the "
        "deviation of all logits. Of random weights, whose logits differ little, int8 and bf16 "
        "say nothing of how well a trained network answers with them: `dicom-node models compress` "
        "measures that.",
        "",
        "| backbone, edge | way | ms | spread ms | images/s | lowest to highest | CPU ms of one "
        "| peak MB | file MB | difference |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in result["backbones"].items():
        for way, one in found["ways"].items():
            difference = one["largest_difference"]
            told = f"{difference:.1e} ({100 * difference / found['spread_of_logits']:.2g} %)"
            lines.append(
                f"| {name}, {found['edge']} | {way} | {one['latency_ms']:.1f} "
                f"| {one['latency_spread_ms']:.1f} | {one['images_per_s']:.1f} "
                f"| {one['images_per_s_lowest']:.1f} to {one['images_per_s_highest']:.1f} "
                f"| {one['cpu_ms_per_image']:.0f} | {one['peak_mb']:.0f} "
                f"| {one['bytes'] / 1e6:.1f} | {'' if way == _REFERENCE else told} |"
            )
    lines += [
        "", "How many times as fast as torch in fp32: one image, several at once.", "",
        "| backbone | " + " | ".join(way for way in WAYS if way != _REFERENCE) + " |",
        "|---" * len(WAYS) + "|",
    ]
    for name, found in result["backbones"].items():
        plain = found["ways"][_REFERENCE]
        cells = [
            f"{plain['latency_ms'] / one['latency_ms']:.2f}, "
            f"{one['images_per_s'] / plain['images_per_s']:.2f}"
            for way, one in found["ways"].items() if way != _REFERENCE
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "What ran:", ""]
    first = next(iter(result["backbones"].values()))
    lines += [
        f"- {way}: {one['notes']}{', of a file in 8 bits' if 'int8' in way else ''}"
        for way, one in first["ways"].items()
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the results when all ten were measured."""
    parser = argparse.ArgumentParser(prog="bench backbones")
    parser.add_argument("--backbones", nargs="+", choices=list(BACKBONES), default=list(BACKBONES))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    found: dict[str, dict[str, Any]] = {}
    for name in options.backbones:
        begun = time.perf_counter()
        found[name] = measured(name, options.rounds)
        told = ", ".join(
            f"{way} {one['latency_ms']:.1f} ms" for way, one in found[name]["ways"].items())
        print(f"  {name:20} {told}; {time.perf_counter() - begun:.0f} s in all", flush=True)
    result = {"machine": machine(), "rounds": options.rounds, "backbones": found}
    print(report(result))
    if len(found) == len(BACKBONES):
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "backbones.json").write_text(json.dumps(result, indent=1) + "\n")
        (RESULTS / "backbones.md").write_text(report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
