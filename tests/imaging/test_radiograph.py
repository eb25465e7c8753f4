"""Projection images as a reader sees them: white high, in [0, 1]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.errors import UnsuitableInput
from dicom_node.imaging.radiograph import LoadedRadiograph, load_radiograph
from tests.dicom_samples import enhanced_series, radiograph, write_instance
from tests.shared_data import needs_shared, shared

PIXELS = np.array([[0, 1000, 2000], [3000, 4000, 4095]], np.uint16)


def loaded(folder: Path, **attributes: Any) -> LoadedRadiograph:
    return load_radiograph(write_instance(radiograph(PIXELS, **attributes), folder / "i.dcm"))


def codes(found: LoadedRadiograph) -> list[str]:
    return [note.code for note in found.notes]


def test_a_linear_window_follows_the_standard(tmp_path: Path) -> None:
    found = loaded(tmp_path, WindowCenter="2000", WindowWidth="2001")
    expected = np.clip((PIXELS - 1999.5) / 2000 + 0.5, 0, 1)
    np.testing.assert_allclose(found.image.array, expected, atol=1e-6)
    assert found.image.array.dtype == np.float32
    assert codes(found) == []


def test_linear_exact_and_sigmoid_follow_the_standard(tmp_path: Path) -> None:
    exact = loaded(tmp_path, WindowCenter="2000", WindowWidth="2000", VOILUTFunction="LINEAR_EXACT")
    np.testing.assert_allclose(
        exact.image.array, np.clip((PIXELS - 2000.0) / 2000 + 0.5, 0, 1), atol=1e-6
    )
    sigmoid = loaded(tmp_path, WindowCenter="2000", WindowWidth="500", VOILUTFunction="SIGMOID")
    np.testing.assert_allclose(
        sigmoid.image.array, 1 / (1 + np.exp(-4 * (PIXELS - 2000.0) / 500)), atol=1e-6
    )


def test_the_first_of_several_windows_is_used(tmp_path: Path) -> None:
    several = loaded(tmp_path, WindowCenter=["2000", "40"], WindowWidth=["2001", "80"])
    one = loaded(tmp_path, WindowCenter="2000", WindowWidth="2001")
    np.testing.assert_array_equal(several.image.array, one.image.array)


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    window = {"WindowCenter": "2000", "WindowWidth": "2001"}
    normal = loaded(tmp_path, **window)
    inverted = loaded(tmp_path, photometric_interpretation="MONOCHROME1", **window)
    np.testing.assert_allclose(inverted.image.array, 1 - normal.image.array, atol=1e-6)
    assert inverted.image.array[0, 0] == 1.0


def test_the_modality_lut_comes_before_the_window(tmp_path: Path) -> None:
    found = loaded(
        tmp_path, RescaleSlope="2", RescaleIntercept="-100", WindowCenter="3900", WindowWidth="4001"
    )
    expected = np.clip((PIXELS * 2.0 - 100 - 3899.5) / 4000 + 0.5, 0, 1)
    np.testing.assert_allclose(found.image.array, expected, atol=1e-6)


def voi_lut(first: int = 1000) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [3, first, 8])
    item.add_new("LUTData", "US", [0, 51, 255])
    return item


def test_a_voi_lut_is_used_where_there_is_no_window(tmp_path: Path) -> None:
    no_window = {"WindowCenter": None, "WindowWidth": None}
    found = loaded(tmp_path, VOILUTSequence=[voi_lut(999)], **no_window)
    expected = np.array([[0, 0.2, 1], [1, 1, 1]])
    np.testing.assert_allclose(found.image.array, expected, atol=1e-6)
    assert codes(found) == []


def test_an_unusable_window_falls_to_the_voi_lut_then_to_the_full_range(tmp_path: Path) -> None:
    with_table = loaded(tmp_path, WindowWidth="0", VOILUTSequence=[voi_lut(999)])
    assert with_table.image.array[0, 1] == pytest.approx(0.2)
    without = loaded(tmp_path, WindowWidth="0")
    np.testing.assert_allclose(without.image.array, PIXELS / 4095, atol=1e-6)
    assert codes(without) == ["input.voi_full_range"]


def test_a_damaged_voi_lut_is_passed_over(tmp_path: Path) -> None:
    item = voi_lut()
    item.add_new("LUTDescriptor", "US", [3000, 0, 8])
    found = loaded(tmp_path, WindowWidth="0", VOILUTSequence=[item])
    assert codes(found) == ["input.voi_full_range"]


def test_a_constant_image_without_window_is_black(tmp_path: Path) -> None:
    dataset = radiograph(np.full((4, 5), 7, np.uint16), WindowWidth=None)
    found = load_radiograph(write_instance(dataset, tmp_path / "i.dcm"))
    assert found.image.array.max() == 0.0


def test_padding_is_black_and_outside_the_full_range(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        photometric_interpretation="MONOCHROME1",
        WindowWidth=None,
        PixelPaddingValue=4095,
    )
    expected = 1 - PIXELS / 4000.0
    expected[1, 2] = 0
    np.testing.assert_allclose(found.image.array, expected, atol=1e-6)


def test_pixel_spacing_falls_back_to_the_detectors(tmp_path: Path) -> None:
    assert loaded(tmp_path).image.pixel_spacing_mm == (0.2, 0.15)
    detector = loaded(tmp_path, PixelSpacing=None, ImagerPixelSpacing=["0.1", "0.14"])
    assert detector.image.pixel_spacing_mm == (0.1, 0.14)
    assert codes(detector) == ["input.detector_spacing"]
    assert loaded(tmp_path, PixelSpacing=["0", "0"]).image.pixel_spacing_mm is None


def test_the_source_image_is_a_header_with_a_digest(tmp_path: Path) -> None:
    found = loaded(tmp_path)
    assert "PixelData" not in found.source_image
    (digest,) = found.content_digests.values()
    (other,) = loaded(tmp_path, WindowCenter="1000").content_digests.values()
    assert digest != other


def test_several_frames_are_declined(tmp_path: Path) -> None:
    path = write_instance(enhanced_series((3, 8, 8)), tmp_path / "i.dcm")
    with pytest.raises(UnsuitableInput) as caught:
        load_radiograph(path)
    assert caught.value.reason == "input.multi_frame"


@pytest.mark.parametrize("photometric", ["RGB", "PALETTE COLOR", "YBR_FULL_422"])
def test_colour_is_declined(photometric: str, tmp_path: Path) -> None:
    with pytest.raises(UnsuitableInput) as caught:
        loaded(tmp_path, photometric_interpretation=photometric)
    assert caught.value.reason == "input.color"


@pytest.mark.parametrize("attributes", [
    {"PresentationIntentType": "FOR PROCESSING"},
    {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1"},
])
def test_what_a_detector_measured_is_no_picture_yet(
    tmp_path: Path, attributes: dict[str, str]
) -> None:
    with pytest.raises(UnsuitableInput) as caught:
        loaded(tmp_path, **attributes)
    assert caught.value.reason == "input.for_processing"


@pytest.mark.parametrize(
    ("stated", "shape", "told"),
    [("MONOCHROME2", "INVERSE", True), ("MONOCHROME1", "IDENTITY", True),
     ("MONOCHROME2", "IDENTITY", False), ("MONOCHROME1", "INVERSE", False)],
)
def test_a_presentation_shape_that_contradicts_black_and_white_is_told(
    tmp_path: Path, stated: str, shape: str, told: bool
) -> None:
    found = loaded(tmp_path, photometric_interpretation=stated, PresentationLUTShape=shape)
    assert ("input.presentation_contradicts" in codes(found)) == told
    assert found.image.array[0, 0] == (1.0 if stated == "MONOCHROME1" else 0.0)


def test_pixels_of_an_unknown_size_that_are_not_square_are_not_taken_for_square(
    tmp_path: Path
) -> None:
    shape = {"PixelAspectRatio": ["2", "1"], "PixelSpacing": None}
    with pytest.raises(UnsuitableInput) as caught:
        loaded(tmp_path, **shape)
    assert caught.value.reason == "input.spacing_unknown"
    assert loaded(tmp_path, PixelAspectRatio=["2", "1"]).image.pixel_spacing_mm == (0.2, 0.15)


@needs_shared("data", "dicom", "highdicom")
def test_a_real_monochrome1_radiograph_shows_air_dark() -> None:
    path = shared("data", "dicom", "highdicom", "data", "test_files", "dx_image.dcm")
    found = load_radiograph(path)
    assert found.image.array.shape == (169, 211)
    assert 0 <= found.image.array.min() < found.image.array.max() <= 1
    assert found.image.pixel_spacing_mm == (1.2, 1.201199999999)


@needs_shared("data", "dicom", "pydicom-data")
def test_a_real_lossless_and_lossy_radiograph_look_alike() -> None:
    folder = shared("data", "dicom", "pydicom-data", "data_store", "data")
    lossy = load_radiograph(folder / "RG3_J2KI.dcm")
    lossless = load_radiograph(folder / "RG3_J2KR.dcm")
    assert np.abs(lossy.image.array - lossless.image.array).mean() < 0.01
    assert lossy.image.pixel_spacing_mm is None
