"""One table: every row beside its peers and its limit, measured in turns; `make bench`.

    python -m bench table [--full] [--only TEXT] [--resume] [--list]

Rows go to ``bench/results/short.*`` or, of all, to ``bench/results/table.*`` after each case, so
that a run that was broken off goes on with ``--resume``; ``--only`` measures the cases whose name
holds a text again and leaves the others as they are. What a peer cannot do is a row that says so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import describing, growing, reading, receiving, sending, whole
from bench.child import ROOT, Child
from bench.private_network import begun_inside, run_inside
from bench.receive import machine
from bench.rows import LIMIT, NODE, PEER, AgainstWay, Case, Row, Way, as_json, from_json, measure
from bench.series import write_chest

RESULTS = Path(__file__).parent / "results"
INDEXED = "indexed: pixels where they stand"
_READERS = (
    ("node", NODE, "by_node"), ("node, read while it arrived", NODE, "by_node_ahead"),
    ("SimpleITK", PEER, "by_simpleitk"), ("pydicom", PEER, "by_pydicom"),
    ("highdicom", PEER, "by_highdicom"), (INDEXED, LIMIT, "indexed"), ("raw bytes", LIMIT, "raw"),
)  # fmt: skip
_NETWORKS = (
    ("node, ONNX", NODE), ("MONAI, ONNX", PEER), ("node, torch", NODE), ("MONAI, torch", PEER),
)  # fmt: skip


def reading_cases(scratch: Path, *, short: bool) -> list[Case]:
    """A series to a volume."""
    assert all(hasattr(reading, function) for _, _, function in _READERS)
    slices = 100 if short else 300

    def ways() -> list[Way]:
        folder = scratch / f"chest-{slices}"
        if not folder.exists():
            write_chest(folder, slices)
        return [Child(name, role, "bench.reading", at, folder) for name, role, at in _READERS]

    return [Case(
        "read", f"{slices} slices of 512 x 512 to a volume", "s", "series", ways,
        (AgainstWay(2, INDEXED),), 2 if short else 5, "node, read while it arrived",
    )]


def inference_cases(scratch: Path, *, short: bool) -> list[Case]:
    """A volume through the network."""
    shape = (100, 256, 256) if short else (300, 512, 512)

    def ways() -> list[Way]:
        from bench.inference import prepare

        folder = scratch / f"inference-{shape[0]}"
        if not folder.exists():
            folder.mkdir()
            prepare(folder, shape)
        found: list[Way] = [
            Child(name, role, "bench.inference_process", "prepared", name, folder)
            for name, role in _NETWORKS
        ]
        alone = "the network on the same windows, ONNX"
        return [*found, Child(alone, LIMIT, "bench.inference_process", "network_alone", folder)]

    case = f"{shape[0]} slices of {shape[1]} x {shape[2]} through lungs-ct"
    return [Case("inference", case, "s", "volume", ways, (AgainstWay(1, "MONAI, ONNX"),),
                 2 if short else 3, "node, ONNX")]


def all_cases(scratch: Path, *, short: bool) -> list[Case]:
    """Every case, the ones that matter most first."""
    found = [
        *whole.cases(scratch, short=short), *receiving.cases(scratch, short=short),
        *reading_cases(scratch, short=short), *describing.cases(scratch, short=short),
        *sending.cases(scratch, short=short), *inference_cases(scratch, short=short),
    ]  # fmt: skip
    return found if short else [*found, *whole.growth_cases(scratch, short=short), *growing.cases()]


def _commit() -> str:
    command = ["git", "log", "-1", "--format=%h"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _compared(node: Row | None, row: Row) -> str:
    """How many times as good the node is as this way."""
    if node is None or row.way == node.way:
        return ""
    times = node.times(row)
    return "" if times is None else f"{times:.2f} x"


def report(held: dict[str, Any]) -> str:
    """The table as Markdown."""
    lines = [
        "# Table", "",
        f"{held['machine']}. Rounds of all ways of a case follow each other; medians, in brackets "
        "the lowest and the highest. CPU seconds are for what the column says; memory is the most "
        "that all processes of a way held together (of receivers and of the whole), or the peak of "
        "its process. The last columns: how many times as good the node is as this way, and what "
        "its budget says.", "",
    ]  # fmt: skip
    if "note" in held:
        lines += [str(held["note"]), ""]
    stage = ""
    for key, case in held["cases"].items():
        rows = [from_json(one) for one in case["rows"]]
        if rows[0].stage != stage:
            stage = rows[0].stage
            lines += [f"## {stage}", ""]
        lines += _case_lines(key, case, rows)
    judged = [row for row in _rows(held) if row.budget]
    lines += ["## Budgets", "", "| | budget | verdict |", "|---|---|---|"]
    for row in judged:
        for budget, verdict in zip(row.budget.split("; "), row.verdict.split("; "), strict=False):
            lines.append(f"| {row.stage}: {row.case} | {budget} | {verdict} |")
    return "\n".join(lines) + "\n"


def _case_lines(key: str, case: dict[str, Any], rows: list[Row]) -> list[str]:
    unit, per = rows[0].unit, rows[0].per
    node = next((row for row in rows if row.budget), None) or next(
        (row for row in rows if row.role == NODE), None
    )
    lines = [
        f"### {key.partition(': ')[2]}", "",
        f"{rows[0].rounds or case['rounds']} rounds, {case['at']}, commit {case['commit']}, load "
        f"of the machine before it {case['load']:.1f}.", "",
        f"| way | | {unit} | CPU s/{per} | peak MB | node is |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        if row.value is None:
            lines.append(f"| {row.way} | {row.role} | not measured: {row.reason} | | | |")
            continue
        lines.append(
            f"| {row.way} | {row.role} | {_number(row.value)} ({_number(row.low)} to "
            f"{_number(row.high)}) | {_number(row.cpu_s)} | {row.peak_mb:,.0f} "
            f"| {_compared(node, row)} |"
        )
    lines.append("")
    for row in rows:
        # Seconds of the stages of a job, as the node itself counts them.
        told = [f"{name.removesuffix('_s').replace('_', ' ')} {_number(value)}"
                for name, value in row.more.items() if name.endswith("_s") and rows[0].unit == "s"]
        if told and row.value is not None:
            lines += [f"{row.way}, seconds of: {', '.join(told)}.", ""]
    if node is not None and node.budget:
        for budget, verdict in zip(node.budget.split("; "), node.verdict.split("; "), strict=False):
            lines.append(f"- {budget}: {verdict}")
        lines.append("")
    return lines


def _rows(held: dict[str, Any]) -> Iterable[Row]:
    for case in held["cases"].values():
        yield from (from_json(one) for one in case["rows"])


def _write(held: dict[str, Any], name: str) -> None:
    RESULTS.mkdir(exist_ok=True)
    held["machine"] = machine()
    for suffix, text in ((".json", json.dumps(held, indent=1) + "\n"), (".md", report(held))):
        part = RESULTS / f"{name}{suffix}.part"
        part.write_text(text)
        part.replace(RESULTS / f"{name}{suffix}")


def main(arguments: list[str] | None = None) -> int:
    """Measure what is asked for, and print the table."""
    parser = argparse.ArgumentParser(prog="bench table")
    parser.add_argument("--full", action="store_true", help="all of it, in more rounds")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--resume", action="store_true", help="only what is not measured yet")
    parser.add_argument("--list", action="store_true", help="say what would be measured")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    from tests import peers

    if not options.list and not peers.in_private_network() and not begun_inside():
        return run_inside("bench table", given)
    name = "table" if options.full else "short"
    path = RESULTS / f"{name}.json"
    held: dict[str, Any] = {"machine": machine(), "cases": {}}
    if (options.only or options.resume) and path.exists():
        held = json.loads(path.read_text())
    with tempfile.TemporaryDirectory(
        prefix="bench-", dir=os.environ.get("BENCH_SCRATCH"), ignore_cleanup_errors=True
    ) as scratch:
        known = all_cases(Path(scratch), short=not options.full)
        order = {case.key: number for number, case in enumerate(known)}
        begun = time.monotonic()
        for case in known:
            if options.only not in case.key or (options.resume and case.key in held["cases"]):
                continue
            print(f"{time.monotonic() - begun:5.0f} s {case.key}", flush=True)
            if options.list:
                continue
            _measure(case, held)
            held["cases"] = dict(
                sorted(held["cases"].items(), key=lambda one: order.get(one[0], len(order)))
            )
            _write(held, name)
    if not options.list:
        print(report(held))
        print(f"{time.monotonic() - begun:.0f} s; {path.with_suffix('.md')}")
    return 0


def _measure(case: Case, held: dict[str, Any]) -> None:
    load, begun = os.getloadavg()[0], time.monotonic()
    rows = measure(case, lambda line: print(line, flush=True))
    held["cases"][case.key] = {
        "rows": [as_json(row) for row in rows], "load": load, "commit": _commit(),
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "rounds": case.rounds,
        "seconds": round(time.monotonic() - begun, 1),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
