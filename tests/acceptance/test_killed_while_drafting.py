"""Every process of the node is killed while a host drafts; and a host that never answers.

Afterwards there is one report with one draft, sent once; and no job is lost for want of a draft.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
import yaml

from dicom_node.records import DRAFTING, JobState, Priority
from tests.acceptance.running_node import RunningNode, wait_until
from tests.ai_models.backends.fake_openai import FakeOpenAi
from tests.ai_models.backends.loopback import Asked, Given
from tests.ai_models.drafting.writers import writer_folder
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.databases import NodeDatabase
from tests.delivery.scripted_peer import peer_at, scripted_peer
from tests.dicom_samples import ct_series, write_series
from tests.results.samples import named
from tests.test_node import RESULT_CLASSES

pytestmark = [pytest.mark.network, pytest.mark.long, pytest.mark.timeout(900)]


class Host(FakeOpenAi):
    """Says of what it is told its volume; the first time it stops until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked, self.may_answer = threading.Event(), threading.Event()

    def answer(self, asked: Asked) -> Given:
        if asked.method == "POST":
            self.is_asked.set()
            assert self.may_answer.wait(240)
            told = json.loads(json.loads(asked.body)["messages"][1]["content"])["evidence"]
            one = next(item for item in told if item.get("quantity") == "Volume")
            self.text = json.dumps({"impression": [
                {"text": f"The {one['finding'].lower()} has a volume of {one['value']} ml.",
                 "evidence": [one["id"]]},
                {"text": "The images are normal.", "evidence": [one["id"]]},
            ]})
        return super().answer(asked)


@pytest.fixture
def host() -> Iterator[Host]:
    with Host() as served:
        yield served
        served.may_answer.set()


def drafting_node(
    folder: Path, port: int, host: Host, timeout_s: float, database: str | None = None
) -> RunningNode:
    node = RunningNode(folder / "node", peer_at(port), database=database)
    write_model(folder / "models" / "tiny", threshold_onnx(0.5), id="tiny")
    told = yaml.safe_load(node.config.read_text())
    told["completeness"] = {"after_release_s": 1, "quiet_period_s": 3, "give_up_after_s": 30}
    told["models"]["directories"] = [str(folder / "models")]
    told["models"]["endpoints"] = {"language": {"url": host.url, "timeout_s": timeout_s}}
    told["rules"] = [
        {"name": "urgent", "when": {"StudyDescription": "urgent"}, "priority": "stat",
         "send_to": ["pacs"], "model": "tiny", "impression": "none"},
        {"name": "all", "when": {"Modality": "CT"}, "send_to": ["pacs"], "model": "tiny",
         "impression": str(writer_folder(folder / "writer"))},
    ]
    told["routing"] = {"match": "first"}
    node.config.write_text(yaml.safe_dump(told))
    return node


def test_a_node_killed_while_a_host_drafts_sends_one_report_with_one_draft(
    tmp_path: Path, host: Host, node_database: NodeDatabase
) -> None:
    images = ct_series((12, 32, 40))
    series = str(images[0].SeriesInstanceUID)
    with (
        scripted_peer(sop_classes=RESULT_CLASSES) as archive,
        drafting_node(tmp_path, archive.port, host, 120.0, node_database()) as node,
    ):
        node.send(write_series(images, tmp_path / "ct"))
        assert host.is_asked.wait(240), "the host was not asked"
        node.kill()
        host.may_answer.set()
        wait_until(lambda: not node.living(), "the processes of the dead node end")
        node.start()
        (job,) = node.wait_for_series(series)
        assert job.state is JobState.SUCCEEDED, job.reason
        results = node.ledger.jobs.results(job.job_id)
        reports = [one for one in results if one.kind == "volumetric report"]
        said = node.ledger.predictions.of(job.job_id)
        assert set(node.times_sent(series).values()) == {1}
        shown = node.command("show", job.job_id).stdout
        (report,) = (
            pydicom.dcmread(node.data_dir / "spool" / one.path) for one in reports
        )
    assert said is not None and said["impression"]["struck"] == {"overclaim": 1}
    (sentence,) = (one for one in said["impression"]["told"] if one["source"] == "writer")
    assert str(named(report, "121073")[0].TextValue) == sentence["text"]
    assert "impression: AI draft, not reviewed; Radiology Llama 1.0" in shown
    assert "struck (overclaim): The images are normal." in shown


def test_a_stat_job_overtakes_a_job_in_its_draft_on_the_only_device(
    tmp_path: Path, host: Host, node_database: NodeDatabase
) -> None:
    with (
        scripted_peer(sop_classes=RESULT_CLASSES) as archive,
        drafting_node(tmp_path, archive.port, host, 200.0, node_database()) as node,
    ):
        routine, urgent = ct_series((12, 32, 40)), ct_series((12, 32, 40))
        node.send(write_series(routine, tmp_path / "routine"))
        assert host.is_asked.wait(240), "the host was not asked"
        for one in urgent:
            one.StudyDescription = "urgent"
        node.send(write_series(urgent, tmp_path / "urgent"))
        (job,) = node.wait_for_series(str(urgent[0].SeriesInstanceUID))
        (before,) = node.ledger.jobs.of_series(str(routine[0].SeriesInstanceUID))
        assert (job.state, job.priority) == (JobState.SUCCEEDED, Priority.STAT), job.reason
        assert (before.state, before.reason) == (JobState.RUNNING, DRAFTING)
        host.may_answer.set()
        (after,) = node.wait_for_series(str(routine[0].SeriesInstanceUID))
        said = node.ledger.predictions.of(after.job_id)
    assert (after.state, after.attempt) == (JobState.SUCCEEDED, before.attempt)
    assert said is not None and said["impression"]["fallback"] == ""


def test_a_host_that_never_answers_holds_the_first_job_for_its_time_and_no_other(
    tmp_path: Path, host: Host
) -> None:
    with (
        scripted_peer(sop_classes=RESULT_CLASSES) as archive,
        drafting_node(tmp_path, archive.port, host, 2.0) as node,
    ):
        whys = []
        for number in range(3):
            images = ct_series((12, 32, 40))
            node.send(write_series(images, tmp_path / f"ct{number}"))
            (job,) = node.wait_for_series(str(images[0].SeriesInstanceUID))
            assert job.state is JobState.SUCCEEDED, job.reason
            said = node.ledger.predictions.of(job.job_id)
            assert said is not None
            assert said["impression"]["fallback"] == "worker.endpoint_unavailable"
            whys.append(said["impression"]["unguarded"]["why"])
    assert "2 s" in whys[0]
    assert all("a moment ago" in one for one in whys[1:])
    assert len(host.documents) == 1
