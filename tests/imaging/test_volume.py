"""Series to volume: every voxel stays where the scanner put it, with its value."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import RLELossless

from dicom_node.errors import NotUnderstood, UnsuitableInput
from dicom_node.imaging.volume import LoadedVolume, VolumeLimits, load_volume
from tests.dicom_samples import (
    AXIAL,
    CORONAL,
    FEET_FIRST,
    ORIGIN_MM,
    SAGITTAL,
    SPACING_MM,
    ct_series,
    enhanced_series,
    marker_index,
    mr_series,
    phantom_hu,
    slice_normal,
    write_series,
)

SHAPE = (8, 16, 20)


def marker_world_mm(loaded: LoadedVolume, value: int = 2000) -> np.ndarray:
    (index,) = np.argwhere(loaded.volume.array == value)
    world: np.ndarray = loaded.volume.affine_lps @ np.append(index, 1)
    return world[:3]


def expected_world_mm(
    orientation: tuple[float, ...],
    spacing_mm: tuple[float, float, float],
    origin_mm: tuple[float, ...],
    shape: tuple[int, int, int] = SHAPE,
) -> np.ndarray:
    """Equation C.7.6.2.1-1 of PS3.3, written out."""
    slice_, row, column = marker_index(shape)
    along_row, along_column = np.array(orientation[:3]), np.array(orientation[3:])
    world: np.ndarray = (
        np.array(origin_mm)
        + along_row * spacing_mm[2] * column
        + along_column * spacing_mm[1] * row
        + slice_normal(orientation) * spacing_mm[0] * slice_
    )
    return world


@pytest.mark.parametrize("orientation", [AXIAL, FEET_FIRST, CORONAL, SAGITTAL])
def test_the_marker_lies_where_the_standard_says(
    orientation: tuple[float, ...], tmp_path: Path
) -> None:
    loaded = load_volume(write_series(ct_series(SHAPE, orientation=orientation), tmp_path))
    np.testing.assert_array_equal(loaded.volume.array, phantom_hu(SHAPE))
    assert loaded.volume.array.dtype == np.int16
    np.testing.assert_allclose(
        marker_world_mm(loaded), expected_world_mm(orientation, SPACING_MM, ORIGIN_MM), atol=1e-6
    )


@st.composite
def orientations(draw: st.DrawFn) -> tuple[float, ...]:
    numbers = draw(
        st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=6, max_size=6).filter(
            lambda v: np.linalg.norm(np.cross(v[:3], v[3:])) > 0.1
        )
    )
    row = np.array(numbers[:3]) / np.linalg.norm(numbers[:3])
    normal = np.cross(row, numbers[3:])
    column = np.cross(normal / np.linalg.norm(normal), row)
    return tuple(float(value) for value in (*row, *column))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    orientation=orientations(),
    spacing_mm=st.tuples(st.floats(0.4, 9.0), st.floats(0.2, 3.0), st.floats(0.2, 3.0)),
    origin_mm=st.tuples(*[st.floats(-500, 500, allow_subnormal=False)] * 3),
    order=st.permutations(range(SHAPE[0])),
    lean=st.tuples(st.floats(-0.4, 0.4), st.floats(-0.4, 0.4)),
    cut=st.integers(0, 2),
)
def test_no_orientation_order_subset_or_tilt_moves_the_marker(
    orientation: tuple[float, ...],
    spacing_mm: tuple[float, float, float],
    origin_mm: tuple[float, float, float],
    order: list[int],
    lean: tuple[float, float],
    cut: int,
) -> None:
    along_row, along_column = np.array(orientation[:3]), np.array(orientation[3:])
    step = slice_normal(orientation) + lean[0] * along_row + lean[1] * along_column
    datasets = ct_series(
        SHAPE, spacing_mm, orientation, origin_mm, slice_step_mm=list(step * spacing_mm[0])
    )
    slice_, row, column = marker_index(SHAPE)
    expected = np.array(origin_mm) + step * spacing_mm[0] * slice_
    expected += along_row * spacing_mm[2] * column + along_column * spacing_mm[1] * row
    kept = [datasets[index] for index in order if index < SHAPE[0] - cut]
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_volume(write_series(kept, Path(folder)))
    np.testing.assert_allclose(marker_world_mm(loaded), expected, atol=0.11)
    assert [image.InstanceNumber for image in loaded.source_images] == list(
        range(1, SHAPE[0] - cut + 1)
    )


def test_source_images_are_headers_without_pixels_in_slice_order(tmp_path: Path) -> None:
    datasets = ct_series(SHAPE)
    loaded = load_volume(write_series(datasets[::-1], tmp_path))
    assert [image.SOPInstanceUID for image in loaded.source_images] == [
        dataset.SOPInstanceUID for dataset in datasets
    ]
    assert all("PixelData" not in image for image in loaded.source_images)
    assert loaded.source_images[0].PatientName == "Synthetic^Phantom"
    assert loaded.source_images[0].file_meta.MediaStorageSOPInstanceUID
    assert loaded.frame_numbers == (1,) * 8
    assert set(loaded.content_digests) == {dataset.SOPInstanceUID for dataset in datasets}


def test_an_enhanced_object_is_the_same_volume_as_its_classic_series(tmp_path: Path) -> None:
    order = [5, 0, 7, 2, 1, 6, 3, 4]
    classic = load_volume(write_series(ct_series(SHAPE), tmp_path / "classic"))
    dataset = enhanced_series(SHAPE, frame_order=order)
    enhanced = load_volume(write_series([dataset], tmp_path / "enhanced"))
    np.testing.assert_array_equal(enhanced.volume.array, classic.volume.array)
    np.testing.assert_allclose(enhanced.volume.affine_lps, classic.volume.affine_lps, atol=1e-9)
    assert enhanced.frame_numbers == tuple(order.index(slice_) + 1 for slice_ in range(8))
    assert len(enhanced.source_images) == 1
    assert list(enhanced.content_digests) == [dataset.SOPInstanceUID]


def test_a_compressed_enhanced_object_decodes_frame_by_frame(tmp_path: Path) -> None:
    dataset = enhanced_series(SHAPE, modality="MR", frame_order=range(7, -1, -1))
    paths = write_series([dataset], tmp_path, transfer_syntax_uid=RLELossless)
    loaded = load_volume(paths)
    np.testing.assert_array_equal(loaded.volume.array, phantom_hu(SHAPE))
    assert loaded.volume.unit == "arbitrary"


def test_a_classic_mr_keeps_its_stored_values(tmp_path: Path) -> None:
    loaded = load_volume(write_series(mr_series(SHAPE), tmp_path))
    np.testing.assert_array_equal(loaded.volume.array, phantom_hu(SHAPE) + 1000)
    assert loaded.volume.unit == "arbitrary"


def test_irregular_slices_are_interpolated_and_labels_find_their_way_back(tmp_path: Path) -> None:
    values = np.repeat(np.arange(8, dtype=np.int16)[:, None, None] * 100, 16, 1)
    values = np.repeat(values, 20, 2)
    datasets = ct_series(SHAPE, values_hu=values)
    heights = np.array([0, 2, 4.4, 6, 8, 10.3, 12, 14])
    for dataset, height in zip(datasets, heights, strict=True):
        dataset.ImagePositionPatient = [0, 0, height]
    loaded = load_volume(write_series(datasets, tmp_path))
    assert loaded.source_affine_lps is None
    assert loaded.volume.array.shape == SHAPE
    expected = np.interp(np.arange(8) * 2.0, heights, np.arange(8) * 100.0)
    np.testing.assert_array_equal(loaded.volume.array[:, 3, 4], np.rint(expected))
    label_map = np.zeros(SHAPE, np.uint8)
    label_map[5] = 3
    back = loaded.to_source_grid(label_map)
    assert back.shape == (8, 16, 20)
    assert [int(slice_.max()) for slice_ in back] == [0, 0, 0, 0, 0, 3, 0, 0]


def test_a_hole_is_interpolated_and_absent_from_the_source_grid(tmp_path: Path) -> None:
    datasets = ct_series(SHAPE)
    del datasets[3]
    loaded = load_volume(write_series(datasets, tmp_path), VolumeLimits(max_missing_slices=1))
    assert loaded.volume.array.shape == SHAPE
    assert loaded.to_source_grid(np.zeros(SHAPE, np.uint8)).shape == (7, 16, 20)
    middle = (phantom_hu(SHAPE)[2].astype(float) + phantom_hu(SHAPE)[4]) / 2
    np.testing.assert_allclose(loaded.volume.array[3], middle, atol=0.51)


def test_a_label_map_of_another_shape_is_refused(tmp_path: Path) -> None:
    loaded = load_volume(write_series(ct_series(SHAPE), tmp_path))
    assert loaded.to_source_grid(np.ones(SHAPE, np.uint8)).sum() == np.prod(SHAPE)
    with pytest.raises(ValueError, match="not on the grid"):
        loaded.to_source_grid(np.zeros((8, 20, 16), np.uint8))


def test_images_of_different_cells_are_declined(tmp_path: Path) -> None:
    datasets = ct_series(SHAPE)
    datasets[2].PixelRepresentation = 0
    with pytest.raises(UnsuitableInput) as caught:
        load_volume(write_series(datasets, tmp_path))
    assert caught.value.reason == "input.mixed_pixel_format"


def test_a_file_that_is_not_dicom_is_not_understood(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_text("not an image")
    with pytest.raises(NotUnderstood):
        load_volume([path])


def test_a_missing_file_is_not_understood(tmp_path: Path) -> None:
    with pytest.raises(NotUnderstood):
        load_volume([tmp_path / "absent.dcm"])
