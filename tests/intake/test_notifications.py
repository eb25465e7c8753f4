"""Instance Availability Notification and MPPS from pynetdicom: what the ledger then knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association

from dicom_node.intake.notifications import INSTANCE_AVAILABILITY_NOTIFICATION, PROCEDURE_STEP
from tests.intake.serving import ServingNode as Node

SERIES, STUDY, STEP = "1.2.3.4", "1.2.3", "1.2.9"
Announced = list[tuple[str, str, int, str, bool]]


@contextmanager
def modality(node: Node, ae_title: str = "CT01") -> Iterator[Association]:
    entity = AE(ae_title)
    entity.add_requested_context(INSTANCE_AVAILABILITY_NOTIFICATION)
    entity.add_requested_context(PROCEDURE_STEP)
    association = entity.associate("127.0.0.1", node.port, ae_title="DICOMNODE")
    assert association.is_established
    yield association
    association.release()


def references(count: int, first: int = 1, availability: str = "") -> list[Dataset]:
    items = []
    for number in range(first, first + count):
        item = Dataset()
        item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        item.ReferencedSOPInstanceUID = f"{SERIES}.{number}"
        if availability:
            item.InstanceAvailability = availability
        items.append(item)
    return items


def notification(items: Sequence[Dataset]) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = SERIES
    series.ReferencedSOPSequence = items
    dataset = Dataset()
    dataset.StudyInstanceUID = STUDY
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.ReferencedSeriesSequence = [series]
    return dataset


def begun(study: str = STUDY) -> Dataset:
    scheduled = Dataset()
    scheduled.StudyInstanceUID = study
    dataset = Dataset()
    dataset.ScheduledStepAttributesSequence = [scheduled]
    dataset.PerformedProcedureStepStatus = "IN PROGRESS"
    dataset.PerformedSeriesSequence = []
    return dataset


def ended(status: str, images: int, others: int = 0) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = SERIES
    series.ReferencedImageSequence = references(images)
    series.ReferencedNonImageCompositeSOPInstanceSequence = references(others, first=1000)
    dataset = Dataset()
    dataset.PerformedSeriesSequence = [series]
    dataset.PerformedProcedureStepStatus = status
    return dataset


def announced(node: Node) -> Announced:
    found = node.ledger.announcements.of_series(SERIES)
    return [
        (one.source, one.study_instance_uid, one.expected_instances, one.said_by, one.final)
        for one in found
    ]


def notify(association: Association, dataset: Dataset) -> int | None:
    answer, _ = association.send_n_create(dataset, INSTANCE_AVAILABILITY_NOTIFICATION, "1.2.8")
    status: int | None = answer.get("Status")
    return status


def begin(association: Association, dataset: Dataset, uid: str = STEP) -> int | None:
    answer, _ = association.send_n_create(dataset, PROCEDURE_STEP, uid)
    status: int | None = answer.get("Status")
    return status


def change(association: Association, dataset: Dataset, uid: str = STEP) -> int | None:
    answer, _ = association.send_n_set(dataset, PROCEDURE_STEP, uid)
    status: int | None = answer.get("Status")
    return status


def test_a_notification_says_how_many_instances_can_be_had(node: Node) -> None:
    items = [*references(3, availability="ONLINE"),
             *references(2, first=10, availability="UNAVAILABLE")]
    with modality(node, "PACS") as association:
        assert notify(association, notification(items)) == 0x0000
    assert announced(node) == [("ian", STUDY, 3, "PACS", False)]


def test_an_instance_that_is_listed_twice_is_one(streamed: Node) -> None:
    with modality(streamed) as association:
        assert notify(association, notification([*references(2), *references(2)])) == 0x0000
    assert announced(streamed)[0][2] == 2


@pytest.mark.parametrize("missing", ["StudyInstanceUID", "ReferencedSeriesSequence"])
def test_a_notification_that_lacks_something_is_refused(streamed: Node, missing: str) -> None:
    dataset = notification(references(1))
    delattr(dataset, missing)
    with modality(streamed) as association:
        assert notify(association, dataset) == 0x0120
    assert announced(streamed) == []


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED"])
def test_a_procedure_step_that_is_over_says_how_many_instances_there_are(
    node: Node, status: str
) -> None:
    with modality(node) as association:
        assert begin(association, begun()) == 0x0000
    # The association of its end is another one.
    with modality(node) as association:
        assert change(association, ended(status, 5, others=1)) == 0x0000
    assert announced(node) == [("mpps", STUDY, 6, "CT01", True)]


def test_a_step_in_progress_is_not_final(streamed: Node) -> None:
    with modality(streamed) as association:
        begin(association, begun())
        assert change(association, ended("IN PROGRESS", 2)) == 0x0000
        assert announced(streamed) == [("mpps", STUDY, 2, "CT01", False)]
        assert change(association, ended("COMPLETED", 4)) == 0x0000
    assert announced(streamed) == [("mpps", STUDY, 4, "CT01", True)]


def test_a_step_that_is_over_can_not_be_begun_or_ended_otherwise(streamed: Node) -> None:
    with modality(streamed) as association:
        begin(association, begun())
        assert begin(association, begun()) == 0x0000
        assert begin(association, begun("1.2.99")) == 0x0111
        change(association, ended("COMPLETED", 4))
        assert change(association, ended("COMPLETED", 4)) == 0x0000
        assert change(association, ended("DISCONTINUED", 1)) == 0x0110
        assert begin(association, begun()) == 0x0111
    assert announced(streamed)[0][2] == 4


def test_what_does_not_fit_gets_a_status(streamed: Node) -> None:
    no_study = begun()
    del no_study.ScheduledStepAttributesSequence
    over = begun()
    over.PerformedProcedureStepStatus = "COMPLETED"
    with modality(streamed) as association:
        assert begin(association, no_study) == 0x0120
        assert begin(association, over) == 0x0106
        assert change(association, ended("COMPLETED", 1)) == 0x0112
        begin(association, begun())
        assert change(association, ended("SOMETHING", 1)) == 0x0106
    with modality(streamed, "OTHER") as association:
        assert change(association, ended("COMPLETED", 1)) == 0x0124
    assert announced(streamed) == []
