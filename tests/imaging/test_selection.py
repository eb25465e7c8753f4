"""What is set aside from a series, and what must not be."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicom_node.errors import UnsuitableInput
from dicom_node.imaging.volume import check_geometry, load_volume
from tests.dicom_samples import ct_series, enhanced_series, localizer, phantom_hu, write_series
from tests.imaging.test_geometry import codes, refused

SHAPE = (9, 12, 10)


def again(dataset: Dataset) -> Dataset:
    other = copy.deepcopy(dataset)
    other.SOPInstanceUID = generate_uid()
    other.file_meta.MediaStorageSOPInstanceUID = other.SOPInstanceUID
    return other


def loading_refused(datasets: list[Dataset], folder: Path) -> str:
    with pytest.raises(UnsuitableInput) as caught:
        load_volume(write_series(datasets, folder))
    return caught.value.reason


def test_localizers_are_set_aside() -> None:
    datasets = ct_series(SHAPE)
    geometry = check_geometry([localizer(datasets[0]), *datasets])
    assert geometry.shape == SHAPE
    assert codes(geometry) == ["input.localizer_dropped"]
    assert [plane.index for plane in geometry.planes] == list(range(1, 10))


def test_localizers_alone_are_declined() -> None:
    assert refused([localizer(ct_series(SHAPE)[0])]) == "input.localizer_only"


def test_an_unflagged_scout_of_another_orientation_is_set_aside() -> None:
    datasets = ct_series(SHAPE)
    scout = localizer(datasets[0], ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])
    geometry = check_geometry([*datasets, scout])
    assert geometry.shape == SHAPE
    assert codes(geometry) == ["input.other_orientation_dropped"]


def test_two_stacks_of_different_orientation_are_declined() -> None:
    axial = ct_series(SHAPE)
    coronal = ct_series(SHAPE, orientation=(1, 0, 0, 0, 0, -1))
    for dataset in coronal:
        dataset.SeriesInstanceUID = axial[0].SeriesInstanceUID
        dataset.FrameOfReferenceUID = axial[0].FrameOfReferenceUID
    assert refused(axial + coronal) == "input.mixed_orientation"


def test_an_image_of_another_matrix_within_the_stack_is_set_aside() -> None:
    datasets = ct_series(SHAPE)
    other = again(datasets[4])
    other.Rows = 24
    geometry = check_geometry([*datasets, other])
    assert codes(geometry) == ["input.other_size_dropped"]


def test_a_slice_of_the_stack_with_another_matrix_is_declined() -> None:
    datasets = ct_series(SHAPE)
    datasets[8].Rows = 24
    assert refused(datasets) == "input.mixed_size"


def test_half_a_series_of_another_matrix_is_declined() -> None:
    datasets = ct_series(SHAPE)
    for dataset in datasets[:4]:
        dataset.Columns = 24
    assert refused(datasets) == "input.mixed_size"


def test_a_screenshot_without_position_is_set_aside() -> None:
    datasets = ct_series(SHAPE)
    sheet = localizer(datasets[0], ImageType=["DERIVED", "SECONDARY"])
    del sheet.ImagePositionPatient, sheet.ImageOrientationPatient
    assert codes(check_geometry([*datasets, sheet])) == ["input.unplaced_dropped"]


def test_the_same_instance_given_twice_counts_once() -> None:
    datasets = ct_series(SHAPE)
    geometry = check_geometry([*datasets, datasets[2]])
    assert geometry.shape == SHAPE
    assert codes(geometry) == ["input.repeated_instances"]


def test_a_copy_under_another_uid_is_set_aside(tmp_path: Path) -> None:
    datasets = ct_series(SHAPE)
    loaded = load_volume(write_series([*datasets, again(datasets[2])], tmp_path))
    assert loaded.volume.array.shape == SHAPE
    assert [note.code for note in loaded.notes] == ["input.copies_dropped"]
    assert [s.SOPInstanceUID for s in loaded.source_images] == [d.SOPInstanceUID for d in datasets]


def test_another_image_at_the_same_position_is_declined(tmp_path: Path) -> None:
    datasets = ct_series(SHAPE)
    other = again(datasets[2])
    other.PixelData = bytes(len(other.PixelData))
    assert loading_refused([*datasets, other], tmp_path) == "input.duplicate_positions"


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("TemporalPositionIdentifier", (1, 2)),
        ("AcquisitionNumber", (3, 12)),
        ("AcquisitionTime", ("101500", "101512.5")),
    ],
)
def test_the_first_of_two_complete_phases_is_used(
    keyword: str, values: tuple[object, object], tmp_path: Path
) -> None:
    first = ct_series(SHAPE)
    second = [again(dataset) for dataset in first]
    for before, after in zip(first, second, strict=True):
        setattr(before, keyword, values[0])
        setattr(after, keyword, values[1])
        after.PixelData = bytes(len(after.PixelData))
    loaded = load_volume(write_series(second + first, tmp_path))
    np.testing.assert_array_equal(loaded.volume.array, phantom_hu(SHAPE))
    assert [note.code for note in loaded.notes] == ["input.first_phase_used"]


def test_phases_that_are_not_complete_are_declined(tmp_path: Path) -> None:
    first = ct_series(SHAPE)
    second = [again(dataset) for dataset in first[:-1]]
    for dataset in second:
        dataset.AcquisitionNumber = 2
        dataset.PixelData = bytes(len(dataset.PixelData))
    assert loading_refused(first + second, tmp_path) == "input.duplicate_positions"


def test_two_places_beside_each_other_are_declined(tmp_path: Path) -> None:
    left = ct_series(SHAPE)
    right = [again(dataset) for dataset in left]
    for dataset in right:
        dataset.ImagePositionPatient = [100, *dataset.ImagePositionPatient[1:]]
    assert loading_refused(left + right, tmp_path) == "input.mixed_positions"


def test_frames_of_several_temporal_positions_give_the_first(tmp_path: Path) -> None:
    dataset = enhanced_series((4, 12, 10), frame_order=[0, 1, 2, 3, 0, 1, 2, 3])
    groups = dataset.PerFrameFunctionalGroupsSequence
    for number, group in enumerate(groups):
        group.FrameContentSequence[0].TemporalPositionIndex = 1 + number // 4
    loaded = load_volume(write_series([dataset], tmp_path))
    assert loaded.frame_numbers == (1, 2, 3, 4)
    assert [note.code for note in loaded.notes] == ["input.first_phase_used"]
