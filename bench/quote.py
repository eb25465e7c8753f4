"""The table's figures into README.md, between two marks, so that no figure is typed by hand."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.rows import Row, from_json
from bench.table import INDEXED, RESULTS

README = Path(__file__).resolve().parents[1] / "README.md"
_BEGIN, _END = "<!-- figures of bench/results/short.md -->", "<!-- end of figures -->"
# How a case begins, and the ways that stand beside the node's.
_QUOTED: tuple[tuple[str, str, Sequence[str]], ...] = (
    ("whole", "last of", ("the model alone", "Orthanc and a script",
                          "storescp, folder and a script")),
    ("receive", "CT of 0.5 MB, 4", ("raw TCP to fsynced file", "storescp --fork, NODELAY",
                                    "Orthanc, NODELAY", "pynetdicom, ds.save_as")),
    ("receive", "small objects of 32 KB, 4", ("raw TCP to fsynced file",
                                              "storescp --fork, NODELAY", "Orthanc, NODELAY")),
    ("read", "", (INDEXED, "SimpleITK", "pydicom", "highdicom")),
    ("SEG", "300 slices, 20", ("floor", "highdicom", "dcmqi")),
    ("SR", "300 slices", ("highdicom",)),
    ("send", "CT of 0.5 MB", ("dcmsend, NODELAY", "pynetdicom")),
    ("inference", "", ("MONAI, ONNX",)),
)  # fmt: skip


def quoted(held: dict[str, Any]) -> str:
    """The figures as a table of Markdown; a case that was not measured is not in it."""
    lines = [_BEGIN, f"{held['machine'].partition(', load')[0]}:", "",
             "| | node | beside it | budget |", "|---|---|---|---|"]  # fmt: skip
    for stage, begins, ways in _QUOTED:
        for case in held["cases"].values():
            rows = {row.way: row for row in map(from_json, case["rows"])}
            first = next(iter(rows.values()))
            if first.stage != stage or not first.case.startswith(begins):
                continue
            node = next((row for row in rows.values() if row.budget), first)
            others = "; ".join(
                f"{way} {_figure(rows[way])}" for way in ways
                if way in rows and rows[way].value is not None
            )
            lines.append(
                f"| {stage}: {first.case} | {_figure(node)} {node.unit} | {others} "
                f"| {_verdict(node)} |"
            )
            break
    return "\n".join([*lines, _END])


def _figure(row: Row) -> str:
    if row.value is None:
        return "not measured"
    return f"{row.value:,.0f}" if row.value >= 100 else f"{row.value:.2g}"


def _verdict(node: Row) -> str:
    verdicts = node.verdict.split("; ")
    missed = [
        f"{budget}: {verdict}"
        for budget, verdict in zip(node.budget.split("; "), verdicts, strict=False)
        if not verdict.startswith("kept")
    ]
    return "; ".join(missed) or "kept"


def main(arguments: list[str] | None = None) -> int:
    """Put the figures of ``short.json``, or of another, into README.md; 1: it could not."""
    parser = argparse.ArgumentParser(prog="bench quote", description=__doc__)
    parser.add_argument("name", nargs="?", default="short", help="short, or table: of all cases")
    file = RESULTS / f"{parser.parse_args(arguments).name}.json"
    if not file.exists():
        print(f"{file} is not there: python -m bench makes it")
        return 1
    held = json.loads(file.read_text())
    text = README.read_text()
    before, mark, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not mark or not end:
        print(f"{README}: no place for the figures ({_BEGIN} ... {_END})")
        return 1
    README.write_text(before + quoted(held) + after)
    return 0
