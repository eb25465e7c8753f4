"""The ledger's queries at one million instances: median and 99th percentile of each.

    python -m bench ledger [--instances N] [--calls N] [--plans] [--url URL | --postgresql]

Everything that the node asks its ledger while it runs is measured through the same calls, on a
generated SQLite ledger with the node's own settings (write-ahead log, ``synchronous=FULL``), so
what is written waits for the disk. ``--plans`` adds how SQLite looks each of them up.

With ``--url`` the same ledger is moved to an empty PostgreSQL database first and asked there, with
``--postgresql`` to a server of its own on loopback.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bench import ledger_rows as rows
from bench.ledger_on_postgres import moved, own_database
from bench.receive import machine
from dicom_node.config import CompletenessSettings
from dicom_node.events import Events
from dicom_node.intake.closing import SeriesCloser
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import (
    Association,
    Delivery,
    DeliveryState,
    Instance,
    Job,
    JobState,
    Priority,
    Result,
    SendOutcome,
    SeriesState,
)

RESULTS = Path(__file__).parent / "results"
LIMIT_MS = 5.0


@dataclass
class Question:
    """One call of the ledger: what it is for, and how to make it the n-th time."""

    name: str
    call: Callable[[int], Any]
    group: str = "node"
    prepare: Callable[[int], Any] | None = None


@dataclass
class Measured:
    """What one question took (ms), and the statements behind it with their query plans.

    ``cpu_ms`` is the median of this thread's own processor time: what a machine that is busy with
    other things, or a slow disk, does not add to.
    """

    name: str
    group: str
    median_ms: float
    p99_ms: float
    cpu_ms: float
    plans: list[str] = field(default_factory=list)


class Asked:
    """The statements that SQLAlchemy sends while it is told to listen."""

    def __init__(self) -> None:
        self.statements: dict[str, Any] = {}
        self._listens = False
        sa.event.listen(sa.Engine, "before_cursor_execute", self._note)

    def _note(self, _c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if self._listens:
            self.statements.setdefault(statement, parameters)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Collect what is sent meanwhile."""
        self.statements, self._listens = {}, True
        try:
            yield
        finally:
            self._listens = False


def measure(question: Question, calls: int, asked: Asked, path: Path | None) -> Measured:
    """Median and 99th percentile over ``calls`` calls, after some that are not counted."""
    taken: list[float] = []
    cpu: list[float] = []
    for number in range(-5, calls):
        if question.prepare is not None:
            question.prepare(number + 5)
        begun, cpu_begun = time.perf_counter(), time.thread_time()
        question.call(number + 5)
        if number >= 0:
            taken.append(1e3 * (time.perf_counter() - begun))
            cpu.append(1e3 * (time.thread_time() - cpu_begun))
    if question.prepare is not None:
        question.prepare(calls + 5)
    with asked.listening():
        question.call(calls + 5)
    taken.sort()
    p99_ms = taken[min(len(taken) - 1, int(0.99 * len(taken)))]
    return Measured(
        question.name, question.group, statistics.median(taken), p99_ms, statistics.median(cpu),
        _plans(path, asked) if path is not None else [],
    )


def _plans(path: Path, asked: Asked) -> list[str]:
    found: list[str] = []
    connection = sqlite3.connect(path)
    for statement, parameters in asked.statements.items():
        if statement.lstrip().upper().startswith(("BEGIN", "COMMIT", "PRAGMA")):
            continue
        one = parameters[0] if isinstance(parameters, list) else parameters
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", one or ())
        found.append(f"{' '.join(statement.split())[:160]} => {'; '.join(r[3] for r in plan)}")
    connection.close()
    return found


class Questions:
    """Everything the node asks, on one generated ledger."""

    def __init__(self, ledger: Ledger, made: rows.Generated, chance: random.Random) -> None:
        self.ledger = ledger
        self.made = made
        self._chance = chance
        self._new = 0
        self._closer = SeriesCloser(
            ledger,
            CompletenessSettings(quiet_period_s=86400 * 365, give_up_after_s=86400 * 365),
            Events(),
        )

    def _ct(self) -> int:
        return self._chance.randrange(self.made.ct_series)

    def _ended(self) -> int:
        return self._chance.randrange(self.made.jobs - rows.QUEUED - rows.PENDING_JOBS)

    def reading(self) -> list[Question]:
        """What is only read."""
        receipts, jobs, deliveries = (
            self.ledger.receipts, self.ledger.jobs, self.ledger.deliveries
        )  # fmt: skip
        now = datetime.now(UTC)
        return [
            Question("close: a look at every series that arrives",
                     lambda _: self._closer.close_complete()),
            Question("route: series that are complete",
                     lambda _: receipts.series_in(SeriesState.COMPLETE)),
            Question("associations of a series of 90",
                     lambda _: receipts.associations_of(rows.series_uid(self._ct()))),
            Question("instances of a series of 90",
                     lambda _: receipts.instances(rows.series_uid(self._ct()))),
            Question("series by UID",
                     lambda _: receipts.find_series(rows.series_uid(self._ct()))),
            Question("256 paths known", lambda _: receipts.paths_known(self._some_paths(256))),
            Question("jobs: running", lambda _: jobs.running()),
            Question("jobs: waiting (2000)", lambda _: jobs.waiting(longest_delay_s=1800.0)),
            Question("job by id", lambda _: jobs.find(rows.job_id(self._ended()))),
            Question("jobs of a series",
                     lambda _: jobs.of_series(rows.series_uid(self._ended()))),
            Question("why a job failed", lambda _: jobs.failures(rows.job_id(self._ended()))),
            Question("results of a job", lambda _: jobs.results(rows.job_id(self._ended()))),
            Question("shipments open (2000, archive away)",
                     lambda _: deliveries.open_shipments(), "each minute"),
            Question("shipments open besides those away",
                     lambda _: deliveries.open_shipments(["pacs"])),
            Question("pending of a job and destination",
                     lambda _: deliveries.pending(self._waiting_job(), "pacs")),
            Question("circuits", lambda _: self.ledger.circuits.all()),
            Question("commitments to ask for",
                     lambda _: self.ledger.commitments.wanting("pacs", now)),
            Question("commitments overdue", lambda _: self.ledger.commitments.overdue(now)),
            Question("counts of series by state", lambda _: receipts.count_by_state(), "operator"),
            Question("counts of jobs by state", lambda _: jobs.count_by_state(), "operator"),
            Question("counts of deliveries by state",
                     lambda _: deliveries.count_by_state(), "operator"),
            Question("20 latest series", lambda _: receipts.recent_series(20), "operator"),
            Question("200 latest jobs", lambda _: jobs.latest(), "operator"),
            Question("200 latest dead jobs", lambda _: jobs.latest(JobState.DEAD), "operator"),
            Question("jobs with dead deliveries",
                     lambda _: deliveries.jobs_with_dead(), "operator"),
            Question("history of a job",
                     lambda _: self.ledger.history("job", rows.job_id(self._ended())), "operator"),
            Question("series of a study",
                     lambda _: receipts.series_of_study(rows.study_uid(self._ct())), "operator"),
            Question("deliveries of a job",
                     lambda _: deliveries.of_job(rows.job_id(self._ended())), "operator"),
        ]  # fmt: skip

    def writing(self) -> list[Question]:
        """What is written, each a transaction that waits for the disk."""
        return [
            Question("index one instance", lambda n: self.ledger.index([self._instance()])),
            Question("index a batch of 256", lambda _: self.ledger.index(self._batch), "batch",
                     self._make_batch),
            Question("index a batch of 256 that is known",
                     lambda _: self.ledger.index(self._batch), "batch", self._know_batch),
            Question("close a series", self._close, prepare=self._arrive),
            Question("route a series to a job", self._route, prepare=self._complete),
            Question("start a job", self._start, prepare=self._queue),
            Question("a job succeeds (3 results, 3 deliveries)", self._succeed,
                     prepare=self._run),
            Question("a delivery is sent", self._sent, prepare=self._produce),
        ]  # fmt: skip

    def _some_paths(self, number: int) -> list[str]:
        found = self._chance.sample(range(self.made.ct_series), min(number, self.made.ct_series))
        return [rows.instance_path(one, one % rows.CT_IMAGES) for one in found]

    def _waiting_job(self) -> str:
        last = self.made.jobs - rows.QUEUED
        return rows.job_id(self._chance.randrange(last - rows.PENDING_JOBS, last))

    def _make_batch(self, _: int) -> None:
        self._batch = [self._instance() for _ in range(256)]

    def _know_batch(self, _: int) -> None:
        several = [self.ledger.receipts.instances(rows.series_uid(self._ct())) for _ in range(3)]
        self._batch = [one for found in several for one in found][:256]

    def _instance(self) -> Instance:
        self._new += 1
        uid = f"1.2.3.4.{self._new}"
        now = datetime.now(UTC)
        return Instance(
            uid, "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", f"1.2.3.5.{self._new // 256}",
            "1.2.3.6", "CT", f"instances/1.2.3.6/{uid}.dcm", 526_336, f"526336-{self._new}", now,
            f"a{self._new // 256}", "SCANNER1", (0.0, 0.0, 1.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
            self._new,
        )  # fmt: skip

    def _arrive(self, number: int) -> str:
        uid = f"1.2.3.7.{number}.{self._new}"
        self._series, self._at = uid, datetime.now(UTC)
        instance = replace(
            self._instance(), series_instance_uid=uid, received_at=self._at, association_id=uid
        )
        association = Association(uid, "SCANNER1", "l", self._at, self._at, "released")
        self.ledger.index([instance], [association])
        return uid

    def _close(self, _: int) -> None:
        closed = self.ledger.receipts.change(
            self._series, SeriesState.COMPLETE, "released", unless_received_after=self._at,
            only_from=SeriesState.RECEIVING,
        )
        assert closed

    def _complete(self, number: int) -> None:
        self._arrive(number)
        self._close(number)
        self._new += 1
        self._job = f"new{self._new:013d}"

    def _route(self, _: int) -> None:
        now = datetime.now(UTC)
        job = Job(
            self._job, self._series, "1.2.3.6", "all", "lungs-ct", "1.0.0", ("pacs",),
            Priority.ROUTINE, JobState.QUEUED, "routed", 1, now - timedelta(seconds=1), now, now,
        )  # fmt: skip
        assert self.ledger.jobs.route(self._series, [job], "rules: all", seen=self._at)

    def _queue(self, number: int) -> None:
        self._complete(number)
        self._route(number)

    def _start(self, _: int) -> None:
        assert self.ledger.jobs.start(self._job, 1) is not None

    def _run(self, number: int) -> None:
        self._queue(number)
        self._start(number)

    def _succeed(self, _: int) -> None:
        now = datetime.now(UTC)
        results = [
            Result(f"{self._series}.{n}", "1.2", "1.2.3", "1.2.3.6", self._job, "report",
                   f"outbox/{self._job}/{n}.dcm", now)
            for n in range(3)
        ]  # fmt: skip
        deliveries = [
            Delivery(f"{self._job}:pacs:{n:02d}", self._job, one.sop_instance_uid, "pacs",
                     DeliveryState.PENDING, "produced", 1, None, now, now)
            for n, one in enumerate(results)
        ]  # fmt: skip
        self.ledger.jobs.succeed(self._job, results, deliveries, "result", {}, attempt=1)

    def _produce(self, number: int) -> None:
        self._run(number)
        self._succeed(number)

    def _sent(self, _: int) -> None:
        outcome = SendOutcome(f"{self._series}.0", 0, stored=True, transient=False)
        self.ledger.deliveries.record(f"{self._job}:pacs:00", outcome, retry_at=None)


def report(result: dict[str, Any], plans: bool) -> str:
    """The table as Markdown."""
    lines = [
        "# Ledger",
        "",
        f"{result['machine']}. {result['conditions']}",
        "",
        "| asked by | what | median ms | p99 ms | CPU ms | |",
        "|---|---|---|---|---|---|",
    ]
    for one in result["queries"]:
        over = "" if one["median_ms"] < LIMIT_MS else f"over {LIMIT_MS:g} ms"
        lines.append(
            f"| {one['group']} | {one['name']} | {one['median_ms']:.2f} | {one['p99_ms']:.2f} "
            f"| {one['cpu_ms']:.2f} | {over} |"
        )
    if plans:
        for one in result["queries"]:
            lines += ["", f"{one['name']}:", *(f"- {plan}" for plan in one["plans"])]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Generate, measure, print, and write ``bench/results/ledger.*`` for a million."""
    parser = argparse.ArgumentParser(prog="bench ledger")
    parser.add_argument("--instances", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--plans", action="store_true", help="print how each is looked up")
    parser.add_argument("--url", help="an empty PostgreSQL database to be asked instead")
    parser.add_argument("--postgresql", action="store_true", help="on a server of its own")
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    if options.postgresql:
        with own_database() as url:
            return _run(options, url)
    return _run(options, options.url)


def _run(options: argparse.Namespace, url: str | None) -> int:
    asked = Asked()
    with tempfile.TemporaryDirectory(prefix="ledger-") as scratch:
        path = Path(scratch) / "ledger.db"
        begun = time.monotonic()
        made = rows.generate(path, options.instances)
        seconds = time.monotonic() - begun
        where = "SQLite"
        if url is not None:
            where = moved(path, url)
        ledger = Ledger.open(url or path)
        questions = Questions(ledger, made, random.Random(1))
        measured = [
            measure(one, options.calls, asked, None if url else path)
            for one in (*questions.reading(), *questions.writing())
        ]
        ledger.close()
        size_mb = path.stat().st_size / 1e6
    result: dict[str, Any] = {
        "machine": machine(),
        "conditions": f"{made.instances} instances in {made.series} series, {made.jobs} jobs, "
        f"{made.deliveries} deliveries, {made.transitions} transitions: {size_mb:.0f} MB of "
        f"SQLite, generated in {seconds:.0f} s, asked on {where}; {options.calls} calls each.",
        "queries": [vars(one) for one in measured],
    }
    print(report(result, options.plans))
    if options.instances >= 1_000_000:
        RESULTS.mkdir(exist_ok=True)
        name = "ledger" if url is None else "ledger-postgresql"
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        (RESULTS / f"{name}.md").write_text(report(result, False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
