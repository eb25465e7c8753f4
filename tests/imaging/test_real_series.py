"""Real series from several scanners, voxel by voxel against SimpleITK."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import UnsuitableInput
from dicom_node.imaging.decode import decode_frames
from dicom_node.imaging.scan import scan
from dicom_node.imaging.volume import LoadedVolume, load_volume
from tests.shared_data import needs_shared, shared

RIDER = ("data", "series", "ct_chest_rider_pilot")
TOTALSEGMENTATOR = (
    *("data", "series", "ct_totalsegmentator", "tests", "reference_files"),
    "example_ct_dicom",
)
STUDYFORREST = ("data", "series", "mr_t1_studyforrest", "dicoms")
PAPAYA = ("data", "dicom", "papaya", "tests", "data", "dicom")
DCMQI = ("data", "dicom", "dcmqi", "data", "segmentations")
LUNGMASK = ("data", "dicom", "lungmask", "tests", "testdata")
PACSMAN = ("data", "dicom", "pacsman", "pacsman_data", "data", "dicomseries")


def load(*parts: str) -> LoadedVolume:
    series, _ = scan([shared(*parts)])
    (paths,) = series.values()
    return load_volume(paths)


def peer(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """SimpleITK's array and its affine in our index order (slice, row, column)."""
    sitk = pytest.importorskip("SimpleITK")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    directions = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, :3] = directions[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image), affine


@pytest.mark.parametrize(
    ("parts", "tolerance_mm"),
    [
        pytest.param(TOTALSEGMENTATOR, 1e-6, marks=needs_shared(*TOTALSEGMENTATOR)),
        pytest.param(STUDYFORREST, 1e-5, marks=needs_shared(*STUDYFORREST)),
        pytest.param((*DCMQI, "23x38x3", "image"), 1e-6, marks=needs_shared(*DCMQI)),
        pytest.param(LUNGMASK, 1e-6, marks=needs_shared(*LUNGMASK)),
        pytest.param(PACSMAN, 1e-6, marks=needs_shared(*PACSMAN)),
    ],
)
def test_array_and_affine_equal_simpleitks(parts: tuple[str, ...], tolerance_mm: float) -> None:
    loaded = load(*parts)
    array, affine = peer(shared(*parts))
    np.testing.assert_array_equal(loaded.volume.array, array)
    np.testing.assert_allclose(loaded.volume.affine_lps, affine, atol=tolerance_mm)


@needs_shared(*PAPAYA)
def test_an_oblique_stack_with_rounded_positions_is_regular_to_a_tenth_of_a_millimetre() -> None:
    loaded = load(*PAPAYA)
    assert loaded.source_affine_lps is not None
    for index, image in enumerate(loaded.source_images):
        corner = loaded.volume.affine_lps @ (index, 0, 0, 1)
        assert np.linalg.norm(corner[:3] - image.ImagePositionPatient) < 0.1
        (stored,) = decode_frames(shared(*PAPAYA, f"brain_{image.InstanceNumber:03d}.dcm"))
        np.testing.assert_array_equal(loaded.volume.array[index], stored)


@needs_shared(*RIDER)
def test_rider_is_feet_first_at_its_true_spacing_with_padding_as_air() -> None:
    loaded = load(*RIDER)
    array, affine = peer(shared(*RIDER))
    np.testing.assert_allclose(loaded.volume.affine_lps, affine, atol=1e-5)
    assert loaded.volume.spacing_mm[0] == pytest.approx(0.8, abs=1e-4)
    different = loaded.volume.array != array
    assert (array[different] == -3024).all()
    assert (loaded.volume.array[different] == -1024).all()
    assert loaded.source_images[0].PatientPosition == "FFS"


@needs_shared(*RIDER)
def test_rider_without_one_slice_is_declined() -> None:
    paths = sorted(shared(*RIDER).glob("*.dcm"))
    with pytest.raises(UnsuitableInput) as caught:
        load_volume(paths[:40] + paths[41:])
    assert caught.value.reason == "input.missing_slices"


@needs_shared(*DCMQI)
def test_a_real_legacy_converted_object_is_its_classic_series() -> None:
    classic = load(*DCMQI, "23x38x3", "image")
    enhanced = load(*DCMQI, "23x38x3", "multiframe")
    np.testing.assert_array_equal(enhanced.volume.array, classic.volume.array)
    np.testing.assert_allclose(enhanced.volume.affine_lps, classic.volume.affine_lps, atol=1e-6)
    assert sorted(enhanced.frame_numbers) == [1, 2, 3]


@needs_shared("data", "dicom", "pydicom-data")
def test_a_real_enhanced_mr_without_per_frame_groups_is_declined() -> None:
    path = shared("data", "dicom", "pydicom-data", "data_store", "data", "emri_small.dcm")
    with pytest.raises(UnsuitableInput) as caught:
        load_volume([path])
    assert caught.value.reason == "input.multi_frame_without_geometry"


@needs_shared("data", "dicom", "pydicom-data")
def test_a_real_enhanced_perfusion_map_is_not_hounsfield() -> None:
    path = shared("data", "dicom", "pydicom-data", "data_store", "data", "eCT_Supplemental.dcm")
    loaded = load_volume([path])
    assert loaded.volume.array.shape == (2, 512, 512)
    assert loaded.volume.unit == "arbitrary"


@needs_shared("data", "dicom", "pydicom")
def test_a_real_rotating_projection_is_declined() -> None:
    folder = shared(
        *("data", "dicom", "pydicom", "src", "pydicom", "data", "test_files"),
        *("dicomdirtests", "98892003", "MR700"),
    )
    with pytest.raises(UnsuitableInput) as caught:
        load_volume(sorted(folder.iterdir()))
    assert caught.value.reason == "input.mixed_orientation"
