"""Which DICOM series lie in some files and folders; one bad file never ends the search."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from dicom_node.errors import NotUnderstood
from dicom_node.imaging.elements import text
from dicom_node.imaging.reading import read_header

_DICOMDIR_CLASS = "1.2.840.10008.1.3.10"


def scan(paths: Iterable[Path]) -> tuple[dict[str, list[Path]], list[tuple[Path, str]]]:
    """Files by Series Instance UID, and the files left out, each with a reason.

    Folders are walked in name order, links to folders are not followed, DICOMDIR files are left
    out. De-identified images without Series Instance UID form one series per folder, under a UID
    made from the folder; other objects without it are left out.
    """
    series: dict[str, list[Path]] = {}
    skipped: list[tuple[Path, str]] = []
    for path in _files(paths, skipped):
        found = _series_instance_uid(path)
        if isinstance(found, _LeftOut):
            skipped.append((path, str(found)))
        else:
            series.setdefault(found, []).append(path)
    return series, skipped


class _LeftOut(Exception):
    """Why a file belongs to no series."""


def _series_instance_uid(path: Path) -> str | _LeftOut:
    if path.name.upper() == "DICOMDIR":
        return _LeftOut("a DICOMDIR")
    try:
        header = read_header(path)
    except NotUnderstood as error:
        return _LeftOut(str(error))
    meta = header.dataset.file_meta
    if _DICOMDIR_CLASS in (str(meta.get("MediaStorageSOPClassUID", "")),):
        return _LeftOut("a DICOMDIR")
    found = text(header.dataset, "SeriesInstanceUID")
    if not found and header.has_pixel_data and "ImagePositionPatient" in header.dataset:
        return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, path.parent.resolve().as_uri()).int}"
    return found or _LeftOut("no Series Instance UID")


def _files(paths: Iterable[Path], skipped: list[tuple[Path, str]]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            for folder, folders, names in os.walk(path):
                folders.sort()
                yield from (
                    file for name in sorted(names) if (file := Path(folder, name)).is_file()
                )
        elif path.is_file():
            yield path
        else:
            skipped.append((path, "no such file" if not path.exists() else "not a plain file"))
