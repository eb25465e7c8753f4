"""Independent validators and readers of DICOM results, and what is known of their noise.

Every function returns the complaints of one tool on one or more files; ``unexplained`` keeps
those that no entry of ``NOISE`` accounts for. A tool that is not installed raises
``ToolMissing`` (tests skip with its message).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_HERE = Path(__file__).parent
_PIXELMED = Path("/usr/share/java/pixelmed.jar")
# The JDK 17 limits on XPath are below what pixelmed's style sheets need (JAXP0801003).
_JAVA = [
    "java",
    "-Djdk.xml.xpathExprOpLimit=0",
    "-Djdk.xml.xpathTotalOpLimit=0",
    "-Djdk.xml.xpathExprGrpLimit=0",
]

NOISE: tuple[tuple[str, str, str], ...] = (
    (
        "dciodvfy",
        r"ContributingEquipmentSequence.*DeviceUID.*not present in standard",
        "Device UID stands in the SOP Common table that highdicom ships; the tool is of 2022",
    ),
    (
        "dciodvfy",
        r"(ImageType|FrameType)\(.*\[4\]> - Unrecognized defined term = <QUANTITY>",
        "what highdicom and dcmqi write for a Parametric Map; the tool does not know it",
    ),
    (
        "dciodvfy",
        r"Retired Person Name form",
        "the source's own value, carried unchanged",
    ),
    (
        "dciodvfy",
        r"Missing attribute or value that would be needed to build DICOMDIR",
        "a type 2 attribute is empty because the source has no value; no DICOMDIR is built",
    ),
    (
        "dciodvfy",
        r"CodingSchemeDesignator.*Unrecognized defined term = <99DCMNODE>",
        "our private scheme, which the report identifies (PS3.3 C.12.1)",
    ),
    (
        "dcentvfy",
        r"Different information entities for attribute",
        "AccessionNumber is an attribute of series and of study; the tool reports its place only",
    ),
    (
        "pixelmed-iod",
        r"GeneralSeriesModule/Laterality",
        "Laterality is 2C on paired parts only; the rule ignores Body Part Examined",
    ),
    (
        "pixelmed-iod",
        r"Unrecognized defined term :ISO_IR 192|Illegal character\(s\).*PN VR",
        "the validator does not know UTF-8",
    ),
    (
        "pixelmed-sr",
        r"\(43468-8,LN,.*not found in context group 100",
        "radiography is newer in context group 100 than the tool: DCMTK 3.6.9 has it there, 3.6.7 "
        "of 2022 has not",
    ),
    (
        "pixelmed-sr",
        r"Group\"\)/CODE \((112027|121052|TUMOUR_CLASS|ILO_PROFUSION),.*not in template",
        "row 11 of TID 1501 takes a qualitative evaluation of any concept; the tool knows none",
    ),
    (
        "pixelmed-sr",
        r"276214006,SCT,\"Finding category\".*not in template",
        "a row of TID 1501 as highdicom reads it, which the tool does not know (judged; the text "
        "of the standard was not at hand)",
    ),
    (
        "pixelmed-sr",
        r"\"Algorithm (Name|Version|Manufacturer|Family|Parameters)\".*not in template",
        "TID 4019 in the group, where highdicom writes it too, and which the tool does not know "
        "there (judged; the text of the standard was not at hand); viewers lose a measurement "
        "that carries it itself",
    ),
    (
        "pixelmed-sr",
        r"\"Source Series for Segmentation\".*different code meaning",
        "letter case of a code meaning only",
    ),
    (
        "dsrdump",
        r"Check for template constraints not yet supported",
        "DCMTK reads Key Object Selections without checking them against TID 2010",
    ),
    (
        "dsrdump",
        r"VR checker does not support this Specific Character Set",
        "the VR check of DCMTK 3.6.7 has no UTF-8",
    ),
    (
        "tid1500reader",
        r"VR checker does not support|122405,DCM,\"Algorithm Manufacturer\"",
        "dcmqi is built on DCMTK 3.6.7, and reports codes that it has no name for",
    ),
    ("tid1500reader", r"^dcmqi repository URL", "banner"),
)


class ToolMissing(Exception):
    """A validator is not installed here."""


@dataclass(frozen=True)
class Complaint:
    """One line of one tool on one file."""

    tool: str
    path: Path
    text: str

    @property
    def explanation(self) -> str | None:
        """Why it is noise, or ``None`` where nothing explains it."""
        for tool, pattern, reason in NOISE:
            if tool == self.tool and re.search(pattern, self.text):
                return reason
        return None


def unexplained(complaints: Iterable[Complaint]) -> list[str]:
    """The complaints that are not known noise, as text."""
    return [f"{c.tool}: {c.path.name}: {c.text}" for c in complaints if c.explanation is None]


def dciodvfy(path: Path) -> list[Complaint]:
    """IOD check of dicom3tools."""
    output = run_tool([find_tool("dciodvfy"), "-new", str(path)])
    return complaints_in("dciodvfy", path, output, r"^(Error|Warning|Abort)")


def dcentvfy(source: Path, path: Path) -> list[Complaint]:
    """Whether patient and study of ``path`` are those of ``source`` (dicom3tools)."""
    output = run_tool([find_tool("dcentvfy"), str(source), str(path)])
    return complaints_in("dcentvfy", path, output, r"^(Error|Warning)")


def dcmdump(path: Path) -> list[Complaint]:
    """Whether DCMTK parses the whole file."""
    output = run_tool([find_tool("dcmdump"), "-q", "+L", str(path)])
    return complaints_in("dcmdump", path, output, r"^[EFW]:")


def dsrdump(path: Path) -> list[Complaint]:
    """DCMTK's strict parser of structured reports."""
    output = run_tool([find_tool("dsrdump"), "+U8", str(path)])
    return complaints_in("dsrdump", path, output, r"^[EFW]:")


def dicom_validator(paths: Sequence[Path], cache: Path) -> list[Complaint]:
    """dicom-validator with tables built offline into ``cache``."""
    from tests.conformance import dicom_validator_cache

    tool = find_tool("validate_iods")
    if not (cache / "editions.json").exists():
        dicom_validator_cache.build(cache)
    wanted = r"Tag \(|is missing|unexpected|is empty|not allowed|invalid|Traceback"
    complaints = []
    for path in paths:
        output = run_tool([tool, "-src", str(cache), "-e", "local", str(path)])
        complaints += complaints_in("dicom-validator", path, output, wanted)
    return complaints


def pixelmed(kind: str, paths: Sequence[Path]) -> list[Complaint]:
    """pixelmed's instance (``iod``) or report (``sr``) validator, all files in one JVM."""
    if not _PIXELMED.exists():
        raise ToolMissing(f"pixelmed is not installed: {_PIXELMED}")
    find_tool("java")
    batch = str(_HERE / "PixelmedBatch.java")
    output = run_tool(
        [*_JAVA, "-cp", str(_PIXELMED), batch, kind, *map(str, paths)],
        timeout_s=max(280, 60 * len(paths)),
    )
    complaints: list[Complaint] = []
    seen = output.split("@@FILE ")[1:]
    if len(seen) != len(paths):
        raise AssertionError(f"pixelmed stopped early: {output[-500:]}")
    for section in seen:
        name, _, text = section.partition("\n")
        if "validation complete" not in text:
            raise AssertionError(f"pixelmed gave no verdict: {text[-500:]}")
        found = complaints_in(
            f"pixelmed-{kind}", Path(name.strip()), text, r"^(Error|Warning)|unrecogn"
        )
        complaints += found
    return complaints


def tid1500reader(path: Path, directory: Path) -> tuple[dict[str, Any], list[Complaint]]:
    """What dcmqi reads out of a report, and what it says while it does."""
    target = directory / f"{path.stem}.json"
    arguments = ["--inputDICOM", str(path), "--outputMetadata", str(target)]
    output = run_tool([find_tool("tid1500reader"), *arguments])
    complaints = complaints_in("tid1500reader", path, output, r"\S")
    return json.loads(target.read_text()) if target.exists() else {}, complaints


def masks_by_dcmqi(
    path: Path, directory: Path
) -> dict[int, tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]]:
    """Every segment as dcmqi decodes it.

    Voxels of a FRACTIONAL one are set where they are above zero. Returns segment number to
    (mask ``(slices, rows, columns)``, affine from that index to LPS mm);
    the extent of a mask is dcmqi's own, so compare in the patient.
    """
    import pydicom
    import SimpleITK

    is_fractional = pydicom.dcmread(path).SegmentationType == "FRACTIONAL"
    output = run_tool(
        [
            find_tool("segimage2itkimage"),
            "--inputDICOM",
            str(path),
            "--outputDirectory",
            str(directory),
            "--prefix",
            path.stem,
            "--outputType",
            "nrrd",
        ]
    )
    meta = directory / f"{path.stem}-meta.json"
    if not meta.exists():
        raise AssertionError(f"dcmqi read nothing: {output[-500:]}")
    masks = {}
    groups = json.loads(meta.read_text())["segmentAttributes"]
    for number, group in enumerate(groups, start=1):
        image = SimpleITK.ReadImage(str(directory / f"{path.stem}-{number}.nrrd"))
        array = SimpleITK.GetArrayFromImage(image)
        for segment in group:
            number = int(segment["labelID"])
            # Of a FRACTIONAL segmentation each image holds one segment's values, not its number.
            mask = array > 0 if is_fractional else array == number
            masks[number] = (mask, _affine(image))
    return masks


def map_by_dcmqi(
    path: Path, directory: Path
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """A Parametric Map as dcmqi decodes it: values ``(slices, rows, columns)``, and the affine from
    that index to LPS mm."""
    import SimpleITK

    arguments = ["--inputDICOM", str(path), "--outputDirectory", str(directory)]
    output = run_tool(
        [find_tool("paramap2itkimage"), *arguments, "--prefix", path.stem, "--outputType", "nrrd"]
    )
    written = directory / f"{path.stem}-pmap.nrrd"
    if not written.exists():
        raise AssertionError(f"dcmqi read nothing: {output[-500:]}")
    image = SimpleITK.ReadImage(str(written))
    return SimpleITK.GetArrayFromImage(image), _affine(image)


def _affine(image: Any) -> npt.NDArray[np.float64]:
    direction = np.asarray(image.GetDirection()).reshape(3, 3)
    scaled = direction * np.asarray(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3] = scaled[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return affine


def find_tool(name: str) -> str:
    """Where a program lies: beside the interpreter, else on the path."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise ToolMissing(f"{name} is not installed")
    return found


def run_tool(command: Sequence[str], timeout_s: float = 120) -> str:
    """Everything that a program prints, whatever its exit code."""
    completed = subprocess.run(
        list(command), capture_output=True, timeout=timeout_s, env={**os.environ, "LC_ALL": "C"}
    )
    return (completed.stdout + completed.stderr).decode("utf-8", "replace")


def complaints_in(tool: str, path: Path, output: str, pattern: str) -> list[Complaint]:
    """One complaint for each line of ``output`` in which ``pattern`` is found."""
    return [
        Complaint(tool, path, line.strip())
        for line in output.splitlines()
        if re.search(pattern, line)
    ]
