"""The pixels of a Segmentation that was read back: the bits of a frame, or its bytes.

Each raises `GateRefused` (``gate.unreadable``) where there are fewer than the frames need.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from ai_models.types import LabelMap
from dicom_node.results.gate_reading import refused

Mask = npt.NDArray[np.bool_]


def frame_mask(decoded: Dataset, frame: int) -> tuple[slice, Mask]:
    """The rows of a frame between its first and last bits that are set, and their mask.

    Unpacked from the bits (PS3.5 8.1.1: least significant bit first, no padding between frames).
    """
    rows, columns = int(decoded.Rows), int(decoded.Columns)
    start, stop = frame * rows * columns, (frame + 1) * rows * columns
    if stop > 8 * len(decoded.PixelData):
        raise refused("unreadable", "PixelData is shorter than its frames")
    packed = np.frombuffer(decoded.PixelData, np.uint8)
    occupied = packed[start // 8 : -(-stop // 8)] != 0
    first = int(occupied.argmax()) if occupied.size else 0
    if not occupied[first : first + 1].any():
        return slice(0), np.zeros((0, columns), bool)
    first_bit = (start // 8 + first) * 8
    last_bit = (start // 8 + occupied.size - int(occupied[::-1].argmax())) * 8
    first_row = max(first_bit - start, 0) // columns
    last_row = min(-(-(last_bit - start) // columns), rows)
    start, stop = start + first_row * columns, start + last_row * columns
    bits = np.unpackbits(packed[start // 8 : -(-stop // 8)], bitorder="little")
    mask = bits[start % 8 :][: stop - start].reshape(last_row - first_row, columns)
    return slice(first_row, last_row), mask.view(bool)


def bytes_of_frames(decoded: Dataset) -> LabelMap:
    """Frames of one byte a pixel, ``(frames, rows, columns)``, decompressed where they must be."""
    frames = (int(decoded.NumberOfFrames), int(decoded.Rows), int(decoded.Columns))
    size = int(np.prod(frames))
    if decoded.file_meta.TransferSyntaxUID.is_compressed:
        return _decompressed(decoded).reshape(frames)
    if size > len(decoded.PixelData):
        raise refused("unreadable", "PixelData is shorter than its frames")
    return np.frombuffer(decoded.PixelData, np.uint8, size).reshape(frames)


def _decompressed(decoded: Dataset) -> LabelMap:
    try:
        pixels: LabelMap = decoded.pixel_array
    except (ValueError, RuntimeError, AttributeError) as problem:
        raise refused("unreadable", f"the pixels cannot be decompressed: {problem}") from problem
    return pixels
