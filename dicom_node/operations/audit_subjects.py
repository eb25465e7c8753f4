"""Whom and what an audit message is about, looked up in ledger and spool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.errors import LedgerUnavailable
from dicom_node.ledger.ledger import Ledger
from dicom_node.spool import Spool

_LONGEST_ID = 64


@dataclass(frozen=True)
class Subject:
    """A study, its patient's ID as the images have it, and instances by SOP class."""

    study_instance_uid: str
    patient_id: str = ""
    sop_classes: Mapping[str, int] = field(default_factory=dict)
    calling_ae_title: str = ""


class Subjects:
    """What is known of studies and jobs; empty where nothing is, or the ledger does not answer."""

    def __init__(self, ledger: Ledger, spool: Spool) -> None:
        self._ledger = ledger
        self._spool = spool

    def of_results(self, job_id: str, sop_instance_uids: Collection[str]) -> Subject:
        """Whom these results of a job are about."""
        wanted = set(sop_instance_uids)
        try:
            job = self._ledger.jobs.find(job_id)
            results = [one for one in self._ledger.jobs.results(job_id)
                       if one.sop_instance_uid in wanted]
            series = (
                self._ledger.receipts.find_series(job.series_instance_uid) if job else None
            )
        except LedgerUnavailable:
            return Subject("")
        classes = Counter(one.sop_class_uid for one in results)
        ids = (patient_id_of(self._spool.resolve(one.path)) for one in results)
        return Subject(
            job.study_instance_uid if job else "", next(filter(None, ids), ""), classes,
            series.calling_ae_title if series else "",
        )

    def of_study(self, study_instance_uid: str) -> Subject:
        """Whom a study that is still there is about."""
        classes: Counter[str] = Counter()
        patient_id = ""
        try:
            for series in self._ledger.receipts.series_of_study(study_instance_uid):
                for instance in self._ledger.receipts.instances(series.series_instance_uid):
                    classes[instance.sop_class_uid] += 1
                    if not patient_id and classes.total() <= 3:
                        patient_id = patient_id_of(self._spool.resolve(instance.path))
        except LedgerUnavailable:
            return Subject(study_instance_uid)
        return Subject(study_instance_uid, patient_id, classes)


def patient_id_of(path: Path) -> str:
    """The Patient ID (0010,0020) of a Part 10 file; empty where it has none or cannot be read."""
    import pydicom

    try:
        found = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"])
        return str(found.get("PatientID", ""))[:_LONGEST_ID]
    # What a file from outside makes of a reader is of any type, and none of it stops an audit.
    except Exception:  # noqa: BLE001
        return ""
