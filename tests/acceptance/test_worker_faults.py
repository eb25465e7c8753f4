"""What befalls the process of a model: the listener goes on, and the job ends as it should.

A real node with one worker. One model computes for ever, one wants more memory than there is, and
one is quick; which of them a series goes to is its Series Description.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dicom_node.records import Job
from tests import peers
from tests.acceptance.running_node import RunningNode, wait_until
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.databases import NodeDatabase
from tests.dicom_samples import ct_series, with_attributes, write_series
from tests.pipeline.odd_models import Endless, Greedy, write_torchscript

pytestmark = [
    pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.long_on_postgresql,
]
MODELS = ("quick", "endless", "late", "greedy")
NOT_ANALYSED = "not analysed report"


@pytest.fixture(scope="module")
def node(
    tmp_path_factory: pytest.TempPathFactory, node_database: NodeDatabase
) -> Iterator[RunningNode]:
    peers.need_private_network()
    folder = tmp_path_factory.mktemp("faults")
    write_model(folder / "models" / "quick", threshold_onnx(0.5), id="quick")
    write_torchscript(folder / "models" / "endless", Endless())
    write_torchscript(folder / "models" / "late", Endless(), runtime__deadline_s=6.0)
    write_torchscript(folder / "models" / "greedy", Greedy())
    with peers.DcmtkStorescp(folder, options=("+xa", "-pm")) as archive:
        made = RunningNode(folder / "node", archive.peer, database=node_database())
        settings = yaml.safe_load(made.config.read_text())
        settings["models"] = {
            "directories": [str(folder / "models")], "devices": ["cpu"],
            "device_memory_mib": {"cpu": 4000},
        }
        # A model that never ends would hold its device already when it is loaded ahead.
        settings["jobs"] = {"read_ahead_mib": 0}
        settings["rules"] = [
            {"name": name, "when": {"SeriesDescription": name}, "model": name, "send_to": ["pacs"]}
            for name in MODELS
        ]
        made.config.write_text(yaml.safe_dump(settings))
        with made:
            yield made


def send(node: RunningNode, model: str, seed: int, folder: Path) -> str:
    """Send a series for a model; the listener must take every image. Returns the series' UID."""
    uid = f"2.25.88{seed}.1"
    datasets = ct_series((12, 32, 40))
    for number, dataset in enumerate(datasets, start=1):
        with_attributes(
            [dataset], SeriesDescription=model, StudyInstanceUID=f"2.25.88{seed}",
            SeriesInstanceUID=uid, SOPInstanceUID=f"{uid}.{number}",
        )
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    node.send(write_series(datasets, folder / f"series-{seed}"))
    return uid


def the_job(node: RunningNode, uid: str) -> Job:
    found: list[Job] = wait_until(lambda: node.ledger.jobs.of_series(uid), "the series is routed")
    return found[0]


def workers(node: RunningNode) -> list[int]:
    """Children of the node that run models."""
    assert node._process is not None
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "cmdline").read_bytes()
            if parent == node._process.pid and b"dicom_node.pipeline.worker" in words:
                found.append(int(folder.name))
    return found


def has_its_input(node: RunningNode) -> bool:
    """Whether a worker was given arrays."""
    return any((node.data_dir / "scratch").glob("inference-*/source.npy"))


def is_answered(node: RunningNode, uid: str) -> bool:
    job = the_job(node, uid)
    return [one.kind for one in node.ledger.jobs.results(job.job_id)] == [NOT_ANALYSED]


def succeeds(node: RunningNode, seed: int, folder: Path) -> None:
    (job,) = node.wait_for_series(send(node, "quick", seed, folder))
    assert job.state == "succeeded", job.reason


def hurry(node: RunningNode, uid: str) -> Job:
    """The job, whose next attempt is not waited for."""
    job = the_job(node, uid)
    if job.state == "queued":
        node.ledger.decisions.hurry(job.job_id)
    return job


def test_a_worker_killed_in_mid_prediction_costs_its_job_one_attempt_and_then_the_job(
    node: RunningNode, tmp_path: Path
) -> None:
    uid = send(node, "endless", 1, tmp_path)
    killed: set[int] = set()

    def is_dead() -> bool:
        job = hurry(node, uid)
        if job.state == "running" and has_its_input(node):
            for pid in set(workers(node)) - killed:
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
                # The listener takes a series while the worker lies dead.
                send(node, "quick", 10 + len(killed), tmp_path)
        return job.state == "dead"

    wait_until(is_dead, "the job whose worker is killed ends")
    job = the_job(node, uid)
    assert (job.attempt, len(killed)) == (2, 2)
    assert job.reason.count("was ended by SIGKILL") == 2, "it names both"
    for seed in (11, 12):
        (other,) = node.wait_for_series(f"2.25.88{seed}.1")
        assert other.state == "succeeded", other.reason
    wait_until(lambda: is_answered(node, uid), "the dead job is answered for")


def test_a_job_past_its_deadline_is_tried_once_more_and_given_up(
    node: RunningNode, tmp_path: Path
) -> None:
    uid = send(node, "late", 2, tmp_path)
    wait_until(lambda: hurry(node, uid).state == "running", "the job runs")
    assert node.echoes()
    wait_until(lambda: hurry(node, uid).state == "dead", "the late job is given up")
    job = the_job(node, uid)
    assert job.attempt == 2 and job.reason.count("worker.deadline_exceeded") == 2
    succeeds(node, 20, tmp_path)
    wait_until(lambda: is_answered(node, uid), "the late job is answered for")


def test_a_job_that_runs_out_of_memory_is_tried_later_and_the_others_flow(
    node: RunningNode, tmp_path: Path
) -> None:
    uid = send(node, "greedy", 3, tmp_path)

    def has_failed() -> bool:
        job = the_job(node, uid)
        return bool(node.ledger.jobs.failures(job.job_id))

    wait_until(has_failed, "the job runs out of memory")
    job = the_job(node, uid)
    assert job.state == "queued" and job.attempt == 2, "memory may be free another time"
    (reason,) = node.ledger.jobs.failures(job.job_id)
    assert reason.startswith("worker.out_of_memory")
    succeeds(node, 30, tmp_path)
    wait_until(lambda: hurry(node, uid).state == "dead", "it is given up in the end")
    assert the_job(node, uid).attempt == 8
    wait_until(lambda: is_answered(node, uid), "the job is answered for")
