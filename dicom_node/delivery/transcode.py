"""A Part 10 file in the plain encoding that a peer takes: the same object, never compressed.

Only towards uncompressed little endian (PS3.5 A.1, A.2). Pixel cells are what the codec yields:
lossless syntaxes give back exactly what was compressed, and the SOP Instance UID stays. Colour
of lossy JPEG (YBR) becomes RGB, because uncompressed YBR_FULL is not among the values that the
ultrasound and visible light IODs allow; other photometric interpretations stay as the codec
leaves them (JPEG 2000 turns YBR_RCT and YBR_ICT into RGB, PS3.5 8.2.4). That an image was
compressed with loss stays recorded in it (PS3.3 C.7.6.1.1.5).

Pixel data go from file to file, a frame or a piece at a time.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from dicom_node.delivery.part10 import read_file_head
from dicom_node.delivery.rewriting import (
    DEFLATED_LITTLE_ENDIAN,
    EXPLICIT_BIG_ENDIAN,
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
    PIECE_BYTES,
    PIXEL_DATA,
    UNDEFINED_LENGTH,
    into_new_file,
    made_of,
    next_element,
    write_meta,
)
from dicom_node.errors import NotUnderstood

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from pydicom.dataset import Dataset, FileDataset

_RLE = "1.2.840.10008.1.2.5"
_LOSSY_JPEG = frozenset(("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"))
# JPEG, JPEG-LS, JPEG 2000, HTJ2K and RLE: what a decoder is installed for.
_COMPRESSED = _LOSSY_JPEG | {
    _RLE,
    *(f"1.2.840.10008.1.2.4.{number}" for number in (57, 70, 80, 81, 90, 91, 201, 202, 203)),
}
# One element of at most 4 GiB and a header; what inflates to more is no image.
_LONGEST_INFLATED_BYTES = (1 << 32) + (64 << 20)
_WORD_BYTES = {"OW": 2, "OL": 4, "OF": 4, "OV": 8, "OD": 8}


def alternatives(transfer_syntax_uid: str) -> tuple[str, ...]:
    """The transfer syntaxes that a file in this one can be turned into, best first."""
    plain = (EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN)
    if transfer_syntax_uid in plain:
        return tuple(uid for uid in plain if uid != transfer_syntax_uid)
    known = {DEFLATED_LITTLE_ENDIAN, EXPLICIT_BIG_ENDIAN} | _COMPRESSED
    return plain if transfer_syntax_uid in known else ()


def transcoded(path: Path, transfer_syntax_uid: str, scratch: Path | None = None) -> BinaryIO:
    """The object of ``path`` as a Part 10 file in one of its :func:`alternatives`.

    The file returned stands at its first byte, has no name and lies in the folder ``scratch``
    (``None``: the system's folder for temporary files).

    Raises
    ------
    NotUnderstood
        ``file.not_reencodable``: damaged, or without a plain form.
    StorageFailed
        The source could not be read or the copy not be written.
    """
    return made_of(path, lambda source: _transcode(source, transfer_syntax_uid, scratch))


def _transcode(source: BinaryIO, target: str, scratch: Path | None) -> BinaryIO:
    head = read_file_head(source)
    if target not in alternatives(head.transfer_syntax_uid):
        raise NotUnderstood("no plain form of this transfer syntax")
    if head.transfer_syntax_uid != DEFLATED_LITTLE_ENDIAN:
        return into_new_file(scratch, _rewrite, source, target)
    inflated = into_new_file(scratch, _inflate, source, head.data_set_offset_bytes)
    if target == EXPLICIT_LITTLE_ENDIAN:
        return inflated
    with inflated:
        return into_new_file(scratch, _rewrite, inflated, target)


def _inflate(source: BinaryIO, offset_bytes: int, out: BinaryIO) -> None:
    write_meta(source.read(offset_bytes)[132:], EXPLICIT_LITTLE_ENDIAN, out)
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    while not inflate.eof:
        given = inflate.unconsumed_tail or source.read(PIECE_BYTES)
        if not given:
            raise NotUnderstood("the deflated data set is cut off")
        out.write(inflate.decompress(given, PIECE_BYTES))
        if out.tell() > _LONGEST_INFLATED_BYTES:
            raise NotUnderstood("the data set inflates to more than an object can be")


def _rewrite(source: BinaryIO, target: str, out: BinaryIO) -> None:
    from pydicom import dcmread

    dataset = dcmread(source, stop_before_pixels=True)
    own = str(dataset.file_meta.TransferSyntaxUID)
    _make_plain(dataset, own)
    element = next_element(source, own)
    if element is None:
        _write_head(dataset, target, out)
        return
    vr, length = element
    if length == UNDEFINED_LENGTH:
        start = source.tell()
        _write_decoded(source, dataset, own, target, out)
        source.seek(start)
        _skip_fragments(source)
    else:
        _write_native(source, dataset, (own, vr, length), target, out)
    _write_tail(source, dataset, own, target, out)


def _write_head(dataset: FileDataset, target: str, out: BinaryIO) -> None:
    from pydicom.filewriter import dcmwrite
    from pydicom.uid import UID

    dataset.file_meta.TransferSyntaxUID = UID(target)
    dcmwrite(out, dataset, implicit_vr=target == IMPLICIT_LITTLE_ENDIAN, little_endian=True)


def _write_pixel_header(dataset: Dataset, target: str, length: int, out: BinaryIO) -> None:
    if length >= UNDEFINED_LENGTH:
        raise NotUnderstood("more pixels than uncompressed pixel data can hold")
    out.write(struct.pack("<HH", PIXEL_DATA >> 16, PIXEL_DATA & 0xFFFF))
    if target != IMPLICIT_LITTLE_ENDIAN:
        out.write(b"OB\0\0" if dataset.BitsAllocated <= 8 else b"OW\0\0")
    out.write(struct.pack("<I", length))


def _write_native(
    source: BinaryIO,
    dataset: FileDataset,
    element: tuple[str, str, int],
    target: str,
    out: BinaryIO,
) -> None:
    own, vr, length = element
    swap = own == EXPLICIT_BIG_ENDIAN and vr == "OW"
    if swap and dataset.BitsAllocated > 16:
        raise NotUnderstood("big endian pixels of more than 16 bits")
    _write_head(dataset, target, out)
    _write_pixel_header(dataset, target, length + length % 2, out)
    left = length
    while left:
        piece = source.read(min(left, PIECE_BYTES))
        if not piece:
            raise NotUnderstood("the file ends inside the pixel data")
        left -= len(piece)
        out.write(_swapped(piece, 2) if swap else piece)
    out.write(bytes(length % 2))


def _write_decoded(
    source: BinaryIO, dataset: FileDataset, own: str, target: str, out: BinaryIO
) -> None:
    shape = (int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel))
    frames = int(dataset.get("NumberOfFrames") or 1)
    bits = int(dataset.BitsAllocated)
    if bits not in (8, 16, 32):
        raise NotUnderstood("compressed pixels of an odd size")
    length = shape[0] * shape[1] * shape[2] * frames * (bits // 8)
    decoded = _decoded(source, dataset, own)
    first, properties = next(decoded)
    _describe_decoded(dataset, own, properties, length, os.fstat(source.fileno()).st_size)
    _write_head(dataset, target, out)
    _write_pixel_header(dataset, target, length + length % 2, out)
    kind = "i" if dataset.PixelRepresentation else "u"
    written = 0
    for frame, _ in chain([(first, properties)], decoded):
        if frame.size != shape[0] * shape[1] * shape[2] or written == frames:
            raise NotUnderstood("the decoded image has another size")
        out.write(frame.astype(f"<{kind}{bits // 8}", copy=False).tobytes())
        written += 1
    if written != frames:
        raise NotUnderstood("fewer frames than the image says")
    out.write(bytes(length % 2))


def _decoded(
    source: BinaryIO, dataset: Dataset, own: str
) -> Iterator[tuple[npt.NDArray[np.generic], dict[str, Any]]]:
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    options: dict[str, Any] = {
        "rows": dataset.Rows,
        "columns": dataset.Columns,
        "number_of_frames": int(dataset.get("NumberOfFrames") or 1),
        "samples_per_pixel": dataset.SamplesPerPixel,
        "photometric_interpretation": dataset.PhotometricInterpretation,
        "bits_allocated": dataset.BitsAllocated,
        "bits_stored": dataset.BitsStored,
        "pixel_representation": dataset.PixelRepresentation,
        "pixel_keyword": "PixelData",
        # RLE keeps whole cells, with whatever lies above Bits Stored.
        "correct_unused_bits": own != _RLE,
    }
    if dataset.SamplesPerPixel > 1:
        options["planar_configuration"] = dataset.get("PlanarConfiguration", 0)
    yield from get_decoder(UID(own)).iter_array(
        source, raw=own not in _LOSSY_JPEG, decoding_plugin="pylibjpeg", **options
    )


def _describe_decoded(
    dataset: Dataset, own: str, properties: dict[str, Any], length: int, compressed_bytes: int
) -> None:
    for keyword in (
        "ExtendedOffsetTable",
        "ExtendedOffsetTableLengths",
        "EncapsulatedPixelDataValueTotalLength",
    ):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.PhotometricInterpretation = properties["photometric_interpretation"]
    if dataset.SamplesPerPixel > 1:
        dataset.PlanarConfiguration = 0
    if own != _RLE:
        dataset.HighBit = dataset.BitsStored - 1
    if own in _LOSSY_JPEG and dataset.get("LossyImageCompression") != "01":
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionMethod = "ISO_10918_1"
        dataset.LossyImageCompressionRatio = f"{length / compressed_bytes:.2f}"


def _skip_fragments(source: BinaryIO) -> None:
    while True:
        group, number, length = struct.unpack("<HHI", source.read(8))
        if (group, number) == (0xFFFE, 0xE0DD):
            return
        if (group, number) != (0xFFFE, 0xE000):
            raise NotUnderstood("damaged encapsulated pixel data")
        source.seek(length, 1)


def _write_tail(
    source: BinaryIO, dataset: FileDataset, own: str, target: str, out: BinaryIO
) -> None:
    """What stands behind the pixel data: digital signatures, trailing padding."""
    from pydicom.filebase import DicomIO
    from pydicom.filereader import read_dataset
    from pydicom.filewriter import write_dataset

    big_endian = own == EXPLICIT_BIG_ENDIAN
    tail = read_dataset(source, own == IMPLICIT_LITTLE_ENDIAN, not big_endian)
    _make_plain(tail, own)
    buffer = DicomIO(out)
    buffer.is_implicit_VR = target == IMPLICIT_LITTLE_ENDIAN
    buffer.is_little_endian = True
    write_dataset(buffer, tail, dataset.get("SpecificCharacterSet") or "iso8859")


def _make_plain(dataset: Dataset, own: str) -> None:
    """Turn the values of nested and other elements round that no writer converts, in place."""
    if own == EXPLICIT_BIG_ENDIAN:
        for element in dataset.iterall():
            word_bytes = _WORD_BYTES.get(element.VR)
            if word_bytes and element.value:
                element.value = _swapped(element.value, word_bytes)
    elif own in _COMPRESSED:
        for element in dataset.iterall():
            if element.VR == "SQ":
                for item in element.value:
                    _decompress_icon(item, own)


def _decompress_icon(item: Dataset, own: str) -> None:
    from pydicom.dataset import FileMetaDataset
    from pydicom.pixels import decompress
    from pydicom.uid import UID

    if "PixelData" not in item or not item["PixelData"].is_undefined_length:
        return
    item.file_meta = FileMetaDataset()
    item.file_meta.TransferSyntaxUID = UID(own)
    decompress(item, generate_instance_uid=False, decoding_plugin="pylibjpeg")
    del item.file_meta


def _swapped(words: bytes, word_bytes: int) -> bytes:
    import numpy as np

    return np.frombuffer(words, f">u{word_bytes}").astype(f"<u{word_bytes}").tobytes()
