from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from ai_models.types import LabelMap
from dicom_node.errors import GateRefused
from dicom_node.results.gate_structure_set import check_structure_set
from dicom_node.results.structure_set import build_structure_set
from tests.results import corner_phantom, samples

FRAMES = [1] * 10


@pytest.fixture(scope="module")
def datasets() -> list[Dataset]:
    return samples.ct()


@pytest.fixture(scope="module")
def stored(datasets: list[Dataset]) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, built(datasets, samples.lungs()), enforce_file_format=True)
    return buffer.getvalue()


def built(datasets: list[Dataset], mask: LabelMap) -> Dataset:
    result = build_structure_set(samples.request_for(datasets), mask, series_number=9010)
    assert result is not None
    return result


def reason(structure_set: Dataset | bytes, datasets: list[Dataset]) -> str:
    with pytest.raises(GateRefused) as refused:
        check_structure_set(structure_set, datasets, FRAMES, samples.lungs(), samples.LABELS)
    return refused.value.reason


@pytest.mark.parametrize(
    "pose",
    [
        samples.ct,
        samples.tilted,
        samples.irregular,
        lambda: samples.ct(orientation=samples.OBLIQUE),
        lambda: samples.ct(orientation=(-1, 0, 0, 0, 1, 0)),
    ],
    ids=["axial", "tilted", "irregular", "oblique", "feet first"],
)
def test_what_was_built_from_the_mask_passes(pose: Callable[[], list[Dataset]]) -> None:
    datasets = pose()
    mask = samples.lungs(datasets)
    check_structure_set(built(datasets, mask), datasets, FRAMES, mask, samples.LABELS)


@settings(max_examples=15, deadline=None)
@given(arrays(np.uint8, (2, 6, 7), elements={"min_value": 0, "max_value": 2}))
def test_any_mask_passes_with_all_its_parts_and_holes(mask: LabelMap) -> None:
    datasets = samples.ct(shape=(2, 6, 7))
    result = build_structure_set(samples.request_for(datasets), mask, series_number=9010)
    if result is not None:
        check_structure_set(result, datasets, [1, 1], mask, samples.LABELS)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m[:, ::-1],
        lambda m: m[::-1],
        lambda m: m[:, :, ::-1],
        lambda m: np.roll(m, 1, axis=2),
        lambda m: np.roll(m, 1, axis=0),
        lambda m: np.where(m > 0, 3 - m, 0).astype(np.uint8),
    ],
    ids=["upside down", "feet to head", "mirrored", "one column off", "one slice off", "swapped"],
)
def test_contours_of_a_changed_mask_are_refused(
    datasets: list[Dataset], change: Callable[[LabelMap], LabelMap]
) -> None:
    assert reason(built(datasets, change(samples.lungs())), datasets) == "gate.voxels"


def _approve(structure_set: Dataset) -> None:
    structure_set.ApprovalStatus = "APPROVED"


def _set_patient(structure_set: Dataset) -> None:
    structure_set.PatientID = "ANOTHER"


def _set_frame_of_reference(structure_set: Dataset) -> None:
    structure_set.StructureSetROISequence[1].ReferencedFrameOfReferenceUID = generate_uid()


def _drop_a_source(structure_set: Dataset) -> None:
    study = structure_set.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    del study.RTReferencedSeriesSequence[0].ContourImageSequence[2]


def _name_another_image(structure_set: Dataset) -> None:
    first, second = structure_set.ROIContourSequence[0].ContourSequence[0:3:2]
    first.ContourImageSequence, second.ContourImageSequence = (
        second.ContourImageSequence,
        first.ContourImageSequence,
    )


def _swap_names(structure_set: Dataset) -> None:
    first, second = structure_set.StructureSetROISequence
    first.ROIName, second.ROIName = second.ROIName, first.ROIName


def _lift_a_contour(structure_set: Dataset) -> None:
    contour = structure_set.ROIContourSequence[1].ContourSequence[0]
    points = np.asarray(contour.ContourData, float)
    points[2::3] += 0.5
    contour.ContourData = points.tolist()


def _drop_a_contour(structure_set: Dataset) -> None:
    del structure_set.ROIContourSequence[1].ContourSequence[3]


def _repeat_a_contour(structure_set: Dataset) -> None:
    contours = structure_set.ROIContourSequence[1].ContourSequence
    contours.append(contours[3])


def _cut_points(structure_set: Dataset) -> None:
    contour = structure_set.ROIContourSequence[1].ContourSequence[0]
    contour.ContourData = contour.ContourData[:-3]


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (_approve, "gate.reference"),
        (_set_patient, "gate.reference"),
        (_set_frame_of_reference, "gate.reference"),
        (_drop_a_source, "gate.reference"),
        (_name_another_image, "gate.reference"),
        (_swap_names, "gate.labels"),
        (_lift_a_contour, "gate.geometry"),
        (_drop_a_contour, "gate.voxels"),
        (_repeat_a_contour, "gate.voxels"),
        (_cut_points, "gate.geometry"),
    ],
)
def test_a_structure_set_that_was_damaged_is_refused(
    datasets: list[Dataset], stored: bytes, break_it: Callable[[Dataset], None], expected: str
) -> None:
    broken = pydicom.dcmread(io.BytesIO(stored))
    break_it(broken)
    assert reason(broken, datasets) == expected


def test_bytes_that_are_no_object_are_refused(datasets: list[Dataset]) -> None:
    assert reason(b"not a DICOM file", datasets) == "gate.unreadable"


@pytest.mark.parametrize("name", corner_phantom.NAMES)
def test_the_eight_corners_come_back_where_they_were(name: str) -> None:
    pose = corner_phantom.pose(name)
    result = build_structure_set(
        corner_phantom.request_for(pose), pose.label_map, series_number=9010
    )
    assert result is not None
    found_mm = {
        region.ReferencedROINumber: _centroid_mm(region) for region in result.ROIContourSequence
    }
    assert corner_phantom.voxels_off(pose, found_mm) < 0.5
    check_structure_set(
        result, pose.datasets, pose.frame_numbers, pose.label_map, corner_phantom.LABELS
    )


def _centroid_mm(region: Dataset) -> np.ndarray:
    """Mean of the corners of all contours: every block has the same rectangle on each slice."""
    points = [np.asarray(c.ContourData, float).reshape(-1, 3) for c in region.ContourSequence]
    assert all(len(corners) == 4 for corners in points)
    centroid: np.ndarray = np.concatenate(points).mean(axis=0)
    return centroid
