from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from ai_models.types import LabelMap
from dicom_node.errors import UnsuitableInput
from dicom_node.results.gate_structure_set import check_structure_set
from dicom_node.results.structure_set import build_structure_set
from tests.dicom_samples import radiograph
from tests.results import samples


@pytest.fixture(scope="module")
def datasets() -> list[Dataset]:
    return samples.ct()


@pytest.fixture(scope="module")
def structure_set(datasets: list[Dataset]) -> Dataset:
    return built(datasets, samples.lungs())


def built(datasets: list[Dataset], mask: LabelMap) -> Dataset:
    result = build_structure_set(samples.request_for(datasets), mask, series_number=9010)
    assert result is not None
    return result


def encoded(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def test_a_voxel_is_a_square_around_its_centre_on_the_plane_of_its_slice() -> None:
    datasets = samples.ct(orientation=samples.OBLIQUE)
    mask = np.zeros(samples.SHAPE, np.uint8)
    mask[4, 20, 30] = 1
    (contour,) = built(datasets, mask).ROIContourSequence[0].ContourSequence
    corners = np.asarray(contour.ContourData, float).reshape(-1, 3)
    affine = samples.affine_lps(datasets)
    expected = [
        (affine @ [4, row, column, 1])[:3]
        for row, column in ((19.5, 29.5), (19.5, 30.5), (20.5, 30.5), (20.5, 29.5))
    ]
    assert corners == pytest.approx(np.array(expected), abs=1e-3)
    assert contour.ContourGeometricType == "CLOSED_PLANAR"
    assert contour.NumberOfContourPoints == 4


def test_each_contour_names_the_image_that_it_lies_on(
    datasets: list[Dataset], structure_set: Dataset
) -> None:
    by_z = {float(d.ImagePositionPatient[2]): d.SOPInstanceUID for d in datasets}
    for region in structure_set.ROIContourSequence:
        for contour in region.ContourSequence:
            named = contour.ContourImageSequence[0].ReferencedSOPInstanceUID
            assert by_z[float(contour.ContourData[2])] == named


def test_each_label_is_a_region_with_its_code_colour_and_algorithm(structure_set: Dataset) -> None:
    regions = structure_set.StructureSetROISequence
    assert [(r.ROINumber, r.ROIName) for r in regions] == [(1, "Right lung"), (2, "Left lung")]
    assert {r.ROIGenerationAlgorithm for r in regions} == {"AUTOMATIC"}
    assert regions[0].ROIDerivationAlgorithmIdentificationSequence[0].AlgorithmVersion == "1.0.0"
    colours = [list(region.ROIDisplayColor) for region in structure_set.ROIContourSequence]
    assert colours == [[66, 135, 245], [245, 166, 35]]
    for item, side in zip(
        structure_set.RTROIObservationsSequence, ("24028007", "7771000"), strict=True
    ):
        code = item.RTROIIdentificationCodeSequence[0]
        assert code.CodeValue == "39607008"
        assert code.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == side
        assert item.RTROIInterpretedType == "ORGAN"


def test_it_lies_on_every_image_of_the_source(
    datasets: list[Dataset], structure_set: Dataset
) -> None:
    (frame_of_reference,) = structure_set.ReferencedFrameOfReferenceSequence
    assert frame_of_reference.FrameOfReferenceUID == datasets[0].FrameOfReferenceUID
    series = frame_of_reference.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == datasets[0].SeriesInstanceUID
    listed = [image.ReferencedSOPInstanceUID for image in series.ContourImageSequence]
    assert listed == [dataset.SOPInstanceUID for dataset in datasets]


def test_nobody_has_approved_it_and_it_says_that_it_is_a_demonstration(
    structure_set: Dataset,
) -> None:
    assert structure_set.ApprovalStatus == "UNAPPROVED"
    assert (structure_set.StructureSetDate, structure_set.StructureSetTime) == (
        "20261122", "143015.000000",
    )  # fmt: skip
    for keyword in ("SeriesDescription", "StructureSetName", "StructureSetDescription"):
        assert structure_set[keyword].value.startswith("DEMONSTRATION, NOT FOR CLINICAL USE")


def test_frames_of_an_enhanced_source_are_named_by_their_numbers() -> None:
    order = [3, 1, 2, 0, 4, 5, 6, 7, 8, 9]
    source = samples.enhanced(order)
    frame_numbers = [order.index(number) + 1 for number in range(10)]
    request = samples.request_for([source], frame_numbers=frame_numbers)
    mask = np.zeros(samples.SHAPE, np.uint8)
    mask[0, 5, 5] = 1
    result = build_structure_set(request, mask, series_number=9010)
    assert result is not None
    (contour,) = result.ROIContourSequence[0].ContourSequence
    assert contour.ContourImageSequence[0].ReferencedFrameNumber == 4
    frame = source.PerFrameFunctionalGroupsSequence[3]
    position = frame.PlanePositionSequence[0].ImagePositionPatient
    assert float(contour.ContourData[2]) == float(position[2])


def test_a_contour_longer_than_explicit_vr_allows_survives_encoding() -> None:
    datasets = samples.ct(shape=(1, 120, 120))
    noise = np.random.default_rng(3).random((1, 120, 120)) < 0.75
    result = pydicom.dcmread(io.BytesIO(encoded(built(datasets, noise.astype(np.uint8)))))
    contours = result.ROIContourSequence[0].ContourSequence
    assert max(contour.get_item("ContourData").length for contour in contours) > 65534
    for contour in contours:
        assert len(contour.ContourData) == 3 * contour.NumberOfContourPoints


def test_nothing_found_has_no_structure_set(datasets: list[Dataset]) -> None:
    request = samples.request_for(datasets)
    empty = np.zeros(samples.SHAPE, np.uint8)
    assert build_structure_set(request, empty, series_number=9010) is None


def test_a_projection_image_has_no_place_for_contours() -> None:
    image = radiograph()
    mask = np.ones((1, image.Rows, image.Columns), np.uint8)
    with pytest.raises(UnsuitableInput) as refused:
        build_structure_set(samples.request_for([image]), mask, series_number=9010)
    assert refused.value.reason == "input.no_frame_of_reference"


def test_the_same_input_gives_the_same_bytes(datasets: list[Dataset]) -> None:
    mask = samples.lungs()
    assert encoded(built(datasets, mask)) == encoded(built(datasets, mask))


def test_a_finding_that_is_no_organ_is_not_called_one(datasets: list[Dataset]) -> None:
    lesion = replace(
        samples.RIGHT, category=replace(samples.STRUCTURE, value="49755003", meaning="Lesion")
    )
    request = samples.request_for(datasets, labels=(lesion, samples.LEFT))
    result = build_structure_set(request, samples.lungs(), series_number=9010)
    assert result is not None
    types = [item.RTROIInterpretedType for item in result.RTROIObservationsSequence]
    assert types == ["", "ORGAN"]


@pytest.mark.parametrize("code", ["91723000", "123037004"])
def test_an_organ_is_one_by_the_code_of_today_and_by_the_older_one(
    datasets: list[Dataset], code: str
) -> None:
    organ = replace(samples.RIGHT, category=replace(samples.STRUCTURE, value=code))
    request = samples.request_for(datasets, labels=(organ, samples.LEFT))
    result = build_structure_set(request, samples.lungs(), series_number=9010)
    assert result is not None
    types = [item.RTROIInterpretedType for item in result.RTROIObservationsSequence]
    assert types == ["ORGAN", "ORGAN"]


def test_a_name_that_no_attribute_can_hold_is_cut_and_passes_its_gate() -> None:
    datasets, mask = samples.ct(), samples.lungs()
    name = "upper\\lower\nlobe " + "x" * 100
    labels = (replace(samples.LABELS[0], name=name), *samples.LABELS[1:])
    request = samples.request_for(datasets, labels=labels)
    built = build_structure_set(request, mask, series_number=9010)
    assert built is not None
    check_structure_set(built, datasets, [1] * len(datasets), mask, labels)
    assert str(built.StructureSetROISequence[0].ROIName).startswith("upper lower lobe x")
