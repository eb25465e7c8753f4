"""A canary that fails: its series gets the live version's result, once, and too many end it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

import pydicom
import pytest

from ai_models.card import Card
from ai_models.catalog import Catalog
from ai_models.types import ModelInput, Prediction
from dicom_node.errors import (
    DeadlineExceeded,
    ModelFailed,
    NodeError,
    OutOfSpace,
    UnsuitableInput,
    WorkerLost,
)
from dicom_node.events import Events
from dicom_node.ledger.canaries import ENDED_AFTER
from dicom_node.pipeline.attempts import run_attempt
from dicom_node.pipeline.inference import InferencePool
from dicom_node.pipeline.workshop import Workshop
from dicom_node.records import Job, JobState, SeriesState, Stage
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.ledger.conftest import START, job
from tests.pipeline.conftest import Pool

OUT_OF_MEMORY = WorkerLost("16 GiB wanted", reason="worker.out_of_memory")


class Heard(Events):
    """Keeps what is told of models and jobs."""

    def __init__(self) -> None:
        super().__init__()
        self.models: list[tuple[str, str]] = []
        self.jobs: list[tuple[str, str]] = []

    def model_changed(self, model_id: str, version: str, what: str, reason: str) -> None:
        self.models.append((version, what))

    def job_changed(self, job_id: str, state: str, reason: str, attempt: int) -> None:
        self.jobs.append((state, reason))


class Failing(Pool):
    """Raises for some versions, and predicts for the others."""

    def __init__(self, **errors: Exception) -> None:
        super().__init__()
        self.errors = errors
        self.ran: list[str] = []

    def predict(
        self, card: Card, source: ModelInput, *, deadline_s: float, **others: object
    ) -> Prediction:
        self.ran.append(card.version)
        if f"v{card.version}" in self.errors:
            raise self.errors[f"v{card.version}"]
        return super().predict(card, source, deadline_s=deadline_s, **others)


class Trial:
    """The workshop with version 2 live and version 3 as its canary."""

    def __init__(self, workshop: Workshop, models: Path, **changes: object) -> None:
        self.heard = Heard()
        self.workshop = workshop
        self.ledger = workshop.ledger
        self.models = models
        self.ledger.stages.begin("tiny", "2")
        self.ledger.stages.put("tiny", "3", Stage.CANARY, 0.5, "by operator")
        write_model(models / "third", threshold_onnx(0.515), id="tiny", version="3", **changes)
        self.look()

    def look(self) -> None:
        catalog = Catalog([self.models])
        catalog.prefer({"tiny": "2"})
        self.workshop = dataclasses.replace(self.workshop, catalog=catalog)

    def fail(self, **errors: Exception) -> Failing:
        pool = Failing(**errors)
        self.workshop = dataclasses.replace(self.workshop, pool=cast(InferencePool, pool))
        return pool

    def ask(self, name: str, version: str = "3") -> None:
        series = self.ledger.receipts.find_series("1.2.3")
        assert series is not None
        if series.state is SeriesState.ROUTED:
            self.ledger.receipts.change("1.2.3", SeriesState.RECEIVING, "late_instances")
        self.ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
        asked = dataclasses.replace(job(name), model_id="tiny", model_version=version)
        assert self.ledger.jobs.route("1.2.3", [asked], "rules", seen=START)

    def run(self, name: str, version: str = "3") -> Job:
        """Attempt after attempt, without waiting, until the job is at its end."""
        self.ask(name, version)
        for _ in range(30):
            found = self.find(name)
            if found.state is not JobState.QUEUED:
                break
            run_attempt(name, found.attempt, self.workshop, self.heard)
        return self.find(name)

    def find(self, name: str) -> Job:
        found = self.ledger.jobs.find(name)
        assert found is not None
        return found

    def stage(self) -> Stage:
        (found,) = [one for one in self.ledger.stages.of("tiny") if one.version == "3"]
        return found.stage


@pytest.fixture
def trial(workshop: Workshop, tmp_path: Path) -> Trial:
    return Trial(workshop, tmp_path / "models")


@pytest.mark.parametrize(
    "error",
    [
        ModelFailed("no"), ModelFailed("others", reason="model.hash_mismatch"),
        ModelFailed("7", reason="model.unknown_label"), WorkerLost("SIGKILL"), OUT_OF_MEMORY,
        DeadlineExceeded("late"), ZeroDivisionError("odd"),
    ],
)
def test_what_the_canary_fails_of_is_done_once_and_at_once_by_the_live_version(
    trial: Trial, error: Exception
) -> None:
    pool = trial.fail(v3=error)
    done = trial.run("job-1")
    assert (done.state, done.model_version, done.reason) == (JobState.SUCCEEDED, "2", "result")
    assert pool.ran == ["3", "2"]
    code = error.reason if isinstance(error, NodeError) else "unexpected.ZeroDivisionError"
    (failure,) = trial.ledger.canaries.failures("tiny", "3")
    assert (failure.job_id, failure.live_version) == ("job-1", "2")
    assert failure.reason.partition(":")[0] == code
    assert trial.heard.models == [("3", "canary failed")] and trial.stage() is Stage.CANARY
    assert trial.heard.jobs[1] == ("failed", code)
    assert trial.ledger.duties.waiting() == []


def test_the_result_is_the_live_versions_and_says_so_everywhere(trial: Trial) -> None:
    trial.fail(v3=ModelFailed("no"))
    trial.run("job-1")
    results = trial.ledger.jobs.results("job-1")
    named = set()
    for result in results:
        dataset = pydicom.dcmread(trial.workshop.spool.resolve(result.path))
        named |= {str(e.value) for e in dataset.iterall() if e.keyword == "AlgorithmVersion"}
        versions = [
            item.TextValue for item in dataset.get("ContentSequence", ())
            if item.ConceptNameCodeSequence[0].CodeMeaning == "Algorithm Version"
        ]
        named |= set(versions)
    assert named == {"2"}
    said = trial.ledger.predictions.of("job-1")
    assert results and said is not None and said["model_version"] == "2"
    pending = trial.ledger.deliveries.pending("job-1", "pacs")
    assert len(pending) == len(results)


def test_the_live_version_has_all_its_attempts_and_fails_for_itself(trial: Trial) -> None:
    pool = trial.fail(v3=ModelFailed("no"), v2=ModelFailed("neither"))
    dead = trial.run("job-1")
    assert (dead.state, dead.reason) == (JobState.DEAD, "model.failed: neither")
    assert pool.ran == ["3", "2", "2"]
    (owed,) = trial.ledger.duties.waiting()
    assert (owed.key, owed.reason) == ("job-1", "model.failed: neither")


@pytest.mark.parametrize("error", [OutOfSpace("full"), WorkerLost("", reason="worker.stopping")])
def test_what_is_the_nodes_own_is_no_failure_of_the_canary(
    trial: Trial, error: NodeError
) -> None:
    pool = trial.fail(v3=error)
    trial.ask("job-1")
    run_attempt("job-1", 1, trial.workshop, trial.heard)
    waiting = trial.find("job-1")
    assert (waiting.state, waiting.model_version, pool.ran) == (JobState.QUEUED, "3", ["3"])
    assert trial.ledger.canaries.failures("tiny") == []


def test_an_input_that_neither_takes_is_declined(trial: Trial) -> None:
    pool = trial.fail(v3=UnsuitableInput("a hole", reason="input.missing_slices"))
    dead = trial.run("job-1")
    assert (dead.state, dead.model_version, pool.ran) == (JobState.DEAD, "3", ["3"])
    assert trial.ledger.canaries.failures("tiny") == []


def test_an_input_that_only_the_canary_declines_is_the_live_versions_and_no_failure(
    workshop: Workshop, tmp_path: Path
) -> None:
    trial = Trial(workshop, tmp_path / "models", input__min_slices=400)
    done = trial.run("job-1")
    assert (done.state, done.model_version) == (JobState.SUCCEEDED, "2")
    assert trial.ledger.canaries.failures("tiny") == [] and trial.heard.models == []


def test_a_failing_live_version_falls_back_to_nothing(trial: Trial) -> None:
    pool = trial.fail(v2=ModelFailed("no"))
    assert trial.run("job-1", version="2").state is JobState.DEAD
    assert pool.ran == ["2", "2"] and trial.ledger.canaries.failures("tiny") == []


def test_a_canary_whose_live_version_is_away_is_tried_as_any_other(trial: Trial) -> None:
    (trial.models / "tiny" / "model.yaml").write_text("id: tiny\n")
    trial.look()
    pool = trial.fail(v3=ModelFailed("no"))
    assert trial.run("job-1").state is JobState.DEAD
    assert pool.ran == ["3", "3"]


def test_several_failures_in_a_row_end_the_canary_and_only_then(trial: Trial) -> None:
    trial.fail(v3=ModelFailed("no"))
    for number in range(1, ENDED_AFTER):
        trial.run(f"job-{number}")
        assert trial.stage() is Stage.CANARY
    trial.run("last")
    assert trial.stage() is Stage.RETIRED
    assert trial.heard.models == [("3", "canary failed")] * ENDED_AFTER + [("3", "canary ended")]
    history = trial.ledger.history("model", "tiny:3")
    assert history[-1].reason == f"failed on {ENDED_AFTER} series in a row, at last model.failed"


def test_a_result_of_the_canary_between_two_failures_begins_the_count_anew(trial: Trial) -> None:
    for round_ in range(2):
        trial.fail(v3=ModelFailed("no"))
        for number in range(1, ENDED_AFTER):
            trial.run(f"bad-{round_}-{number}")
        trial.fail()
        assert trial.run(f"good-{round_}").model_version == "3"
    assert trial.stage() is Stage.CANARY


def test_a_canary_that_is_begun_again_begins_with_none(trial: Trial) -> None:
    trial.fail(v3=ModelFailed("no"))
    for number in range(ENDED_AFTER):
        trial.run(f"job-{number}")
    trial.ledger.stages.put("tiny", "3", Stage.CANARY, 0.1, "by operator")
    trial.run("again")
    assert trial.stage() is Stage.CANARY


def test_a_job_of_a_canary_that_was_ended_meanwhile_is_the_live_versions_uncounted(
    trial: Trial,
) -> None:
    trial.ledger.stages.end("tiny", Stage.CANARY, "by operator")
    trial.fail(v3=ModelFailed("no"))
    assert trial.run("job-1").model_version == "2"
    assert trial.ledger.canaries.failures("tiny") == []


def test_what_an_operator_decides_while_the_canary_fails_stands(trial: Trial) -> None:
    def cancelling(*_: Any, **__: Any) -> None:
        trial.ledger.decisions.cancel("job-1")
        raise ModelFailed("no")

    pool = trial.fail()
    pool.predict = cancelling  # type: ignore[method-assign, assignment]
    assert trial.run("job-1").state is JobState.CANCELLED
    assert trial.ledger.canaries.failures("tiny") == []
