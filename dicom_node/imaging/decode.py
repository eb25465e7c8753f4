"""Stored pixel values of any transfer syntax as arrays.

Native little-endian pixels are read by offset straight into the array; everything else is
decoded by pydicom, compressed data (JPEG, JPEG-LS, JPEG 2000, HTJ2K, RLE) in processes of their
own (`dicom_node.imaging.codec_pool`). Cells are cleaned to Bits Stored (overlays and junk in high
bits removed, sign extended; PS3.5 8.1.1), so the same image has the same values whatever it was
wrapped in.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from dicom_node.errors import StorageFailed, UnsuitableInput
from dicom_node.imaging.codec_pool import shared_pool
from dicom_node.imaging.codec_process import EncodedFrames
from dicom_node.imaging.deflated import inflates_beyond
from dicom_node.imaging.elements import number, text, unsigned
from dicom_node.imaging.pixel_decoder import Undecodable, decoded_frames, needs_codec
from dicom_node.imaging.planes import decline
from dicom_node.imaging.reading import Header, header_of, read_header

Stored = npt.NDArray[np.generic]

_HEADER_LIMIT_BYTES = 64 << 20
_most_decoded_bytes = 16 << 30


def limit_decoded_bytes(most: int) -> None:
    """Decode no object of this process whose images are larger than ``most`` bytes.

    Asked before any memory is taken: a file of some hundred bytes may claim 65535 frames of 65535
    squared.
    """
    global _most_decoded_bytes  # noqa: PLW0603 - a limit of the process, as the system's are
    _most_decoded_bytes = most


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
        ``input.no_pixel_data``, ``input.color``, ``input.pixel_format``, ``input.too_large``.
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
    if found.frames * found.rows * found.columns * (allocated // 8) > _most_decoded_bytes:
        raise decline("too_large", "the images are larger than the node decodes")
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

    Of a header that has its frame already the file is not touched.

    Raises
    ------
    UnsuitableInput
        ``input.undecodable``: short, damaged, or in a syntax without a decoder;
        ``input.codec_crashed``, ``input.codec_timeout``.
    StorageFailed
        The disk would not give the bytes.
    WorkerLost
        Compressed data cannot be decoded at present (``worker.codec_...``).
    """
    if header.frame is not None:
        out[...] = header.frame
        return
    if header.native_offset is not None and header.path is not None:
        try:
            _read_native(header, header.path, header.native_offset, form, out, frame_numbers)
        except OSError as error:
            raise StorageFailed(f"cannot read the pixel data: {error.strerror}") from error
        compressed = False
    else:
        compressed = needs_codec(header.transfer_syntax_uid)
        decode = _decode_apart if compressed else _decode
        decode(header, form, out, frame_numbers)
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
    """Uncompressed pixels that are not plain: big endian, deflated, or without a file."""
    try:
        _refuse_bomb(header, form)
        dataset = pydicom.dcmread(header.path, force=True) if header.path else header.dataset
        frames = decoded_frames(
            dataset, header.transfer_syntax_uid, (form.rows, form.columns), form.frames,
            frame_numbers,
        )
        for place, frame in zip(out, frames, strict=True):
            place[...] = frame
    except UnsuitableInput:
        raise
    except Undecodable as error:
        raise decline("undecodable", str(error)) from error
    # Parsers raise anything on damaged bytes; one object is one answer.
    except Exception as error:
        raise decline("undecodable", f"damaged pixel data ({type(error).__name__})") from error


def _decode_apart(
    header: Header, form: PixelFormat, out: Stored, frame_numbers: Sequence[int]
) -> None:
    """Compressed pixels, in a codec process; a data set that was never on disk gets a file."""
    with contextlib.ExitStack() as stack:
        path = header.path
        if path is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="encoded-"))
            path = _encoded_file(header, Path(folder, "pixels.dcm"))
        wanted = EncodedFrames(
            path, header.transfer_syntax_uid, (form.rows, form.columns), form.frames,
            tuple(frame_numbers), form.dtype,
        )
        shared_pool().decode(wanted, out)


def _encoded_file(header: Header, path: Path) -> Path:
    """The Image Pixel module alone (group 0028 and the pixel data) as a file."""
    module = Dataset({
        tag: header.dataset.get_item(tag)
        for tag in sorted(header.dataset.keys())
        if tag.group in (0x0028, 0x7FE0)
    })
    module.file_meta = FileMetaDataset()
    module.file_meta.TransferSyntaxUID = UID(header.transfer_syntax_uid)
    try:
        module.save_as(path, implicit_vr=False, little_endian=True)
    except OSError as error:
        raise StorageFailed(f"cannot hand the pixel data over: {error.strerror}") from error
    # pydicom raises whatever it meets in values that cannot be written.
    except Exception as error:
        raise decline("undecodable", f"damaged data set ({type(error).__name__})") from error
    return path


def _refuse_bomb(header: Header, form: PixelFormat) -> None:
    """A deflated data set may be as long as its image and a generous header, and no longer."""
    if header.path is None or header.deflated_offset is None:
        return
    image_bytes = form.frames * form.rows * form.columns * form.dtype.itemsize
    if inflates_beyond(header.path, header.deflated_offset, image_bytes + _HEADER_LIMIT_BYTES):
        raise decline("undecodable", "the data set inflates to more than its image")


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
