"""Models that come and change while the node runs: served, compared and taken back, no restart."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
import yaml

from dicom_node.records import Job
from tests import peers
from tests.acceptance.running_node import RunningNode, wait_until
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.databases import NodeDatabase
from tests.dicom_samples import ct_series, write_series

pytestmark = [
    pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.long_on_postgresql,
]
NAMES = ("updated", "promoted", "shadowed")


@dataclass
class Living:
    """A served node, its directory of models, and DCMTK's storescp that gets the results."""

    node: RunningNode
    archive: peers.DcmtkStorescp
    folder: Path
    sent: int = 0

    @property
    def models(self) -> Path:
        return self.folder / "models"

    def drop(self, name: str, version: str, threshold: float = 0.5, folder: str = "") -> None:
        """Make a folder ready where the node does not look, and let it appear at once."""
        ready = self.models / ".ready"
        write_model(ready, threshold_onnx(threshold), id=name, version=version)
        there = self.models / (folder or f"{name}-{version}")
        if there.exists():
            there.rename(self.models / ".gone")
        ready.rename(there)
        shutil.rmtree(self.models / ".gone", ignore_errors=True)

    def run(self, name: str, jobs: int = 1) -> list[Job]:
        """Send a new series for a model, and wait until its jobs are at an end."""
        self.sent += 1
        series = ct_series((12, 32, 40), SeriesDescription=name.upper())
        self.node.send(write_series(series, self.folder / f"series-{self.sent}"))
        return self.node.wait_for_series(str(series[0].SeriesInstanceUID), jobs=jobs)

    def wait_for_stage(self, name: str, version: str, stage: str) -> None:
        def is_there() -> bool:
            models = self.node.read("models", "list")["models"]
            found = {(one["id"], one["version"]): one["stage"] for one in models}
            return found.get((name, version)) == stage

        wait_until(is_there, f"{name} {version} is {stage}")

    def wait_for_log(self, text: str) -> None:
        wait_until(lambda: text in self.node.log_text(), f"the node says {text!r}")

    def do(self, *arguments: str) -> str:
        done = self.node.command("models", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def living(
    tmp_path_factory: pytest.TempPathFactory, node_database: NodeDatabase
) -> Iterator[Living]:
    peers.need_private_network()
    folder = tmp_path_factory.mktemp("living")
    with peers.DcmtkStorescp(folder, options=("+xa", "-pm")) as archive:
        node = RunningNode(folder / "node", archive.peer, database=node_database())
        for name in NAMES:
            write_model(folder / "models" / name, threshold_onnx(0.5), id=name, version="1")
        settings = yaml.safe_load(node.config.read_text())
        settings["models"]["directories"] = [str(folder / "models")]
        settings["rules"] = [
            {"name": name, "when": {"SeriesDescription": name.upper()}, "model": name,
             "send_to": ["pacs"]}
            for name in NAMES
        ]
        node.config.write_text(yaml.safe_dump(settings))
        with node:
            yield Living(node, archive, folder)


def of_version(jobs: list[Job]) -> list[str]:
    assert {str(job.state) for job in jobs} == {"succeeded"}, [job.reason for job in jobs]
    return sorted(job.model_version for job in jobs)


def versions_received(living: Living, uids: set[str]) -> set[str]:
    """Which model version the received objects name (TID 4019)."""
    found = set()
    for path in living.archive.files():
        dataset = pydicom.dcmread(path)
        if str(dataset.SOPInstanceUID) in uids and "SegmentSequence" in dataset:
            (first, *_) = dataset.SegmentSequence
            (algorithm,) = first.SegmentationAlgorithmIdentificationSequence
            found.add(str(algorithm.AlgorithmVersion))
    return found


def test_a_folder_that_is_replaced_serves_the_next_series_without_a_restart(
    living: Living,
) -> None:
    assert of_version(living.run("updated")) == ["1"]
    living.drop("updated", "2", folder="updated")
    living.wait_for_stage("updated", "2", "live")
    (job,) = living.run("updated")
    assert of_version([job]) == ["2"]
    uids = {one.sop_instance_uid for one in living.node.ledger.jobs.results(job.job_id)}
    assert versions_received(living, uids) == {"2"}


def test_a_broken_card_takes_nothing_down_and_is_told(living: Living) -> None:
    card = living.models / "promoted" / "model.yaml"
    whole = card.read_text()
    card.write_text(whole + "surprise: 1\n")
    broken = living.models / "broken"
    broken.mkdir()
    (broken / "model.yaml").write_text("id: [\n")
    living.wait_for_log("surprise: unknown key")
    try:
        assert of_version(living.run("promoted")) == ["1"]
        problems = living.node.read("models", "list")["problems"]
        assert {Path(one["folder"]).name for one in problems} == {"promoted", "broken"}
        assert "broken" in living.node.command("status").stdout
    finally:
        card.write_text(whole)
        shutil.rmtree(broken)
    wait_until(
        lambda: not living.node.read("status")["model_problems"], "the node finds all well again"
    )


def test_a_dropped_version_waits_to_be_promoted_and_can_be_taken_back(living: Living) -> None:
    living.drop("promoted", "2")
    living.wait_for_log(f"version=2 what=added reason={living.models / 'promoted-2'}")
    assert of_version(living.run("promoted")) == ["1"]
    living.do("promote", "promoted", "2")
    assert of_version(living.run("promoted")) == ["2"]
    living.do("rollback", "promoted")
    assert of_version(living.run("promoted")) == ["1"]


def test_a_shadow_runs_beside_and_sends_nothing(living: Living) -> None:
    living.drop("shadowed", "2", threshold=0.515)
    living.wait_for_log(f"version=2 what=added reason={living.models / 'shadowed-2'}")
    living.do("shadow", "shadowed", "2")
    before = len(living.archive.files())
    jobs = living.run("shadowed", jobs=2)
    assert of_version(jobs) == ["1", "2"]
    (live,) = [job for job in jobs if not job.shadow]
    (shadow,) = [job for job in jobs if job.shadow]
    ledger = living.node.ledger
    uids = {one.sop_instance_uid for one in ledger.jobs.results(live.job_id)}
    assert len(living.archive.files()) - before == len(uids) > 0
    assert versions_received(living, uids) == {"1"}
    assert ledger.jobs.results(shadow.job_id) == []
    assert ledger.deliveries.of_job(shadow.job_id) == []
    found = living.node.read("models", "agreement", "shadowed")
    assert (found["count"], found["failures"]["count"]) == (1, 0)
    assert 0.0 < found["labels"]["Bright"]["mean_dice"] < 1.0
