from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from ai_models.types import Code, FloatArray
from dicom_node.errors import GateRefused, UnsuitableInput
from dicom_node.results.parametric_map import NO_UNITS, PROBABILITY, SALIENCY, build_parametric_map
from dicom_node.results.request import ResultRequest
from tests.dicom_samples import radiograph
from tests.results import samples


def numbers(shape: tuple[int, ...] = samples.SHAPE) -> FloatArray:
    return np.random.default_rng(7).random(shape, np.float32)


def built(request: ResultRequest, values: FloatArray | None = None, name: str = "lung") -> Dataset:
    values = numbers() if values is None else values
    return build_parametric_map(
        request, values, PROBABILITY, NO_UNITS, name=name, series_number=9005
    )


def by_position(result: Dataset) -> dict[tuple[float, ...], FloatArray]:
    """First pixel of each frame (LPS mm) to its values, as the object stores them."""
    frames = np.frombuffer(result.FloatPixelData, np.float32)
    planes = frames.reshape(-1, result.Rows, result.Columns)
    groups = result.PerFrameFunctionalGroupsSequence
    return {
        tuple(float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient): plane
        for group, plane in zip(groups, planes, strict=True)
    }


@pytest.mark.parametrize(
    "pose",
    [
        samples.ct,
        samples.tilted,
        samples.irregular,
        lambda: samples.ct(orientation=samples.OBLIQUE),
    ],
    ids=["axial", "tilted", "irregular", "oblique"],
)
def test_every_value_stands_where_its_source_pixel_stands(
    pose: Callable[[], list[Dataset]],
) -> None:
    datasets = pose()
    stored = by_position(built(samples.request_for(datasets)))
    for dataset, expected in zip(datasets, numbers(), strict=True):
        position = tuple(float(v) for v in dataset.ImagePositionPatient)
        assert np.array_equal(stored[position], expected)


def test_a_part_of_an_enhanced_source_is_mapped_where_its_frames_stand() -> None:
    order = [3, 1, 2, 0, 4, 5, 6, 7, 8, 9]
    source = samples.enhanced(order)
    frame_numbers = [4, 2, 3, 1]
    result = built(
        samples.request_for([source], frame_numbers=frame_numbers), numbers()[:4], "part"
    )
    stored = by_position(result)
    assert result.NumberOfFrames == 4
    for number, expected in zip(frame_numbers, numbers(), strict=False):
        frame = source.PerFrameFunctionalGroupsSequence[number - 1]
        position = tuple(float(v) for v in frame.PlanePositionSequence[0].ImagePositionPatient)
        assert np.array_equal(stored[position], expected)


def test_the_mapping_says_what_is_measured_in_which_unit() -> None:
    request = samples.request_for(samples.ct())
    result = build_parametric_map(
        request, numbers(), SALIENCY, NO_UNITS, name="pneumonia", series_number=9005
    )
    shared = result.SharedFunctionalGroupsSequence[0]
    mapping = shared.RealWorldValueMappingSequence[0]
    quantity = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0]
    assert (quantity.CodeValue, quantity.CodingSchemeDesignator) == ("130404", "DCM")
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    assert mapping.DoubleFloatRealWorldValueFirstValueMapped == 0
    assert mapping.DoubleFloatRealWorldValueLastValueMapped == 1
    window = shared.FrameVOILUTSequence[0]
    assert (window.WindowCenter, window.WindowWidth) == (0.5, 1)
    assert window.VOILUTFunction == "LINEAR_EXACT"
    assert result.ContentLabel == "SALIENCY"


def test_values_beyond_0_to_1_have_a_range_and_a_window_of_their_own() -> None:
    values = numbers() * 200 - 50
    unit = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
    result = build_parametric_map(
        samples.request_for(samples.ct()), values, SALIENCY, unit, name="x", series_number=9005
    )
    shared = result.SharedFunctionalGroupsSequence[0]
    mapping = shared.RealWorldValueMappingSequence[0]
    assert mapping.DoubleFloatRealWorldValueFirstValueMapped == pytest.approx(values.min())
    assert mapping.DoubleFloatRealWorldValueLastValueMapped == pytest.approx(values.max())
    assert shared.FrameVOILUTSequence[0].WindowWidth == pytest.approx(np.ptp(values), rel=1e-5)


def test_a_map_that_is_the_same_everywhere_can_be_windowed() -> None:
    result = built(samples.request_for(samples.ct()), np.full(samples.SHAPE, 7, np.float32))
    assert result.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0].WindowWidth == 1


def test_a_demonstration_says_so_and_a_product_does_not() -> None:
    datasets = samples.ct()
    demonstration = built(samples.request_for(datasets))
    assert demonstration.ContentQualification == "RESEARCH"
    assert demonstration.SeriesDescription.startswith("DEMONSTRATION, NOT FOR CLINICAL USE")
    assert demonstration.ContentDescription.startswith("DEMONSTRATION, NOT FOR CLINICAL USE")
    algorithm = replace(samples.ALGORITHM, demonstration=False)
    product = built(samples.request_for(datasets, algorithm=algorithm))
    assert product.ContentQualification == "PRODUCT"
    assert "DEMONSTRATION" not in product.SeriesDescription


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_refused(wrong: float) -> None:
    values = numbers()
    values[3, 2, 1] = wrong
    with pytest.raises(GateRefused) as refused:
        built(samples.request_for(samples.ct()), values)
    assert refused.value.reason == "gate.not_finite"


def test_values_off_the_grid_of_the_source_are_refused() -> None:
    with pytest.raises(GateRefused) as refused:
        built(samples.request_for(samples.ct()), numbers()[:, :, :-1])
    assert refused.value.reason == "gate.shape"


@pytest.mark.parametrize("modality", ["CR", "DX", "MG"])
def test_a_projection_image_cannot_have_a_map(modality: str) -> None:
    image = radiograph(modality=modality)
    values = numbers((1, image.Rows, image.Columns))
    with pytest.raises(UnsuitableInput) as refused:
        built(samples.request_for([image]), values)
    assert refused.value.reason == "input.no_frame_of_reference"


def test_the_same_input_gives_the_same_bytes() -> None:
    request = samples.request_for(samples.ct())
    encoded = []
    for _ in range(2):
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, built(request), enforce_file_format=True)
        encoded.append(buffer.getvalue())
    assert encoded[0] == encoded[1]


def test_two_maps_of_one_result_are_two_objects() -> None:
    request = samples.request_for(samples.ct())
    first, second = built(request, name="left"), built(request, name="right")
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID != second.SeriesInstanceUID


def test_each_frame_says_what_part_of_the_body_it_shows() -> None:
    result = built(samples.request_for(samples.ct(BodyPartExamined="CHEST")))
    anatomy = result.SharedFunctionalGroupsSequence[0].FrameAnatomySequence[0]
    assert anatomy.AnatomicRegionSequence[0].CodeMeaning == "Chest"
    assert result.BodyPartExamined == "CHEST"
