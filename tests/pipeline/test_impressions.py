"""A job whose report a writer drafts: the draft is in what waits for the PACS, and its record."""

from __future__ import annotations

import dataclasses
from typing import Any

import pydicom
import pytest

from ai_models.drafting.guard import DraftSentence
from ai_models.types import ModelError
from dicom_node.errors import LedgerUnavailable
from dicom_node.events import Events
from dicom_node.pipeline.outbox import take_up_results
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


def volume_of(workshop: Workshop) -> str:
    """What the tiny model measures, by a first job."""
    plain = dict(process(started(workshop, "job-0"), workshop).objects)["volumetric report"]
    workshop.ledger.receipts.change("1.2.3", SeriesState.RECEIVING, "late_instances")
    return str(named(plain, "118565006")[0].MeasuredValueSequence[0].NumericValue)


def test_attempt_after_one_that_ended_with_its_draft_sends_its_own_draft_and_no_other(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = volume_of(workshop)
    first, second = f"The {NAME} has a volume of {volume} ml.", f"The {NAME} is {volume} ml."
    job = started(workshop, "job-1")
    with monkeypatch.context() as ended:
        def end(*_: object, **__: object) -> None:
            raise LedgerUnavailable("the node ends here")

        ended.setattr(workshop.ledger.jobs, "succeed", end)
        with pytest.raises(LedgerUnavailable):
            process(job, dataclasses.replace(
                workshop, writer=Scripted((DraftSentence(first, ("E1",)),))))
    assert take_up_results(workshop.spool, workshop.ledger, Events()) > 0
    process(job, dataclasses.replace(
        workshop, writer=Scripted((DraftSentence(second, ("E1",)),))))
    ledger, spool = workshop.ledger, workshop.spool
    sent = {one.sop_instance_uid for one in ledger.deliveries.of_job("job-1")}
    reports = {
        str(one.SOPInstanceUID): one
        for one in (pydicom.dcmread(spool.resolve(kept.path))
                    for kept in ledger.jobs.results("job-1"))
        if named(one, "121073")
    }
    (told,) = [one for uid, one in reports.items() if uid in sent]
    assert str(named(told, "121073")[0].TextValue) == second
    (left,) = [one for uid, one in reports.items() if uid not in sent]
    assert str(named(left, "121073")[0].TextValue) == first
    said = ledger.predictions.of("job-1")
    assert said is not None and said["impression"]["told"][0]["text"] == second


def test_newer_draft_on_the_same_series_names_the_former_one_as_its_predecessor(
    workshop: Workshop,
) -> None:
    volume = volume_of(workshop)
    reports = []
    for number, text in enumerate((f"The {NAME} is {volume} ml.",
                                   f"The {NAME} has a volume of {volume} ml."), start=1):
        job = started(workshop, f"job-{number}")
        workshop = dataclasses.replace(workshop, writer=Scripted((DraftSentence(text, ("E1",)),)))
        reports.append(dict(process(job, workshop).objects)["volumetric report"])
        workshop.ledger.receipts.change("1.2.3", SeriesState.RECEIVING, "late_instances")
    former, newer = reports
    assert former.SOPInstanceUID != newer.SOPInstanceUID
    named_before = newer.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    assert former.SOPInstanceUID in {
        one.ReferencedSOPInstanceUID for series in named_before
        for one in series.ReferencedSOPSequence
    }
