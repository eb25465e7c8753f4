"""A job whose draft alone is missing holds no place; whatever happens to its draft, it ends."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from ai_models.drafting.evidence import EvidenceList
from ai_models.drafting.guard import DraftSentence
from ai_models.drafting.impression import Written
from dicom_node.errors import WorkerLost
from dicom_node.events import Events
from dicom_node.ledger.engine import Standing
from dicom_node.ledger.inline_engine import InlineEngine
from dicom_node.pipeline.attempts import run_attempt, run_draft
from dicom_node.pipeline.drafting import Drafts
from dicom_node.pipeline.process import Computed
from dicom_node.pipeline.workshop import Workshop
from dicom_node.records import DRAFTING, Job, JobState, Priority, SeriesState
from tests.ai_models.drafting.test_impression import Scripted
from tests.ledger.conftest import START, job
from tests.pipeline.conftest import Pool

PATIENCE_S = 60.0


class Slow(Scripted):
    """Writes when it is let go."""

    def __init__(self) -> None:
        super().__init__((DraftSentence("The images are normal.", ("E1",)),))
        self.is_asked, self.may_write = threading.Event(), threading.Event()

    def write(self, evidence: EvidenceList, language: str) -> Written:
        self.is_asked.set()
        assert self.may_write.wait(PATIENCE_S)
        return super().write(evidence, language)


class Desk:
    """A workshop whose jobs an engine drives, one at a time; drafts beside them."""

    def __init__(self, workshop: Workshop, writer: Any, at_once: int = 4) -> None:
        self.engine, self.told = InlineEngine(), Told()
        self.drafts = Drafts(at_once, self.engine, workshop.ledger)
        self.workshop = dataclasses.replace(workshop, writer=writer, drafts=self.drafts)
        self.engine.start({"infer": self.infer, "draft": self.draft}, {})

    def infer(self, job_id: str, attempt: int) -> None:
        run_attempt(job_id, attempt, self.workshop, self.told)

    def draft(self, job_id: str, attempt: int) -> None:
        run_draft(job_id, attempt, self.workshop, self.told)

    def queue(self, *asked: Job) -> None:
        receipts, jobs = self.workshop.ledger.receipts, self.workshop.ledger.jobs
        receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
        assert jobs.route("1.2.3", asked, "rules", seen=START)
        for one in asked:
            self.engine.submit("infer", one.job_id, 1)

    def find(self, job_id: str) -> Job:
        found = self.workshop.ledger.jobs.find(job_id)
        assert found is not None
        return found

    def wait(self, job_id: str, state: JobState = JobState.SUCCEEDED) -> Job:
        until(lambda: self.find(job_id).state is state)
        return self.find(job_id)


class Told(Events):
    def __init__(self) -> None:
        super().__init__()
        self.drafted: list[dict[str, object]] = []
        self.add_sink(self._keep)

    def _keep(self, event: str, arguments: Any) -> None:
        if event == "impression_drafted":
            self.drafted.append(dict(arguments))


def until(condition: Any) -> None:
    waiting, deadline = threading.Event(), datetime.now(UTC) + timedelta(seconds=PATIENCE_S)
    while not condition():
        assert datetime.now(UTC) < deadline, "nothing happened"
        waiting.wait(0.02)


def asked(name: str, **changes: Any) -> Job:
    return dataclasses.replace(
        job(name), model_id="tiny", model_version="2", rule=name, **changes)


@pytest.fixture
def slow() -> Iterator[Slow]:
    made = Slow()
    yield made
    made.may_write.set()


def test_a_job_in_its_draft_leaves_its_place_to_the_next_one(
    workshop: Workshop, slow: Slow
) -> None:
    desk = Desk(workshop, slow)
    desk.workshop = dataclasses.replace(desk.workshop, writers={"b": None})
    desk.queue(asked("a"), asked("b", priority=Priority.STAT))
    assert slow.is_asked.wait(PATIENCE_S)
    desk.wait("b")
    assert (desk.find("a").state, desk.find("a").reason) == (JobState.RUNNING, DRAFTING)
    assert desk.engine.standing("infer", "a", 1) is Standing.FINISHED
    slow.may_write.set()
    desk.wait("a")
    said = workshop.ledger.predictions.of("a")
    assert said is not None and said["impression"]["fallback"] == "all_struck"
    until(lambda: desk.told.drafted)
    assert desk.told.drafted == [{
        "job_id": "a", "writer": "scripted", "fallback": "all_struck", "kept": 0,
        "struck": {"overclaim": 1},
    }]
    assert desk.drafts.take("a", 1) is None
    desk.engine.stop()


def test_a_job_that_finds_no_room_keeps_its_place_and_one_that_is_urgent_does_not(
    workshop: Workshop, slow: Slow
) -> None:
    desk = Desk(workshop, slow, at_once=1)
    desk.queue(asked("a"), asked("b"))
    assert slow.is_asked.wait(PATIENCE_S)
    until(lambda: len(cast(Pool, workshop.pool).deadlines_s) == 2)
    assert desk.drafts.take("b", 1) is None
    assert desk.find("b").reason != DRAFTING
    # A STAT job that waits for the place of the second one gets it.
    urgent = [asked("c", priority=Priority.STAT), asked("d", priority=Priority.STAT)]
    assert workshop.ledger.jobs.route_by_hand("1.2.3", urgent, "asked for")
    for one in urgent:
        desk.engine.submit("infer", one.job_id, 1)
    for name in "bcd":
        until(lambda name=name: desk.drafts.take(name, 1) is not None)
    slow.may_write.set()
    for name in "abcd":
        desk.wait(name)
    desk.engine.stop()


def test_a_draft_that_ended_with_its_process_is_no_loss_of_the_job(
    workshop: Workshop, slow: Slow
) -> None:
    ended = Desk(workshop, slow)
    ended.queue(asked("a"))
    assert slow.is_asked.wait(PATIENCE_S)
    other = Desk(workshop, Scripted())
    other.draft("a", 1)
    again = workshop.ledger.jobs.find("a")
    assert again is not None and (again.state, again.attempt) == (JobState.QUEUED, 2)
    other.engine.submit("infer", "a", 2)
    assert other.wait("a").attempt == 2
    # The attempt that was cut off comes back, and finds that another one decided.
    slow.may_write.set()
    until(lambda: ended.engine.standing("draft", "a", 1) is Standing.FINISHED)
    said = workshop.ledger.predictions.of("a")
    assert said is not None
    other.draft("a", 1)
    assert other.find("a").state is JobState.SUCCEEDED
    ended.engine.stop()
    other.engine.stop()


def test_what_nobody_wants_any_more_gets_no_draft(workshop: Workshop, slow: Slow) -> None:
    desk = Desk(workshop, slow)
    real = workshop.pool.predict

    def cancelled(*arguments: Any, **options: Any) -> Any:
        workshop.ledger.jobs.cancel("a", "by operator")
        return real(*arguments, **options)

    workshop.pool.predict = cancelled  # type: ignore[method-assign]
    desk.queue(asked("a"))
    until(lambda: desk.engine.standing("infer", "a", 1) is Standing.FINISHED)
    assert desk.find("a").state is JobState.CANCELLED
    assert not slow.is_asked.is_set()
    desk.engine.stop()


def test_a_node_that_stops_leaves_nothing_to_a_draft(workshop: Workshop) -> None:
    desk = Desk(workshop, Scripted())
    desk.drafts.close()
    desk.queue(asked("a"))
    until(lambda: desk.find("a").attempt == 2)
    assert desk.find("a").reason.startswith("retry: worker.stopping")
    with pytest.raises(WorkerLost):
        desk.drafts.leave(cast(Computed, dataclasses.make_dataclass("C", ["job"])(asked("b"))))
    desk.engine.stop()


@pytest.mark.parametrize("problem", [ValueError("DOE^JOHN"), RecursionError(), MemoryError()])
def test_whatever_a_writer_raises_the_report_stands_with_the_reason(
    workshop: Workshop, problem: Exception
) -> None:
    class Broken(Scripted):
        def write(self, evidence: EvidenceList, language: str) -> Written:
            raise problem

    desk = Desk(workshop, Broken())
    desk.queue(asked("a"))
    desk.wait("a")
    said = workshop.ledger.predictions.of("a")
    assert said is not None
    assert said["impression"]["fallback"] == f"unexpected.{type(problem).__name__}"
    assert "DOE" not in str(said)
    assert workshop.ledger.jobs.results("a")
    desk.engine.stop()


def test_a_retry_during_a_draft_makes_another_and_the_first_one_is_not_sent(
    workshop: Workshop, slow: Slow
) -> None:
    desk = Desk(workshop, slow)
    desk.queue(asked("a"))
    assert slow.is_asked.wait(PATIENCE_S)
    workshop.ledger.jobs.cancel("a", "cancelled_by_operator")
    assert workshop.ledger.jobs.retry("a").attempt == 2
    slow.is_asked.clear()
    desk.engine.submit("infer", "a", 2)
    assert slow.is_asked.wait(PATIENCE_S)
    slow.may_write.set()
    assert desk.wait("a").attempt == 2
    until(lambda: desk.engine.standing("draft", "a", 1) is Standing.FINISHED)
    assert len(desk.told.drafted) == 1
    assert len(workshop.ledger.jobs.results("a")) == len(
        {one.sop_instance_uid for one in workshop.ledger.jobs.results("a")})
    desk.engine.stop()
