"""Every process of the node is killed while a job waits for what it takes beside its series.

Afterwards there is one job, with the right inputs, due when it was due before.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import build_context
from pynetdicom.events import Event

from dicom_node.records import FETCHED_AS_PRIOR, PRIOR, Job, JobState, SeriesState
from tests.acceptance.running_node import RunningNode, wait_until
from tests.ai_models.prediction.test_joint import PT
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.databases import NodeDatabase
from tests.delivery.scripted_peer import ScriptedPeer, peer_at, scripted_peer
from tests.dicom_samples import ct_series, write_series
from tests.intake.query_peer import FIND, MOVE, Found, query_peer
from tests.pet_ct import pet_of
from tests.pipeline.test_companions import bright_of
from tests.test_node import RESULT_CLASSES

pytestmark = [pytest.mark.network, pytest.mark.long, pytest.mark.timeout(1800)]

IMAGES = 12
MOMENTS = ("before C-FIND is answered", "before C-MOVE is answered", "half of it is here",
           "all of it is here")


class Archive:
    """Has one examination, and stops at a moment until the node is dead."""

    def __init__(self) -> None:
        self.images: list[Dataset] = []
        self.moment = ""
        self.reached, self.is_dead = threading.Event(), threading.Event()
        self.port = 0

    def at(self, moment: str) -> None:
        if moment == self.moment:
            self.reached.set()
            assert self.is_dead.wait(120)

    def find(self, event: Event) -> Found:
        self.at(MOMENTS[0])
        asked, first = event.identifier, self.images[0] if self.images else None
        level = asked.QueryRetrieveLevel
        if first is None or asked.get("PatientID", first.PatientID) != first.PatientID or (
            level != "STUDY" and asked.StudyInstanceUID != first.StudyInstanceUID
        ):
            yield 0x0000, None
            return
        answer = Dataset()
        for keyword in ("StudyInstanceUID", "StudyDate", "PatientID", "Modality"):
            setattr(answer, keyword, first[keyword].value)
        if level != "STUDY":
            answer.SeriesInstanceUID = first.SeriesInstanceUID
            answer.NumberOfSeriesRelatedInstances = str(len(self.images))
        yield 0xFF00, answer
        yield 0x0000, None

    def move(self, _event: Event) -> Iterator[Any]:
        self.at(MOMENTS[1])
        yield "127.0.0.1", self.port, {"contexts": [build_context(CTImageStorage)]}
        yield len(self.images)
        for number, image in enumerate(self.images):
            if number == len(self.images) // 2:
                self.at(MOMENTS[2])
            yield 0xFF00, image
        self.at(MOMENTS[3])


class Place(RunningNode):
    """A node whose rules wait, an archive that is asked, and one that takes results."""

    def __init__(
        self, folder: Path, results: ScriptedPeer, asked: int, database: str | None
    ) -> None:
        super().__init__(folder, peer_at(results.port), database=database)
        write_model(folder / "models" / "tiny", threshold_onnx(0.5), id="tiny")
        write_model(
            folder / "models" / "fusion", bright_of(2), id="fusion", input__role="ct",
            input__companions=[{**PT, "required": True}],
        )
        told = yaml.safe_load(self.config.read_text())
        told["peers"]["archive"] = {"ae_title": "PACS", "host": "127.0.0.1", "port": asked}
        told["completeness"] = {"after_release_s": 1, "quiet_period_s": 3, "give_up_after_s": 30}
        told["models"]["directories"] = [str(folder / "models")]
        told["rules"] = [
            {"name": "follow", "when": {"Modality": "CT", "BodyPartExamined": "CHEST"},
             "send_to": ["pacs"], "wait_s": 1200, "model": "tiny",
             "inputs": {PRIOR: {"when": {"Modality": "CT"}, "fetch_from": "archive"}}},
            {"name": "both", "when": {"Modality": "CT", "BodyPartExamined": "THORAX"},
             "send_to": ["pacs"], "wait_s": 1200, "model": "fusion",
             "inputs": {"pt": {"when": {"Modality": "PT"}}}},
        ]
        self.config.write_text(yaml.safe_dump(told))

    def kill_all(self) -> None:
        """SIGKILL for every process of this node."""
        self._close_ledger()
        self._end_groups()
        assert self._process is not None
        self._process.wait()
        self._process = None

    def waiting(self, series: str) -> Job:
        """The job that waits on a series, once it does."""
        def waits() -> Job | None:
            found = self.ledger.jobs.of_series(series)
            return found[0] if found and self.ledger.inputs.of(found[0].job_id)[0].waits else None

        found: Job = wait_until(waits, "a job waits")
        return found

    def done(self, series: str) -> Job:
        """The only job of a series, at its end."""
        (job,) = self.wait_for_series(series)
        assert job.state is JobState.SUCCEEDED, job.reason
        assert [one.job_id for one in self.ledger.jobs.of_series(series)] == [job.job_id]
        assert set(self.times_sent(series).values()) == {1}
        return job


@pytest.fixture(scope="module")
def archive() -> Archive:
    return Archive()


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, archive: Archive, node_database: NodeDatabase
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("killed")
    with (
        scripted_peer(sop_classes=RESULT_CLASSES) as results,
        query_peer((FIND, MOVE), on_find=archive.find, on_move=archive.move) as asked,
        Place(folder, results, asked.port, node_database()) as node,
    ):
        archive.port = node.port
        yield node


def chest(patient: str, day: str, **more: Any) -> list[Dataset]:
    return ct_series(
        (IMAGES, 24, 24), PatientID=patient, StudyDate=day, BodyPartExamined="CHEST", **more
    )


@pytest.mark.parametrize("moment", MOMENTS)
def test_while_an_earlier_examination_is_fetched(
    place: Place, archive: Archive, tmp_path: Path, moment: str
) -> None:
    patient = f"P{MOMENTS.index(moment)}"
    archive.images, archive.moment = chest(patient, "20250601"), moment
    archive.reached.clear()
    archive.is_dead.clear()
    now = chest(patient, "20260601")
    series, before = str(now[0].SeriesInstanceUID), str(archive.images[0].SeriesInstanceUID)
    place.send(write_series(now, tmp_path))
    assert archive.reached.wait(240), "the archive was not asked"
    due = place.waiting(series).not_before
    place.kill_all()
    archive.moment = ""
    archive.is_dead.set()
    place.start()
    (again,) = place.ledger.jobs.of_series(series)
    assert again.not_before <= due
    job = place.done(series)
    (taken,) = place.ledger.inputs.of(job.job_id)
    assert (taken.series_instance_uid, taken.reason) == (
        before, "the latest before it, by 365 days"
    )
    fetched = place.ledger.receipts.find_series(before)
    assert fetched is not None
    assert (fetched.state, fetched.reason) == (SeriesState.DECLINED, FETCHED_AS_PRIOR)
    assert fetched.instance_count == len(place.ledger.receipts.instances(before)) == IMAGES
    assert place.ledger.jobs.of_series(before) == []


def test_while_a_job_waits_for_the_other_series_of_its_study(
    place: Place, tmp_path: Path
) -> None:
    ct = ct_series((12, 32, 40), BodyPartExamined="THORAX")
    pet = pet_of(ct[0], values_bqml=np.full((10, 10, 8), 20000.0))
    series = str(ct[0].SeriesInstanceUID)
    place.send(write_series(ct, tmp_path / "ct"))
    due = place.waiting(series).not_before
    place.kill_all()
    place.start()
    assert place.waiting(series).not_before == due
    # Half of what it waits for is here when it is killed again.
    paths = write_series(pet, tmp_path / "pt")
    place.send(paths[:5])
    place.kill_all()
    place.start()
    place.send(paths[5:])
    job = place.done(series)
    (taken,) = place.ledger.inputs.of(job.job_id)
    assert taken.series_instance_uid == str(pet[0].SeriesInstanceUID)
