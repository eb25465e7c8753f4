"""What must be known of a data set to keep and index it, read without decoding the rest.

Absence is not contradiction: SOP Class UID and SOP Instance UID may be absent or empty (the
C-STORE request or the file meta names them; real archives do this). Study and Series Instance
UID may not: without them an instance has no place.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import NotUnderstood
from dicom_node.intake.sources import BytesSource, DeflatedSource, FileSource, Source
from dicom_node.intake.walker import EXPLICIT_LITTLE_ENDIAN, MOST_DEPTH, Walker

DEFLATED = frozenset({"1.2.840.10008.1.2.1.99"})

_WANTED = frozenset(
    {
        0x00080016, 0x00080018, 0x00080060, 0x00100020, 0x0020000D, 0x0020000E, 0x00200013,
        0x00200032, 0x00200037, 0x00201002, 0x00201209, 0x00280008, 0x00280010, 0x00280011,
        0x00540081,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Head:
    """What the index knows of one instance.

    ``position_mm`` and ``orientation`` are Image Position and Image Orientation (Patient), LPS,
    None where absent or unreadable. ``expected_instances`` is Number of Series Related Instances
    (0020,1209), ``images_in_acquisition`` is (0020,1002), ``slices_in_series`` Number of Slices
    (0054,0081). ``transfer_syntax_uid`` and ``calling_ae_title`` come from the file meta and are
    empty without one. ``patient_id`` is for the audit trail alone, and is neither logged nor put
    into the ledger.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    position_mm: tuple[float, float, float] | None
    orientation: tuple[float, ...] | None
    instance_number: int | None
    number_of_frames: int
    expected_instances: int | None
    images_in_acquisition: int | None
    slices_in_series: int | None
    rows: int | None
    columns: int | None
    transfer_syntax_uid: str
    calling_ae_title: str = ""
    patient_id: str = ""


def read_head(path_or_bytes: Path | str | bytes) -> Head:
    """Head of a Part 10 file (path or bytes).

    SOP class and instance come from the data set, and from the file meta where it has none.

    Raises
    ------
    NotUnderstood
        Not Part 10, not readable in its transfer syntax, or Study or Series UID is missing.
    OSError
    """
    if isinstance(path_or_bytes, bytes):
        return _read_part_10(BytesSource, path_or_bytes)
    fd = os.open(path_or_bytes, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _read_part_10(lambda _: FileSource(fd, 0), b"")
    finally:
        os.close(fd)


def _read_part_10(make: Callable[[bytes], Source], data: bytes) -> Head:
    source = make(data)
    if source.window(0, 132)[128:132] != b"DICM":
        raise NotUnderstood("not a DICOM Part 10 file")
    meta = Walker(_Shifted(source, 132), EXPLICIT_LITTLE_ENDIAN)
    values = meta.walk_file_meta(_META_WANTED)
    transfer_syntax_uid = _text(values.get(0x00020010, b""))
    if not transfer_syntax_uid:
        raise NotUnderstood("the file meta names no transfer syntax")
    return read_data_set_head(
        _Shifted(source, 132 + meta.offset),
        transfer_syntax_uid,
        sop_class_uid=_text(values.get(0x00020002, b"")),
        sop_instance_uid=_text(values.get(0x00020003, b"")),
        calling_ae_title=_text(values.get(0x00020017, b"") or values.get(0x00020016, b"")),
    )


_META_WANTED = frozenset({0x00020002, 0x00020003, 0x00020010, 0x00020016, 0x00020017})


class _Shifted:
    """A source that begins later in another one."""

    def __init__(self, source: Source, start: int) -> None:
        self._source = source
        self._start = start
        size_bytes = source.size_bytes
        self.size_bytes = None if size_bytes is None else max(0, size_bytes - start)

    def window(self, offset: int, length: int) -> bytes:
        return self._source.window(self._start + offset, length)


def read_data_set_head(
    source: Source,
    transfer_syntax_uid: str,
    *,
    sop_class_uid: str = "",
    sop_instance_uid: str = "",
    calling_ae_title: str = "",
    most_depth: int = MOST_DEPTH,
) -> Head:
    """Head of a bare data set; the given UIDs stand in where it has none.

    Raises
    ------
    NestedTooDeeply
        Sequences stand within more than ``most_depth`` sequences, before the pixel data.
    NotUnderstood
        Not readable in this transfer syntax, or Study or Series Instance UID is missing.
    """
    if source.window(0, 132)[128:132] == b"DICM":
        raise NotUnderstood("the data set begins with a Part 10 preamble")
    if transfer_syntax_uid in DEFLATED:
        source = DeflatedSource(source)
    walker = Walker(source, transfer_syntax_uid, most_depth)
    values = walker.walk(_WANTED)
    text = {tag: _text(values.get(tag, b"")) for tag in _TEXTS}
    if not text[0x0020000D] or not text[0x0020000E]:
        raise NotUnderstood("the data set has no Study or no Series Instance UID")
    position = _numbers(text[0x00200032], 3)
    return Head(
        sop_class_uid=text[0x00080016] or sop_class_uid,
        sop_instance_uid=text[0x00080018] or sop_instance_uid,
        study_instance_uid=text[0x0020000D],
        series_instance_uid=text[0x0020000E],
        modality=text[0x00080060],
        position_mm=(position[0], position[1], position[2]) if position else None,
        orientation=_numbers(text[0x00200037], 6),
        instance_number=_integer(text[0x00200013]),
        number_of_frames=max(1, _integer(text[0x00280008]) or 1),
        expected_instances=_integer(text[0x00201209]),
        images_in_acquisition=_integer(text[0x00201002]),
        slices_in_series=walker.unsigned_short(values.get(0x00540081)),
        rows=walker.unsigned_short(values.get(0x00280010)),
        columns=walker.unsigned_short(values.get(0x00280011)),
        transfer_syntax_uid=transfer_syntax_uid,
        calling_ae_title=calling_ae_title,
        patient_id=_foreign_text(values.get(0x00100020, b"")),
    )


_TEXTS = sorted(_WANTED - {0x00100020, 0x00280010, 0x00280011, 0x00540081})


def _text(value: bytes) -> str:
    if not value:
        return ""
    return value.decode("ascii", "replace").strip(" \0")


def _foreign_text(value: bytes) -> str:
    # An ID is seldom more than ASCII; where it is, it shall at least stay the same each time.
    try:
        return value.decode("utf-8").strip(" \0")
    except UnicodeDecodeError:
        return value.decode("latin-1").strip(" \0")


def _numbers(text: str, how_many: int) -> tuple[float, ...] | None:
    if not text:
        return None
    try:
        numbers = tuple(float(part) for part in text.split("\\"))
    except ValueError:
        return None
    return numbers if len(numbers) == how_many and all(map(math.isfinite, numbers)) else None


def _integer(text: str) -> int | None:
    if not text:
        return None
    try:
        number = int(text)
    except ValueError:
        return None
    return number if abs(number) < 1 << 31 else None
