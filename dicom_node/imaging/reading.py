"""Headers of Part 10 files without their pixel data, and where the pixel data begin.

The common case (preamble, little endian) is walked here in one pass over one buffer, which takes
a sixth of the time of a general reader; every other file goes through pydicom. Lengths come from
outside: each is checked against the buffer, nesting is limited, and whatever looks unusual is
handed to pydicom rather than guessed at (PS3.5 section 7, PS3.10 section 7).
"""

from __future__ import annotations

import functools
import struct
import warnings
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom
from pydicom.charset import convert_encodings
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.errors import NotUnderstood
from dicom_node.imaging.deflated import DEFLATED_SYNTAXES, inflated_head, inflates_beyond

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from dicom_node.imaging.digest import Understood

_PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_CHARACTER_SET = 0x00080005
_IDENTITY = ((0x00080016, 0x00020002), (0x00080018, 0x00020003))
_LONG_VRS = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
_SHORT_VRS = (
    *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO"),
    *("LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"),
)
_VRS = {name.encode(): (name, name in _LONG_VRS) for name in (*_LONG_VRS, *_SHORT_VRS)}
_EXPLICIT, _IMPLICIT, _LENGTH = map(struct.Struct, ("<HH2sH", "<HHI", "<I"))
_tag = functools.lru_cache(maxsize=8192)(BaseTag)
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_MAX_NESTING = 16
_BUFFER_SIZES = (1 << 14, 1 << 18, 1 << 23)
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_ODD_INFLATED_LIMIT_BYTES = 1 << 28


@dataclass(frozen=True)
class Header:
    """One instance without its pixel data.

    Attributes
    ----------
    path
        The file, or ``None`` for a data set that was never on disk.
    dataset
        Every element before the pixel data, with ``file_meta``; empty SOP UIDs are filled from it.
    transfer_syntax_uid
        As in the file meta information; Implicit VR Little Endian where there is none.
    has_pixel_data
        Whether (7FE0,0010) is there; float pixel data count as none.
    native_offset, native_length
        First byte and length of native little-endian pixel data in the file, else ``None``.
    deflated_offset
        First byte of the deflated data set, where its length is not known to be harmless.
    frame
        The only frame, (1, rows, columns), as `dicom_node.imaging.decode.read_frames` gives it,
        where it was read before (see `dicom_node.imaging.decoded`).
    understood
        What a volume needs to know of that frame, where that was found out before as well.
    """

    path: Path | None
    dataset: Dataset
    transfer_syntax_uid: str
    has_pixel_data: bool
    native_offset: int | None = None
    native_length: int | None = None
    deflated_offset: int | None = None
    frame: npt.NDArray[np.generic] | None = field(default=None, compare=False, repr=False)
    understood: Understood | None = field(default=None, compare=False, repr=False)


class _Unusual(Exception):
    """The quick walk does not handle this file."""


class _Truncated(_Unusual):
    """The buffer ends before the header does."""


def read_header(path: Path) -> Header:
    """Read one file up to its pixel data.

    Raises
    ------
    NotUnderstood
        The file cannot be read as DICOM, or not at all.
    """
    try:
        for size in _BUFFER_SIZES:
            with path.open("rb", buffering=0) as file:
                buffer = file.read(size)
            try:
                return _quick_header(path, buffer, is_cut=len(buffer) == size)
            except _Truncated:
                if len(buffer) < size:
                    break
            except _Unusual:
                break
        return _general_header(path)
    except OSError as error:
        raise NotUnderstood(f"cannot read the file: {error.strerror}") from error


def header_of(dataset: Dataset, path: Path | None = None) -> Header:
    """Wrap a data set that is already in memory (pixel data, if any, stay in it)."""
    meta = getattr(dataset, "file_meta", None) or FileMetaDataset()
    syntax = str(meta.get("TransferSyntaxUID", "") or ImplicitVRLittleEndian)
    return Header(path, dataset, syntax, "PixelData" in dataset)


def _looks_like_dicom(path: Path) -> bool:
    """Whether a file has the prefix, or begins with group 2 or 8 in either byte order."""
    with path.open("rb") as file:
        start = file.read(132)
    return start[128:] == b"DICM" or start[:2] in (b"\2\0", b"\0\2", b"\10\0", b"\0\10")


def _general_header(path: Path) -> Header:
    """Read with pydicom: big endian, without preamble, or odd in another way."""
    if not _looks_like_dicom(path):
        raise NotUnderstood("the file is not DICOM")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, force=True)
        syntax = str(dataset.file_meta.get("TransferSyntaxUID", "") or ImplicitVRLittleEndian)
        has_pixels = "PixelData" in dataset
        if not has_pixels and "SOPInstanceUID" not in dataset and "Rows" not in dataset:
            raise NotUnderstood("the file holds no DICOM data set")
        for tag in _PIXEL_TAGS:
            if tag in dataset:
                del dataset[tag]
        _restore_identity(dataset)
    except OSError:
        raise
    except NotUnderstood:
        raise
    # pydicom raises whatever its parsers meet on damaged bytes; one file is one answer.
    except Exception as error:
        raise NotUnderstood(f"not a DICOM data set ({type(error).__name__})") from error
    return Header(path, dataset, syntax, has_pixels)


def _quick_header(path: Path, buffer: bytes, *, is_cut: bool) -> Header:
    if buffer[128:132] != b"DICM":
        raise _Unusual
    meta, position, _, _ = _walk(buffer, 132, implicit=False, group=2)
    syntax = _text(meta.get(BaseTag(0x00020010)))
    if not syntax or syntax == _BIG_ENDIAN:
        raise _Unusual
    if syntax in DEFLATED_SYNTAXES:
        return _deflated_header(path, meta, syntax, position)
    return _walked_header(path, meta, syntax, buffer, position, is_cut=is_cut)


def _deflated_header(
    path: Path, meta: dict[BaseTag, Any], syntax: str, position: int
) -> Header:
    """Inflate no more than a header may be long; pydicom would inflate the whole data set."""
    try:
        head = inflated_head(path, position, _BUFFER_SIZES[-1])
        try:
            return replace(
                _walked_header(
                    path, meta, syntax, head, 0, is_cut=len(head) >= _BUFFER_SIZES[-1]
                ),
                deflated_offset=position,
            )
        except _Unusual:
            if inflates_beyond(path, position, _ODD_INFLATED_LIMIT_BYTES):
                raise NotUnderstood("the deflated data set is odd, and too long") from None
            raise
    except zlib.error as error:
        raise NotUnderstood("the data set is not a deflate stream") from error


def _walked_header(
    path: Path, meta: dict[BaseTag, Any], syntax: str, buffer: bytes, position: int, *,
    is_cut: bool,
) -> Header:
    """``is_cut``: the data set may go on behind the buffer."""
    file_meta = FileMetaDataset(meta)
    implicit = syntax == ImplicitVRLittleEndian
    elements, position, tag, length = _walk(buffer, position, implicit=implicit, group=None)
    if is_cut and not tag:
        # An element that ends where the buffer does is not the last one for that.
        raise _Truncated
    dataset = Dataset(elements)
    charset = elements.get(BaseTag(_CHARACTER_SET))
    names = _text(charset).split("\\") if charset is not None else [""]
    dataset.set_original_encoding(implicit, True, _encodings(names))
    dataset.file_meta = file_meta
    _restore_identity(dataset)
    has_pixels = tag == _PIXEL_TAGS[2]
    if (
        has_pixels
        and length != _UNDEFINED
        and syntax
        in (
            ImplicitVRLittleEndian,
            ExplicitVRLittleEndian,
        )
    ):
        return Header(path, dataset, syntax, True, position, length)
    return Header(path, dataset, syntax, has_pixels)


def _restore_identity(dataset: Dataset) -> None:
    """Fill an empty SOP class or instance UID from the file meta, which says the same (PS3.10 7.1).

    De-identified files are found with both emptied.
    """
    for tag, source in _IDENTITY:
        element: Any = dataset.get_item(tag)
        if (element is None or not element.value) and source in dataset.file_meta:
            dataset.add_new(tag, "UI", dataset.file_meta[source].value)


def _encodings(names: list[str]) -> list[str]:
    try:
        return convert_encodings(names)
    except (LookupError, ValueError) as error:
        raise _Unusual from error


def _text(element: Any) -> str:
    if element is None or element.value is None:
        return ""
    return bytes(element.value).decode("latin-1").strip(" \0")


def _walk(
    buffer: bytes, position: int, *, implicit: bool, group: int | None
) -> tuple[dict[BaseTag, Any], int, int, int]:
    """Top-level elements up to the pixel data (or up to another group, for the file meta).

    Returns the elements, the position behind them (at the pixel data: of their first byte), the
    pixel data tag or 0, and the pixel data length.
    """
    elements: dict[BaseTag, Any] = {}
    end = len(buffer)
    while position < end:
        if group is not None and int.from_bytes(buffer[position : position + 2], "little") != group:
            break
        tag, vr, length, start = _element_head(buffer, position, implicit)
        if tag in _PIXEL_TAGS:
            return elements, start, tag, length
        undefined = length == _UNDEFINED
        stop = _sequence_end(buffer, start, implicit, 0) if undefined else start + length
        if stop > end:
            raise _Truncated
        if undefined:
            if vr not in ("SQ", None):
                raise _Unusual
            vr, value = "SQ", buffer[start : stop - 8]
        else:
            value = buffer[start:stop]
        key = _tag(tag)
        fields = (key, vr, len(value), value, start, implicit, True, True, False)
        elements[key] = tuple.__new__(RawDataElement, fields)
        position = stop
    return elements, position, 0, 0


def _element_head(buffer: bytes, position: int, implicit: bool) -> tuple[int, str | None, int, int]:
    """Tag, VR (``None`` when implicit), length and position of the value."""
    try:
        if implicit:
            group, element, length = _IMPLICIT.unpack_from(buffer, position)
            return group << 16 | element, None, length, position + 8
        group, element, code, length = _EXPLICIT.unpack_from(buffer, position)
        if group == 0xFFFE:
            length = _LENGTH.unpack_from(buffer, position + 4)[0]
            return group << 16 | element, None, length, position + 8
        if code not in _VRS:
            raise _Unusual
        vr, is_long = _VRS[code]
        if is_long:
            length = _LENGTH.unpack_from(buffer, position + 8)[0]
            return group << 16 | element, vr, length, position + 12
        return group << 16 | element, vr, length, position + 8
    except struct.error as error:
        raise _Truncated from error


def _sequence_end(buffer: bytes, position: int, implicit: bool, depth: int) -> int:
    """Position behind the delimiter of a sequence of undefined length."""
    if depth > _MAX_NESTING:
        raise _Unusual
    while True:
        tag, _, length, start = _element_head(buffer, position, implicit)
        if tag == _SEQUENCE_END:
            return start
        if tag != _ITEM:
            raise _Unusual
        position = (
            _item_end(buffer, start, implicit, depth) if length == _UNDEFINED else (start + length)
        )
        if position > len(buffer):
            raise _Truncated


def _item_end(buffer: bytes, position: int, implicit: bool, depth: int) -> int:
    """Position behind the delimiter of an item of undefined length."""
    while True:
        tag, vr, length, start = _element_head(buffer, position, implicit)
        if tag == _ITEM_END:
            return start
        if length == _UNDEFINED:
            if vr not in ("SQ", None):
                raise _Unusual
            position = _sequence_end(buffer, start, implicit, depth + 1)
        else:
            position = start + length
        if position > len(buffer):
            raise _Truncated
