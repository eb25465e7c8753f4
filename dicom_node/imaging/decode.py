"""Stored pixel values of any transfer syntax as arrays.

Native little-endian pixels are read by offset straight into the array; everything else is
decoded by pydicom, compressed data through the pylibjpeg plug-ins (JPEG, JPEG-LS, JPEG 2000,
HTJ2K, RLE). Cells are cleaned to Bits Stored (overlays and junk in high bits removed, sign
extended; PS3.5 8.1.1), so the same image has the same values whatever it was wrapped in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from dicom_node.errors import StorageFailed, UnsuitableInput
from dicom_node.imaging.codestream import claimed_size
from dicom_node.imaging.deflated import inflates_beyond
from dicom_node.imaging.elements import number, text, unsigned
from dicom_node.imaging.planes import decline
from dicom_node.imaging.reading import Header, header_of, read_header

Stored = npt.NDArray[np.generic]

_HEADER_LIMIT_BYTES = 64 << 20
# Retired JPEG processes that the decoder of JPEG Extended (Process 2 and 4) reads as well.
_SAME_CODEC = {
    "1.2.840.10008.1.2.4.53": "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.55": "1.2.840.10008.1.2.4.51",
}


@dataclass(frozen=True)
class PixelFormat:
    """The Image Pixel module of a monochrome image (PS3.3 C.7.6.3).

    ``padding`` are the stored values, low and high, that Pixel Padding Value and Range Limit
    name (C.7.5.1.1.2). Their VR may contradict Pixel Representation: the bits count.
    """

    rows: int
    columns: int
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    padding: tuple[int, int] | None = None

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Little-endian integer type of one pixel cell."""
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.bits_allocated // 8}")

    @property
    def stored_range(self) -> tuple[int, int]:
        """Smallest and largest value that Bits Stored can hold."""
        if self.signed:
            return -(1 << (self.bits_stored - 1)), (1 << (self.bits_stored - 1)) - 1
        return 0, (1 << self.bits_stored) - 1


def pixel_format(header: Header) -> PixelFormat:
    """Check and gather the Image Pixel module.

    Raises
    ------
    UnsuitableInput
        ``input.no_pixel_data``, ``input.color``, ``input.pixel_format``.
    """
    dataset = header.dataset
    if not header.has_pixel_data:
        raise decline("no_pixel_data", "the object holds no pixel data")
    photometric = text(dataset, "PhotometricInterpretation").upper()
    if unsigned(dataset, "SamplesPerPixel", 1) != 1 or photometric not in (
        "MONOCHROME1",
        "MONOCHROME2",
        "",
    ):
        raise decline("color", "the image is in colour")
    allocated = unsigned(dataset, "BitsAllocated")
    stored = unsigned(dataset, "BitsStored", allocated)
    found = PixelFormat(
        rows=unsigned(dataset, "Rows"),
        columns=unsigned(dataset, "Columns"),
        frames=int(number(dataset, "NumberOfFrames") or 1),
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=unsigned(dataset, "HighBit", stored - 1 if stored else 0),
        signed=unsigned(dataset, "PixelRepresentation") == 1,
        padding=_padding(dataset, allocated),
    )
    sound = (
        found.rows > 0
        and found.columns > 0
        and found.frames > 0
        and allocated in (8, 16, 32)
        and 1 <= stored <= allocated
        and stored - 1 <= found.high_bit < allocated
    )
    if not sound:
        raise decline("pixel_format", "rows, columns or bits of the pixel data make no sense")
    return found


def _padding(dataset: Dataset, bits_allocated: int) -> tuple[int, int] | None:
    value = number(dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = number(dataset, "PixelPaddingRangeLimit")
    span = 1 << bits_allocated
    signed = unsigned(dataset, "PixelRepresentation") == 1
    ends = [int(end) % max(span, 1) for end in (value, value if limit is None else limit)]
    ends = [end - span if signed and end >= span // 2 else end for end in ends]
    return min(ends), max(ends)


def read_frames(
    header: Header, form: PixelFormat, out: Stored, frame_numbers: Sequence[int] = (1,)
) -> None:
    """Fill ``out`` (frames, rows, columns) of ``form.dtype`` with the named frames (from 1).

    Raises
    ------
    UnsuitableInput
        ``input.undecodable``: short, damaged, or in a syntax without a decoder.
    StorageFailed
        The disk would not give the bytes.
    """
    if header.native_offset is not None and header.path is not None:
        try:
            _read_native(header, header.path, header.native_offset, form, out, frame_numbers)
        except OSError as error:
            raise StorageFailed(f"cannot read the pixel data: {error.strerror}") from error
        compressed = False
    else:
        _decode(header, form, out, frame_numbers)
        compressed = UID(header.transfer_syntax_uid).is_compressed
    _clean_cells(out, form, compressed)


def decode_frames(source: Path | Dataset) -> Stored:
    """Stored values of every frame of one monochrome object: (frames, rows, columns).

    Raises
    ------
    NotUnderstood, UnsuitableInput
        As :func:`read_header`, :func:`pixel_format` and :func:`read_frames`.
    """
    header = read_header(source) if isinstance(source, Path) else header_of(source)
    form = pixel_format(header)
    if form.frames * form.rows * form.columns > 1 << 31:
        raise decline("too_large", "more pixels than one image may have")
    out = np.empty((form.frames, form.rows, form.columns), form.dtype)
    read_frames(header, form, out, range(1, form.frames + 1))
    return out


def _read_native(
    header: Header,
    path: Path,
    offset: int,
    form: PixelFormat,
    out: Stored,
    frame_numbers: Sequence[int],
) -> None:
    frame_bytes = form.rows * form.columns * form.dtype.itemsize
    if (header.native_length or 0) < frame_bytes * form.frames:
        raise decline("undecodable", "the pixel data are shorter than the image")
    with path.open("rb", buffering=0) as file:
        for place, frame_number in zip(out, frame_numbers, strict=True):
            file.seek(offset + (frame_number - 1) * frame_bytes)
            view = memoryview(place).cast("B")
            filled = 0
            while filled < frame_bytes:
                count = file.readinto(view[filled:])
                if not count:
                    raise decline("undecodable", "the file ends inside the pixel data")
                filled += count


def _decode(header: Header, form: PixelFormat, out: Stored, frame_numbers: Sequence[int]) -> None:
    try:
        _refuse_bomb(header, form)
        dataset = pydicom.dcmread(header.path, force=True) if header.path else header.dataset
        syntax = UID(header.transfer_syntax_uid)
        syntax = UID(_SAME_CODEC.get(syntax, syntax))
        decoder = get_decoder(syntax)
        plugin = "pylibjpeg" if syntax.is_compressed and syntax.is_encapsulated else ""
        decoded = Dataset(dataset)
        decoded.file_meta = FileMetaDataset()
        decoded.file_meta.TransferSyntaxUID = syntax
        for place, frame_number in zip(out, frame_numbers, strict=True):
            if plugin:
                _check_claim(decoded, form, frame_number)
            frame, _ = decoder.as_array(
                decoded, index=frame_number - 1, raw=True, decoding_plugin=plugin
            )
            if frame.shape != place.shape:
                raise decline("undecodable", "the decoded image has another size")
            place[...] = frame
    except UnsuitableInput:
        raise
    # Codecs and parsers raise anything on damaged bytes; one object is one answer.
    except Exception as error:
        raise decline(
            "undecodable",
            f"cannot decode transfer syntax {header.transfer_syntax_uid}: {_cause(error)}",
        ) from error


def _refuse_bomb(header: Header, form: PixelFormat) -> None:
    """A deflated data set may be as long as its image and a generous header, and no longer."""
    if header.path is None or header.deflated_offset is None:
        return
    image_bytes = form.frames * form.rows * form.columns * form.dtype.itemsize
    if inflates_beyond(header.path, header.deflated_offset, image_bytes + _HEADER_LIMIT_BYTES):
        raise decline("undecodable", "the data set inflates to more than its image")


def _check_claim(dataset: Dataset, form: PixelFormat, frame_number: int) -> None:
    """A frame of some hundred bytes that calls itself 65535 squared would take 20 GB to decode."""
    frame = get_frame(dataset.PixelData, frame_number - 1, number_of_frames=form.frames)
    claimed = claimed_size(frame)
    if claimed is not None and claimed != (form.rows, form.columns):
        raise decline("undecodable", "the compressed image has another size")


def _cause(error: Exception) -> str:
    """What a decoder said; other messages may quote the data set and are not repeated."""
    if isinstance(error, (RuntimeError, NotImplementedError)):
        return str(error)[:200]
    return type(error).__name__


def _clean_cells(out: Stored, form: PixelFormat, compressed: bool) -> None:
    """Keep only Bits Stored of each cell, in place, sign extended.

    Padding that lies outside Bits Stored, as some scanners write it, stays what it is: cut to
    Bits Stored it would pass for tissue.
    """
    high_bit = form.bits_stored - 1 if compressed else form.high_bit
    up = form.bits_allocated - 1 - high_bit
    down = form.bits_allocated - form.bits_stored
    if down == 0:
        return
    cells = out.view(form.dtype)
    lowest, highest = form.stored_range
    outside = form.padding is not None and not lowest <= form.padding[0] <= highest
    kept = (cells == form.padding[0]) if outside and form.padding else None
    np.left_shift(cells, up, out=cells)
    np.right_shift(cells, down, out=cells)
    if kept is not None and form.padding:
        cells[kept] = form.padding[0]
