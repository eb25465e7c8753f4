"""What models said, and how two versions of one compare."""

from __future__ import annotations

import dataclasses

from dicom_node.ledger.ledger import Ledger
from dicom_node.records import SeriesState
from tests.ledger.conftest import START, instance, job

DOCUMENT = {"task": "segmentation", "labels": {"lung": {"volume_ml": 1.5, "voxels": 12}}}


def test_what_a_model_said_is_kept_by_its_job(ledger: Ledger) -> None:
    assert ledger.predictions.of("job-1") is None
    ledger.predictions.keep("job-1", {"task": "text"})
    ledger.predictions.keep("job-1", DOCUMENT)
    assert ledger.predictions.of("job-1") == DOCUMENT


def test_comparisons_are_kept_by_job_and_found_by_model_and_version(ledger: Ledger) -> None:
    ledger.agreements.keep("a", "lungs-ct", "1", "2", {"dice": {"lung": 0.5}})
    ledger.agreements.keep("a", "lungs-ct", "1", "2", {"dice": {"lung": 0.9}})
    ledger.agreements.keep("b", "lungs-ct", "1", "3", {})
    ledger.agreements.keep("c", "liver", "1", "2", {})
    (found,) = ledger.agreements.of("lungs-ct", "2")
    assert (found.live_version, found.document) == ("1", {"dice": {"lung": 0.9}})
    assert [one.job_id for one in ledger.agreements.of("lungs-ct")] == ["a", "b"]


def test_shadow_jobs_that_died_are_found_and_others_are_not(ledger: Ledger) -> None:
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    shadow = dataclasses.replace(job("shadow"), shadow=True, model_version="2", destinations=())
    assert ledger.jobs.route("1.2.3", [job("live"), shadow], "rules", seen=START)
    for name in ("live", "shadow"):
        ledger.jobs.start(name, 1)
        ledger.jobs.fail(name, "model.failed: no", retry_at=None)
    assert [one.job_id for one in ledger.agreements.failed("lungs-ct")] == ["shadow"]
    assert ledger.agreements.failed("lungs-ct", "3") == []
