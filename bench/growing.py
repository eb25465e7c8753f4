"""What the node's own questions cost its ledger, with few and with many studies behind it."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from bench import ledger_rows as rows
from bench.child import Child
from bench.ledger import Asked, Questions, measure
from bench.rows import NODE, Case, FigureOf, Way
from dicom_node.ledger.ledger import Ledger

STUDIES = (10, 1_000, 100_000)
_CALLS = 100
_SERIES_EACH = 4
# One in ten instances is a radiograph, a series of its own; the others are in series of 90.
_SERIES_AN_INSTANCE = 0.11
# Asks for fewer where there are fewer.
_BY_SIZE = "256 paths known"


def by_node(studies: str) -> Callable[[], Mapping[str, float]]:
    """Fill a ledger; then the sum of all medians of what the node asks and writes while it runs.

    What is open is the same few series, jobs and deliveries whatever lies behind them.
    """
    rows.RECEIVING, rows.QUEUED, rows.PENDING_JOBS = 2, 2, 2
    folder = tempfile.TemporaryDirectory(prefix="ledger-")
    path = Path(folder.name) / "ledger.db"
    made = rows.generate(path, int(int(studies) * _SERIES_EACH / _SERIES_AN_INSTANCE))
    ledger = Ledger.open(path)
    questions = Questions(ledger, made, random.Random(1))
    asked = Asked()

    def work() -> dict[str, float]:
        measured = [
            measure(one, _CALLS, asked, path)
            for one in (*questions.reading(), *questions.writing())
            if one.group == "node" and one.name != _BY_SIZE
        ]
        return {
            "value": sum(one.median_ms for one in measured),
            "cpu_s": sum(one.cpu_ms for one in measured) / 1e3,
            "instances": float(made.instances),
        }

    # Until the process ends: what is in it goes with it.
    work.folder = folder  # type: ignore[attr-defined]
    return work


def cases() -> list[Case]:
    """What is measured of a ledger that grows."""
    names = {studies: f"node, {studies:,} studies" for studies in STUDIES}

    def ways() -> list[Way]:
        return [Child(names[one], NODE, "bench.growing", "by_node", one) for one in STUDIES]

    first = names[STUDIES[1]]
    return [Case(
        "growth", "every question of the node to its ledger once, SQLite", "ms", "round", ways,
        (FigureOf(1.5, first, "cpu_s", "CPU"), FigureOf(1.5, first, "value", "time")), 3,
        names[STUDIES[-1]],
    )]
