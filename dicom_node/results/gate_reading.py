"""What every check of the gate begins with: a result as its encoded bytes say it, and whose it is.

Nothing here comes from the library that writes results. A check returns nothing, or raises what
``refused`` makes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from dicom_node.errors import GateRefused
from dicom_node.results.explicit_decoding import items_of
from dicom_node.results.explicit_encoding import sequences_encoded

_FLOAT_PIXEL_DATA = 0x7FE00008
_NOT_WRITTEN = (
    pydicom.errors.InvalidDicomError, ValueError, TypeError, AttributeError, OSError,
)


@dataclass(frozen=True)
class Encoded:
    """The Part 10 bytes of a result, for several checks that each begin with reading it."""

    content: bytes = field(repr=False)

    @cached_property
    def decoded(self) -> Dataset:
        """What the bytes say, read once."""
        return self.read()

    def read(self) -> Dataset:
        """What the bytes say, for somebody else than the checks."""
        return pydicom.dcmread(io.BytesIO(self.content))


Given = Dataset | bytes | Path | Encoded


def refused(reason: str, message: str) -> GateRefused:
    """The error of a check, with the reason ``gate.<reason>``."""
    return GateRefused(message, reason=f"gate.{reason}")


def encoded(result: Dataset) -> Encoded:
    """The bytes of a result, as `dicom_node.results.writing.write_result` writes them.

    Raises
    ------
    GateRefused
        ``gate.unreadable``.
    """
    buffer = io.BytesIO()
    try:
        sequences_encoded(result).save_as(buffer, enforce_file_format=True)
    except _NOT_WRITTEN as problem:
        raise _unreadable(problem) from problem
    return Encoded(buffer.getvalue())


def read_back(result: Given) -> Dataset:
    """What will be sent, read from its Part 10 bytes or its file; a data set is encoded first.

    The bytes of native and of compressed pixels are the value of their element as it stands, in
    memory and in a file: they are taken over without being copied.

    Raises
    ------
    GateRefused
        ``gate.unreadable``.
    """
    try:
        if isinstance(result, Dataset):
            return _encoded_and_read(result)
        if isinstance(result, Encoded):
            return result.decoded
        return pydicom.dcmread(result if isinstance(result, Path) else io.BytesIO(result))
    except _NOT_WRITTEN as problem:
        raise _unreadable(problem) from problem


def _unreadable(problem: Exception) -> GateRefused:
    return refused("unreadable", f"a result cannot be read back: {problem}")


def _encoded_and_read(result: Dataset) -> Dataset:
    header, pixels = result[:_FLOAT_PIXEL_DATA], result[_FLOAT_PIXEL_DATA:]
    header.file_meta = result.file_meta
    buffer = io.BytesIO()
    sequences_encoded(header).save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    decoded = pydicom.dcmread(buffer)
    decoded.update(pixels)
    return decoded


def check_identity(decoded: Dataset, source_images: Sequence[Dataset]) -> None:
    """Refuse (``gate.reference``) what is of another patient or study, or in the source series."""
    source = source_images[0]
    for keyword in ("PatientID", "StudyInstanceUID"):
        if str(decoded.get(keyword) or "") != str(source.get(keyword) or ""):
            raise refused("reference", f"{keyword} of the result is not the source's")
    if decoded.SeriesInstanceUID == source.SeriesInstanceUID:
        raise refused("reference", "the result is in the series of its source")


def check_references(decoded: Dataset, source_images: Sequence[Dataset]) -> None:
    """As ``check_identity``, for an image that names its frame of reference and all its sources."""
    check_identity(decoded, source_images)
    frame_of_reference_uid = str(source_images[0].get("FrameOfReferenceUID", ""))
    if str(decoded.get("FrameOfReferenceUID", "")) != frame_of_reference_uid:
        raise refused("reference", "FrameOfReferenceUID of the result is not the source's")
    known = {str(image.SOPInstanceUID) for image in source_images}
    series_uid = str(source_images[0].SeriesInstanceUID)
    series = items_of(decoded, "ReferencedSeriesSequence")
    listed = {
        str(instance.ReferencedSOPInstanceUID)
        for item in series
        for instance in item.ReferencedInstanceSequence
    }
    if [str(item.SeriesInstanceUID) for item in series] != [series_uid] or listed != known:
        raise refused("reference", "ReferencedSeriesSequence does not list the source")
