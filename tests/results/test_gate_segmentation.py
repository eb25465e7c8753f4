from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless, generate_uid

from ai_models.types import FloatArray, LabelMap
from dicom_node.errors import GateRefused
from dicom_node.results.gate import (
    check_label_map,
    check_probability_map,
    check_segmentation,
    read_label_map,
)
from dicom_node.results.segmentation import build_label_map_segmentation, build_probability_map
from tests.dicom_samples import radiograph
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


def _reread(result: Dataset | None) -> Dataset:
    """What a reader gets of ``result``."""
    assert result is not None
    buffer = io.BytesIO()
    result.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return pydicom.dcmread(buffer)


def _set_a_bit_of_another_segment(segmentation: Dataset) -> None:
    """Show the first voxels of segment 1 on slice 5 in segment 2 as well; frames run downwards."""
    frame_bytes = 40 * 48 // 8
    pixels = bytearray(segmentation.PixelData)
    first = next(i for i in range(frame_bytes, 2 * frame_bytes) if pixels[i])
    pixels[9 * frame_bytes + first % frame_bytes] |= pixels[first]
    segmentation.PixelData = bytes(pixels)


def test_a_voxel_in_two_segments_is_refused(datasets: list[Dataset]) -> None:
    broken = _reread(samples.segmentation_of(datasets, samples.lungs()))
    _set_a_bit_of_another_segment(broken)
    assert reason(broken, datasets) == "gate.voxels"


def test_a_label_map_is_no_binary_segmentation(datasets: list[Dataset]) -> None:
    label_map = _label_map(datasets)
    assert reason(label_map, datasets) == "gate.unreadable"
    with pytest.raises(GateRefused, match="no LABELMAP"):
        check_label_map(
            samples.segmentation_of(datasets, samples.lungs()),
            datasets,
            FRAMES,
            samples.lungs(),
            samples.LABELS,
        )


def _label_map(datasets: list[Dataset]) -> Dataset:
    request = samples.request_for(datasets)
    return _reread(build_label_map_segmentation(request, samples.lungs(), series_number=9001))


def _set_palette(label_map: Dataset) -> None:
    label_map.PhotometricInterpretation = "PALETTE COLOR"


def _raise_a_voxel(label_map: Dataset) -> None:
    pixels = bytearray(label_map.PixelData)
    pixels[0] = 1
    label_map.PixelData = bytes(pixels)


def _show_a_stranger(label_map: Dataset) -> None:
    pixels = bytearray(label_map.PixelData)
    pixels[0] = 77
    label_map.PixelData = bytes(pixels)


def _swap_sides_behind_the_background(label_map: Dataset) -> None:
    del label_map.SegmentSequence[0]
    _swap_sides(label_map)


def _cut(result: Dataset) -> None:
    result.PixelData = result.PixelData[:-2]


def _repeat_a_plane(result: Dataset) -> None:
    frames = result.PerFrameFunctionalGroupsSequence
    frames[1].PlanePositionSequence = frames[0].PlanePositionSequence


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (_set_palette, "gate.unreadable"),
        (_raise_a_voxel, "gate.volume"),
        (_show_a_stranger, "gate.voxels"),
        (_cut, "gate.unreadable"),
        (_repeat_a_plane, "gate.geometry"),
        (_mirror_orientation, "gate.geometry"),
        (_swap_sides_behind_the_background, "gate.labels"),
        (_set_patient, "gate.reference"),
    ],
)
def test_a_label_map_that_was_damaged_is_refused(
    datasets: list[Dataset], break_it: Callable[[Dataset], None], expected: str
) -> None:
    label_map = _label_map(datasets)
    check_label_map(label_map, datasets, FRAMES, samples.lungs(), samples.LABELS)
    break_it(label_map)
    with pytest.raises(GateRefused) as refused:
        check_label_map(label_map, datasets, FRAMES, samples.lungs(), samples.LABELS)
    assert refused.value.reason == expected


@pytest.mark.parametrize("reread", [True, False])
def test_a_compressed_label_map_is_checked_like_one_that_is_not(
    datasets: list[Dataset], reread: bool
) -> None:
    label_map = _label_map(datasets)
    label_map.compress(RLELossless, generate_instance_uid=False)
    sent = _reread(label_map) if reread else label_map
    check_label_map(sent, datasets, FRAMES, samples.lungs(), samples.LABELS)
    with pytest.raises(GateRefused) as refused:
        check_label_map(sent, datasets, FRAMES, samples.lungs()[::-1], samples.LABELS)
    assert refused.value.reason == "gate.centroid"


def test_pixels_that_cannot_be_decompressed_are_refused(datasets: list[Dataset]) -> None:
    label_map = _label_map(datasets)
    label_map.compress(RLELossless, generate_instance_uid=False)
    label_map.PixelData = encapsulate([b"\x01\x00"] * int(label_map.NumberOfFrames))
    with pytest.raises(GateRefused) as refused:
        check_label_map(label_map, datasets, FRAMES, samples.lungs(), samples.LABELS)
    assert refused.value.reason == "gate.unreadable"


def test_a_stored_segmentation_reads_back_as_segment_numbers_in_both_forms(
    datasets: list[Dataset],
) -> None:
    for stored in (samples.segmentation_of(datasets, samples.lungs()), _label_map(datasets)):
        assert np.array_equal(read_label_map(stored, datasets, FRAMES), samples.lungs())


def _probabilities() -> dict[int, FloatArray]:
    mask = samples.lungs()
    ramp = np.linspace(0.1, 0.9, 48, dtype=np.float32)
    return {value: np.where(mask == value, ramp, np.float32(0)) for value in (1, 2)}


def _probability_map(datasets: list[Dataset]) -> Dataset:
    request = samples.request_for(datasets)
    return _reread(build_probability_map(request, _probabilities(), series_number=9004))


def _halve(probability_map: Dataset) -> None:
    pixels = np.frombuffer(probability_map.PixelData, np.uint8)
    probability_map.PixelData = (pixels // 2).tobytes()


def _raise_by_one_step(probability_map: Dataset) -> None:
    pixels = bytearray(probability_map.PixelData)
    index = next(i for i, value in enumerate(pixels) if value)
    pixels[index] += 1
    probability_map.PixelData = bytes(pixels)


def _call_it_occupancy(probability_map: Dataset) -> None:
    probability_map.SegmentationFractionalType = "OCCUPANCY"


def _set_scale(probability_map: Dataset) -> None:
    probability_map.MaximumFractionalValue = 100


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (_halve, "gate.voxels"),
        (_raise_by_one_step, "gate.voxels"),
        (_call_it_occupancy, "gate.unreadable"),
        (_set_scale, "gate.unreadable"),
        (_cut, "gate.unreadable"),
        (_stretch, "gate.geometry"),
        (_swap_sides, "gate.labels"),
        (_swap_segments_of_a_frame, "gate.geometry"),
        (_set_frame_of_reference, "gate.reference"),
    ],
)
def test_a_probability_map_that_was_damaged_is_refused(
    datasets: list[Dataset], break_it: Callable[[Dataset], None], expected: str
) -> None:
    probability_map = _probability_map(datasets)
    check_probability_map(probability_map, datasets, FRAMES, _probabilities(), samples.LABELS)
    break_it(probability_map)
    with pytest.raises(GateRefused) as refused:
        check_probability_map(probability_map, datasets, FRAMES, _probabilities(), samples.LABELS)
    assert refused.value.reason == expected


@pytest.mark.parametrize("slices", [slice(1, 2), slice(0, 1)], ids=["less", "more"])
def test_a_probability_map_with_other_slices_is_refused(
    datasets: list[Dataset], slices: slice
) -> None:
    probability_map = _probability_map(datasets)
    other = _probabilities()
    other[1][slices] = 0.5 - other[1][slices].max()
    with pytest.raises(GateRefused) as refused:
        check_probability_map(probability_map, datasets, FRAMES, other, samples.LABELS)
    assert refused.value.reason == "gate.voxels"


def test_a_radiograph_is_compared_voxel_by_voxel() -> None:
    image = radiograph()
    mask: LabelMap = np.zeros((1, 48, 64), np.uint8)
    mask[0, 5:20, 7:30], mask[0, 25:40, 40:50] = 1, 2
    segmentation = samples.segmentation_of([image], mask)
    check_segmentation(segmentation, [image], [1], mask, samples.LABELS)
    moved = np.roll(mask, 1, axis=2)
    with pytest.raises(GateRefused) as refused:
        check_segmentation(segmentation, [image], [1], moved, samples.LABELS)
    assert refused.value.reason == "gate.voxels"
