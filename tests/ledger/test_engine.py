"""The engines: the same contract for both, and what only the durable one promises."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.errors import LedgerUnavailable
from dicom_node.ledger import engine as engine_module
from dicom_node.ledger.database import create_engine
from dicom_node.ledger.engine import (
    DbosEngine,
    Handler,
    JobEngine,
    QueueLimits,
    Standing,
)
from dicom_node.ledger.inline_engine import InlineEngine

PATIENCE_S = 60.0
ONE = {"infer": QueueLimits(per_host=1)}


class Record:
    """What ran, in order; ``wait(n)`` waits for the n-th end."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, int]] = []
        self.at: dict[str, datetime] = {}
        self.gate = threading.Event()
        self.gate.set()
        self._ended = threading.Semaphore(0)

    def handle(self, key: str, attempt: int) -> None:
        self.at[key] = datetime.now(UTC)
        try:
            assert self.gate.wait(PATIENCE_S)
            self.ran.append((key, attempt))
            if key.startswith("bad"):
                raise ValueError("DOE^JOHN 1.2.840.99.12345")
        finally:
            self._ended.release()

    def wait(self, number: int) -> None:
        for _ in range(number):
            assert self._ended.acquire(timeout=PATIENCE_S), self.ran


def until(condition: Callable[[], bool]) -> None:
    waiting = threading.Event()
    deadline = datetime.now(UTC) + timedelta(seconds=PATIENCE_S)
    while not condition():
        assert datetime.now(UTC) < deadline, "nothing happened"
        waiting.wait(0.02)


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql), "inline"]
)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobEngine]:
    made: JobEngine = InlineEngine()
    if request.param == "sqlite":
        made = DbosEngine(f"sqlite:///{tmp_path / 'ledger.db'}", executor_id="test")
    elif request.param == "postgresql":
        made = DbosEngine(request.getfixturevalue("postgresql_url"), executor_id="test")
    yield made
    made.stop()


def test_an_attempt_submitted_twice_runs_once_and_stands_as_finished(engine: JobEngine) -> None:
    record = Record()
    engine.start({"infer": record.handle}, ONE)
    for _ in range(3):
        engine.submit("infer", "a", 1)
    record.wait(1)
    until(lambda: engine.standing("infer", "a", 1) is Standing.FINISHED)
    engine.submit("infer", "a", 1)
    engine.submit("infer", "a", 2)
    record.wait(1)
    assert record.ran == [("a", 1), ("a", 2)]
    assert engine.standing("infer", "unheard", 1) is Standing.UNKNOWN


def test_an_attempt_submitted_again_while_it_runs_is_not_run_twice(engine: JobEngine) -> None:
    record = Record()
    record.gate.clear()
    engine.start({"infer": record.handle}, {"infer": QueueLimits(per_host=4)})
    engine.submit("infer", "a", 1)
    until(lambda: "a" in record.at)
    engine.submit("infer", "a", 1)
    assert engine.standing("infer", "a", 1) is Standing.OPEN
    record.gate.set()
    engine.submit("infer", "b", 1)
    record.wait(2)
    assert sorted(record.ran) == [("a", 1), ("b", 1)]


def test_the_most_urgent_waiting_job_runs_first(engine: JobEngine) -> None:
    record = Record()
    record.gate.clear()
    engine.start({"infer": record.handle}, ONE)
    engine.submit("infer", "running", 1)
    until(lambda: "running" in record.at)
    for key, priority in (("background", 100), ("routine", 10), ("stat", 1)):
        engine.submit("infer", key, 1, priority=priority)
    record.gate.set()
    record.wait(4)
    assert [key for key, _ in record.ran] == ["running", "stat", "routine", "background"]


def test_what_is_begun_here_waits_for_no_place_in_a_queue(engine: JobEngine) -> None:
    record, beside = Record(), Record()
    record.gate.clear()

    def infer(key: str, attempt: int) -> None:
        engine.start_here("draft", key, attempt)
        record.handle(key, attempt)

    engine.start({"infer": infer, "draft": beside.handle}, ONE)
    engine.submit("infer", "a", 1)
    beside.wait(1)
    until(lambda: engine.standing("draft", "a", 1) is Standing.FINISHED)
    assert engine.standing("infer", "a", 1) is Standing.OPEN
    engine.start_here("draft", "a", 1)
    record.gate.set()
    record.wait(1)
    assert (record.ran, beside.ran) == ([("a", 1)], [("a", 1)])


def test_a_delayed_attempt_does_not_start_before_its_time(engine: JobEngine) -> None:
    record = Record()
    engine.start({"infer": record.handle}, ONE)
    due = datetime.now(UTC) + timedelta(seconds=1.5)
    engine.submit("infer", "later", 1, not_before=due)
    engine.submit("infer", "now", 1)
    record.wait(2)
    assert [key for key, _ in record.ran] == ["now", "later"]
    assert record.at["later"] >= due


def test_a_handler_that_raises_ends_its_own_job_only(engine: JobEngine) -> None:
    record = Record()
    engine.start({"infer": record.handle}, ONE)
    engine.submit("infer", "bad", 1)
    engine.submit("infer", "good", 1)
    record.wait(2)
    assert sorted(key for key, _ in record.ran) == ["bad", "good"]
    until(lambda: engine.standing("infer", "bad", 1) is Standing.FINISHED)


def test_finished_work_is_forgotten_on_request(engine: JobEngine) -> None:
    record = Record()
    engine.start({"infer": record.handle}, ONE)
    engine.submit("infer", "a", 1)
    record.wait(1)
    until(lambda: engine.standing("infer", "a", 1) is Standing.FINISHED)
    assert engine.prune(timedelta(seconds=-1)) == 1
    assert engine.standing("infer", "a", 1) is Standing.UNKNOWN


def test_an_engine_that_was_never_started_can_be_stopped(engine: JobEngine) -> None:
    engine.stop()


@pytest.fixture
def dbos(database_url: str) -> Iterator[DbosEngine]:
    made = DbosEngine(database_url, executor_id="test")
    yield made
    made.stop()


def test_a_lane_takes_only_its_share_of_the_host(dbos: DbosEngine) -> None:
    busy, most = {"pacs": 0, "archive": 0}, {"pacs": 0, "archive": 0}
    lock, both, done = threading.Lock(), threading.Barrier(3), threading.Semaphore(0)

    def handle(key: str, _attempt: int) -> None:
        lane = key.partition(":")[0]
        with lock:
            busy[lane] += 1
            most[lane] = max(most[lane], busy[lane])
        # Two of one lane and one of the other must be inside together for anybody to go on.
        if not both.broken and key.endswith((":0", ":1")) and key != "archive:1":
            both.wait(PATIENCE_S)
        with lock:
            busy[lane] -= 1
        done.release()

    dbos.start({"deliver": handle}, {"deliver": QueueLimits(per_host=16, per_lane=2)})
    keys = [f"pacs:{n}" for n in range(6)] + [f"archive:{n}" for n in range(2)]
    for key in keys:
        dbos.submit("deliver", key, 1, lane=key.partition(":")[0])
    for _ in keys:
        assert done.acquire(timeout=PATIENCE_S)
    assert most["pacs"] == 2 and most["archive"] <= 2


def test_a_queue_runs_no_more_at_once_than_the_host_has_places(dbos: DbosEngine) -> None:
    lock, busy, most, done = threading.Lock(), [0], [0], threading.Semaphore(0)

    def handle(_key: str, _attempt: int) -> None:
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        threading.Event().wait(0.02)
        with lock:
            busy[0] -= 1
        done.release()

    dbos.start({"infer": handle}, ONE)
    for number in range(10):
        dbos.submit("infer", str(number), 1)
    for _ in range(10):
        assert done.acquire(timeout=PATIENCE_S)
    assert most == [1]


def test_what_this_process_submits_does_not_wait_for_the_next_look_of_the_queue(
    dbos: DbosEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "_POLL_S", 3600.0)
    record, rung = Record(), DbosEngine(dbos._url, executor_id="rung")
    rung.start({"infer": record.handle}, {"infer": QueueLimits(per_host=9)})
    for number in range(3):
        rung.submit("infer", str(number), 1)
        record.wait(1)
    rung.stop()
    assert [key for key, _ in record.ran] == ["0", "1", "2"]


def test_the_tables_of_the_engine_hold_json_and_nothing_of_an_exception(
    dbos: DbosEngine, database_url: str, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    record = Record()
    with caplog.at_level(logging.DEBUG):
        dbos.start({"infer": record.handle}, ONE)
        dbos.submit("infer", "bad-job", 1)
        dbos.submit("infer", "job", 1)
        record.wait(2)
        until(lambda: dbos.standing("infer", "bad-job", 1) is Standing.FINISHED)
        until(lambda: dbos.standing("infer", "job", 1) is Standing.FINISHED)
    kept = create_engine(database_url, immediate=False)
    schema = "dbos" if kept.dialect.name == "postgresql" else None
    prefix = f"{schema}." if schema else ""
    tables = sa.inspect(kept).get_table_names(schema=schema)
    assert "workflow_status" in tables
    with kept.connect() as connection:
        values = [
            str(value) for table in tables
            for row in connection.execute(sa.text(f"SELECT * FROM {prefix}{table}"))
            for value in row
        ]
        query = sa.text(f"SELECT DISTINCT serialization FROM {prefix}workflow_status")
        assert connection.execute(query).scalars().all() == ["dicom_node_json"]
    kept.dispose()
    arguments = [json.loads(value)["args"] for value in values if value.startswith('{"args"')]
    assert sorted(arguments) == [["bad-job", 1], ["job", 1]]
    said = "\n".join([*values, caplog.text, *capfd.readouterr()])
    assert "DOE" not in said and "12345" not in said
    # A pickle of any protocol in base64, as the engine would keep one.
    assert not any(value.startswith(("gAS", "gAR", "gAN")) for value in values)


def test_sweeping_resumes_what_a_failed_last_write_left_pending(
    dbos: DbosEngine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record()
    dbos.start({"infer": record.handle}, ONE)
    dbos.submit("infer", "a", 1)
    record.wait(1)
    until(lambda: dbos.standing("infer", "a", 1) is Standing.FINISHED)
    kept = create_engine(database_url)
    prefix = "dbos." if kept.dialect.name == "postgresql" else ""
    with kept.begin() as connection:
        connection.execute(
            sa.text(f"UPDATE {prefix}workflow_status SET status='PENDING', output=NULL")
        )
    kept.dispose()
    assert dbos.sweep() == 0, "it may still be about to write"
    monkeypatch.setattr(engine_module, "_SWEEP_AFTER_S", -1.0)
    assert dbos.sweep() == 1
    record.wait(1)
    until(lambda: dbos.standing("infer", "a", 1) is Standing.FINISHED)


def test_what_runs_is_not_swept(dbos: DbosEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record()
    record.gate.clear()
    dbos.start({"infer": record.handle}, ONE)
    dbos.submit("infer", "a", 1)
    until(lambda: "a" in record.at)
    monkeypatch.setattr(engine_module, "_SWEEP_AFTER_S", -1.0)
    assert dbos.sweep() == 0
    record.gate.set()
    record.wait(1)


def test_a_job_of_another_kind_is_left_to_the_process_that_does_it(
    dbos: DbosEngine, database_url: str
) -> None:
    record = Record()
    dbos.start({"infer": record.handle, "deliver": record.handle},
               {**ONE, "deliver": QueueLimits(per_host=1, per_lane=1)})
    dbos.stop()
    only = DbosEngine(database_url, executor_id="other")
    only.start({"deliver": record.handle}, {"deliver": QueueLimits(per_host=1, per_lane=1)})
    only.submit("infer", "a", 1)
    only.submit("deliver", "b", 1, lane="pacs")
    record.wait(1)
    only.submit("deliver", "c", 1, lane="pacs")
    record.wait(1)
    assert [key for key, _ in record.ran] == ["b", "c"]
    assert only.standing("infer", "a", 1) is Standing.OPEN
    only.stop()


def test_a_database_that_is_none_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"no database" * 500)
    engine = DbosEngine(f"sqlite:///{tmp_path / 'ledger.db'}", executor_id="test")
    with pytest.raises(LedgerUnavailable):
        engine.start({}, {})
    engine.stop()


def test_a_handler_that_outlives_the_stop_is_resumed_by_the_next_start(database_url: str) -> None:
    record = Record()
    record.gate.clear()
    first = DbosEngine(database_url, executor_id="host", patience_s=1)
    handlers: dict[str, Handler] = {"infer": record.handle}
    first.start(handlers, ONE)
    first.submit("infer", "a", 1)
    until(lambda: "a" in record.at)
    first.stop()
    record.gate.set()
    record.wait(1)
    second = DbosEngine(database_url, executor_id="host")
    second.start(handlers, ONE)
    record.wait(1)
    until(lambda: second.standing("infer", "a", 1) is Standing.FINISHED)
    second.stop()
    assert record.ran == [("a", 1), ("a", 1)]
