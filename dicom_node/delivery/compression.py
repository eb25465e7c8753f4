"""A Part 10 file losslessly compressed, for peers that take it so: the same object, fewer bytes.

    deflated                     every object (PS3.5 A.5)
    RLE, JPEG-LS, JPEG 2000      pixels of 8 or 16 bits (PS3.5 A.4.2, A.4.3, A.4.4)

Pixel cells of one bit, as of a BINARY segmentation, have no compressed form that readers agree
on (PS3.5 8.2): they are deflated or left alone. Everything but the pixel data goes over byte by
byte, and as nothing is lost, the SOP Instance UID stays (PS3.3 C.12.4.1.3). Only Explicit VR
Little Endian is compressed, which is how results are kept.

Pixel data go from file to file, a frame at a time.
"""

from __future__ import annotations

import shutil
import struct
import zlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from dicom_node.delivery.part10 import FileHead, read_file_head
from dicom_node.delivery.rewriting import (
    DEFLATED_LITTLE_ENDIAN,
    EXPLICIT_LITTLE_ENDIAN,
    PIECE_BYTES,
    PIXEL_DATA,
    UNDEFINED_LENGTH,
    into_new_file,
    made_of,
    next_element,
    write_meta,
)
from dicom_node.errors import NotUnderstood, StorageFailed

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

RLE = "1.2.840.10008.1.2.5"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
# The words of the settings (peers.<name>.results.compression).
SYNTAXES = {
    "rle": RLE, "deflated": DEFLATED_LITTLE_ENDIAN, "jpeg_ls": JPEG_LS, "jpeg_2000": JPEG_2000,
}  # fmt: skip
# One encoder for each, so that the same object always gives the same bytes.
_ENCODERS = {RLE: "pylibjpeg", JPEG_LS: "pyjpegls", JPEG_2000: "pylibjpeg"}
# 1-bit pixels are in bits, not bytes; 32-bit pixels are of no encoder.
_PIXEL_BITS = (8, 16)
_ITEM = 0xE000
_SEQUENCE_DELIMITATION_ITEM = 0xE0DD


def compressed_syntax(path: Path, head: FileHead, compression: str) -> str:
    """The transfer syntax that a file is compressed to under a setting; empty where to none."""
    target = SYNTAXES.get(compression, "")
    if not target or head.transfer_syntax_uid != EXPLICIT_LITTLE_ENDIAN:
        return ""
    if target == DEFLATED_LITTLE_ENDIAN:
        return target
    try:
        return target if made_of(path, _has_whole_pixels) else ""
    # What cannot be read is somebody else's to find: it goes as it is.
    except (NotUnderstood, StorageFailed):
        return ""


def compressed(path: Path, transfer_syntax_uid: str, scratch: Path | None = None) -> BinaryIO:
    """The object of ``path`` as a Part 10 file in its :func:`compressed_syntax`.

    The file returned stands at its first byte, has no name and lies in the folder ``scratch``
    (``None``: the system's folder for temporary files).

    Raises
    ------
    NotUnderstood
        ``file.not_reencodable``: damaged, or without such a form.
    StorageFailed
        The source could not be read or the copy not be written.
    """
    is_deflated = transfer_syntax_uid == DEFLATED_LITTLE_ENDIAN
    fill = _deflate if is_deflated else partial(_encapsulate, target=transfer_syntax_uid)
    return made_of(path, lambda source: into_new_file(scratch, fill, source))


def _deflate(source: BinaryIO, out: BinaryIO) -> None:
    _write_meta_of(source, DEFLATED_LITTLE_ENDIAN, out)
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    length = 0
    while piece := source.read(PIECE_BYTES):
        length += out.write(deflate.compress(piece))
    length += out.write(deflate.flush())
    out.write(bytes(length % 2))


def _encapsulate(source: BinaryIO, out: BinaryIO, *, target: str) -> None:
    dataset, pixels_at = _read_head(source)
    source.seek(0)
    _write_meta_of(source, target, out)
    out.write(source.read(pixels_at - source.tell()))
    element = next_element(source, EXPLICIT_LITTLE_ENDIAN)
    options = _encoding_options(dataset)
    frames = options["number_of_frames"]
    frame_bytes = (
        options["rows"] * options["columns"] * options["samples_per_pixel"]
        * options["bits_allocated"] // 8
    )  # fmt: skip
    length = frames * frame_bytes
    if element is None or element[1] != length + length % 2:
        raise NotUnderstood("the pixel data have another size than the image says")
    _write_frames(source, frame_bytes, options, target, out)
    source.seek(length % 2, 1)
    # What stands behind the pixel data: digital signatures, trailing padding.
    shutil.copyfileobj(source, out)


def _write_frames(
    source: BinaryIO, frame_bytes: int, options: dict[str, Any], target: str, out: BinaryIO
) -> None:
    """Pixel data as a sequence of fragments, one of each frame, behind their offset table."""
    from pydicom.pixels import get_encoder
    from pydicom.uid import UID

    encoder = get_encoder(UID(target))
    frames = options.pop("number_of_frames")
    out.write(struct.pack("<HH2sHI", PIXEL_DATA >> 16, PIXEL_DATA & 0xFFFF, b"OB", 0,
                          UNDEFINED_LENGTH))
    _write_item(bytes(4 * frames), out)
    table_at = out.tell() - 4 * frames
    offsets = []
    for _ in range(frames):
        offsets.append(out.tell() - table_at - 4 * frames)
        encoded = encoder.encode(
            source.read(frame_bytes), number_of_frames=1, encoding_plugin=_ENCODERS[target],
            **options,
        )  # fmt: skip
        _write_item(encoded + bytes(len(encoded) % 2), out)
    out.write(struct.pack("<HHI", 0xFFFE, _SEQUENCE_DELIMITATION_ITEM, 0))
    end = out.tell()
    out.seek(table_at)
    # More than 4 GiB do not fit into it, and an object of that size is better sent as it is.
    out.write(struct.pack(f"<{frames}I", *offsets))
    out.seek(end)


def _write_item(value: bytes, out: BinaryIO) -> None:
    out.write(struct.pack("<HHI", 0xFFFE, _ITEM, len(value)) + value)


def _has_whole_pixels(source: BinaryIO) -> bool:
    """Whether there are pixel data whose cells are whole bytes, colours side by side."""
    dataset, pixels_at = _read_head(source)
    source.seek(pixels_at)
    tag = source.read(4)
    return (
        tag == struct.pack("<HH", PIXEL_DATA >> 16, PIXEL_DATA & 0xFFFF)
        and dataset.get("BitsAllocated") in _PIXEL_BITS
        and dataset.get("PlanarConfiguration", 0) == 0
    )


def _read_head(source: BinaryIO) -> tuple[Dataset, int]:
    """Everything before the pixel data, and where those begin."""
    from pydicom import dcmread

    dataset = dcmread(source, stop_before_pixels=True)
    return dataset, source.tell()


def _encoding_options(dataset: Dataset) -> dict[str, Any]:
    """What an encoder has to know of an image (PS3.3 C.7.6.3)."""
    options = {
        "rows": int(dataset.Rows),
        "columns": int(dataset.Columns),
        "number_of_frames": int(dataset.get("NumberOfFrames") or 1),
        "samples_per_pixel": int(dataset.SamplesPerPixel),
        "photometric_interpretation": str(dataset.PhotometricInterpretation),
        "bits_allocated": int(dataset.BitsAllocated),
        "bits_stored": int(dataset.BitsStored),
        "pixel_representation": int(dataset.PixelRepresentation),
    }
    if dataset.SamplesPerPixel > 1:
        options["planar_configuration"] = 0
    return options


def _write_meta_of(source: BinaryIO, transfer_syntax_uid: str, out: BinaryIO) -> None:
    """The file meta information of ``source``, which then stands at its data set."""
    offset_bytes = read_file_head(source).data_set_offset_bytes
    source.seek(132)
    write_meta(source.read(offset_bytes - 132), transfer_syntax_uid, out)
