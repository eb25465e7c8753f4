"""A result into a file, without the copies of its pixels that pydicom makes on the way."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_PIXEL_DATA = 0x7FE00010


def write_result(result: Dataset, file: BinaryIO) -> None:
    """Write ``result`` as Part 10 bytes: those of its ``save_as``, with its memory spared.

    pydicom puts every value into a buffer first, and native pixels are most of a segmentation.
    """
    from pydicom.dataelem import DataElement

    streamed = result[:]
    streamed.file_meta = result.file_meta
    if _PIXEL_DATA in result and not result.file_meta.TransferSyntaxUID.is_compressed:
        pixels = result[_PIXEL_DATA]
        streamed[_PIXEL_DATA] = DataElement(pixels.tag, pixels.VR, io.BytesIO(pixels.value))
    streamed.save_as(file, enforce_file_format=True)
