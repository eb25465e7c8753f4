"""A job whose report a writer drafts: the draft is in what waits for the PACS, and its record."""

from __future__ import annotations

import dataclasses
from typing import Any

import pydicom
import pytest

from ai_models.drafting.guard import DraftSentence
from ai_models.types import ModelError
from dicom_node.pipeline.process import process
from dicom_node.pipeline.workshop import Workshop
from dicom_node.records import SeriesState
from tests.ai_models.drafting.test_impression import Scripted
from tests.pipeline.conftest import started
from tests.results.samples import named

NAME = "bright"


def drafted(workshop: Workshop, writer: Scripted) -> tuple[pydicom.Dataset, Any]:
    """The kept report of a job with a writer, and what the ledger says of its answer."""
    asked = started(workshop, "job-1")
    process(asked, dataclasses.replace(workshop, writer=writer))
    (kept,) = (
        one for one in workshop.ledger.jobs.results("job-1") if one.kind == "volumetric report"
    )
    said = workshop.ledger.predictions.of("job-1")
    assert said is not None
    return pydicom.dcmread(workshop.spool.resolve(kept.path)), said["impression"]


def test_what_was_struck_stands_apart_in_the_ledger_and_in_no_report(
    workshop: Workshop,
) -> None:
    report, said = drafted(workshop, Scripted((
        DraftSentence("The images are normal.", ("E1",)),
        DraftSentence("Whatever was segmented has a volume of 1 l.", ("E1",)),
    )))
    assert named(report, "121072") == []
    assert said["fallback"] == "all_struck"
    assert sum(said["struck"].values()) == 2
    struck = said.pop("unguarded")["struck"]
    assert struck[0]["text"] == "The images are normal."
    assert "normal" not in str(said) and "normal" not in str(report)


def test_draft_that_is_kept_goes_to_the_destinations(workshop: Workshop) -> None:
    # What the tiny model finds is measured by a first job, which the second one supersedes.
    plain = dict(process(started(workshop, "job-0"), workshop).objects)["volumetric report"]
    volume = named(plain, "118565006")[0].MeasuredValueSequence[0].NumericValue
    workshop.ledger.receipts.change("1.2.3", SeriesState.RECEIVING, "late_instances")
    text = f"The {NAME} has a volume of {volume} ml."
    report, said = drafted(workshop, Scripted((DraftSentence(text, ("E1",)),)))
    assert said["struck"] == {}
    assert str(named(report, "121073")[0].TextValue) == text
    assert report.PreliminaryFlag == "PRELIMINARY"


@pytest.mark.parametrize("reason", ["worker.endpoint_unavailable", "model.wrong_output"])
def test_writer_that_fails_fails_no_job(workshop: Workshop, reason: str) -> None:
    report, said = drafted(workshop, Scripted(problem=ModelError("nothing", reason=reason)))
    assert named(report, "121072") == []
    assert said["fallback"] == reason


def test_a_rule_has_its_own_writer_and_another_rule_none(workshop: Workshop) -> None:
    writer = Scripted((DraftSentence("The images are normal.", ("E1",)),))
    job = started(workshop, "job-1")
    for writers, who in (({job.rule: None}, None), ({job.rule: writer}, writer), ({}, None)):
        assert dataclasses.replace(workshop, writers=writers).writer_for(job) is who
    assert dataclasses.replace(workshop, writer=writer).writer_for(job) is writer
