from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from ai_models.types import LabelMap
from dicom_node.results.segmentation import build_label_map_segmentation
from dicom_node.results.writing import write_result
from tests.dicom_samples import radiograph
from tests.results import samples


def _segmentation_of_a_stack() -> Dataset:
    return samples.segmentation_of(samples.ct(), samples.lungs())


def _segmentation_of_a_radiograph() -> Dataset:
    mask: LabelMap = np.ones((1, 48, 64), np.uint8)
    return samples.segmentation_of([radiograph()], mask)


def _compressed_label_map() -> Dataset:
    result = build_label_map_segmentation(
        samples.request_for(samples.ct()), samples.lungs(), series_number=9001
    )
    assert result is not None
    result.compress(RLELossless, generate_instance_uid=False)
    return result


def _pixels_of_16_bits_whose_vr_is_open() -> Dataset:
    image = radiograph()
    pixels = image.PixelData
    del image.PixelData
    image.PixelData = pixels
    assert image["PixelData"].VR == "OB or OW"
    return image


def _object_without_pixels() -> Dataset:
    segmentation = _segmentation_of_a_stack()
    del segmentation.PixelData
    return segmentation


@pytest.mark.parametrize(
    "build",
    [
        _segmentation_of_a_stack,
        _segmentation_of_a_radiograph,
        _compressed_label_map,
        _object_without_pixels,
        _pixels_of_16_bits_whose_vr_is_open,
    ],
)
def test_a_result_is_streamed_into_a_file_as_the_bytes_of_its_save(
    build: Callable[[], Dataset],
) -> None:
    result = build()
    saved, streamed = io.BytesIO(), io.BytesIO()
    result.save_as(saved, enforce_file_format=True)
    write_result(result, streamed)
    assert streamed.getvalue() == saved.getvalue()


def test_the_result_itself_stays_as_it_was() -> None:
    segmentation = _segmentation_of_a_stack()
    write_result(segmentation, io.BytesIO())
    assert isinstance(segmentation.PixelData, bytes)
