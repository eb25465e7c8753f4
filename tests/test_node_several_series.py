"""Examinations of several series through a whole node, in random order over several associations.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_node.config import Config, PeerSettings
from dicom_node.delivery.sender import Sender
from dicom_node.events import Events
from dicom_node.node import Node
from dicom_node.records import Job, JobState
from tests.ai_models.prediction.test_joint import PT
from tests.ai_models.tiny_models import write_model
from tests.delivery.scripted_peer import EXPLICIT, ScriptedPeer, scripted_peer
from tests.dicom_samples import ct_series, write_series
from tests.pet_ct import pet_of
from tests.pipeline.test_companions import bright_of, evidence, sentences
from tests.pipeline.test_phase_series import PHASED, phases
from tests.test_node import RESULT_CLASSES, running, until

_SECONDS = {"patient": 900, "hasty": 1, "strict": 1}
DYNAMIC = {
    "name": "dynamic", "when": {"Modality": "MR", "SeriesNumber": 10}, "model": "phased",
    "send_to": ["pacs"], "wait_s": 900,
    "inputs": {"phases": {"when": {"Modality": "MR", "SeriesNumber": {"min": 11}}, "series": 2}},
}


def rule(name: str, part: str) -> dict[str, Any]:
    return {
        "name": name, "when": {"Modality": "CT", "BodyPartExamined": part},
        "model": "strict" if name == "strict" else "tiny", "send_to": ["pacs"],
        "inputs": {"pt": {"when": {"Modality": "PT", "CorrectedImage": "ATTN"}}},
        "wait_s": _SECONDS[name],
    }


@pytest.fixture(scope="module")
def archive() -> Iterator[ScriptedPeer]:
    with scripted_peer(sop_classes=RESULT_CLASSES) as peer:
        yield peer


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, archive: ScriptedPeer) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("node")
    for name, required in (("tiny", False), ("strict", True)):
        write_model(
            folder / "models" / name, bright_of(2), id=name, input__role="ct",
            input__companions=[{**PT, "required": required}],
        )
    write_model(folder / "models" / "phased", bright_of(3), id="phased", **PHASED)
    config = Config.model_validate({
        "node": {"ae_title": "DICOMNODE", "host": "127.0.0.1", "port": 0,
                 "data_dir": folder / "data"},
        "peers": {"pacs": {"ae_title": "SCRIPTED", "host": "127.0.0.1", "port": archive.port},
                  "scanner": {"ae_title": "SCANNER", "host": "127.0.0.1", "port": 1}},
        "completeness": {"after_release_s": 1, "quiet_period_s": 5, "give_up_after_s": 10},
        "storage": {"refuse_below_free_bytes": 0},
        "models": {"directories": [folder / "models"], "devices": ["cpu"]},
        "web": {"enabled": False},
        "rules": [rule("patient", "CHEST"), rule("hasty", "THORAX"), rule("strict", "THORAX"),
                  DYNAMIC],
    })
    with running(Node(config, Events())) as started:
        yield started


def petct(folder: Path, part: str) -> tuple[list[Path], list[Path]]:
    ct = ct_series((12, 32, 40), BodyPartExamined=part)
    pet = pet_of(ct[0], values_bqml=np.full((10, 10, 8), 20000.0))
    return write_series(ct, folder / "ct"), write_series(pet, folder / "pt")


def send(node: Node, paths: Sequence[Path]) -> None:
    peer = PeerSettings(name="node", ae_title="DICOMNODE", host="127.0.0.1", port=node.port)
    assert all(outcome.stored for outcome in Sender("SCANNER").send(peer, paths))


def uid_of(paths: Sequence[Path]) -> str:
    return str(pydicom.dcmread(paths[0], stop_before_pixels=True).SeriesInstanceUID)


def done(node: Node, series: str, rule: str, number: int = 1) -> Job:
    """The latest job of a rule on a series, once there are so many and all are at their end."""
    found: list[Job] = []

    def is_done() -> bool:
        found[:] = [one for one in node.ledger.jobs.of_series(series) if one.rule == rule]
        ends = (JobState.SUCCEEDED, JobState.DEAD)
        return len(found) >= number and all(one.state in ends for one in found)

    until(is_done, f"job of {rule}")
    assert len(found) == number
    return found[-1]


def report_of(node: Node, archive: ScriptedPeer, job: Job) -> Dataset:
    """The report of a job, as the archive got it."""
    def uids() -> list[str]:
        return [
            one.sop_instance_uid for one in node.ledger.jobs.results(job.job_id)
            if one.kind.endswith("report") and not one.form
        ]

    until(lambda: bool(uids()) and uids()[-1] in archive.received, "the report is delivered")
    position = archive.received.index(uids()[-1])
    assert archive.transfer_syntaxes[position] == EXPLICIT
    return pydicom.dcmread(BytesIO(archive.data_sets[position]), force=True)


def test_in_random_order_over_several_associations_one_job_takes_both(
    node: Node, archive: ScriptedPeer, tmp_path: Path
) -> None:
    ct, pet = petct(tmp_path, "CHEST")
    paths = [*ct, *pet]
    random.Random(7).shuffle(paths)
    with ThreadPoolExecutor(4) as senders:
        list(senders.map(lambda first: send(node, paths[first::4]), range(4)))
    job = done(node, uid_of(ct), "patient")
    assert job.state is JobState.SUCCEEDED, job.reason
    (taken,) = node.ledger.inputs.of(job.job_id)
    assert (taken.role, taken.series_instance_uid, taken.waits) == ("pt", uid_of(pet), False)
    report = report_of(node, archive, job)
    assert {uid_of(ct): len(ct), uid_of(pet): len(pet)}.items() <= evidence(report).items()
    assert node.ledger.jobs.of_series(uid_of(pet)) == []


def test_without_pet_the_report_says_so_and_pet_that_comes_later_makes_another(
    node: Node, archive: ScriptedPeer, tmp_path: Path
) -> None:
    ct, pet = petct(tmp_path, "THORAX")
    series = uid_of(ct)
    send(node, ct)
    without, refused = done(node, series, "hasty"), done(node, series, "strict")
    assert without.state is JobState.SUCCEEDED, without.reason
    first = report_of(node, archive, without)
    told = "without pt (not there within at most 1 s): from ct alone"
    assert any(told in one for one in sentences(first))
    assert uid_of(pet) not in evidence(first)
    assert refused.state is JobState.DEAD
    assert refused.reason.startswith("input.companion_missing: ")
    assert "not there within at most 1 s" in refused.reason
    answer = report_of(node, archive, refused)
    assert any("NOT ANALYSED" in one for one in sentences(answer))
    send(node, pet)
    for name, before in (("hasty", first), ("strict", answer)):
        job = done(node, series, name, 2)
        assert job.state is JobState.SUCCEEDED, job.reason
        report = report_of(node, archive, job)
        assert uid_of(pet) in evidence(report)
        former = [
            str(image.ReferencedSOPInstanceUID)
            for study in report.PredecessorDocumentsSequence
            for one in study.ReferencedSeriesSequence for image in one.ReferencedSOPSequence
        ]
        assert str(before.SOPInstanceUID) in former


def test_phases_in_several_series_are_one_job_and_all_of_them_its_evidence(
    node: Node, archive: ScriptedPeer, tmp_path: Path
) -> None:
    series = phases(tmp_path)
    paths = [path for each in series for path in each]
    random.Random(9).shuffle(paths)
    with ThreadPoolExecutor(4) as senders:
        list(senders.map(lambda first: send(node, paths[first::4]), range(4)))
    job = done(node, uid_of(series[0]), "dynamic")
    assert job.state is JobState.SUCCEEDED, job.reason
    found = evidence(report_of(node, archive, job))
    assert {uid_of(each): len(each) for each in series}.items() <= found.items()
    assert all(node.ledger.jobs.of_series(uid_of(each)) == [] for each in series[1:])
