"""A node on several hosts under load: hosts die and are cut off, and everything is counted.

    python -m bench hosts [--series N] [--seed N] [--keep FOLDER]

Two receivers, three workers and one deliverer share a PostgreSQL server and a spool, each in a
network namespace with an address of its own (tests/hosts). One worker and one receiver lose their
power for good, another worker is cut off for a minute; then `tests.hosts.verdict` looks for every
instance that was acknowledged and for every result that is due. Before that the same series are
worked off by one, two and three workers, without troubles.

The model is asked of a host that answers after a fixed time, as a GPU would: so workers are added
on few cores. Their own work needs cores all the same, and so do the database and the senders,
which run on the same machine.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.chaos_check import Verdict
from bench.hosts_cost import lines_of, measure_cost
from bench.private_network import run_inside
from bench.receive import machine
from tests import peers
from tests.hosts.modality import Modalities, Sent, make_load
from tests.hosts.site import Site
from tests.hosts.troubles import (
    Strike,
    Trouble,
    cut_off_for,
    receiver_without_power,
    strike_all,
    worker_without_power,
)
from tests.hosts.verdict import check, latencies_s, spread

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
_ANSWER_S = 0.5
_QUIET_WITHIN_S = 1800.0
_FULL, _KEPT_FROM = 2000, 300
_PARTS = ("scaling", "cost", "troubles")


@dataclass
class Run:
    """What a run did, and what was found in the end."""

    troubles: list[Trouble] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    latencies_s: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    sent_within_s: float = 0.0


def run_hosts(
    site: Site, sent: Sent, plan: Sequence[tuple[float, Strike]], *, every_s: float
) -> Run:
    """Start all hosts, send, let the troubles happen, wait until it is quiet, and count.

    Raises
    ------
    AssertionError
        Something did not come about in time.
    """
    run = Run()
    site.start()
    modalities = Modalities(site.clinic, site.receivers(), sent)
    uids = list(sent.account.series)
    # Every worker loads the model first: nobody waits for a start when it is measured.
    first = uids[: 2 * len(site.of_role("work"))]
    modalities.start(series=first)
    site.wait_quiet(len(first), _QUIET_WITHIN_S)
    begun = time.monotonic()
    modalities.start(every_s=every_s, series=uids[len(first) :])
    try:
        run.troubles = strike_all(site, modalities, plan, _say)
        while modalities.open:
            assert time.monotonic() - begun < _QUIET_WITHIN_S, f"{modalities.open} series not sent"
            time.sleep(0.2)
        run.sent_within_s = time.monotonic() - begun
        site.wait_quiet(len(sent.account.series), _QUIET_WITHIN_S)
    finally:
        modalities.stop()
    run.seconds = time.monotonic() - begun
    run.verdict = check(site, sent)
    run.latencies_s = latencies_s(site, sent, besides=first)
    return run


def jobs_per_s(folder: Path, workers: int, series: int, answer_s: float) -> float:
    """How fast a queue is worked off: answers of the model per second, the first ones left out."""
    sent = make_load(folder / "series", series, seed=workers)
    with Site(folder / "site", receivers=1, workers=workers, answer_s=answer_s) as site:
        site.start([*site.of_role("intake"), *site.of_role("deliver")])
        modalities = Modalities(site.clinic, site.receivers(), sent)
        modalities.start()
        while int(site.query("SELECT count(*) FROM jobs")[0][0]) < series:
            time.sleep(0.2)
        site.start(site.of_role("work"))
        site.wait_quiet(series, _QUIET_WITHIN_S)
        times = sorted(site.farm.asked_at)
    # Until every worker has begun, and when there is no longer work for all of them.
    inner = times[2 * workers + 2 : -workers]
    return (len(inner) - 1) / (inner[-1] - inner[0])


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def report(facts: dict[str, Any]) -> str:
    """The figures as a page."""
    latency, scaling = facts["latency_s"], facts["scaling"]
    lines = [
        "# Several hosts", "",
        f"{facts['machine']}. Two receivers, three workers and one deliverer, each in a network "
        "namespace with an address of its own, with PostgreSQL, the archive, the host of the model "
        f"and the modalities on the same machine. {facts['series']} series of 1 to 3 CT images, "
        f"every tenth an emergency by its rule; a model that takes {facts['answer_s']} s, and a "
        "report for each series.", "", *([facts["note"], ""] if "note" in facts else []),
        "| what | |", "|---|---|",
        f"| instances acknowledged | {facts['instances']} |",
        f"| results at the archive | {facts['results']} |",
        f"| lost | {facts['losses']} |",
        f"| twice | {facts['duplicates']} |",
        f"| other findings | {facts['others']} |",
        f"| stored again with the same content | {facts['sent_again']} |",
        f"| results of an earlier version of a series | {facts['earlier_versions']} |",
        f"| sent within | {facts['sent_within_s']:.0f} s |",
        f"| all done within | {facts['seconds']:.0f} s |", "",
        "| trouble | figures |", "|---|---|",
    ]
    for one in facts["troubles"]:
        figures = "; ".join(f"{value:g} {name}" for name, value in one["figures"].items())
        lines.append(f"| {one['what']} | {figures} |")
    lines += [
        "", "From the last acknowledgement of a series to its report in the archive, of which 2 s "
        "are waiting for further images:", "",
        "| urgency | series | median s | p95 s | longest s |", "|---|---|---|---|---|",
    ]
    for name, of in latency.items():
        lines.append(f"| {name} | {of['series']} | {of['median']} | {of['p95']} | {of['max']} |")
    lines += [
        "", f"A queue of {facts['scaling_series']} series, a model that takes "
        f"{facts['scaling_answer_s']} s. What was measured on another day than the above: this at "
        f"{facts['scaling_machine']}; what follows may be of yet another load.", "",
        "| workers | jobs/s | ratio |", "|---|---|---|",
    ]
    first = next(iter(scaling.values()))
    for workers, rate in scaling.items():
        lines.append(f"| {workers} | {rate:.2f} | {rate / first:.2f} |")
    return "\n".join([*lines, *lines_of(facts["cost"])]) + "\n"


def measure_scaling(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """How much faster a queue is worked off by more workers."""
    scaling = {}
    for workers in (1, 2, 3):
        scaling[str(workers)] = round(
            jobs_per_s(
                folder / f"scaling{workers}", workers, options.scaling_series,
                options.scaling_answer_s,
            ), 3,
        )  # fmt: skip
        _say(f"{workers} workers: {scaling[str(workers)]:.2f} jobs/s")
    return {
        "scaling": scaling, "scaling_series": options.scaling_series,
        "scaling_answer_s": options.scaling_answer_s, "scaling_machine": machine(),
    }


def measure_troubles(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The run with troubles."""
    sent = make_load(folder / "series", options.series, options.seed)
    plan = [
        (0.2, worker_without_power("worker1")), (0.4, receiver_without_power("receiver1")),
        (0.6, cut_off_for("worker2", options.cut_off_s)),
    ]
    with Site(folder / "site", receivers=2, workers=3, answer_s=_ANSWER_S) as site:
        run = run_hosts(site, sent, plan, every_s=options.every_s)
    return {
        "machine": machine(), "series": options.series, "seed": options.seed,
        "answer_s": _ANSWER_S, "every_s": options.every_s,
        "instances": sum(1 for count in sent.account.acknowledged.values() if count),
        "refused_or_unanswered": dict(sorted(sent.account.refusals.items())),
        "by_receiver": dict(sorted(sent.by_receiver.items())),
        "results": run.verdict.results, "losses": len(run.verdict.losses),
        "duplicates": len(run.verdict.duplicates), "others": len(run.verdict.others),
        "findings": run.verdict.findings(), "sent_again": run.verdict.sent_again,
        "earlier_versions": run.verdict.earlier_versions,
        "seconds": round(run.seconds, 1), "sent_within_s": round(run.sent_within_s, 1),
        "troubles": [{"what": one.what, "figures": one.figures} for one in run.troubles],
        "latency_s": {
            name: {"series": len(values), **spread(values)}
            for name, values in run.latencies_s.items()
        },
    }


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The parts that are asked for; of the others what was kept of a former run."""
    kept = RESULTS / "hosts.json"
    facts: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    facts.pop("note", None)
    if "scaling" in options.parts:
        facts |= measure_scaling(folder, options)
    if "cost" in options.parts:
        facts["cost"] = measure_cost(folder / "cost", options.scaling_series)
        _say(f"cost: {facts['cost']}")
    if "troubles" in options.parts:
        facts |= measure_troubles(folder, options)
    return facts


def main(arguments: list[str] | None = None) -> int:
    """Run, print, write ``bench/results/hosts.{md,json}``; 1 when anything was found."""
    parser = argparse.ArgumentParser(prog="bench hosts", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--series", type=int, default=_FULL)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every-s", type=float, default=0.4, help="seconds from series to series")
    parser.add_argument("--cut-off-s", type=float, default=60.0)
    parser.add_argument("--scaling-series", type=int, default=60)
    parser.add_argument("--scaling-answer-s", type=float, default=1.0)
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=_PARTS)
    parser.add_argument("--keep", type=Path, help="folder to keep everything in")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    if not peers.in_private_network():
        return run_inside("bench.hosts", given)
    # Whoever ends a run wants its hosts ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = options.keep or Path(tempfile.mkdtemp(prefix="hosts-"))
    try:
        facts = measure(folder, options)
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    findings: list[str] = facts.get("findings", [])
    for finding in findings:
        print(finding)
    if options.series >= _KEPT_FROM:
        (RESULTS / "hosts.json").write_text(json.dumps(facts, indent=1) + "\n")
    if {"scaling", "cost", "series"} <= set(facts):
        print(report(facts))
        if options.series >= _KEPT_FROM:
            (RESULTS / "hosts.md").write_text(report(facts))
    return 1 if findings else 0



if __name__ == "__main__":
    sys.exit(main())
