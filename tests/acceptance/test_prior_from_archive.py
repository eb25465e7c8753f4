"""An earlier examination is fetched from a real archive, and the doubling time is the drawn one."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicom_node.config import Config, PeerSettings
from dicom_node.delivery.sender import Sender
from dicom_node.events import Events
from dicom_node.node import Node
from dicom_node.records import FETCHED_AS_PRIOR, JobState, SeriesState
from tests import peers
from tests.acceptance.running_node import wait_until
from tests.dicom_samples import mr_series, write_series
from tests.pipeline.followed_chests import Ball, another_table, examination, write_balls_model
from tests.pipeline.test_follow_up import Model, groups, texts, tracking, value
from tests.ports import free_port

pytestmark = pytest.mark.long

PLACE = (-75.0, 5.0, 15.0)
NOW, THEN, LONG_AGO = Ball(PLACE, 8.0), Ball(PLACE, 3.2), Ball(PLACE, 1.6)
DAYS = 200
DOUBLING_D = DAYS * math.log(2) / math.log(8.0 / 3.2)


class Site:
    """An archive with earlier studies, and a node that gets the present one."""

    def __init__(self, folder: Path, archive: peers.Orthanc, node: Node) -> None:
        self.folder, self.archive, self.node = folder, archive, node

    def archived(self, datasets: list[Dataset]) -> list[Dataset]:
        paths = write_series(datasets, self.folder / generate_uid())
        outcomes = Sender("SCANNER1").send(self.archive.peer, paths)
        assert all(outcome.stored for outcome in outcomes)
        return datasets

    def send(self, datasets: list[Dataset]) -> str:
        node = PeerSettings(
            name="node", ae_title="DICOMNODE", host="127.0.0.1", port=self.node.port
        )
        paths = write_series(datasets, self.folder / generate_uid())
        outcomes = Sender("SCANNER1").send(node, paths)
        assert all(outcome.stored for outcome in outcomes)
        return str(datasets[0].SeriesInstanceUID)

    def done(self, series: str) -> str:
        """The job on a series, once it is over."""
        def over() -> list[str]:
            return [
                one.job_id for one in self.node.ledger.jobs.of_series(series)
                if one.state in (JobState.SUCCEEDED, JobState.DEAD)
            ]

        (job_id,) = wait_until(over, "the job is over")
        return str(job_id)

    def objects(self, job_id: str) -> dict[str, Dataset]:
        return {
            one.kind: pydicom.dcmread(self.node.spool.resolve(one.path))
            for one in self.node.ledger.jobs.results(job_id)
        }


@contextmanager
def site(folder: Path, *, is_known: bool = True, **pacs: Any) -> Iterator[Site]:
    port = free_port()
    modalities = {"node": ("DICOMNODE", "127.0.0.1", port)} if is_known else {}
    write_balls_model(folder / "models" / "balls")
    with peers.Orthanc(folder, modalities=modalities) as archive:
        config = Config.model_validate({
            "node": {"ae_title": "DICOMNODE", "host": "127.0.0.1", "port": port,
                     "data_dir": folder / "node"},
            "peers": {
                "pacs": {"ae_title": archive.ae_title, "host": "127.0.0.1",
                         "port": archive.port, **pacs},
                "scanner": {"ae_title": "SCANNER1", "host": "127.0.0.1", "port": 1},
            },
            "completeness": {"after_release_s": 0.5, "quiet_period_s": 5},
            "storage": {"refuse_below_free_bytes": 0},
            "intake": {"listener_processes": 1},
            "models": {"devices": ["cpu"], "directories": [folder / "models"]},
            "rules": [{
                "name": "nodules", "when": {"Modality": "CT"}, "model": "balls",
                "send_to": ["pacs"], "wait_s": 240,
                "inputs": {"prior": {
                    "when": {"Modality": "CT", "BodyPartExamined": "CHEST"}, "fetch_from": "pacs",
                }},
            }],
        })
        node = Node(config, Events(), ["intake", "work"])
        stop = threading.Event()
        loop = threading.Thread(target=node.run, args=(stop,))
        try:
            node.start()
            loop.start()
            yield Site(folder, archive, node)
        finally:
            stop.set()
            if loop.ident is not None:
                loop.join()
            node.close()


def test_the_latest_earlier_examination_is_fetched_and_its_nodule_followed(
    tmp_path: Path,
) -> None:
    with site(tmp_path) as place:
        prior = place.archived(examination([THEN], DAYS, motion=another_table()))
        place.archived(examination([LONG_AGO], 500))
        # What must not be taken: another patient's, another modality, too few images.
        place.archived(examination([LONG_AGO], 90, patient_id="FOLLOWED2"))
        same_study = {"StudyInstanceUID": prior[0].StudyInstanceUID, "PatientID": "FOLLOWED",
                      "StudyDate": prior[0].StudyDate}
        place.archived(mr_series(**same_study))
        place.archived(examination([LONG_AGO], DAYS, **same_study)[:2])
        # Its nodule was tracked from one before.
        (_, marked), *_ = Model(tmp_path).on(write_series(prior, tmp_path / "prior")).objects
        marked.SegmentSequence[0].TrackingUID = "2.25.77"
        place.archived([marked])
        series = place.send(examination([NOW]))
        job_id = place.done(series)
        ledger = place.node.ledger
        (taken,) = ledger.inputs.of(job_id)
        assert taken.series_instance_uid == prior[0].SeriesInstanceUID
        assert taken.reason == f"the latest before it, by {DAYS} days"
        fetched = ledger.receipts.find_series(str(prior[0].SeriesInstanceUID))
        assert fetched is not None
        assert (fetched.state, fetched.reason) == (SeriesState.DECLINED, FETCHED_AS_PRIOR)
        assert ledger.jobs.of_series(fetched.series_instance_uid) == []
        assert {one.series_instance_uid for one in ledger.receipts.recent_series(10)} == {
            series, fetched.series_instance_uid, str(marked.SeriesInstanceUID)
        }
        made = place.objects(job_id)
        assert set(tracking(made["segmentation"]).values()) == {"2.25.77"}
        (nodule,) = groups(made["volumetric report"])
        assert value(nodule, "DOUBLING_TIME") == pytest.approx(DOUBLING_D, rel=0.05)
        assert f"Compared with an examination {DAYS} days before." in texts(
            made["volumetric report"]
        )
        # The next examination is compared with this one, as it was reported: nothing is fetched.
        later = place.done(place.send(examination([Ball(PLACE, 12.0)], -100)))
        assert ledger.inputs.of(later)[0].series_instance_uid == series
        assert set(tracking(place.objects(later)["segmentation"]).values()) == set(
            tracking(made["segmentation"]).values()
        )


def test_an_archive_that_does_not_know_the_node_gives_the_examination_by_c_get(
    tmp_path: Path,
) -> None:
    with site(tmp_path, is_known=False) as place:
        prior = place.archived(examination([THEN], DAYS))
        job_id = place.done(place.send(examination([NOW])))
        (taken,) = place.node.ledger.inputs.of(job_id)
        assert taken.series_instance_uid == prior[0].SeriesInstanceUID
        fetched = place.node.ledger.receipts.find_series(taken.series_instance_uid)
        assert fetched is not None and fetched.reason == FETCHED_AS_PRIOR


def test_without_an_earlier_examination_the_job_does_not_wait_and_the_report_says_so(
    tmp_path: Path,
) -> None:
    with site(tmp_path) as place:
        place.archived(examination([LONG_AGO], 1200))
        job_id = place.done(place.send(examination([NOW])))
        reason = "there is none of the 1095 days before here or at pacs"
        assert [one.reason for one in place.node.ledger.inputs.of(job_id)] == [reason]
        said = f"Not compared with an earlier examination: {reason}."
        assert said in texts(place.objects(job_id)["volumetric report"])
