"""Which jobs each of several hosts takes from one list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dicom_node.ledger.engine import Standing
from dicom_node.ledger.ledger import Ledger
from dicom_node.pipeline.shared_dispatch import SharedDispatch
from dicom_node.records import JobState
from tests.pipeline.test_dispatch import Engine, age, queue


@dataclass(frozen=True)
class Worker:
    """As others see it."""

    devices: tuple[str, ...] = ("cpu",)
    models: tuple[str, ...] = ("lungs-ct",)


class Host:
    """One of several workers on a ledger, with an engine that runs nothing."""

    def __init__(self, ledger: Ledger, name: str, *others: Worker, devices: int = 1,
                 models: tuple[str, ...] = ("lungs-ct",), per_model: dict[str, int] | None = None,
                 ) -> None:
        self.process_id = name
        self.colleagues = list(others)
        self.engine = Engine()
        self.ledger = ledger
        self.dispatch = SharedDispatch(
            ledger, self.engine, self, lambda: models, per_model=per_model
        )
        self.dispatch.places = devices

    def others(self, role: str) -> list[Worker]:
        assert role == "work"
        return self.colleagues

    def look(self) -> list[str]:
        """What its engine got by another look."""
        before = len(self.engine.given)
        self.dispatch.submit_open()
        return [name for name, _ in self.engine.given[before:]]

    def run(self, job_id: str) -> None:
        job = self.ledger.jobs.find(job_id)
        assert job is not None and self.ledger.jobs.start(job_id, job.attempt) is not None


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "ledger.db")
    yield opened
    opened.close()


def test_each_host_takes_what_it_has_a_place_for_and_no_job_is_taken_twice(ledger: Ledger) -> None:
    queue(ledger, "1", "2", "3", "4", "5")
    a, b = Host(ledger, "a", Worker()), Host(ledger, "b", Worker(), devices=2)
    assert (a.look(), b.look()) == (["1"], ["2", "3"])
    assert (a.look(), b.look()) == ([], [])
    a.run("1")
    assert a.look() == []
    ledger.jobs.succeed("1", [], [], "found", {}, attempt=1)
    assert a.look() == ["4"]


def test_a_stat_job_goes_to_whichever_host_has_a_place_first(ledger: Ledger) -> None:
    queue(ledger, "1", "2", "3")
    a, b = Host(ledger, "a", Worker()), Host(ledger, "b", Worker())
    assert (a.look(), b.look()) == (["1"], ["2"])
    a.run("1")
    b.run("2")
    queue(ledger, "urgent", priority="stat")
    assert (a.look(), b.look()) == ([], [])
    ledger.jobs.succeed("2", [], [], "found", {}, attempt=1)
    assert b.look() == ["urgent"]


def test_a_limit_of_a_model_counts_what_runs_at_other_hosts(ledger: Ledger) -> None:
    queue(ledger, "1", "2", "3", model="large")
    queue(ledger, "4")
    both = {"models": ("lungs-ct", "large"), "per_model": {"large": 1}}
    a, b = Host(ledger, "a", Worker(), **both), Host(ledger, "b", Worker(), **both)
    assert a.look() == ["1"]
    a.run("1")
    assert b.look() == ["4"]


def test_a_job_goes_where_its_model_is_and_to_anybody_where_it_is_nowhere(ledger: Ledger) -> None:
    queue(ledger, "1", model="large")
    queue(ledger, "2", model="unknown")
    has, lacks = Worker(models=("large", "lungs-ct")), Worker()
    poor, rich = Host(ledger, "poor", has), Host(ledger, "rich", lacks, models=has.models)
    assert poor.look() == ["2"]
    assert rich.look() == ["1"]
    queue(ledger, "3", model="large")
    ledger.jobs.cancel("2", "by hand")
    assert poor.look() == []
    # The one that has it is gone: whoever asked is to get an answer.
    poor.colleagues.clear()
    assert poor.look() == ["3"]


@pytest.mark.parametrize(
    "reason", ["worker.device_failed", "storage.failed: not mounted", "store.unreachable"]
)
def test_a_job_that_lost_its_device_or_its_images_here_goes_elsewhere_first(
    ledger: Ledger, reason: str
) -> None:
    queue(ledger, "1")
    a, b = Host(ledger, "a", Worker()), Host(ledger, "b", Worker())
    assert a.look() == ["1"]
    a.run("1")
    job = ledger.jobs.find("1")
    assert job is not None
    ledger.jobs.fail("1", reason, retry_at=job.created_at, attempt=1)
    age(ledger, "not_before", **{"1": 1})
    assert a.look() == []
    age(ledger, "not_before", **{"1": 60})
    assert a.look() == ["1"]
    ledger.jobs.bump("1", 2, "engine_lost_it")
    age(ledger, "not_before", **{"1": 1})
    assert b.look() == ["1"]


def test_a_host_that_has_the_work_alone_keeps_a_job_that_lost_its_device(ledger: Ledger) -> None:
    queue(ledger, "1")
    a = Host(ledger, "a")
    assert a.look() == ["1"]
    a.run("1")
    job = ledger.jobs.find("1")
    assert job is not None
    ledger.jobs.fail("1", "worker.device_failed", retry_at=job.created_at, attempt=1)
    assert a.look() == ["1"]


def test_an_attempt_that_another_engine_has_gets_a_new_one(ledger: Ledger) -> None:
    queue(ledger, "1")
    a = Host(ledger, "a")
    a.engine.standing = lambda *name: (  # type: ignore[method-assign]
        Standing.ELSEWHERE if name[2] == 1 else Standing.UNKNOWN
    )
    assert a.look() == []
    assert a.look() == ["1"]
    found = ledger.jobs.find("1")
    assert found is not None and found.attempt == 2


def test_what_the_engine_is_finished_with_and_the_ledger_is_not_gets_a_new_attempt(
    ledger: Ledger,
) -> None:
    queue(ledger, "1", "2")
    a, b = Host(ledger, "a", Worker()), Host(ledger, "b", Worker())
    assert (a.look(), b.look()) == (["1"], ["2"])
    a.run("1")
    b.run("2")
    age(ledger, "changed_at", **{"1": 100, "2": 100})
    a.engine.finished = b.engine.finished = {("1", 1), ("2", 1)}
    a.dispatch.reconcile()
    jobs = {job.job_id: job for job in ledger.jobs.latest()}
    # What another process has is that one's to look after.
    assert (jobs["1"].state, jobs["1"].attempt) == (JobState.QUEUED, 2)
    assert (jobs["2"].state, jobs["2"].attempt) == (JobState.RUNNING, 1)


def test_an_attempt_begins_only_where_it_was_claimed(ledger: Ledger) -> None:
    queue(ledger, "1")
    a, b = Host(ledger, "a", Worker()), Host(ledger, "b", Worker())
    assert a.look() == ["1"]
    assert a.dispatch.has("1", 1) and not b.dispatch.has("1", 1)
