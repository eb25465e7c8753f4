"""A study whose series one job takes together: in any order, too late, half, and again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from ai_models.catalog import Catalog
from dicom_node.config import Config
from dicom_node.config_rules import RuleInput
from dicom_node.events import Events
from dicom_node.intake.priors import PriorSearch
from dicom_node.ledger import tables
from dicom_node.ledger.ledger import Ledger
from dicom_node.node_routing import Router
from dicom_node.records import Instance, Job, JobState, Series, SeriesState
from dicom_node.spool import Spool
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.dicom_samples import ct_series, write_instance

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
CT, PT, T2 = "1.2.1", "1.2.2", "1.2.3"
MODALITIES = {CT: "CT", PT: "PT", T2: "MR"}
NOT_THERE = "not there within at most 15 min"
WANTED = {"pt": {"when": {"Modality": "PT"}}, "t2": {"when": {"Modality": "MR"}}}
RULE = {"name": "fusion", "when": {"Modality": "CT"}, "model": "tiny", "send_to": ["pacs"],
        "inputs": WANTED, "wait_s": 900}
_number = itertools.count(1)


class FoundPriors(PriorSearch):
    """A search that writes down what it was asked for; ``priors`` are series that it fetched."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int]] = []
        self.priors: set[str] = set()

    def want(
        self, job: Job, study_instance_uid: str, series_instance_uid: str, rule_input: RuleInput
    ) -> None:
        self.asked.append((job.job_id, series_instance_uid, rule_input.within_d))

    def is_prior(self, series: Series) -> bool:
        return series.series_instance_uid in self.priors


class Node:
    """Ledger, spool and router, as the node has them, and ways to send to it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.ledger = Ledger.open(folder / "ledger.db")
        self.spool = Spool(folder / "spool")
        if not (folder / "models").exists():
            write_model(folder / "models" / "tiny", threshold_onnx(0.5), id="tiny")
        self.config = Config.model_validate({
            "peers": {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": 104}},
            "models": {"directories": [folder / "models"]}, "rules": [{**RULE, **settings}],
        })
        self.priors = FoundPriors()
        self.start()

    def start(self) -> None:
        """As a node that starts again does."""
        self.router = Router(
            self.config, self.ledger, self.spool, Catalog([self.folder / "models"]), Events(),
            priors=self.priors,
        )

    def receive(
        self, series: str, modality: str, images: int = 2, *, study: str = "1.2",
        complete: bool = True, **elements: Any,
    ) -> None:
        """Images of a series; more of one that is there come late."""
        elements = {"FrameOfReferenceUID": "1.2.840.7", **elements}
        found = []
        for dataset in ct_series((images, 8, 8), Modality=modality, **elements):
            number = next(_number)
            found.append(self._keep(dataset, series, study, modality, number))
        self.ledger.index(found)
        if complete:
            self.ledger.receipts.change(series, SeriesState.COMPLETE, "quiet_period")
            self.router.route_complete()

    def _keep(
        self, dataset: Dataset, series: str, study: str, modality: str, number: int
    ) -> Instance:
        uid = f"{series}.{number}"
        path = f"instances/{study}/{series}/{uid}.dcm"
        (self.spool.root / path).parent.mkdir(parents=True, exist_ok=True)
        write_instance(dataset, self.spool.root / path)
        return Instance(
            uid, str(dataset.SOPClassUID), "1.2.840.10008.1.2.1", series, study, modality, path,
            1, f"f{number}", START + timedelta(seconds=number), "one", "CT01",
            instance_number=number,
        )

    @property
    def job(self) -> Job:
        """The latest job on the CT."""
        return self.ledger.jobs.of_series(CT)[-1]

    def inputs(self) -> dict[str, str]:
        """What the latest job has for its roles: a series, or why there is none."""
        found = self.ledger.inputs.of(self.job.job_id)
        return {one.role: one.series_instance_uid or one.reason for one in found}

    def is_due(self) -> bool:
        due = self.ledger.jobs.waiting(longest_delay_s=7200.0)
        return self.job.job_id in [one.job_id for one in due]

    def run(self, end: str = "succeeded") -> Job:
        """Do the job that is queued now, whether it is due or not."""
        job = self.job
        assert self.ledger.jobs.start(job.job_id, job.attempt) is not None
        if end == "succeeded":
            self.ledger.jobs.succeed(job.job_id, [], [], "result", {}, attempt=job.attempt)
        elif end == "dead":
            self.ledger.jobs.fail(job.job_id, "input.companion_missing: pt", retry_at=None)
        return job

    def passes(self) -> None:
        """The seconds after which what waits is looked at again."""
        self.router._gathering._look_at_s = self.router._gathering._all_at_s = 0.0
        self.router.route_complete()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    found = Node(tmp_path)
    yield found
    found.ledger.close()


def test_in_whatever_order_the_series_come_there_is_one_job_with_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = set()
    for order in itertools.permutations(MODALITIES):
        node = Node(tmp_path / "-".join(order))
        for series in order:
            monkeypatch.setattr(f"{__name__}._number", itertools.count(1))
            node.receive(series, MODALITIES[series])
        assert len(node.ledger.jobs.latest()) == 1
        assert node.inputs() == {"pt": PT, "t2": T2}
        assert node.is_due()
        states = {s.series_instance_uid: s.state for s in node.ledger.receipts.recent_series(9)}
        assert states == {
            CT: SeriesState.ROUTED, PT: SeriesState.DECLINED, T2: SeriesState.DECLINED
        }
        names.add(node.job.job_id)
        node.ledger.close()
    # The first job has the same name whatever came first.
    assert len(names) == 1


PHASES = {"phases": {"when": {"Modality": "MR"}, "series": 2}}
LATER = ("1.2.3", "1.2.4")


def test_phases_in_several_series_are_one_job_whatever_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = set()
    for number, order in enumerate(itertools.permutations((CT, *LATER))):
        node = Node(tmp_path / str(number), inputs=PHASES)
        for series in order:
            assert not node.ledger.jobs.latest() or not node.is_due()
            monkeypatch.setattr(f"{__name__}._number", itertools.count(1))
            node.receive(series, "CT" if series == CT else "MR")
        assert len(node.ledger.jobs.latest()) == 1 and node.is_due()
        found = node.inputs()
        assert {found["phases 1"], found["phases 2"]} == set(LATER)
        names.add(node.job.job_id)
        node.ledger.close()
    assert len(names) == 1


def test_phases_that_come_after_the_job_ran_make_another_and_one_too_many_does_too(
    tmp_path: Path
) -> None:
    node = Node(tmp_path, inputs=PHASES)
    node.receive(CT, "CT")
    assert node.job.reason == "routed, waits for 2 series of phases"
    node.receive(LATER[0], "MR")
    first = node.run()
    assert node.inputs()["phases 2"] == NOT_THERE
    node.receive(LATER[1], "MR")
    assert node.job.reason == f"routed, in place of {first.job_id}" and node.is_due()
    assert {node.inputs()["phases 1"], node.inputs()["phases 2"]} == set(LATER)
    node.run()
    node.passes()
    assert len(node.ledger.jobs.of_series(CT)) == 2
    node.receive("1.2.5", "MR")
    assert len(node.ledger.jobs.of_series(CT)) == 3 and node.inputs()["phases beyond"]
    assert {*node.inputs().values()} == {*LATER, "1.2.5"}
    node.ledger.close()


def test_a_job_says_what_it_waits_for_and_until_when(node: Node) -> None:
    node.receive(CT, "CT")
    assert node.job.reason == "routed, waits for pt, t2"
    assert not node.is_due()
    wait = node.job.not_before - node.job.created_at
    assert abs(wait.total_seconds() - 900) < 5
    node.receive(PT, "PT")
    assert node.job.reason == "has pt, waits for t2" and not node.is_due()
    assert [one.reason for one in node.ledger.history("job", node.job.job_id)] == [
        "routed, waits for pt, t2", "has pt, waits for t2"
    ]


def test_a_series_that_comes_after_the_job_ran_makes_another_in_its_place(node: Node) -> None:
    node.receive(CT, "CT")
    node.receive(T2, "MR")
    first = node.run()
    assert node.inputs() == {"pt": NOT_THERE, "t2": T2}
    node.receive(PT, "PT")
    assert node.job.job_id != first.job_id
    assert node.job.reason == f"routed, in place of {first.job_id}" and node.is_due()
    assert node.inputs() == {"pt": PT, "t2": T2}
    node.run()
    node.passes()
    assert len(node.ledger.jobs.of_series(CT)) == 2


def test_a_job_that_could_not_do_without_a_series_is_done_when_it_comes(node: Node) -> None:
    node.receive(CT, "CT")
    node.run("dead")
    node.ledger.receipts.change(CT, SeriesState.DECLINED, "input.companion_missing: pt")
    node.receive(PT, "PT")
    assert node.job.state is JobState.QUEUED and node.inputs()["pt"] == PT
    series = node.ledger.receipts.find_series(CT)
    assert series is not None and series.state is SeriesState.ROUTED


def test_late_images_of_a_further_series_make_another_job(node: Node) -> None:
    for series, modality in MODALITIES.items():
        node.receive(series, modality)
    first = node.run()
    node.receive(PT, "PT", 1, complete=False)
    node.passes()
    assert node.job == node.ledger.jobs.find(first.job_id)
    node.receive(PT, "PT", 1)
    assert node.job.job_id != first.job_id and node.is_due()


def test_late_images_of_a_further_series_overtake_the_job_that_runs(node: Node) -> None:
    for series, modality in MODALITIES.items():
        node.receive(series, modality)
    first = node.run("still running")
    node.receive(PT, "PT", 1)
    assert node.job.job_id != first.job_id
    (before, after) = (one.content for job in (first, node.job)
                       for one in node.ledger.inputs.of(job.job_id) if one.role == "pt")
    assert before != after


def test_a_job_that_was_superseded_by_a_further_series_is_queued_again(node: Node) -> None:
    for series, modality in MODALITIES.items():
        node.receive(series, modality)
    for _ in range(3):
        running = node.run("still running")
        node.receive(PT, "PT", 1, complete=False)
        node.ledger.jobs.cancel(running.job_id, "superseded_by_late_instances")
        node.receive(PT, "PT", 1)
        assert node.job.state is JobState.QUEUED and node.is_due()


def test_what_an_operator_cancelled_stays_so_when_a_series_comes(node: Node) -> None:
    node.receive(CT, "CT")
    node.ledger.decisions.cancel(node.job.job_id)
    node.receive(PT, "PT")
    assert [one.state for one in node.ledger.jobs.of_series(CT)] == [JobState.CANCELLED]


def test_late_images_of_the_analysed_series_make_a_job_with_what_is_there(node: Node) -> None:
    for series, modality in MODALITIES.items():
        node.receive(series, modality)
    first = node.run()
    node.receive(CT, "CT", 1)
    assert node.job.job_id != first.job_id
    assert node.inputs() == {"pt": PT, "t2": T2} and node.is_due()


def test_a_series_that_is_still_arriving_is_said_to_be(node: Node) -> None:
    node.receive(PT, "PT", complete=False)
    node.receive(CT, "CT")
    assert node.inputs() == {"pt": "still arriving after at most 15 min", "t2": NOT_THERE}


def test_what_begins_to_arrive_while_a_job_waits_is_noticed(node: Node) -> None:
    node.receive(CT, "CT")
    node.receive(PT, "PT", complete=False)
    node.passes()
    assert node.inputs()["pt"] == "still arriving after at most 15 min"


def test_a_series_of_another_place_or_study_is_not_taken(node: Node) -> None:
    node.receive(PT, "PT", FrameOfReferenceUID="9.9")
    node.receive("1.2.9", "PT", study="1.3")
    node.receive(CT, "CT")
    assert node.inputs()["pt"] == "in another frame of reference" and not node.is_due()


def test_the_fuller_series_takes_the_place_of_one_that_came_before(node: Node) -> None:
    node.receive(CT, "CT")
    node.receive(PT, "PT", 2)
    node.receive("1.2.8", "PT", 5)
    assert node.inputs()["pt"] == "1.2.8"
    node.receive("1.2.9", "PT", 3)
    assert node.inputs()["pt"] == "1.2.8"
    assert len(node.ledger.jobs.of_series(CT)) == 1


def test_what_happened_before_the_node_ended_is_made_up_for(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.receive(CT, "CT")
    node.receive(PT, "PT", complete=False)
    # Between the end of the series and the look at who waits for it, the power went.
    node.ledger.receipts.change(PT, SeriesState.COMPLETE, "quiet_period")
    node.ledger.receipts.change(PT, SeriesState.DECLINED, "no_rule_matched")
    node.start()
    node.router.route_complete()
    assert node.inputs() == {"pt": PT, "t2": NOT_THERE}
    node.ledger.close()


def test_a_clock_that_is_set_back_holds_no_job_for_longer_than_its_rule(node: Node) -> None:
    node.receive(CT, "CT")
    later = (datetime.now(UTC) + timedelta(hours=20)).timestamp()
    with node.ledger._database.write() as connection:
        connection.execute(tables.jobs.update().values(not_before=later))
    assert not node.is_due()
    node.passes()
    assert node.job.not_before < datetime.now(UTC) + timedelta(seconds=910)
    assert not node.is_due()


def test_a_rule_that_is_gone_holds_no_job(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.receive(CT, "CT")
    node.ledger.close()
    node = Node(tmp_path, inputs={"pt": WANTED["pt"]})
    node.router.route_complete()
    assert node.inputs()["t2"] == "not asked for by the rule any more"
    assert not node.is_due()
    node.ledger.close()
    node = Node(tmp_path, name="another")
    node.router.route_complete()
    assert node.is_due()
    node.ledger.close()


def test_a_series_by_hand_takes_the_others_too(node: Node) -> None:
    node.receive("1.2.7", "SC")
    node.receive(PT, "PT")
    job = node.router.route_by_hand("1.2.7", "fusion")
    found = node.ledger.inputs.of(job.job_id)
    assert [(one.role, one.series_instance_uid) for one in found] == [("pt", PT), ("t2", "")]


def test_a_study_that_cannot_be_looked_at_keeps_no_other_waiting(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.receive(CT, "CT")
    reading = node.router._gathering._reader.read

    def read(study: str) -> Any:
        if study == "1.9":
            raise AssertionError("a header that nobody has thought of")
        return reading(study)

    node.receive("1.9.1", "CT", study="1.9")
    monkeypatch.setattr(node.router._gathering._reader, "read", read)
    node.receive("1.9.2", "PT", study="1.9")
    for series in (PT, T2):
        node.receive(series, MODALITIES[series])
    assert node.is_due()


def test_a_series_beside_which_nothing_can_be_looked_at_is_declined_and_the_next_is_routed(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if a header that nobody has thought of broke what reads it.
    monkeypatch.setattr(node.router._gathering._reader, "read", None)
    node.receive(CT, "CT")
    found = node.ledger.receipts.find_series(CT)
    assert found is not None and found.state is SeriesState.DECLINED
    assert found.reason == "unexpected.TypeError"
