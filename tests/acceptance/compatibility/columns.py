"""The columns of the matrix: every validator, reader, archive and viewer, and what it does."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from tests import peers
from tests.acceptance.compatibility import archive, downloads, ohif, readers
from tests.acceptance.compatibility.answer import Answer, Answers, Column, each
from tests.acceptance.compatibility.specimen import (
    DOCUMENTS,
    LABEL_MAP_SEGMENTATION,
    REPORTS,
    SEGMENTATIONS,
    Filed,
)
from tests.conformance import validators
from tests.conformance.validators import Complaint, ToolMissing


def columns(*, with_slow: bool, with_viewer: bool) -> list[Column]:
    """All of them, but pixelmed on reports (slow) and OHIF where they are not wanted."""
    chosen = [*_VALIDATORS, *_READERS, _ORTHANC]
    if not with_slow:
        chosen = [column for column in chosen if column.name != "pixelmed"]
    return [*chosen, *([_OHIF] if with_viewer else [])]


def _debian(package: str) -> Callable[[], str]:
    def version() -> str:
        query = ["dpkg-query", "-W", "-f=${Version}", package]
        if shutil.which("dpkg-query") is None:
            return "unknown"
        done = subprocess.run(query, capture_output=True, text=True, check=False)
        return f"{package} {done.stdout or 'unknown'}"

    return version


def _python(package: str) -> Callable[[], str]:
    return lambda: f"{package} {importlib.metadata.version(package)}"


def _any(_: Filed) -> bool:
    return True


def _is_report(filed: Filed) -> bool:
    return filed.sop_class in DOCUMENTS


def _quiet(check: Callable[[Path], list[Complaint]]) -> Callable[[Filed, Path], Answer]:
    return lambda filed, _: Answer(complaints=tuple(check(filed.path)))


def _entities(filed: Filed, _: Path) -> Answer:
    return Answer(complaints=tuple(validators.dcentvfy(filed.sources[0], filed.path)))


def _by_dicom_validator(files: Sequence[Filed], directory: Path) -> Answers:
    complaints = validators.dicom_validator([filed.path for filed in files], directory / "tables")
    return _by_file(files, complaints)


def _by_pixelmed(files: Sequence[Filed], _: Path) -> Answers:
    reports = [filed for filed in files if filed.sop_class in REPORTS]
    instances = [filed for filed in files if filed.sop_class == SEGMENTATIONS[0]]
    return {
        **_by_file(reports, validators.pixelmed("sr", [filed.path for filed in reports])),
        **_by_file(instances, validators.pixelmed("iod", [filed.path for filed in instances])),
    }


def _by_dcmtk(filed: Filed, directory: Path) -> Answer:
    complaints = validators.dcmdump(filed.path)
    program = validators.find_tool("dcm2xml")
    target = directory / "dataset.xml"
    output = validators.run_tool([program, str(filed.path), str(target)])
    complaints += validators.complaints_in("dcm2xml", filed.path, output, r"^[EFW]:")
    if _is_report(filed):
        complaints += validators.dsrdump(filed.path)
    return Answer(complaints=tuple(complaints))


def _by_dcmjs(files: Sequence[Filed], _: Path) -> Answers:
    return readers.by_dcmjs(files, downloads.dcmjs())


def _by_orthanc(files: Sequence[Filed], directory: Path) -> Answers:
    _need_servers()
    return archive.by_orthanc(files, directory)


def _by_ohif(files: Sequence[Filed], directory: Path) -> Answers:
    _need_servers()
    return ohif.by_ohif(files, directory)


def _need_servers() -> None:
    if not peers.in_private_network():
        raise ToolMissing("Orthanc listens on every interface: run in a private network")
    if shutil.which("Orthanc", path="/usr/local/sbin:/usr/sbin:/usr/bin") is None:
        raise ToolMissing("Orthanc is not installed")


def _by_file(files: Sequence[Filed], complaints: Sequence[Complaint]) -> Answers:
    return {
        filed.specimen.name: Answer(
            complaints=tuple(one for one in complaints if one.path == filed.path)
        )
        for filed in files
    }


def _ohif_version() -> str:
    shown = subprocess.run([ohif.chromium(), "--version"], capture_output=True, text=True)
    return f"@ohif/app {downloads.OHIF} in {shown.stdout.strip()}"


_VALIDATORS = (
    Column(
        "dciodvfy",
        "the definition of the object: modules, types, values",
        _debian("dicom3tools"),
        each("dciodvfy", _any, _quiet(validators.dciodvfy)),
    ),
    Column(
        "dcentvfy",
        "patient and study are those of the source images",
        _debian("dicom3tools"),
        each("dcentvfy", lambda filed: filed.sop_class != LABEL_MAP_SEGMENTATION, _entities),
    ),
    Column(
        "dicom-validator",
        "modules, types and value representations",
        _python("dicom-validator"),
        _by_dicom_validator,
    ),
    Column(
        "pixelmed",
        "templates and context groups of reports; the definition of BINARY and FRACTIONAL SEG",
        _debian("libpixelmed-java"),
        _by_pixelmed,
    ),
)
_READERS = (
    Column(
        "DCMTK",
        "dcmdump and dcm2xml; dsrdump on reports and key objects",
        _debian("dcmtk"),
        each("DCMTK", _any, _by_dcmtk),
    ),
    Column(
        "dcmqi",
        "voxels of each segment, groups of a report, values of a map",
        _python("dcmqi"),
        each("dcmqi", readers.is_for_dcmqi, readers.by_dcmqi),
    ),
    Column(
        "highdicom",
        "voxels of each segment, content of reports (it also wrote them)",
        _python("highdicom"),
        each("highdicom", readers.is_for_highdicom, readers.by_highdicom),
    ),
    Column(
        "pydicom",
        "every element and every pixel",
        _python("pydicom"),
        each("pydicom", _any, readers.by_pydicom),
    ),
    Column(
        "GDCM",
        "gdcminfo",
        _debian("libgdcm-tools"),
        each("GDCM", readers.has_pixels, readers.by_gdcm),
    ),
    Column(
        "SimpleITK",
        "pixels above zero",
        _python("SimpleITK"),
        each("SimpleITK", readers.has_pixels, readers.by_simple_itk),
    ),
    Column(
        "dcmjs",
        "every element; voxels of BINARY SEG",
        lambda: f"dcmjs {downloads.DCMJS}",
        _by_dcmjs,
    ),
)
_ORTHANC = Column(
    "Orthanc",
    "C-STORE with its default settings; what WADO-RS gives back is compared by attribute",
    _debian("orthanc"),
    _by_orthanc,
)
_OHIF = Column(
    "OHIF",
    "loaded in a browser beside its images: voxels of each segment, measurements drawn",
    _ohif_version,
    _by_ohif,
)
