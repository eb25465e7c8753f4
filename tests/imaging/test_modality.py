"""Stored values to Hounsfield units, padding included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicom_node.errors import UnsuitableInput
from dicom_node.imaging.volume import LoadedVolume, load_volume
from tests.dicom_samples import ct_series, enhanced_series, mr_series, write_series

SHAPE = (3, 4, 5)
HU = np.arange(60, dtype=np.int16).reshape(SHAPE) * 30 - 1000


def loaded(datasets: list[Dataset], folder: Path) -> LoadedVolume:
    return load_volume(write_series(datasets, folder))


def ct(**attributes: Any) -> list[Dataset]:
    return ct_series(SHAPE, values_hu=HU, **attributes)


def codes(volume: LoadedVolume) -> list[str]:
    return [note.code for note in volume.notes]


def set_stored(datasets: list[Dataset], stored: np.ndarray) -> None:
    for dataset, pixels in zip(datasets, stored, strict=True):
        dataset.PixelData = pixels.astype(f"<{pixels.dtype.kind}{pixels.dtype.itemsize}").tobytes()


def test_whole_numbers_stay_int16(tmp_path: Path) -> None:
    volume = loaded(ct(), tmp_path)
    assert volume.volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.volume.array, HU)


def test_a_fractional_slope_gives_float32(tmp_path: Path) -> None:
    volume = loaded(ct(RescaleSlope="0.5"), tmp_path)
    assert volume.volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.volume.array, (HU + 1024) * 0.5 - 1024)


def test_each_slice_has_its_own_rescale(tmp_path: Path) -> None:
    datasets = ct()
    datasets[1].RescaleIntercept = "-1000"
    array = loaded(datasets, tmp_path).volume.array
    np.testing.assert_array_equal(array[1], HU[1] + 24)
    np.testing.assert_array_equal(array[2], HU[2])


def test_values_beyond_int16_become_float32(tmp_path: Path) -> None:
    datasets = ct(PixelRepresentation=0)
    stored = np.full(SHAPE, 40000, np.uint16)
    set_stored(datasets, stored)
    array = loaded(datasets, tmp_path).volume.array
    assert array.dtype == np.float32
    assert array.max() == 40000 - 1024


def test_unsigned_cells_within_int16_stay_int16(tmp_path: Path) -> None:
    datasets = ct(PixelRepresentation=0)
    array = loaded(datasets, tmp_path).volume.array
    assert array.dtype == np.int16
    np.testing.assert_array_equal(array, HU)


def test_eight_bit_cells_are_read(tmp_path: Path) -> None:
    datasets = ct(BitsAllocated=8, BitsStored=8, HighBit=7, PixelRepresentation=0)
    stored = np.arange(60, dtype=np.uint8).reshape(SHAPE)
    set_stored(datasets, stored)
    array = loaded(datasets, tmp_path).volume.array
    np.testing.assert_array_equal(array, stored.astype(int) - 1024)


def test_a_modality_lut_sequence_is_looked_up(tmp_path: Path) -> None:
    item = Dataset()
    item.LUTDescriptor = [2000, 0, 16]
    item["LUTDescriptor"].VR = "US"
    item.LUTData = [value // 2 for value in range(2000)]
    item["LUTData"].VR = "US"
    item.ModalityLUTType = "HU"
    datasets = ct(ModalityLUTSequence=[item], RescaleSlope=None, RescaleIntercept=None)
    array = loaded(datasets, tmp_path).volume.array
    np.testing.assert_array_equal(array, np.minimum(HU + 1024, 1999) // 2)


def test_a_damaged_modality_lut_is_declined(tmp_path: Path) -> None:
    item = Dataset()
    item.LUTDescriptor = [2000, 0, 16]
    item["LUTDescriptor"].VR = "US"
    item.ModalityLUTType = "HU"
    with pytest.raises(UnsuitableInput) as caught:
        loaded(ct(ModalityLUTSequence=[item]), tmp_path)
    assert caught.value.reason == "input.rescale_invalid"


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
@pytest.mark.parametrize("value", ["NaN", "inf", "one", "1\\2", "1e300"])
def test_a_rescale_that_cannot_be_read_is_not_taken_for_none(
    tmp_path: Path, keyword: str, value: str
) -> None:
    datasets = ct()
    for dataset in datasets:
        dataset.add(DataElement(keyword, "LO", value))
    with pytest.raises(UnsuitableInput) as caught:
        loaded(datasets, tmp_path)
    assert caught.value.reason == "input.rescale_invalid"


def test_a_slope_of_zero_is_declined(tmp_path: Path) -> None:
    with pytest.raises(UnsuitableInput) as caught:
        loaded(ct(RescaleSlope="0"), tmp_path)
    assert caught.value.reason == "input.rescale_invalid"


def test_ct_padding_becomes_air(tmp_path: Path) -> None:
    datasets = ct(PixelPaddingValue=-2000)
    stored = HU + 1024
    stored[:, 0, 0] = -2000
    set_stored(datasets, stored)
    array = loaded(datasets, tmp_path).volume.array
    assert (array[:, 0, 0] == -1024).all()
    np.testing.assert_array_equal(array[:, 1:], HU[:, 1:])


def test_padding_written_with_the_wrong_sign_is_recognised(tmp_path: Path) -> None:
    datasets = ct()
    stored = HU + 1024
    stored[:, 0, 0] = -2000
    set_stored(datasets, stored)
    for dataset in datasets:
        dataset.add_new("PixelPaddingValue", "US", 63536)
    assert (loaded(datasets, tmp_path).volume.array[:, 0, 0] == -1024).all()


def test_padding_outside_bits_stored_does_not_become_tissue(tmp_path: Path) -> None:
    datasets = ct(PixelRepresentation=0, BitsStored=12, HighBit=11)
    stored = (HU + 1024).astype(np.uint16)
    stored[:, 0, 0] = 63536
    set_stored(datasets, stored)
    for dataset in datasets:
        dataset.add_new("PixelPaddingValue", "US", 63536)
    array = loaded(datasets, tmp_path).volume.array
    assert (array[:, 0, 0] == -1024).all()
    np.testing.assert_array_equal(array[:, 1:], HU[:, 1:])


def test_a_padding_range_is_replaced_as_a_whole(tmp_path: Path) -> None:
    datasets = ct(PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1990)
    stored = HU + 1024
    stored[:, 0, :3] = (-2000, -1995, -1990)
    set_stored(datasets, stored)
    assert (loaded(datasets, tmp_path).volume.array[:, 0, :3] == -1024).all()


def test_padding_among_tissue_values_is_left_alone_and_noted(tmp_path: Path) -> None:
    volume = loaded(ct(PixelPaddingValue=int(HU[1, 2, 3]) + 1024), tmp_path)
    np.testing.assert_array_equal(volume.volume.array, HU)
    assert codes(volume) == ["input.padding_in_range"]


def test_mr_padding_becomes_the_smallest_other_value(tmp_path: Path) -> None:
    values = np.abs(HU) + 5
    values[:, 0, 0] = -32768
    array = loaded(mr_series(SHAPE, values=values, PixelPaddingValue=-32768), tmp_path).volume.array
    assert array.min() == array[0, 0, 0] == values[values > 0].min()


def test_ct_without_rescale_is_noted(tmp_path: Path) -> None:
    volume = loaded(ct(RescaleSlope=None, RescaleIntercept=None), tmp_path)
    assert codes(volume) == ["input.no_rescale"]
    np.testing.assert_array_equal(volume.volume.array, HU + 1024)


def test_ct_that_is_not_hounsfield_has_an_arbitrary_unit(tmp_path: Path) -> None:
    volume = loaded(ct(RescaleType="MGML"), tmp_path)
    assert volume.volume.unit == "arbitrary"
    assert codes(volume) == ["input.not_hounsfield"]


@pytest.mark.parametrize(
    ("image_type", "unit"),
    [(["ORIGINAL", "PRIMARY", "AXIAL"], "HU"), (["DERIVED", "PRIMARY", "PERFUSION"], "arbitrary")],
)
def test_an_unspecified_type_is_hounsfield_for_original_images_only(
    image_type: list[str], unit: str, tmp_path: Path
) -> None:
    assert loaded(ct(RescaleType="US", ImageType=image_type), tmp_path).volume.unit == unit


def test_frames_may_have_their_own_rescale(tmp_path: Path) -> None:
    dataset = enhanced_series(SHAPE, values_hu=HU)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    del shared.PixelValueTransformationSequence
    for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        item = Dataset()
        item.RescaleIntercept, item.RescaleSlope, item.RescaleType = -1024 - number, 1, "HU"
        group.PixelValueTransformationSequence = [item]
    array = loaded([dataset], tmp_path).volume.array
    for number in range(3):
        np.testing.assert_array_equal(array[number], HU[number] - number)
