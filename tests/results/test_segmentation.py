from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.misc import is_dicom

from ai_models.types import Code, FloatArray, Label, LabelMap
from dicom_node.errors import GateRefused, UnsuitableInput
from dicom_node.imaging.volume import LoadedVolume, load_volume
from dicom_node.results.gate import check_segmentation
from dicom_node.results.segmentation import (
    build_label_map_segmentation,
    build_probability_map,
    build_segmentation,
    segment_numbers,
)
from tests.dicom_samples import radiograph
from tests.results import samples
from tests.shared_data import needs_shared, shared


def encoded(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def segment(segmentation: Dataset, number: int) -> Dataset:
    return segmentation.SegmentSequence[number - 1]


def test_one_frame_per_segment_and_slice_in_which_it_occurs() -> None:
    segmentation = samples.segmentation_of(samples.ct(), samples.lungs())
    assert segmentation.SegmentationType == "BINARY"
    assert segmentation.NumberOfFrames == 6 + 7
    assert segmentation.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"


def test_headers_without_pixel_data_are_enough() -> None:
    datasets = samples.headers(samples.ct())
    assert samples.segmentation_of(datasets, samples.lungs()).NumberOfFrames == 13


def test_segments_carry_codes_laterality_colour_algorithm_and_tracking() -> None:
    segmentation = samples.segmentation_of(samples.ct(), samples.lungs())
    right = segment(segmentation, 1)
    kind = right.SegmentedPropertyTypeCodeSequence[0]
    assert right.SegmentLabel == "Right lung"
    assert right.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"
    assert kind.CodeValue == "39607008"
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "24028007"
    assert right.SegmentAlgorithmType == "AUTOMATIC"
    algorithm = right.SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmVersion == "1.0.0"
    assert "ab" * 32 in algorithm.AlgorithmParameters
    assert right.TrackingID == "lungs-ct Right lung"
    assert right.TrackingUID != segment(segmentation, 2).TrackingUID
    assert len(right.RecommendedDisplayCIELabValue) == 3


def test_the_result_belongs_to_the_study_and_names_its_makers() -> None:
    datasets = samples.ct()
    segmentation = samples.segmentation_of(datasets, samples.lungs())
    source = datasets[0]
    for keyword in (
        "PatientID",
        "PatientName",
        "StudyInstanceUID",
        "StudyDescription",
        "FrameOfReferenceUID",
        "BodyPartExamined",
        "TimezoneOffsetFromUTC",
    ):
        assert segmentation[keyword].value == source[keyword].value, keyword
    assert segmentation.SeriesInstanceUID != source.SeriesInstanceUID
    assert segmentation.SeriesNumber == 9001
    assert segmentation.ManufacturerModelName == "DICOM Node"
    assert segmentation.DeviceSerialNumber == "TESTNODE"
    models = [
        item.get("ManufacturerModelName") for item in segmentation.ContributingEquipmentSequence
    ]
    assert models == ["Synth 1", "Lungs in CT (demonstration)", "highdicom"]
    assert segmentation.ContentCreatorName


def test_a_demonstration_says_so_wherever_a_reader_may_look() -> None:
    segmentation = samples.segmentation_of(samples.ct(), samples.lungs())
    mark = "DEMONSTRATION, NOT FOR CLINICAL USE"
    assert segmentation.SeriesDescription.startswith(mark)
    assert segmentation.ContentDescription.startswith(mark)
    assert segment(segmentation, 1).SegmentDescription.startswith(mark)
    equipment = segmentation.ContributingEquipmentSequence[1]
    assert equipment.ContributionDescription.startswith(mark)


def test_the_same_input_gives_the_same_bytes() -> None:
    datasets, mask = samples.ct(), samples.lungs()
    first = encoded(samples.segmentation_of(datasets, mask))
    assert encoded(samples.segmentation_of(datasets, mask)) == first


def test_only_times_differ_when_the_same_input_comes_again_later() -> None:
    datasets, mask = samples.ct(), samples.lungs()
    later = samples.CREATED_AT + timedelta(days=1)
    first = samples.segmentation_of(datasets, mask)
    second = samples.segmentation_of(datasets, mask, created_at=later)
    differing = {element.keyword for element in first if element != second[element.tag]}
    assert differing == {
        "InstanceCreationDate",
        "SeriesDate",
        "ContentDate",
        "ContributingEquipmentSequence",
    }


def test_another_model_version_makes_another_object_of_the_same_finding() -> None:
    datasets, mask = samples.ct(), samples.lungs()
    first = samples.segmentation_of(datasets, mask)
    second = samples.segmentation_of(
        datasets, mask, identity=samples.identity_of(datasets, model_version="1.1.0")
    )
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert segment(first, 1).TrackingUID == segment(second, 1).TrackingUID


def test_an_aware_time_is_written_in_the_time_zone_of_the_source() -> None:
    moment = datetime(2026, 11, 22, 23, 30, tzinfo=UTC)
    segmentation = samples.segmentation_of(samples.ct(), samples.lungs(), created_at=moment)
    assert str(segmentation.ContentDate) == "20261123"
    assert str(segmentation.ContentTime).startswith("003000")


def test_nothing_found_makes_no_segmentation() -> None:
    datasets = samples.ct()
    empty = np.zeros(samples.SHAPE, np.uint8)
    assert (
        build_segmentation(
            datasets,
            [1] * 10,
            empty,
            samples.LABELS,
            samples.ALGORITHM,
            samples.identity_of(datasets),
            series_number=9001,
            equipment=samples.EQUIPMENT,
            created_at=samples.CREATED_AT,
        )
        is None
    )


def test_a_label_that_does_not_occur_becomes_no_segment() -> None:
    datasets, mask = samples.ct(), samples.lungs()
    mask[mask == 1] = 0
    segmentation = samples.segmentation_of(datasets, mask)
    assert [item.SegmentLabel for item in segmentation.SegmentSequence] == ["Left lung"]
    assert segmentation.SegmentSequence[0].SegmentNumber == 1
    check_segmentation(segmentation, datasets, [1] * 10, mask, samples.LABELS)


def test_label_values_with_gaps_become_consecutive_segments() -> None:
    mask = samples.lungs()
    mask[mask == 2] = 200
    labels = (samples.RIGHT, Label(200, "Left lung", samples.STRUCTURE, samples.LUNG, (1, 2, 3)))
    assert segment_numbers(mask, labels) == {1: 1, 200: 2}
    datasets = samples.ct()
    segmentation = samples.segmentation_of(datasets, mask, labels=labels)
    check_segmentation(segmentation, datasets, [1] * 10, mask, labels)


def test_a_value_without_a_label_is_refused() -> None:
    mask = samples.lungs()
    mask[0, 0, 0] = 7
    with pytest.raises(GateRefused) as refused:
        samples.segmentation_of(samples.ct(), mask)
    assert refused.value.reason == "gate.labels"


def test_a_mask_on_another_grid_is_refused() -> None:
    with pytest.raises(GateRefused) as refused:
        samples.segmentation_of(samples.ct(), samples.lungs()[:, :-1])
    assert refused.value.reason == "gate.shape"


@pytest.mark.parametrize(
    "datasets",
    [
        samples.ct(orientation=samples.OBLIQUE),
        samples.ct(orientation=(-1, 0, 0, 0, 1, 0)),
        samples.tilted(),
        samples.irregular(),
        samples.ct()[::-1],
    ],
    ids=["oblique", "feet first", "tilted", "irregular", "head to feet"],
)
def test_every_pose_passes_its_gate(datasets: Sequence[Dataset]) -> None:
    mask = samples.lungs(datasets)
    segmentation = samples.segmentation_of(datasets, mask)
    check_segmentation(encoded(segmentation), datasets, [1] * 10, mask, samples.LABELS)


@pytest.mark.parametrize("order", [range(10), [3, 1, 0, 2, 9, 8, 7, 6, 5, 4]])
def test_an_enhanced_source_passes_its_gate_whatever_the_order_of_its_frames(
    order: Sequence[int],
) -> None:
    source = samples.enhanced(list(order))
    frame_numbers = [list(order).index(plane) + 1 for plane in range(10)]
    mask = samples.lungs()
    segmentation = samples.segmentation_of([source], mask, frame_numbers=frame_numbers)
    check_segmentation(encoded(segmentation), [source], frame_numbers, mask, samples.LABELS)


def test_of_an_enhanced_source_that_shows_every_place_twice_the_frames_of_one_moment_are_named(
) -> None:
    source = samples.enhanced([plane for plane in range(10) for _ in range(2)])
    frame_numbers = [2 * plane + 2 for plane in range(10)]
    mask = samples.lungs()
    segmentation = samples.segmentation_of([source], mask, frame_numbers=frame_numbers)
    check_segmentation(encoded(segmentation), [source], frame_numbers, mask, samples.LABELS)
    named = {
        int(origin.ReferencedFrameNumber)
        for groups in dcmread(io.BytesIO(encoded(segmentation))).PerFrameFunctionalGroupsSequence
        for origin in groups.DerivationImageSequence[0].SourceImageSequence
    }
    shown = np.flatnonzero(mask.any(axis=(1, 2)))
    assert named == {frame_numbers[index] for index in shown}


def _real(series: str) -> tuple[LoadedVolume, LabelMap]:
    """A shared series and a mask of what is dark in it, split by side."""
    found = Path(shared("data", "series", series)).rglob("*")
    loaded = load_volume(sorted(path for path in found if path.is_file() and is_dicom(path)))
    air = (loaded.volume.array > -950) & (loaded.volume.array < -700)
    x_mm = loaded.volume.affine_lps[0, 2] * np.arange(air.shape[2])
    sides = np.where(x_mm < np.median(x_mm), 1, 2).astype(np.uint8)
    return loaded, loaded.to_source_grid(air.astype(np.uint8) * sides)


@needs_shared("data", "series", "ct_chest_rider_pilot")
def test_a_real_series_passes_its_gate() -> None:
    loaded, mask = _real("ct_chest_rider_pilot")
    segmentation = samples.segmentation_of(
        loaded.source_images, mask, frame_numbers=loaded.frame_numbers
    )
    check_segmentation(
        encoded(segmentation), loaded.source_images, loaded.frame_numbers, mask, samples.LABELS
    )


@needs_shared("data", "series", "ct_totalsegmentator")
def test_a_real_series_that_belongs_to_no_study_is_refused() -> None:
    loaded, mask = _real("ct_totalsegmentator")
    with pytest.raises(UnsuitableInput) as refused:
        samples.segmentation_of(loaded.source_images, mask, frame_numbers=loaded.frame_numbers)
    assert refused.value.reason == "input.invalid_uid"


def test_an_anatomic_region_of_a_label_is_carried() -> None:
    region = Code("816094009", "SCT", "Chest")
    label = Label(1, "Lungs", samples.STRUCTURE, samples.LUNG, (1, 2, 3), None, region)
    mask = (samples.lungs() > 0).astype(np.uint8)
    segmentation = samples.segmentation_of(samples.ct(), mask, labels=(label,))
    assert segment(segmentation, 1).AnatomicRegionSequence[0].CodeValue == "816094009"


def probabilities(datasets: Sequence[Dataset] | None = None) -> dict[int, FloatArray]:
    mask = samples.lungs(datasets)
    return {value: (mask == value).astype(np.float32) * np.float32(0.7) for value in (1, 2)}


def test_every_form_has_the_segments_of_the_binary_one_and_an_identity_of_its_own() -> None:
    datasets, mask = samples.ct(), samples.lungs()
    request = samples.request_for(datasets)
    binary = samples.segmentation_of(datasets, mask)
    label_map = build_label_map_segmentation(request, mask, series_number=9001)
    fractional = build_probability_map(request, probabilities(), series_number=9004)
    assert label_map is not None
    assert fractional is not None
    for form in (label_map, fractional):
        described = {item.SegmentNumber: item for item in form.SegmentSequence}
        for item in binary.SegmentSequence:
            assert described[item.SegmentNumber] == item
    objects = (binary, label_map, fractional)
    assert len({one.SOPInstanceUID for one in objects}) == 3
    assert len({one.SeriesInstanceUID for one in objects}) == 3


def test_a_label_map_shows_its_numbers_and_no_palette() -> None:
    mask = samples.lungs()
    label_map = build_label_map_segmentation(
        samples.request_for(samples.ct()), mask, series_number=9001
    )
    assert label_map is not None
    assert label_map.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.7"
    assert label_map.PhotometricInterpretation == "MONOCHROME2"
    assert label_map.NumberOfFrames == 8
    assert sorted(set(label_map.PixelData)) == [0, 1, 2]


def test_a_probability_map_has_steps_of_a_255th_and_no_slice_without_any() -> None:
    values = probabilities()
    values[1][0, 0, 0] = 0.003
    values[2][0, 0, 0] = 0.004
    fractional = build_probability_map(
        samples.request_for(samples.ct()), values, series_number=9004
    )
    assert fractional is not None
    assert fractional.SegmentationType == "FRACTIONAL"
    assert fractional.SegmentationFractionalType == "PROBABILITY"
    assert fractional.MaximumFractionalValue == 255
    assert fractional.NumberOfFrames == 6 + 8
    assert set(fractional.PixelData) == {0, 1, round(0.7 * 255)}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.nan, "gate.not_finite"),
        (np.inf, "gate.not_finite"),
        (1.01, "gate.range"),
        (-0.01, "gate.range"),
    ],
)
def test_what_is_no_probability_is_refused(value: float, expected: str) -> None:
    values = probabilities()
    values[2][4, 20, 30] = value
    with pytest.raises(GateRefused) as refused:
        build_probability_map(samples.request_for(samples.ct()), values, series_number=9004)
    assert refused.value.reason == expected


def test_probabilities_of_what_no_label_describes_are_refused() -> None:
    values = {**probabilities(), 9: probabilities()[1]}
    with pytest.raises(GateRefused) as refused:
        build_probability_map(samples.request_for(samples.ct()), values, series_number=9004)
    assert refused.value.reason == "gate.labels"


def test_nothing_found_makes_no_further_form_either() -> None:
    request = samples.request_for(samples.ct())
    empty = np.zeros(samples.SHAPE, np.uint8)
    nowhere = {1: np.zeros(samples.SHAPE, np.float32)}
    assert build_label_map_segmentation(request, empty, series_number=9001) is None
    assert build_probability_map(request, nowhere, series_number=9004) is None
    assert build_probability_map(request, {}, series_number=9004) is None


@pytest.mark.parametrize("modality", ["CR", "DX", "MG"])
def test_a_radiograph_needs_no_frame_of_reference(modality: str) -> None:
    image = radiograph(modality=modality)
    mask: LabelMap = np.zeros((1, 48, 64), np.uint8)
    mask[0, 5:20, 7:30], mask[0, 25:40, 40:50] = 1, 2
    segmentation = samples.segmentation_of([image], mask)
    assert segmentation.NumberOfFrames == 2
    assert list(segmentation.PatientOrientation) == ["L", "F"]
    assert "FrameOfReferenceUID" not in segmentation
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == [0.2, 0.15]
    check_segmentation(encoded(segmentation), [image], [1], mask, samples.LABELS)


ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"
ULTRASOUND_CINE = "1.2.840.10008.5.1.4.1.1.3.1"


def test_a_single_ultrasound_frame_is_segmented() -> None:
    image = radiograph(modality="US", SOPClassUID=ULTRASOUND, PatientOrientation=None)
    mask: LabelMap = np.zeros((1, 48, 64), np.uint8)
    mask[0, 5:20, 7:30] = 1
    segmentation = samples.segmentation_of([image], mask)
    check_segmentation(encoded(segmentation), [image], [1], mask, samples.LABELS)


def test_a_cine_loop_that_lies_nowhere_is_unsuitable() -> None:
    cine = radiograph(modality="US", SOPClassUID=ULTRASOUND_CINE, NumberOfFrames=3)
    mask: LabelMap = np.zeros((3, 48, 64), np.uint8)
    mask[1, 5:20, 7:30] = 1
    with pytest.raises(UnsuitableInput) as refused:
        samples.segmentation_of([cine], mask, frame_numbers=[1, 2, 3])
    assert refused.value.reason == "input.no_frame_of_reference"


def test_several_radiographs_are_no_stack() -> None:
    first = radiograph()
    second = radiograph(
        SeriesInstanceUID=first.SeriesInstanceUID, StudyInstanceUID=first.StudyInstanceUID
    )
    mask: LabelMap = np.ones((2, 48, 64), np.uint8)
    with pytest.raises(UnsuitableInput) as refused:
        samples.segmentation_of([first, second], mask)
    assert refused.value.reason == "input.no_frame_of_reference"
