"""A result into a file, without the copies of its pixels that pydicom makes on the way."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO

from dicom_node.results.explicit_encoding import sequences_encoded

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_PIXEL_DATA = 0x7FE00010


def write_result(result: Dataset, file: BinaryIO) -> None:
    """Write ``result`` as Part 10 bytes: those of its ``save_as``, with its memory spared.

    pydicom puts every value into a buffer first, and native pixels are most of a segmentation.
    They come last, so they can follow the rest as they are (PS3.5 7.1.2).
    """
    if not _ends_in_native_pixels(result):
        sequences_encoded(result).save_as(file, enforce_file_format=True)
        return
    header = result[:_PIXEL_DATA]
    header.file_meta = result.file_meta
    sequences_encoded(header).save_as(file, enforce_file_format=True)
    pixels, vr = result.PixelData, result[_PIXEL_DATA].VR.encode()
    file.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, vr, 0, len(pixels)))
    file.write(pixels)


def _ends_in_native_pixels(result: Dataset) -> bool:
    """Whether the pixels are settled: of an even length, and of a VR that needs no choice."""
    from pydicom.uid import ExplicitVRLittleEndian

    if result.file_meta.TransferSyntaxUID != ExplicitVRLittleEndian or _PIXEL_DATA not in result:
        return False
    return result[_PIXEL_DATA].VR in ("OB", "OW") and len(result.PixelData) % 2 == 0
