"""A fresh ledger, on each database, and short ways to fill it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from dicom_node.ledger.ledger import Ledger
from dicom_node.records import (
    Delivery,
    DeliveryState,
    Instance,
    Job,
    JobState,
    Priority,
    Result,
    SeriesState,
)

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    opened = Ledger.open(database_url)
    yield opened
    opened.close()


def instance(number: int, *, series: str = "1.2.3", fingerprint: str = "a", at: datetime = START,
             association_id: str = "one") -> Instance:
    return Instance(
        sop_instance_uid=f"{series}.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        series_instance_uid=series,
        study_instance_uid="1.2",
        modality="CT",
        path=f"instances/1.2/{series}/{number}.dcm",
        size_bytes=5_000_000_000,
        fingerprint=fingerprint,
        received_at=at,
        association_id=association_id,
        calling_ae_title="CT01",
        position_mm=(0.0, 0.0, float(number)),
        orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        instance_number=number,
    )


def job(job_id: str = "job-1", *, series: str = "1.2.3") -> Job:
    return Job(
        job_id=job_id, series_instance_uid=series, study_instance_uid="1.2", rule="lungs",
        model_id="lungs-ct", model_version="1", destinations=("pacs",),
        priority=Priority.ROUTINE, state=JobState.QUEUED, reason="routed", attempt=1,
        not_before=START, created_at=START, changed_at=START,
    )


def result(number: int, job_id: str = "job-1") -> Result:
    return Result(
        sop_instance_uid=f"2.25.{number}", sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
        series_instance_uid="2.25.9", study_instance_uid="1.2", job_id=job_id,
        kind="segmentation", path=f"outbox/{job_id}/2.25.{number}.dcm", created_at=START,
    )


def delivery(
    number: int, job_id: str = "job-1", destination: str = "pacs", *, uid: int | None = None
) -> Delivery:
    return Delivery(
        delivery_id=f"{job_id}:{destination}:{number:02d}", job_id=job_id,
        sop_instance_uid=f"2.25.{number if uid is None else uid}", destination=destination,
        state=DeliveryState.PENDING, reason="produced", attempt=1, status=None,
        not_before=START, changed_at=START,
    )


@pytest.fixture
def routed(ledger: Ledger) -> Ledger:
    """One series of one instance, routed to one job."""
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    assert ledger.jobs.route("1.2.3", [job()], "rule: lungs", seen=START)
    return ledger
