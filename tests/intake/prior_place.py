"""A node's ledger and spool with a job that waits for an earlier examination, and an archive."""

from __future__ import annotations

import dataclasses
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom.events import Event

from dicom_node.config import Config
from dicom_node.events import Events
from dicom_node.intake.priors import PriorSearch
from dicom_node.intake.query import Limits
from dicom_node.ledger.ledger import Ledger
from dicom_node.node_headers import representative
from dicom_node.records import PRIOR, JobInput, SeriesState
from dicom_node.routing.rules import compare
from dicom_node.spool import Spool
from tests.dicom_samples import ct_series, write_instance
from tests.intake.query_peer import Found, QueryPeer
from tests.ledger.conftest import instance, job

QUICK = Limits(connect_s=5, associate_s=5, answer_s=20, query_s=30, retrieve_answer_s=30)
PRESENT = "1.2.3"
IMAGES = 4


class Place:
    """A node's ledger and spool with a series whose job waits, and an archive that tells."""

    def __init__(self, folder: Path, peer: QueryPeer, **header: Any) -> None:
        self.folder, self.peer = folder, peer
        self.ledger, self.spool = Ledger.open(folder / "ledger.db"), Spool(folder / "spool")
        config = Config.model_validate({
            "peers": {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": peer.port}},
            "rules": [{"name": "lungs", "when": {"Modality": "CT"}, "model": "tiny",
                       "send_to": ["pacs"],
                       "inputs": {PRIOR: {"when": {"Modality": "CT"}, "fetch_from": "pacs"}}}],
        })
        self.wanted = config.rules[0].inputs[PRIOR]
        self.search = PriorSearch(
            config, self.ledger, self.spool, Events(),
            lambda condition, data: not compare(condition, data),
            partial(representative, self.spool), QUICK,
        )
        self.job = job()
        self.receive(PRESENT, "1.2", "CT01", **{"PatientID": "ANNA", "StudyDate": "20260301",
                                                **header})
        waits = JobInput(PRIOR, "", "", "not there", waits=True)
        assert self.ledger.jobs.route(
            PRESENT, [self.job], "rules", seen=datetime.now(UTC),
            inputs={self.job.job_id: [waits]},
        )

    def receive(
        self, series: str, study: str, caller: str, *, images: int = IMAGES, **header: Any
    ) -> None:
        """A series arrives, and is complete."""
        for number, one in enumerate(ct_series((images, 8, 8)), start=1):
            for keyword, said in {**header, "StudyInstanceUID": study, "SeriesInstanceUID": series,
                                  "SOPInstanceUID": f"{series}.{number}"}.items():
                setattr(one, keyword, said)
            one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
            path = f"instances/{study}/{series}/{number}.dcm"
            (self.spool.root / path).parent.mkdir(parents=True, exist_ok=True)
            write_instance(one, self.spool.root / path)
            self.ledger.index([dataclasses.replace(
                instance(number, series=series, at=datetime.now(UTC)), study_instance_uid=study,
                path=path, calling_ae_title=caller,
            )])
        self.ledger.receipts.change(series, SeriesState.COMPLETE, "quiet_period")

    def decline(self, series: str) -> None:
        self.ledger.receipts.change(series, SeriesState.DECLINED, "fetched_as_prior")

    def ask(self) -> JobInput:
        """What the job is told in the end."""
        self.search.want(self.job, "1.2", PRESENT, self.wanted)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            (now,) = self.ledger.inputs.of(self.job.job_id)
            if not now.waits or now.series_instance_uid:
                return now
            time.sleep(0.05)
        raise AssertionError(f"nothing was found out: {now}")


class Archive:
    """Studies as an archive tells of them: ``studies`` by UID, and what of each arrives."""

    def __init__(self) -> None:
        self.studies: dict[str, dict[str, Any]] = {}
        self.place: Place | None = None

    def has(self, study: str, day: str, patient: str = "ANNA", **more: Any) -> None:
        self.studies[study] = {"StudyDate": day, "PatientID": patient, "Modality": "CT",
                               "images": IMAGES, **more}

    def find(self, event: Event) -> Found:
        asked = event.identifier
        for study, known in self.studies.items():
            answer = Dataset()
            answer.StudyInstanceUID = study
            if asked.QueryRetrieveLevel == "STUDY":
                answer.StudyDate, answer.PatientID = known["StudyDate"], known["PatientID"]
                for keyword in ("IssuerOfPatientID", "PatientBirthDate", "PatientSex"):
                    if keyword in asked:
                        setattr(answer, keyword, known.get(keyword, ""))
            elif asked.StudyInstanceUID == study:
                answer.SeriesInstanceUID = f"{study}.1"
                answer.Modality = known["Modality"]
                answer.NumberOfSeriesRelatedInstances = str(known["images"])
            else:
                continue
            yield 0xFF00, answer
        yield 0x0000, None

    def give(self, study: str) -> None:
        """What a retrieval brings."""
        assert self.place is not None
        known = self.studies[study]
        self.place.receive(
            f"{study}.1", study, "PACS", PatientID=known.get("really", known["PatientID"]),
            StudyDate=known["StudyDate"], **known.get("in_truth", {}),
        )
        series = self.place.ledger.receipts.find_series(f"{study}.1")
        assert series is not None and self.place.search.is_prior(series)
        self.place.decline(f"{study}.1")
