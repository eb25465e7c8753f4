"""The verdict on a soak by a line through its second half, and a picture of all of it."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# A line counts as flat where its slope may be none, or changes so little of the mean in an hour.
_SHARE_OF_MEAN = 0.03
_BLOCK_S = 60.0
_OF_T = 2.0


class Line(NamedTuple):
    """A regression: mean, slope an hour, and how far the slope may be from that (95 %)."""

    mean: float
    per_h: float
    within_per_h: float

    @property
    def is_flat(self) -> bool:
        """Whether the slope may be none, or is small beside the mean."""
        return self.per_h - self.within_per_h <= 0 or self.per_h <= _SHARE_OF_MEAN * self.mean


class Remembered(NamedTuple):
    """KB that the ledger keeps of a removed study, in the third and the fourth quarter."""

    before: Line
    after: Line

    @property
    def is_constant(self) -> bool:
        """Whether a study costs no more at the end than before."""
        grown = self.after.per_h - self.before.per_h
        may_be = math.hypot(self.after.within_per_h, self.before.within_per_h)
        return grown <= max(may_be, _SHARE_OF_MEAN * self.before.per_h)


def line_through(
    points: Sequence[tuple[float, float]], unit: float = 3600.0
) -> Line | None:
    """Least squares through (seconds, value); None below five points.

    With another ``unit`` the first is something else, and the slope is by so much of it.
    """
    if len(points) < 5:
        return None
    at_h = [at_s / unit for at_s, _ in points]
    values = [value for _, value in points]
    mean_h, mean = statistics.fmean(at_h), statistics.fmean(values)
    spread = sum((one - mean_h) ** 2 for one in at_h)
    if not spread:
        return None
    slope = sum((x - mean_h) * (y - mean) for x, y in zip(at_h, values, strict=True)) / spread
    left = sum(
        (y - mean - slope * (x - mean_h)) ** 2 for x, y in zip(at_h, values, strict=True)
    )
    error = math.sqrt(left / (len(points) - 2) / spread)
    return Line(mean, slope, _OF_T * error)


def blocks(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Medians of each minute: samples close together are not independent of each other."""
    found: dict[int, list[tuple[float, float]]] = {}
    for point in points:
        found.setdefault(int(point[0] // _BLOCK_S), []).append(point)
    return [
        (statistics.median(at for at, _ in many), statistics.median(value for _, value in many))
        for many in found.values()
    ]


def curves(samples: Sequence[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Every measure over time: memory of each kind of process and of all, handles, and so on."""
    found: dict[str, list[tuple[float, float]]] = {}

    def add(name: str, at_s: float, value: float) -> None:
        found.setdefault(name, []).append((at_s, value))

    for one in samples:
        at_s = one["at_s"]
        for kind, use in one["uses"].items():
            add(f"memory of {kind}, MB", at_s, use["own_mb"])
        for name, key in (("memory of all, MB", "own_mb"),
                          ("memory and shared libraries, MB", "memory_mb"),
                          ("file handles", "handles"),
                          ("threads", "threads"), ("processes", "processes")):
            add(name, at_s, sum(use[key] for use in one["uses"].values()))
        add("load of the machine", at_s, one["load"])
        add("open jobs", at_s, one["open_jobs"])
        for taken in one["store_ms"]:
            add("C-STORE, ms", at_s, taken)
        for taken in one["result_s"]:
            add("results, s", at_s, taken)
    return found


def verdicts(samples: Sequence[dict[str, Any]]) -> dict[str, Line]:
    """A line through the second half of every measure that has enough of it."""
    half_s = samples[-1]["at_s"] / 2
    found = {}
    for name, points in sorted(curves(samples).items()):
        line = line_through(blocks([point for point in points if point[0] >= half_s]))
        if line is not None:
            found[name] = line
    return found


def remembered(samples: Sequence[dict[str, Any]]) -> Remembered | None:
    """What a removed study costs the ledger; None where too few were removed to say.

    Studies that are kept cost more, and are not as many all the time: their part is taken off, by
    what one of them costs in the whole second half.
    """
    quarter_s = samples[-1]["at_s"] / 4
    half = [one for one in samples if one["at_s"] >= 2 * quarter_s]
    counts = [[one["removed"], one["kept"], 1.0] for one in half]
    _, kept_kb, _ = np.linalg.lstsq(counts, [1e3 * one["ledger_mb"] for one in half], rcond=None)[0]
    lines = []
    for number in (2, 3):
        points = [
            (one["removed"], 1e3 * one["ledger_mb"] - float(kept_kb) * one["kept"])
            for one in half if number * quarter_s <= one["at_s"] <= (number + 1) * quarter_s
        ]  # fmt: skip
        lines.append(line_through(points, unit=1.0))
    before, after = lines
    return Remembered(before, after) if before is not None and after is not None else None


def _row_of_ledger(found: Remembered, mean_mb: float) -> str:
    each, kb = found.after, "KB for each removed study"
    said = "constant" if found.is_constant else "grows"
    return (
        f"| ledger, MB | {mean_mb:.1f} | {each.per_h:.2f} ± {each.within_per_h:.2f} {kb} in the"
        f" last quarter, {found.before.per_h:.2f} ± {found.before.within_per_h:.2f} in the one"
        f" before | {said} |"
    )


def report(samples: Sequence[dict[str, Any]], facts: dict[str, Any]) -> str:
    """The table as Markdown."""
    seconds = samples[-1]["at_s"]
    cpu = (samples[-1]["cpu_s"] - samples[0]["cpu_s"]) / (seconds - samples[0]["at_s"])
    jobs = ", ".join(f"{number} {state}" for state, number in facts.get("jobs", {}).items())
    sent = ", ".join(f"{number} {state}" for state, number in facts.get("deliveries", {}).items())
    lines = [
        "# Soak", "",
        f"{facts.get('machine', '')}. {seconds / 60:.0f} minutes of mixed load: "
        f"{facts.get('acknowledged', 0)} instances acknowledged, {facts.get('refused', 0)} "
        f"refused, {facts.get('broken', 0)} associations broken; "
        f"{facts.get('late_series', 0)} series with late slices; a destination away "
        f"{facts.get('absences', 0)} times; {facts.get('queries', 0)} questions to the web "
        f"page, {facts.get('failed_queries', 0)} without an answer; "
        f"{facts.get('removed_studies', 0)} studies removed meanwhile. Jobs: {jobs}. "
        f"Deliveries: {sent}. Still open at the end: {facts.get('open_work', '?')}. "
        f"The node used {100 * cpu:.0f} % of one core.", "",
        "A line through the medians of each minute of the second half: what it grows by in an "
        "hour, with the 95 % interval. Flat: the interval holds zero, or the growth is under "
        f"{100 * _SHARE_OF_MEAN:.0f} % of the mean. Memory is what a process has of its own; "
        "its share of the libraries that others have too is a row of its own, and changes with "
        "what else runs on the machine. The ledger remembers removed studies, each by as much.",
        "",
        "| measure | mean of second half | an hour | verdict |", "|---|---|---|---|",
    ]  # fmt: skip
    for name, line in verdicts(samples).items():
        said = "flat" if line.is_flat else f"grows by {line.per_h:.1f} an hour"
        lines.append(
            f"| {name} | {line.mean:.1f} | {line.per_h:+.2f} ± {line.within_per_h:.2f} | {said} |"
        )
    found = remembered(samples)
    if found is not None:
        half = samples[len(samples) // 2 :]
        mean_mb = statistics.fmean(one["ledger_mb"] for one in half)
        lines.append(_row_of_ledger(found, mean_mb))
    lines += ["", "![Memory, handles, threads and latency over the run](soak.png)"]
    return "\n".join(lines) + "\n"


def draw(samples: Sequence[dict[str, Any]], path: Path) -> None:
    """The curves as a picture, with the lines through the second half."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    found, lines = curves(samples), verdicts(samples)
    half_s = samples[-1]["at_s"] / 2
    memory = [name for name in found if name.startswith("memory")]
    panels = (memory, ["file handles", "threads"], ["C-STORE, ms"], ["results, s"],
              ["load of the machine", "open jobs"])
    figure, axes = pyplot.subplots(5, 1, figsize=(10, 15), sharex=True)
    for axis, names in zip(axes, panels, strict=True):
        for name in names:
            points = found.get(name, [])
            is_dots = name in ("C-STORE, ms", "results, s")
            drawn = axis.plot(
                [at / 60 for at, _ in points], [value for _, value in points],
                "." if is_dots else "-", markersize=2, label=name,
            )  # fmt: skip
            if name in lines:
                middle_h = (half_s + samples[-1]["at_s"]) / 2 / 3600
                ends_s = (half_s, samples[-1]["at_s"])
                axis.plot(
                    [at / 60 for at in ends_s],
                    [lines[name].mean + lines[name].per_h * (at / 3600 - middle_h)
                     for at in ends_s],
                    "--", color="black" if is_dots else drawn[0].get_color(),
                )  # fmt: skip
        if names == ["C-STORE, ms"]:
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
        axis.legend(loc="upper left", fontsize=8)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def write(folder: Path, results: Path) -> int:
    """Read what a run left in ``folder``; print the report and write it to ``results``."""
    text = (folder / "samples.jsonl").read_text()
    samples = [json.loads(line) for line in text.splitlines()]
    path = folder / "facts.json"
    facts = json.loads(path.read_text()) if path.exists() else {}
    said = report(samples, facts)
    print(said)
    results.mkdir(parents=True, exist_ok=True)
    (results / "soak.md").write_text(said)
    lines = {name: line._asdict() for name, line in verdicts(samples).items()}
    ledger = remembered(samples)
    facts["kb_of_a_removed_study"] = None if ledger is None else {
        "third_quarter": ledger.before.per_h, "fourth_quarter": ledger.after.per_h,
    }  # fmt: skip
    (results / "soak.json").write_text(json.dumps({**facts, "second_half": lines}, indent=1) + "\n")
    draw(samples, results / "soak.png")
    return 0
