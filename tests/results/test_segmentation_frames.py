"""What is encoded here against what highdicom makes of the whole pixels: the same bytes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.dataset import Dataset

from ai_models.types import Code, FloatArray, Label, LabelMap
from dicom_node.results.equipment import algorithm_equipment, describe
from dicom_node.results.finish import finish, set_dimension_organization
from dicom_node.results.headers import normalise
from dicom_node.results.request import ResultRequest
from dicom_node.results.segmentation import (
    build_label_map_segmentation,
    build_probability_map,
    build_segmentation,
    segment_numbers,
)
from dicom_node.results.segmentation_frames import BINARY, FRACTIONAL, LABELMAP, Form
from dicom_node.results.segmentation_segments import describe_segments
from tests.dicom_samples import radiograph
from tests.results import corner_phantom, samples

Case = tuple[ResultRequest, LabelMap]


def _encoded(result: Dataset) -> bytes:
    buffer = io.BytesIO()
    result.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _by_highdicom(
    request: ResultRequest, form: Form, numbers: dict[int, int], pixels: npt.NDArray[Any]
) -> Dataset:
    """``pixels`` are in the order of the source's frames."""
    import highdicom as hd
    from pydicom.uid import ExplicitVRLittleEndian

    sources, _ = normalise(request.source_images)
    identity, algorithm, equipment = request.identity, request.algorithm, request.equipment
    series_uid = str(sources[0].SeriesInstanceUID)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result: Any = hd.seg.Segmentation(
            source_images=sources,
            pixel_array=pixels,
            segmentation_type=form.segmentation_type,
            segment_descriptions=describe_segments(
                numbers, request.labels, algorithm, identity, series_uid
            ),
            series_instance_uid=identity.uid(f"{form.purpose}.series"),
            series_number=9001,
            sop_instance_uid=identity.uid(f"{form.purpose}.instance"),
            instance_number=1,
            manufacturer=equipment.manufacturer,
            manufacturer_model_name=equipment.model_name,
            software_versions=equipment.software_versions,
            device_serial_number=equipment.device_serial_number,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            content_label=form.content_label,
            content_description=describe(algorithm.name, algorithm),
            content_creator_name=equipment.creator_name,
            series_description=describe(f"{form.title} {algorithm.model_id}", algorithm),
            content_date=samples.CREATED_AT.date(),
            content_time=samples.CREATED_AT.time(),
            series_date=samples.CREATED_AT.date(),
            series_time=samples.CREATED_AT.time(),
            specific_character_set="ISO_IR 192",
            contributing_equipment=[algorithm_equipment(algorithm)],
        )
    set_dimension_organization(result, identity.uid(f"{form.purpose}.dimensions"))
    if "ImagePositionPatient" not in sources[0] and "PatientOrientation" in sources[0]:
        result.PatientOrientation = sources[0].PatientOrientation
    return finish(result, sources[0], equipment, samples.CREATED_AT)


def _two_lungs() -> Case:
    return samples.request_for(samples.ct()), samples.lungs()


def _one_lung() -> Case:
    return samples.request_for(samples.ct()), np.where(samples.lungs() == 2, 2, 0).astype(np.uint8)


def _uneven_slices_head_to_feet() -> Case:
    return samples.request_for(samples.irregular()[::-1]), samples.lungs()


def _two_parts_of_one_lung_with_spacing_in_the_headers() -> Case:
    datasets = samples.ct(SpacingBetweenSlices="2.5", orientation=samples.OBLIQUE)
    mask = np.where(samples.lungs() == 1, 1, 0).astype(np.uint8)
    mask[3:5] = 0
    return samples.request_for(datasets), mask


def _one_slice_of_uneven_ones() -> Case:
    mask = np.where(samples.lungs() == 1, 1, 0).astype(np.uint8)
    mask[4:] = mask[:3] = 0
    return samples.request_for(samples.irregular()), mask


def _tilted() -> Case:
    return samples.request_for(samples.tilted()), samples.lungs()


def _frames_in_another_order() -> Case:
    pose = corner_phantom.pose("enhanced in another order")
    return corner_phantom.request_for(pose), pose.label_map


def _radiograph_of_odd_size() -> Case:
    image = radiograph(np.zeros((47, 33), np.uint16))
    mask: LabelMap = np.zeros((1, 47, 33), np.uint8)
    mask[0, 3:30, 5:9] = 1
    mask[0, 40:46, 20:33] = 2
    return samples.request_for([image]), mask


def _two_hundred_labels() -> Case:
    code = Code("39607008", "SCT", "Lung")
    labels = tuple(
        Label(value, f"Part {value}", samples.STRUCTURE, code, (value, 0, 0))
        for value in range(1, 256)
    )
    values = np.arange(10 * 40 * 48).reshape(10, 40, 48) // 96
    mask = np.where(values > 55, values + 56, 0).astype(np.uint8)
    return samples.request_for(samples.ct(), labels=labels), mask


CASES = [
    _two_lungs, _one_lung, _uneven_slices_head_to_feet, _tilted,
    _two_parts_of_one_lung_with_spacing_in_the_headers, _one_slice_of_uneven_ones,
    _frames_in_another_order,
    _radiograph_of_odd_size, _two_hundred_labels,
]  # fmt: skip
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__.strip("_"))


def _in_source_order(request: ResultRequest, planes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return planes[np.argsort(request.frame_numbers, kind="stable")]


def _renumbered(mask: LabelMap, numbers: dict[int, int]) -> LabelMap:
    table = np.zeros(256, np.uint8)
    table[list(numbers)] = list(numbers.values())
    renumbered: LabelMap = table[mask]
    return renumbered


def _probabilities(mask: LabelMap, labels: tuple[Label, ...]) -> dict[int, FloatArray]:
    random = np.random.default_rng(7)
    return {
        value: np.where(mask == value, random.uniform(0.01, 1, mask.shape), 0).astype(np.float32)
        for value in segment_numbers(mask, labels)
    }


@cases
def test_a_binary_segmentation_is_what_highdicom_makes_of_all_pixels(
    case: Callable[[], Case],
) -> None:
    request, mask = case()
    numbers = segment_numbers(mask, request.labels)
    built = build_segmentation(
        request.source_images, request.frame_numbers, mask, request.labels, request.algorithm,
        request.identity, series_number=9001, equipment=request.equipment,
        created_at=request.created_at,
    )  # fmt: skip
    assert built is not None
    pixels = _in_source_order(request, _renumbered(mask, numbers))
    assert _encoded(built) == _encoded(_by_highdicom(request, BINARY, numbers, pixels))


@cases
def test_a_label_map_is_what_highdicom_makes_of_all_pixels(case: Callable[[], Case]) -> None:
    request, mask = case()
    numbers = segment_numbers(mask, request.labels)
    built = build_label_map_segmentation(request, mask, series_number=9001)
    assert built is not None
    pixels = _in_source_order(request, _renumbered(mask, numbers))
    expected = _encoded(_by_highdicom(request, LABELMAP, numbers, pixels))
    # Its last byte may be what evens the length: "0" of highdicom, zero of PS3.5 8.2.
    assert _encoded(built)[:-1] == expected[:-1]


@cases
def test_a_probability_map_is_what_highdicom_makes_of_all_pixels(
    case: Callable[[], Case],
) -> None:
    request, mask = case()
    numbers = segment_numbers(mask, request.labels)
    probabilities = _probabilities(mask, request.labels)
    built = build_probability_map(request, probabilities, series_number=9001)
    assert built is not None
    stacked = np.stack([probabilities[value] for value in numbers], axis=-1)
    pixels = _in_source_order(request, stacked)
    assert _encoded(built) == _encoded(_by_highdicom(request, FRACTIONAL, numbers, pixels))


def test_the_functional_groups_become_objects_when_they_are_read() -> None:
    segmentation = samples.segmentation_of(samples.ct(), samples.lungs())
    as_built = _encoded(segmentation)
    frames = segmentation.PerFrameFunctionalGroupsSequence
    numbers = [frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber for frame in frames]
    assert numbers == [1] * 6 + [2] * 7
    assert [list(frame.FrameContentSequence[0].DimensionIndexValues) for frame in frames] == (
        [[1, plane] for plane in range(3, 9)] + [[2, plane] for plane in range(1, 8)]
    )
    assert _encoded(segmentation) == as_built


def test_an_encoded_segmentation_is_written_without_being_decoded() -> None:
    segmentation = samples.segmentation_of(samples.ct(), samples.lungs())
    _encoded(segmentation)
    assert segmentation.get_item(0x52009230).is_raw
