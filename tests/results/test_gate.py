from __future__ import annotations

import copy
import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from ai_models.types import LabelMap
from dicom_node.errors import GateRefused
from dicom_node.results.gate import check_report, check_segmentation
from dicom_node.results.report import build_planar_report, build_volumetric_report
from tests.results import samples

FRAMES = [1] * 10


@pytest.fixture(scope="module")
def datasets() -> list[Dataset]:
    return samples.ct()


def reason(
    segmentation: Dataset | bytes, datasets: list[Dataset], mask: LabelMap | None = None
) -> str:
    mask = samples.lungs() if mask is None else mask
    with pytest.raises(GateRefused) as refused:
        check_segmentation(segmentation, datasets, FRAMES, mask, samples.LABELS)
    return refused.value.reason


def mirrored(mask: LabelMap) -> LabelMap:
    """The same mask with its columns mirrored and its labels kept on their sides."""
    flipped = mask[:, :, ::-1]
    return np.where(flipped > 0, 3 - flipped, 0).astype(np.uint8)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: m[:, ::-1], "gate.centroid"),
        (lambda m: m[::-1], "gate.centroid"),
        (mirrored, "gate.volume"),
        (lambda m: np.roll(m, 1, axis=2), "gate.centroid"),
        (lambda m: np.roll(m, 1, axis=0), "gate.centroid"),
        (lambda m: np.where(m > 0, 3 - m, 0).astype(np.uint8), "gate.volume"),
    ],
    ids=["upside down", "feet to head", "mirrored", "one column off", "one slice off", "swapped"],
)
def test_a_segmentation_of_a_changed_mask_is_refused(
    datasets: list[Dataset], change: Callable[[LabelMap], LabelMap], expected: str
) -> None:
    segmentation = samples.segmentation_of(datasets, change(samples.lungs()))
    assert reason(segmentation, datasets) == expected


def test_a_change_that_keeps_volume_and_centroid_is_refused(datasets: list[Dataset]) -> None:
    mask, changed = samples.lungs(), samples.lungs()
    mask[5, 25, [5, 15]] = 0
    changed[5, 25, [8, 12]] = 0
    segmentation = samples.segmentation_of(datasets, changed)
    assert reason(segmentation, datasets, mask) == "gate.voxels"


def test_a_model_that_calls_the_left_lung_right_is_refused(datasets: list[Dataset]) -> None:
    mask = samples.lungs()
    swapped = np.where(mask > 0, 3 - mask, 0).astype(np.uint8)
    segmentation = samples.segmentation_of(datasets, swapped)
    assert reason(segmentation, datasets, swapped) == "gate.laterality"


def test_laterality_is_judged_in_the_patient_and_not_on_the_screen() -> None:
    feet_first = samples.ct(orientation=(-1, 0, 0, 0, 1, 0))
    mask = samples.lungs(feet_first)
    segmentation = samples.segmentation_of(feet_first, mask)
    check_segmentation(segmentation, feet_first, FRAMES, mask, samples.LABELS)
    wrong = samples.lungs()
    segmentation = samples.segmentation_of(feet_first, wrong)
    assert reason(segmentation, feet_first, wrong) == "gate.laterality"


def _set_frame_of_reference(segmentation: Dataset) -> None:
    segmentation.FrameOfReferenceUID = generate_uid()


def _set_patient(segmentation: Dataset) -> None:
    segmentation.PatientID = "ANOTHER"


def _drop_a_source(segmentation: Dataset) -> None:
    del segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]


def _swap_sides(segmentation: Dataset) -> None:
    first, second = (
        item.SegmentedPropertyTypeCodeSequence[0] for item in segmentation.SegmentSequence
    )
    keyword = "SegmentedPropertyTypeModifierCodeSequence"
    first[keyword], second[keyword] = second[keyword], first[keyword]


def _move_a_frame(segmentation: Dataset) -> None:
    plane = segmentation.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0]
    plane.ImagePositionPatient = [plane.ImagePositionPatient[0] + 0.5, -20, 30]


def _mirror_orientation(segmentation: Dataset) -> None:
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]


def _stretch(segmentation: Dataset) -> None:
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence[0].PixelSpacing = [1.0, 1.0]


def _swap_segments_of_a_frame(segmentation: Dataset) -> None:
    frame = segmentation.PerFrameFunctionalGroupsSequence[0]
    frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 2


def _cut_pixels(segmentation: Dataset) -> None:
    segmentation.PixelData = segmentation.PixelData[:-400]


def _clear_a_pixel(segmentation: Dataset) -> None:
    pixels = bytearray(segmentation.PixelData)
    index = next(i for i, value in enumerate(pixels) if value)
    pixels[index] &= pixels[index] - 1
    segmentation.PixelData = bytes(pixels)


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (_set_frame_of_reference, "gate.reference"),
        (_set_patient, "gate.reference"),
        (_drop_a_source, "gate.reference"),
        (_swap_sides, "gate.labels"),
        (_move_a_frame, "gate.geometry"),
        (_mirror_orientation, "gate.geometry"),
        (_stretch, "gate.geometry"),
        (_swap_segments_of_a_frame, "gate.geometry"),
        (_cut_pixels, "gate.unreadable"),
        (_clear_a_pixel, "gate.volume"),
    ],
)
def test_a_segmentation_that_was_damaged_is_refused(
    datasets: list[Dataset], break_it: Callable[[Dataset], None], expected: str
) -> None:
    buffer = io.BytesIO()
    samples.segmentation_of(datasets, samples.lungs()).save_as(buffer, enforce_file_format=True)
    broken = pydicom.dcmread(io.BytesIO(buffer.getvalue()))
    break_it(broken)
    assert reason(broken, datasets) == expected


def test_bytes_that_are_no_object_are_refused(datasets: list[Dataset]) -> None:
    assert reason(b"not a DICOM file", datasets) == "gate.unreadable"


def test_a_report_passes_with_what_it_was_made_from(datasets: list[Dataset]) -> None:
    mask = samples.lungs()
    segmentation = samples.segmentation_of(datasets, mask)
    request = samples.request_for(datasets)
    volumetric = build_volumetric_report(
        request, segmentation, mask, samples.MEASUREMENTS, series_number=9101
    )
    planar = build_planar_report(request, mask, series_number=9102)
    assert planar is not None
    check_report(volumetric, datasets, [segmentation])
    check_report(planar, datasets)


def test_a_report_without_its_segmentation_is_refused(datasets: list[Dataset]) -> None:
    mask = samples.lungs()
    segmentation = samples.segmentation_of(datasets, mask)
    report = build_volumetric_report(
        samples.request_for(datasets), segmentation, mask, samples.MEASUREMENTS, series_number=9101
    )
    other = copy.deepcopy(segmentation)
    other.SOPInstanceUID = generate_uid()
    with pytest.raises(GateRefused, match="was not made from"):
        check_report(report, datasets, [other])


def test_a_report_on_a_segment_that_does_not_exist_is_refused(datasets: list[Dataset]) -> None:
    mask = samples.lungs()
    segmentation = samples.segmentation_of(datasets, mask)
    report = build_volumetric_report(
        samples.request_for(datasets), segmentation, mask, samples.MEASUREMENTS, series_number=9101
    )
    fewer = copy.deepcopy(segmentation)
    del fewer.SegmentSequence[1]
    with pytest.raises(GateRefused, match="segment that does not exist"):
        check_report(report, datasets, [fewer])


def test_a_report_on_other_images_is_refused(datasets: list[Dataset]) -> None:
    request = samples.request_for(datasets)
    report = build_planar_report(replace(request), samples.lungs(), series_number=9102)
    assert report is not None
    with pytest.raises(GateRefused) as refused:
        check_report(report, datasets[3:])
    assert refused.value.reason == "gate.reference"
