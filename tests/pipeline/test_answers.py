"""Answers of jobs without a result: what they say, whom they name, and when there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from ai_models.catalog import Catalog
from dicom_node.errors import NotUnderstood
from dicom_node.pipeline import answers
from dicom_node.pipeline.answers import answer
from dicom_node.pipeline.process import process
from dicom_node.pipeline.workshop import Workshop
from dicom_node.records import Duty, SeriesState
from dicom_node.results import sop_classes as classes
from dicom_node.results.declined import build_not_analysed_report
from dicom_node.results.request import ResultRequest
from tests.pipeline.conftest import started
from tests.pipeline.test_packing import read, sent, takes
from tests.results.samples import items


def dead(workshop: Workshop, reason: str = "model.failed: RuntimeError: shapes") -> Duty:
    started(workshop, "job-1")
    workshop.ledger.jobs.fail("job-1", reason, retry_at=None)
    (duty,) = workshop.ledger.duties.waiting()
    return duty


def answered(workshop: Workshop) -> Dataset:
    ((_, result),) = sent(workshop)
    return read(workshop, result)


def evidence_of(report: Dataset) -> set[str]:
    return {
        str(one.ReferencedSOPInstanceUID)
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }


def words(report: Dataset) -> str:
    return " ".join(str(item.get("TextValue", "")) for item in items(report))


def test_the_answer_is_one_report_that_says_why_and_of_what(workshop: Workshop) -> None:
    answer(dead(workshop), workshop)
    report = answered(workshop)
    assert report.SOPClassUID == classes.COMPREHENSIVE_3D_SR
    assert "model.failed" in words(report) and "RuntimeError: shapes" in words(report)
    assert "DEMONSTRATION, NOT FOR CLINICAL USE" in words(report)
    assert evidence_of(report) == {
        one.sop_instance_uid for one in workshop.ledger.receipts.instances("1.2.3")
    }
    assert workshop.ledger.duties.waiting() == []


def test_the_same_failure_again_is_the_same_answer_and_nothing_is_sent_again(
    workshop: Workshop,
) -> None:
    answer(dead(workshop), workshop)
    first = sent(workshop)
    again = workshop.ledger.jobs.retry("job-1")
    assert workshop.ledger.jobs.start("job-1", again.attempt) is not None
    workshop.ledger.jobs.fail("job-1", "model.failed: RuntimeError: shapes", retry_at=None)
    (duty,) = workshop.ledger.duties.waiting()
    answer(duty, workshop)
    assert [d.delivery_id for d, _ in sent(workshop)] == [d.delivery_id for d, _ in first]


def test_a_retry_that_came_in_between_is_not_answered(workshop: Workshop) -> None:
    duty = dead(workshop)
    workshop.ledger.jobs.retry("job-1")
    answer(duty, workshop)
    assert sent(workshop) == [] and workshop.ledger.duties.waiting() == []


def test_the_answer_of_an_earlier_job_does_not_take_the_place_of_a_later_result(
    workshop: Workshop,
) -> None:
    duty = dead(workshop)
    workshop.ledger.receipts.change("1.2.3", SeriesState.RECEIVING, "late_instances")
    process(started(workshop, "job-2"), workshop)
    answer(duty, workshop)
    assert sent(workshop) == [] and workshop.ledger.duties.waiting() == []
    assert len(workshop.ledger.deliveries.pending("job-2", "pacs")) == 3


def test_a_later_result_that_comes_while_the_answer_is_written_stays(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    duty = dead(workshop)
    workshop.ledger.receipts.change("1.2.3", SeriesState.RECEIVING, "late_instances")
    give = workshop.ledger.answers.give

    def give_after_the_later_job(*arguments: Any) -> bool:
        process(started(workshop, "job-2"), workshop)
        return give(*arguments)

    monkeypatch.setattr(workshop.ledger.answers, "give", give_after_the_later_job)
    answer(duty, workshop)
    assert sent(workshop) == [] and workshop.ledger.duties.waiting() == []
    assert len(workshop.ledger.deliveries.pending("job-2", "pacs")) == 3


def test_what_the_retry_finds_supersedes_the_answer(workshop: Workshop) -> None:
    answer(dead(workshop), workshop)
    report = answered(workshop)
    again = workshop.ledger.jobs.retry("job-1")
    running = workshop.ledger.jobs.start("job-1", again.attempt)
    assert running is not None
    process(running, workshop)
    kinds = [r.kind for _, r in sent(workshop)]
    assert kinds == ["segmentation", "volumetric report", "planar report"]
    newer = read(workshop, sent(workshop)[1][1])
    named = newer.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert named.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == report.SOPInstanceUID


def test_an_answer_goes_out_in_the_form_that_the_destination_takes(workshop: Workshop) -> None:
    takes(workshop, "pacs", classes.SECONDARY_CAPTURE)
    answer(dead(workshop), workshop)
    assert answered(workshop).SOPClassUID == classes.SECONDARY_CAPTURE
    (kept,) = [r for r in workshop.ledger.jobs.results("job-1") if not r.form]
    assert kept.sop_class_uid == classes.COMPREHENSIVE_3D_SR


def test_a_model_that_is_gone_is_still_answered_for(workshop: Workshop, tmp_path: Path) -> None:
    duty = dead(workshop, "model.unknown: no model 'tiny'")
    (tmp_path / "none").mkdir()
    object.__setattr__(workshop, "catalog", Catalog([tmp_path / "none"]))
    answer(duty, workshop)
    assert "tiny" in words(answered(workshop))


def test_images_that_cannot_be_read_are_evidence_and_the_answer_is_of_those_that_can(
    workshop: Workshop,
) -> None:
    duty = dead(workshop, "input.unreadable_instances: 11 of 12")
    instances = workshop.ledger.receipts.instances("1.2.3")
    for one in instances[:-1]:
        workshop.spool.resolve(one.path).write_bytes(b"nothing")
    answer(duty, workshop)
    report = answered(workshop)
    last = pydicom.dcmread(workshop.spool.resolve(instances[-1].path))
    assert report.PatientID == last.PatientID
    assert evidence_of(report) == {one.sop_instance_uid for one in instances}


def test_without_any_readable_image_the_answer_stays_owed(workshop: Workshop) -> None:
    duty = dead(workshop)
    for one in workshop.ledger.receipts.instances("1.2.3"):
        workshop.spool.resolve(one.path).unlink()
    with pytest.raises(NotUnderstood):
        answer(duty, workshop)
    assert workshop.ledger.duties.waiting() == [duty]


def test_a_header_that_breaks_the_report_is_answered_with_patient_and_study_only(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = build_not_analysed_report

    def breaks(request: ResultRequest, *arguments: Any, **named: Any) -> Dataset:
        if "Manufacturer" in request.source_images[0]:
            raise KeyError("a header that no test thought of")
        return build(request, *arguments, **named)

    monkeypatch.setattr(answers, "build_not_analysed_report", breaks)
    duty = dead(workshop)
    (first, *_) = workshop.ledger.receipts.instances("1.2.3")
    source = pydicom.dcmread(workshop.spool.resolve(first.path))
    source.Manufacturer = "M"
    source.save_as(workshop.spool.resolve(first.path))
    answer(duty, workshop)
    report = answered(workshop)
    assert (report.PatientID, report.PatientName) == (source.PatientID, source.PatientName)
    assert report.StudyInstanceUID == source.StudyInstanceUID
    assert len(evidence_of(report)) == 12
