"""Each tolerance of the geometry checks: one series that passes and one that does not."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.errors import UnsuitableInput
from dicom_node.imaging.geometry import StackGeometry
from dicom_node.imaging.volume import VolumeLimits, check_geometry
from tests.dicom_samples import AXIAL, SAGITTAL, ct_series, enhanced_series, with_attributes

SHAPE = (9, 6, 5)


def codes(geometry: StackGeometry) -> list[str]:
    return [note.code for note in geometry.notes]


def refused(datasets: list[Dataset], limits: VolumeLimits = VolumeLimits()) -> str:
    with pytest.raises(UnsuitableInput) as caught:
        check_geometry(datasets, limits)
    return caught.value.reason


def moved(shift_mm: Callable[[int], tuple[float, float, float]]) -> list[Dataset]:
    datasets = ct_series(SHAPE)
    for index, dataset in enumerate(datasets):
        position = np.array(dataset.ImagePositionPatient, float) + shift_mm(index)
        dataset.ImagePositionPatient = [f"{value:.6f}" for value in position]
    return datasets


def test_a_regular_series_is_its_own_grid() -> None:
    geometry = check_geometry(ct_series(SHAPE))
    assert geometry.shape == SHAPE
    assert geometry.source_affine_lps is not None
    np.testing.assert_allclose(
        geometry.affine_lps,
        np.array([[0, 0, 0.5, -10], [0, 0.75, 0, -20], [2.5, 0, 0, 30], [0, 0, 0, 1]]),
        atol=1e-9,
    )
    assert codes(geometry) == []


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_regular() -> None:
    datasets = ct_series((40, 6, 5), (0.8, 0.75, 0.5), (0.98, 0.199, 0, -0.199, 0.98, 0))
    for dataset in datasets:
        dataset.ImagePositionPatient = [
            f"{float(value):.1f}" for value in dataset.ImagePositionPatient
        ]
    geometry = check_geometry(datasets)
    assert geometry.source_affine_lps is not None
    np.testing.assert_allclose(np.linalg.norm(geometry.affine_lps[:3, 0]), 0.8, atol=2e-3)


def test_uneven_spacing_is_resampled_and_noted() -> None:
    geometry = check_geometry(moved(lambda i: (0, 0, 0.4 * (i % 2))))
    assert geometry.source_affine_lps is None
    assert codes(geometry) == ["input.irregular_spacing_resampled"]
    heights = 30 + 2.5 * np.arange(9) + 0.4 * (np.arange(9) % 2)
    step = geometry.affine_lps[2, 0]
    np.testing.assert_allclose(
        geometry.affine_lps[2, 3] + step * geometry.slice_coordinates, heights, atol=1e-6
    )


def test_uneven_spacing_is_declined_where_resampling_is_not_wanted() -> None:
    limits = VolumeLimits(resample_irregular=False)
    assert refused(moved(lambda i: (0, 0, 0.4 * (i % 2))), limits) == "input.irregular_spacing"
    assert check_geometry(moved(lambda i: (0, 0, 0.05 * (i % 2))), limits)


def test_a_missing_slice_is_declined_by_default() -> None:
    datasets = ct_series(SHAPE)
    del datasets[4]
    assert refused(datasets) == "input.missing_slices"


def test_a_missing_slice_is_interpolated_where_the_limits_allow_it() -> None:
    datasets = ct_series(SHAPE)
    del datasets[4]
    geometry = check_geometry(datasets, VolumeLimits(max_missing_slices=1))
    assert geometry.shape == SHAPE
    assert geometry.source_affine_lps is None
    assert codes(geometry) == ["input.missing_slices_interpolated"]
    np.testing.assert_allclose(geometry.slice_coordinates, [0, 1, 2, 3, 5, 6, 7, 8])
    del datasets[4]
    assert refused(datasets, VolumeLimits(max_missing_slices=1)) == "input.missing_slices"


def test_blocks_of_thin_and_thick_slices_are_not_missing_slices() -> None:
    thin = ct_series((6, 6, 5), (2.5, 0.75, 0.5))
    thick = ct_series((6, 6, 5), (5.0, 0.75, 0.5), origin_mm=(-10, -20, 30 + 6 * 2.5 + 1.25))
    for dataset in thick:
        dataset.SeriesInstanceUID = thin[0].SeriesInstanceUID
        dataset.FrameOfReferenceUID = thin[0].FrameOfReferenceUID
    geometry = check_geometry(thin + thick)
    assert codes(geometry) == ["input.irregular_spacing_resampled"]
    np.testing.assert_allclose(np.linalg.norm(geometry.affine_lps[:3, 0]), 2.5, rtol=0.05)


def test_neighbours_further_apart_than_the_limit_are_declined() -> None:
    assert check_geometry(ct_series(SHAPE, (10.0, 0.75, 0.5)))
    assert refused(ct_series(SHAPE, (10.2, 0.75, 0.5))) == "input.slice_gap"


def test_fewer_slices_than_asked_for_are_declined() -> None:
    assert check_geometry(ct_series(SHAPE), VolumeLimits(min_slices=9))
    assert refused(ct_series(SHAPE), VolumeLimits(min_slices=10)) == "input.too_few_slices"


def test_orientation_jitter_of_a_thousandth_is_averaged() -> None:
    datasets = ct_series(SHAPE)
    for index, dataset in enumerate(datasets):
        dataset.ImageOrientationPatient = [1, 0.0009 * (index % 2), 0, 0, 1, 0]
    geometry = check_geometry(datasets)
    axes = geometry.affine_lps[:3, :3] / np.linalg.norm(geometry.affine_lps[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)


def test_more_orientation_jitter_is_declined() -> None:
    datasets = ct_series(SHAPE)
    for index, dataset in enumerate(datasets):
        dataset.ImageOrientationPatient = [1, 0.004 * (index % 2), 0, 0, 1, 0]
    assert refused(datasets) == "input.mixed_orientation"


@pytest.mark.parametrize(
    "orientation", [(1, 0, 0, 0.1, 0.995, 0), (1.01, 0, 0, 0, 1, 0), (0, 0, 0, 0, 0, 0)]
)
def test_cosines_that_are_no_orthogonal_unit_vectors_are_declined(
    orientation: tuple[float, ...],
) -> None:
    datasets = ct_series(SHAPE)
    for dataset in datasets:
        dataset.ImageOrientationPatient = list(orientation)
    assert refused(datasets) == "input.orientation_invalid"


def test_gantry_tilt_is_an_exact_shear() -> None:
    step = (0.0, 2.5 * np.tan(np.radians(17)), 2.5)
    geometry = check_geometry(ct_series(SHAPE, slice_step_mm=step))
    np.testing.assert_allclose(geometry.affine_lps[:3, 0], step, atol=1e-6)
    assert geometry.source_affine_lps is not None
    assert codes(geometry) == ["input.gantry_tilt"]


def test_a_stack_that_leans_more_than_any_gantry_is_declined() -> None:
    assert refused(ct_series(SHAPE, slice_step_mm=(0, 2.5, 2.5))) == "input.irregular_positions"


def test_sideways_jitter_is_accepted_up_to_a_tenth_of_a_millimetre() -> None:
    geometry = check_geometry(moved(lambda i: (0.08 * (i % 2), 0, 0)))
    np.testing.assert_allclose(geometry.affine_lps[:3, 0], [0, 0, 2.5], atol=1e-9)
    assert refused(moved(lambda i: (0.5 * (i % 2), 0, 0))) == "input.irregular_positions"


def test_pixel_spacing_may_differ_by_its_rounding_only() -> None:
    datasets = ct_series(SHAPE)
    datasets[3].PixelSpacing = ["0.7504", "0.5"]
    assert check_geometry(datasets)
    datasets[3].PixelSpacing = ["0.76", "0.5"]
    assert refused(datasets) == "input.mixed_pixel_spacing"


def test_a_single_slice_takes_its_thickness_from_the_header() -> None:
    geometry = check_geometry(ct_series((1, 6, 5)))
    np.testing.assert_allclose(geometry.affine_lps[:3, 0], [0, 0, 2.5])
    assert refused(ct_series((1, 6, 5), SliceThickness=None)) == "input.no_slice_spacing"


def test_a_volume_larger_than_the_limit_is_declined() -> None:
    assert check_geometry(ct_series(SHAPE), VolumeLimits(max_voxels=270))
    assert refused(ct_series(SHAPE), VolumeLimits(max_voxels=269)) == "input.too_large"


def test_slices_follow_the_normal_whatever_order_they_came_in() -> None:
    datasets = ct_series(SHAPE, orientation=SAGITTAL)
    given = [datasets[index] for index in (3, 8, 0, 5, 1, 7, 2, 6, 4)]
    geometry = check_geometry(given)
    assert [given[plane.index] for plane in geometry.planes] == datasets


def test_a_stack_numbered_against_its_normal_is_turned_round() -> None:
    datasets = ct_series(SHAPE, slice_step_mm=(0, 0, -2.5))
    geometry = check_geometry(datasets)
    assert [plane.index for plane in geometry.planes] == list(range(8, -1, -1))
    np.testing.assert_allclose(geometry.affine_lps[:3, 0], [0, 0, 2.5], atol=1e-9)


@pytest.mark.parametrize(
    "keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"]
)
def test_images_without_geometry_are_declined(keyword: str) -> None:
    assert refused(with_attributes(ct_series(SHAPE), **{keyword: None})) == "input.no_geometry"
    one = ct_series(SHAPE)
    delattr(one[2], keyword)
    assert refused(one) == "input.no_geometry"


def test_nothing_given_is_declined() -> None:
    assert refused([]) == "input.empty"


def test_two_series_at_once_are_declined() -> None:
    assert refused(ct_series(SHAPE) + ct_series(SHAPE)) == "input.mixed_series"


def test_two_frames_of_reference_are_declined() -> None:
    datasets = ct_series(SHAPE)
    datasets[8].FrameOfReferenceUID = "1.2.3"
    assert refused(datasets) == "input.mixed_frame_of_reference"
    assert codes(check_geometry(ct_series(SHAPE, FrameOfReferenceUID=None))) == [
        "input.no_frame_of_reference"
    ]


def test_two_modalities_are_declined() -> None:
    datasets = ct_series(SHAPE)
    datasets[8].Modality = "PT"
    assert refused(datasets) == "input.mixed_modality"


def test_an_image_that_cannot_be_referred_to_is_declined() -> None:
    datasets = ct_series(SHAPE)
    datasets[2].SOPInstanceUID = ""
    assert refused(datasets) == "input.no_identity"


def test_a_segmentation_is_no_source_image() -> None:
    datasets = ct_series(SHAPE, SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")
    assert refused(datasets) == "input.not_an_image"


def test_values_that_cannot_be_read_count_as_absent() -> None:
    datasets = ct_series(SHAPE)
    for dataset in datasets:
        dataset.add_new("ImagePositionPatient", "LO", ["a", "b", "c"])
    assert refused(datasets) == "input.no_geometry"


def test_an_enhanced_object_gives_its_frames_in_slice_order() -> None:
    order = [4, 1, 0, 3, 2]
    geometry = check_geometry([enhanced_series((5, 6, 5), frame_order=order)])
    assert [plane.frame_number for plane in geometry.planes] == [3, 2, 5, 4, 1]
    assert geometry.shape == (5, 6, 5)
    np.testing.assert_allclose(geometry.affine_lps[:3, 0], [0, 0, 2.5], atol=1e-9)


def test_an_enhanced_object_must_describe_every_frame() -> None:
    dataset = enhanced_series((5, 6, 5))
    dataset.NumberOfFrames = 6
    assert refused([dataset]) == "input.frame_count"


def test_frames_without_functional_groups_are_declined() -> None:
    dataset = enhanced_series((5, 6, 5))
    del dataset.PerFrameFunctionalGroupsSequence
    assert refused([dataset]) == "input.multi_frame_without_geometry"


def test_a_stack_over_several_enhanced_objects_is_declined() -> None:
    first = enhanced_series((5, 6, 5))
    second = copy.deepcopy(enhanced_series((5, 6, 5), origin_mm=(-10, -20, 42.5)))
    second.SeriesInstanceUID = first.SeriesInstanceUID
    second.FrameOfReferenceUID = first.FrameOfReferenceUID
    assert refused([first, second]) == "input.several_multi_frame"


def test_enhanced_frames_of_two_stacks_are_declined() -> None:
    dataset = enhanced_series((6, 6, 5))
    for group in dataset.PerFrameFunctionalGroupsSequence[3:]:
        plane = Dataset()
        plane.ImageOrientationPatient = list(SAGITTAL)
        group.PlaneOrientationSequence = [plane]
    assert tuple(AXIAL) != tuple(SAGITTAL)
    assert refused([dataset]) == "input.mixed_orientation"
