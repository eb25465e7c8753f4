"""What the engine is given of the jobs that wait, when, and how urgent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dicom_node.ledger.engine import Standing
from dicom_node.ledger.inline_engine import InlineEngine
from dicom_node.ledger.ledger import Ledger
from dicom_node.pipeline import dispatch as module
from dicom_node.pipeline.dispatch import JobDispatch
from dicom_node.records import Job, Priority, SeriesState
from tests.ledger.conftest import START, instance, job


class Engine(InlineEngine):
    """Runs nothing and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[tuple[str, int]] = []
        self.priorities: dict[str, int] = {}
        self.finished: set[tuple[str, int]] = set()
        self.forgotten: set[tuple[str, int]] = set()
        self.drafts: dict[tuple[str, int], Standing] = {}

    def submit(self, kind: str, key: str, attempt: int, **options: Any) -> None:
        assert kind == "infer" and options.get("not_before") is None
        self.given.append((key, attempt))
        self.priorities[key] = options["priority"]

    def standing(self, kind: str, key: str, attempt: int) -> Standing:
        if kind == "draft":
            return self.drafts.get((key, attempt), Standing.UNKNOWN)
        if (key, attempt) in self.finished:
            return Standing.FINISHED
        known = (key, attempt) in self.given and (key, attempt) not in self.forgotten
        return Standing.OPEN if known else Standing.UNKNOWN


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "ledger.db")
    yield opened
    opened.close()


@pytest.fixture
def engine() -> Engine:
    return Engine()


def queue(ledger: Ledger, *names: str, priority: str = "routine", model: str = "lungs-ct") -> None:
    for name in names:
        series = f"1.2.{len(ledger.jobs.latest())}"
        ledger.index([instance(1, series=series)])
        ledger.receipts.change(series, SeriesState.COMPLETE, "quiet_period")
        one = replace(job(name, series=series), priority=Priority(priority), model_id=model)
        assert ledger.jobs.route(series, [one], "rule", seen=START)


def age(ledger: Ledger, column: str, **seconds_by_job: float) -> None:
    for name, seconds in seconds_by_job.items():
        at = (datetime.now(UTC) - timedelta(seconds=seconds)).timestamp()
        with ledger._database.write() as connection:
            connection.exec_driver_sql(
                f"UPDATE jobs SET {column} = ? WHERE job_id = ?", (at, name)
            )


def given(engine: Engine) -> list[str]:
    return [name for name, _ in engine.given]


def found(ledger: Ledger, name: str) -> Job:
    read = ledger.jobs.find(name)
    assert read is not None
    return read


def test_the_engine_gets_one_job_for_each_device_and_the_next_when_one_runs(
    ledger: Ledger, engine: Engine
) -> None:
    queue(ledger, "a", "b", "c", "d")
    dispatch = JobDispatch(ledger, engine)
    dispatch.places = 2
    for _ in range(3):
        dispatch.submit_open()
    assert given(engine) == ["a", "b"]
    ledger.jobs.start("a", 1)
    dispatch.submit_open()
    assert given(engine) == ["a", "b", "c"]


def test_a_stat_job_that_comes_later_is_given_at_once_and_goes_first(
    ledger: Ledger, engine: Engine
) -> None:
    queue(ledger, "old-1", "old-2", "old-3")
    dispatch = JobDispatch(ledger, engine)
    dispatch.submit_open()
    queue(ledger, "emergency", priority="stat")
    queue(ledger, "whenever", priority="background")
    dispatch.submit_open()
    assert given(engine) == ["old-1", "emergency"]
    assert engine.priorities["emergency"] < engine.priorities["old-1"]


def test_what_is_held_cancelled_or_waits_for_its_next_attempt_is_not_given(
    ledger: Ledger, engine: Engine
) -> None:
    queue(ledger, "held", "cancelled", "later", "due")
    ledger.decisions.hold("held")
    ledger.decisions.cancel("cancelled")
    ledger.jobs.start("later", 1)
    ledger.jobs.fail("later", "worker.lost", retry_at=datetime.now(UTC) + timedelta(minutes=5))
    dispatch = JobDispatch(ledger, engine)
    dispatch.places = 9
    dispatch.submit_open()
    assert given(engine) == ["due"]
    ledger.decisions.release("held")
    dispatch.submit_open()
    assert engine.given == [("due", 1), ("held", 2)]


def test_a_model_at_its_limit_leaves_its_place_to_another(ledger: Ledger, engine: Engine) -> None:
    queue(ledger, "big-1", "big-2", model="big")
    queue(ledger, "small")
    dispatch = JobDispatch(ledger, engine, per_model={"big": 1})
    dispatch.submit_open()
    assert given(engine) == ["big-1"]
    ledger.jobs.start("big-1", 1)
    dispatch.submit_open()
    assert given(engine) == ["big-1", "small"]


def test_what_ran_when_the_node_ended_is_given_first_and_takes_no_place(
    ledger: Ledger, engine: Engine
) -> None:
    queue(ledger, "waits", "ran")
    ledger.jobs.start("ran", 1)
    JobDispatch(ledger, engine).submit_open()
    assert given(engine) == ["ran", "waits"]


def test_two_processes_on_one_ledger_give_the_same_job(ledger: Ledger, engine: Engine) -> None:
    queue(ledger, "a", "b")
    other = Engine()
    for one in (engine, other):
        JobDispatch(ledger, one).submit_open()
    assert given(engine) == given(other) == ["a"]


def test_while_stat_comes_without_end_an_old_job_goes_before_one_of_them(
    ledger: Ledger, engine: Engine
) -> None:
    queue(ledger, "old")
    queue(ledger, "stat-1", "stat-2", priority="stat")
    age(ledger, "created_at", old=700)
    dispatch = JobDispatch(ledger, engine, promote_after_s=600)
    dispatch.submit_open()
    assert given(engine) == ["stat-1"]
    dispatch._others_last_began -= timedelta(seconds=600)
    dispatch.submit_open()
    assert given(engine) == ["stat-1", "old"]
    assert engine.priorities["old"] < engine.priorities["stat-1"]
    ledger.jobs.start("old", 1)
    dispatch.submit_open()
    ledger.jobs.succeed("old", [], [], "no_finding", {}, attempt=1)
    queue(ledger, "old-2")
    age(ledger, "created_at", **{"old-2": 900})
    dispatch.submit_open()
    assert given(engine)[-1] != "old-2", "its turn comes when promote_after_s has passed again"


def test_an_old_job_that_the_engine_has_already_is_told_anew_that_it_goes_first(
    ledger: Ledger, engine: Engine
) -> None:
    queue(ledger, "old")
    dispatch = JobDispatch(ledger, engine, promote_after_s=600)
    dispatch.places = 2
    dispatch.submit_open()
    queue(ledger, "stat-1", "stat-2", priority="stat")
    age(ledger, "created_at", old=700)
    dispatch._others_last_began -= timedelta(seconds=600)
    for _ in range(3):
        dispatch.submit_open()
    assert engine.given == [("old", 1), ("stat-1", 1), ("old", 2)]
    assert engine.priorities["old"] < engine.priorities["stat-1"]


@pytest.mark.parametrize("changed_s", [61, -3600])
def test_what_the_engine_gave_up_on_gets_a_new_attempt_also_after_the_clock_was_set_back(
    ledger: Ledger, engine: Engine, changed_s: float
) -> None:
    queue(ledger, "queued", "runs")
    dispatch = JobDispatch(ledger, engine)
    dispatch.places = 2
    dispatch.submit_open()
    ledger.jobs.start("runs", 1)
    engine.finished = {("queued", 1), ("runs", 1)}
    dispatch.reconcile()
    assert found(ledger, "queued").attempt == found(ledger, "runs").attempt == 1
    age(ledger, "changed_at", queued=changed_s, runs=changed_s)
    dispatch.reconcile()
    assert found(ledger, "queued").attempt == found(ledger, "runs").attempt == 2
    dispatch.submit_open()
    assert {("queued", 2), ("runs", 2)} <= set(engine.given)


def test_what_the_engine_forgot_is_given_again(ledger: Ledger, engine: Engine) -> None:
    queue(ledger, "a")
    dispatch = JobDispatch(ledger, engine)
    dispatch.submit_open()
    engine.forgotten = {("a", 1)}
    dispatch.reconcile()
    dispatch.submit_open()
    assert engine.given == [("a", 1), ("a", 1)]


def test_reconciling_does_not_look_at_everything_that_waits(
    ledger: Ledger, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(ledger, *(f"job-{n}" for n in range(20)))
    asked: list[str] = []
    real = engine.standing

    def standing(kind: str, key: str, attempt: int) -> Standing:
        asked.append(key)
        return real(kind, key, attempt)

    monkeypatch.setattr(engine, "standing", standing)
    dispatch = JobDispatch(ledger, engine)
    dispatch.submit_open()
    dispatch.reconcile()
    assert asked == ["job-0"]
    assert module.KIND == "infer"


def test_a_job_in_its_draft_takes_no_place_of_its_model_and_is_not_begun_anew_while_it_drafts(
    ledger: Ledger, engine: Engine
) -> None:
    queue(ledger, "drafts", "next")
    dispatch = JobDispatch(ledger, engine, per_model={"lungs-ct": 1})
    dispatch.submit_open()
    ledger.jobs.start("drafts", 1, {"lungs-ct": 1})
    dispatch.submit_open()
    assert ("next", 1) not in engine.given
    ledger.drafts.begin("drafts", 1)
    dispatch.submit_open()
    assert ("next", 1) in engine.given
    assert ledger.jobs.start("next", 1, {"lungs-ct": 1}) is not None
    age(ledger, "changed_at", drafts=3600)
    engine.finished = {("drafts", 1)}
    engine.drafts = {("drafts", 1): Standing.OPEN}
    dispatch.reconcile()
    assert found(ledger, "drafts").attempt == 1
    engine.drafts = {}
    dispatch.reconcile()
    assert found(ledger, "drafts").attempt == 2
