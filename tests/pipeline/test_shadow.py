"""A shadow job: both versions on the same images, compared, and nothing sent."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ai_models.catalog import Catalog
from ai_models.drafting.evidence import EvidenceList
from ai_models.drafting.impression import Written
from dicom_node.errors import UnknownName
from dicom_node.events import Events
from dicom_node.pipeline.attempts import run_attempt
from dicom_node.pipeline.shadow import run_shadow
from dicom_node.pipeline.workshop import Workshop
from dicom_node.records import Job, JobState, SeriesState, Stage
from tests.ai_models.drafting.test_impression import Scripted
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.ledger.conftest import START, job


@pytest.fixture
def beside(workshop: Workshop, tmp_path: Path) -> Workshop:
    """The workshop with a version 3 beside the live version 2, which finds less."""
    write_model(tmp_path / "models" / "third", threshold_onnx(0.515), id="tiny", version="3")
    workshop.ledger.stages.begin("tiny", "2")
    workshop.ledger.stages.put("tiny", "3", Stage.SHADOW, 0.0, "by operator")
    return looking_anew(workshop, tmp_path)


def looking_anew(workshop: Workshop, folder: Path) -> Workshop:
    catalog = Catalog([folder / "models"])
    catalog.prefer({"tiny": "2"})
    return dataclasses.replace(workshop, catalog=catalog)


def routed(workshop: Workshop) -> None:
    workshop.ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    asked = dataclasses.replace(
        job("s"), model_id="tiny", model_version="3", shadow=True, destinations=()
    )
    assert workshop.ledger.jobs.route("1.2.3", [asked], "rules", seen=START)


def shadow(workshop: Workshop) -> Job:
    routed(workshop)
    running = workshop.ledger.jobs.start("s", 1)
    assert running is not None
    return running


def test_both_versions_run_on_the_same_images_and_how_far_they_agree_is_kept(
    beside: Workshop,
) -> None:
    assert run_shadow(shadow(beside), beside) == "compared"
    (agreement,) = beside.ledger.agreements.of("tiny", "3")
    assert (agreement.job_id, agreement.live_version) == ("s", "2")
    numbers = agreement.document["labels"]["Bright"]
    assert numbers["live_voxels"] > numbers["shadow_voxels"] > 0
    assert 0.0 < numbers["dice"] < 1.0
    assert set(agreement.document["seconds"]) == {"live", "shadow"}


def test_a_shadow_writes_no_object_and_sends_nothing(beside: Workshop) -> None:
    run_shadow(shadow(beside), beside)
    done = beside.ledger.jobs.find("s")
    assert done is not None and done.state is JobState.SUCCEEDED
    assert beside.ledger.jobs.results("s") == []
    assert beside.ledger.deliveries.of_job("s") == []
    assert not list((beside.spool.root / "outbox").rglob("*.dcm"))


def test_a_version_that_is_gone_is_not_replaced_by_another(beside: Workshop) -> None:
    running = dataclasses.replace(shadow(beside), model_version="4")
    with pytest.raises(UnknownName, match="no version 4"):
        run_shadow(running, beside)


def test_a_version_that_became_live_meanwhile_is_not_compared_with_itself(
    beside: Workshop,
) -> None:
    running = shadow(beside)
    beside.ledger.stages.promote("tiny", "3", "by operator")
    assert run_shadow(running, beside) == "not compared: it is no shadow any more"


def test_what_the_live_version_cannot_do_is_no_failure_of_the_shadow(
    beside: Workshop, tmp_path: Path
) -> None:
    write_model(
        tmp_path / "models" / "tiny", threshold_onnx(0.5), id="tiny", version="2",
        input__min_slices=400,
    )
    beside = looking_anew(beside, tmp_path)
    outcome = run_shadow(shadow(beside), beside)
    assert outcome.startswith("not compared: the live version cannot do it (input.")
    assert beside.ledger.agreements.of("tiny") == []


def test_a_shadow_that_fails_dies_and_its_series_is_not_declined_for_it(
    beside: Workshop, tmp_path: Path
) -> None:
    write_model(
        tmp_path / "models" / "third", threshold_onnx(0.515), id="tiny", version="3",
        input__min_slices=400,
    )
    beside = looking_anew(beside, tmp_path)
    ledger = beside.ledger
    routed(beside)
    run_attempt("s", 1, beside, Events())
    dead = ledger.jobs.find("s")
    series = ledger.receipts.find_series("1.2.3")
    assert dead is not None and dead.state is JobState.DEAD and dead.reason.startswith("input.")
    assert series is not None and series.state is SeriesState.ROUTED
    assert ledger.duties.waiting() == []
    assert [one.job_id for one in ledger.agreements.failed("tiny", "3")] == ["s"]


def test_a_shadow_is_run_as_one(beside: Workshop) -> None:
    routed(beside)
    run_attempt("s", 1, beside, Events())
    done = beside.ledger.jobs.find("s")
    assert done is not None and (done.state, done.reason) == (JobState.SUCCEEDED, "compared")


def test_a_shadow_asks_no_writer(beside: Workshop) -> None:
    class Unasked(Scripted):
        def write(self, evidence: EvidenceList, language: str) -> Written:
            raise AssertionError("it was asked")

    routed(beside)
    run_attempt("s", 1, dataclasses.replace(beside, writer=Unasked()), Events())
    done = beside.ledger.jobs.find("s")
    assert done is not None and done.reason == "compared"
    assert beside.ledger.predictions.of("s") is None
