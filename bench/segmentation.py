"""Writing a Segmentation beside plain highdicom, dcmqi and the physical floor.

    python -m bench segmentation [--cases 300x20,600x1,...] [--rounds N]

512 x 512 pixels, slices x segments as the cases say; every measurement in a process of its own,
rounds interleaved, medians. Results of all cases go to ``bench/results/segmentation.*``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ai_models.types import LabelMap
from bench.receive import machine
from bench.segmentation_process import LUNG, STRUCTURE, WAYS, labels

RESULTS = Path(__file__).parent / "results"
CASES = ("300x20", "600x1", "600x20", "600x100")
SIZE = 512
TIMES_FLOOR, SEGMENTS_OF_BUDGET = 4.0, 20
OF_HIGHDICOM = 0.5
_SPACING_MM = (0.7, 0.7, 1.0)


def label_map(slices: int, segments: int) -> LabelMap:
    """Ellipsoids in a grid of cells, each on some third of the slices, from a fixed seed."""
    random = np.random.default_rng(4)
    volume: LabelMap = np.zeros((slices, SIZE, SIZE), np.uint8)
    per_side = int(np.ceil(np.sqrt(segments)))
    cell = (SIZE - 64) // per_side
    from_centre = np.square(np.arange(cell) - (cell - 1) / 2)
    distance = from_centre[:, None] + from_centre[None, :]
    for value in range(1, segments + 1):
        row, column = (32 + cell * part for part in divmod(value - 1, per_side))
        length = max(2, int(slices * random.uniform(0.2, 0.5)))
        first = int(random.integers(0, slices - length + 1))
        for number in range(length):
            height = 1 - np.square(2 * (number + 0.5) / length - 1)
            disc = distance < height * np.square(cell / 2)
            volume[first + number, row : row + cell, column : column + cell][disc] = value
    return volume


def prepare(directory: Path, slices: int, segments: int) -> None:
    """Write the inputs of every way."""
    import SimpleITK

    (directory / "sources").mkdir(parents=True)
    for number, header in enumerate(_headers(slices)):
        header.save_as(directory / "sources" / f"{number:04d}.dcm", enforce_file_format=True)
    volume = label_map(slices, segments)
    np.save(directory / "labels.npy", volume)
    image: Any = SimpleITK.GetImageFromArray(volume)
    image.SetSpacing(_SPACING_MM)
    SimpleITK.WriteImage(image, str(directory / "labels.nrrd"))
    meta = {
        "ContentCreatorName": "Bench", "SeriesDescription": "Bench", "SeriesNumber": "9001",
        "InstanceNumber": "1", "BodyPartExamined": "CHEST",
        "segmentAttributes": [[_segment(label.value, label.name) for label in labels(segments)]],
    }  # fmt: skip
    (directory / "segments.json").write_text(json.dumps(meta))


def _headers(slices: int) -> list[Any]:
    """A CT series with as good as no pixels: nothing here reads them, but dcmqi asks for some."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    headers = []
    for number in range(slices):
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, f"2.25.77.{number + 1}"
        one.StudyInstanceUID, one.SeriesInstanceUID = "2.25.78", "2.25.79"
        one.FrameOfReferenceUID, one.PositionReferenceIndicator = "2.25.80", ""
        one.Modality, one.PatientName, one.PatientID = "CT", "Synthetic^Phantom", "SYN-1"
        one.PatientBirthDate, one.PatientSex, one.AccessionNumber = "19600101", "O", "A1"
        one.StudyDate, one.StudyTime, one.StudyID = "20261122", "101500", "1"
        one.ReferringPhysicianName, one.Manufacturer = "", "SynthCo"
        one.SeriesNumber, one.InstanceNumber = 3, number + 1
        one.Rows = one.Columns = SIZE
        one.PixelSpacing, one.SliceThickness = [_SPACING_MM[1], _SPACING_MM[0]], _SPACING_MM[2]
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.ImagePositionPatient = [0, 0, number * _SPACING_MM[2]]
        one.BitsAllocated, one.PixelRepresentation = 16, 0
        one.PixelData = bytes(2)
        headers.append(one)
    return headers


def _segment(value: int, name: str) -> dict[str, Any]:
    return {
        "labelID": value,
        "SegmentLabel": name,
        "SegmentDescription": name,
        "SegmentAlgorithmType": "AUTOMATIC",
        "SegmentAlgorithmName": "Bench",
        "SegmentedPropertyCategoryCodeSequence": _code(STRUCTURE),
        "SegmentedPropertyTypeCodeSequence": _code(LUNG),
        "recommendedDisplayRGBValue": [value, 255 - value, 0],
    }


def _code(code: Any) -> dict[str, str]:
    return {
        "CodeValue": code.value,
        "CodingSchemeDesignator": code.scheme,
        "CodeMeaning": code.meaning,
    }


def measure(directory: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Every way in turn, ``rounds`` times; medians by way."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, many in found.items():
            command = [sys.executable, "-m", "bench.segmentation_process", way, str(directory)]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{way}: {done.stderr[-800:]}")
            many.append(json.loads(done.stdout.splitlines()[-1]))
            print(f"  {way:26} {many[-1]['seconds']:7.2f} s, CPU {many[-1]['cpu_s']:.2f} s")
    return {
        way: {key: statistics.median(one[key] for one in many) for key in many[0]}
        for way, many in found.items()
    }


def verdicts(case: str, ways: dict[str, dict[str, float]]) -> list[str]:
    """What the budgets say to one case, a sentence each."""
    node, highdicom = ways["node"], ways["highdicom"]
    times_floor = node["cpu_s"] / ways["floor"]["cpu_s"]
    times_highdicom = node["cpu_s"] / highdicom["cpu_s"]
    if int(case.split("x")[1]) >= SEGMENTS_OF_BUDGET:
        kept = times_floor <= TIMES_FLOOR
        time = f"{times_floor:.1f} times the floor (budget {TIMES_FLOOR:g})"
    else:
        kept = times_highdicom <= 1.0
        headers_s = ways["node, of it headers"]["cpu_s"]
        time = (
            f"{times_highdicom:.2f} times highdicom's time (budget 1), {headers_s:.2f} s of it for "
            "the repair of headers, which highdicom by itself takes as they are or raises on"
        )
    share = node["added_mb"] / highdicom["added_mb"]
    of_it = f"{node['added_mb']:.0f} MB, of them {node['file_mb']:.0f} MB the object itself"
    return [
        f"{case}: {time}: {'kept' if kept else 'missed'}.",
        f"{case}: {share:.2f} of the memory that highdicom adds to its inputs "
        f"(budget {OF_HIGHDICOM:g}; {of_it}): {'kept' if share <= OF_HIGHDICOM else 'missed'}.",
    ]


def report(result: dict[str, Any]) -> str:
    """The tables as Markdown."""
    lines = [
        "# Segmentation",
        "",
        f"{result['machine']}. {SIZE} x {SIZE} pixels, "
        f"medians of {result['rounds']}, each in a process of its own; without imports and "
        "reading of headers, dcmqi as a whole process. CPU seconds decide on the budgets: all "
        "ways use one core, and CPU seconds do not count what else runs. The floor compares each "
        "label with each slice, packs what is there and writes it. Memory: the peak of the "
        "process, and what of it came on top of libraries, headers and label map (of dcmqi all).",
        "",
        "| slices x segments | written by | seconds | CPU s | times floor | peak MB | added MB "
        "| file MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case, ways in result["cases"].items():
        for way, one in ways.items():
            lines.append(
                f"| {case} | {way} | {one['seconds']:.2f} | {one['cpu_s']:.2f} "
                f"| {one['cpu_s'] / ways['floor']['cpu_s']:.1f} | {one['peak_mb']:.0f} "
                f"| {one['added_mb']:.0f} | {one['file_mb']:.1f} |"
            )
    lines += ["", "Budgets:", ""]
    for case, ways in result["cases"].items():
        lines += [f"- {sentence}" for sentence in verdicts(case, ways)]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and write ``bench/results/segmentation.*`` when all cases were measured."""
    parser = argparse.ArgumentParser(prog="bench segmentation")
    parser.add_argument("--cases", default=",".join(CASES), help="slices x segments, by commas")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    cases: dict[str, Any] = {}
    for case in options.cases.split(","):
        print(f"segmentation {case}", flush=True)
        slices, segments = (int(part) for part in case.split("x"))
        with tempfile.TemporaryDirectory(prefix="segmentation-") as scratch:
            prepare(Path(scratch) / "case", slices, segments)
            cases[case] = measure(Path(scratch) / "case", options.rounds)
    result = {"machine": machine(), "rounds": options.rounds, "cases": cases}
    print(report(result))
    if set(CASES) <= set(cases):
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "segmentation.json").write_text(json.dumps(result, indent=1) + "\n")
        (RESULTS / "segmentation.md").write_text(report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
