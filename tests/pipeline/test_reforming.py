"""What a destination gets after it refused a form: chosen anew from what the node keeps."""

from __future__ import annotations

import pydicom

from dicom_node.ledger import duties
from dicom_node.pipeline.answers import answer
from dicom_node.pipeline.process import process
from dicom_node.pipeline.reforming import reform
from dicom_node.pipeline.workshop import Workshop
from dicom_node.records import DeliveryState, Duty, SeriesState
from dicom_node.results import sop_classes as classes
from tests.pipeline.conftest import started
from tests.pipeline.test_answers import dead
from tests.pipeline.test_packing import read, sent, takes


def owed(workshop: Workshop) -> Duty:
    workshop.ledger.duties.add(duties.FORMS, "job-1:pacs", "pacs refused a class")
    (duty,) = workshop.ledger.duties.waiting()
    return duty


def test_a_destination_that_takes_no_segmentation_gets_pictures_and_reports_without_it(
    workshop: Workshop,
) -> None:
    process(started(workshop, "job-1"), workshop)
    takes(workshop, "pacs", classes.COMPREHENSIVE_3D_SR, classes.SECONDARY_CAPTURE)
    reform(owed(workshop), workshop)
    found = sent(workshop)
    assert {r.sop_class_uid for _, r in found} == {
        classes.COMPREHENSIVE_3D_SR, classes.SECONDARY_CAPTURE,
    }
    segmentation = next(
        r for r in workshop.ledger.jobs.results("job-1") if r.kind == "segmentation"
    )
    for _, result in found:
        assert segmentation.sop_instance_uid not in str(read(workshop, result))
    states = {d.sop_instance_uid: d.state for d in workshop.ledger.deliveries.of_job("job-1")}
    assert states[segmentation.sop_instance_uid] is DeliveryState.REPLACED
    assert workshop.ledger.duties.waiting() == []


def test_the_choice_made_later_is_the_one_that_would_have_been_made_at_once(
    workshop: Workshop,
) -> None:
    asked = started(workshop, "job-1", destinations=("pacs", "other"))
    only = (classes.ENHANCED_SR, classes.RT_STRUCTURE_SET)
    takes(workshop, "other", *only)
    process(asked, workshop)
    takes(workshop, "pacs", *only)
    reform(owed(workshop), workshop)
    at_once = [r.sop_instance_uid for _, r in sent(workshop, "other")]
    assert [r.sop_instance_uid for _, r in sent(workshop)] == at_once


def test_what_did_not_change_stays_as_it_was(workshop: Workshop) -> None:
    process(started(workshop, "job-1"), workshop)
    before = workshop.ledger.deliveries.of_job("job-1")
    reform(owed(workshop), workshop)
    after = workshop.ledger.deliveries.of_job("job-1")
    assert [(d.delivery_id, d.state) for d in after] == [(d.delivery_id, d.state) for d in before]
    assert workshop.ledger.duties.waiting() == []


def test_an_answer_is_chosen_anew_without_looking_at_images(workshop: Workshop) -> None:
    answer(dead(workshop), workshop)
    for one in workshop.ledger.receipts.instances("1.2.3")[1:]:
        workshop.spool.resolve(one.path).unlink()
    takes(workshop, "pacs", classes.BASIC_TEXT_SR)
    reform(owed(workshop), workshop)
    ((_, result),) = sent(workshop)
    assert result.sop_class_uid == classes.BASIC_TEXT_SR


def test_of_a_superseded_version_nothing_more_is_chosen(workshop: Workshop) -> None:
    process(started(workshop, "job-1"), workshop)
    workshop.ledger.receipts.change("1.2.3", SeriesState.RECEIVING, "late_instances")
    path = workshop.spool.resolve(workshop.ledger.receipts.instances("1.2.3")[0].path)
    dataset = pydicom.dcmread(path)
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(path)
    process(started(workshop, "job-2"), workshop)
    takes(workshop, "pacs", classes.BASIC_TEXT_SR)
    reform(owed(workshop), workshop)
    assert sent(workshop) == []
    assert workshop.ledger.duties.waiting() == []


def test_the_duty_of_a_job_that_nobody_knows_ends(workshop: Workshop) -> None:
    reform(owed(workshop), workshop)
    assert workshop.ledger.duties.waiting() == []


def test_objects_that_another_rule_made_first_are_chosen_anew_for_the_rule_that_sends_them(
    workshop: Workshop,
) -> None:
    process(started(workshop, "job-0", rule="another"), workshop)
    workshop.ledger.receipts.change("1.2.3", SeriesState.RECEIVING, "late_instances")
    process(started(workshop, "job-1", destinations=("old",)), workshop)
    takes(workshop, "old", classes.BASIC_TEXT_SR)
    workshop.ledger.duties.add(duties.FORMS, "job-1:old", "old refused a class")
    (duty,) = workshop.ledger.duties.waiting()
    reform(duty, workshop)
    assert {r.sop_class_uid for _, r in sent(workshop, "old")} == {classes.BASIC_TEXT_SR}
    assert len(workshop.ledger.deliveries.pending("job-0", "pacs")) == 3
