"""One way to write one segmentation, in a process of its own: what it cost, as one line of JSON.

    python -m bench.segmentation_process WAY DIRECTORY

DIRECTORY holds ``labels.npy``, ``sources/*.dcm`` (headers) and, for dcmqi, ``labels.nrrd`` and
``segments.json``, as `bench.segmentation` makes them. What is loaded before the clock starts
(libraries and their tables, source headers, label map) is what every way begins with; memory is
the peak of the process, and what of it came on top of that.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ai_models.types import Algorithm, Code, Label, LabelMap
from dicom_node.results.equipment import Equipment
from dicom_node.results.identity import ResultIdentity
from dicom_node.results.request import ResultRequest

STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
LUNG = Code("39607008", "SCT", "Lung")
_RLE = "1.2.840.10008.1.2.5"


@dataclass(frozen=True)
class Inputs:
    """What every way begins with."""

    request: ResultRequest
    label_map: LabelMap
    directory: Path

    @property
    def output(self) -> Path:
        """Where the object goes."""
        return self.directory / "output.dcm"


def inputs(directory: Path, most_slices: int | None = None) -> Inputs:
    """Headers and label map of a case, or of its first slices."""
    import pydicom

    paths = sorted((directory / "sources").iterdir())[:most_slices]
    label_map = np.load(directory / "labels.npy")[:most_slices]
    request = ResultRequest(
        source_images=[pydicom.dcmread(path, stop_before_pixels=True) for path in paths],
        frame_numbers=[1] * len(paths),
        labels=labels(255),
        algorithm=Algorithm(
            "bench", "Bench", "1.0", "DICOM Node project", "ab" * 32,
            Code("123110", "DCM", "Artificial Intelligence"), False,
        ),
        identity=ResultIdentity({path.name: "" for path in paths}, "bench", "1.0", "ab" * 32),
        equipment=Equipment("DICOM Node project", "DICOM Node", "0.1.0", "BENCH"),
        created_at=datetime(2026, 11, 22, 14, 30),  # noqa: DTZ001 - the wall clock of the source
    )  # fmt: skip
    return Inputs(request, label_map, directory)


def labels(count: int) -> tuple[Label, ...]:
    """Labels 1 to ``count``, told apart by their names."""
    return tuple(
        Label(value, f"Part {value}", STRUCTURE, LUNG, (value, 255 - value, 0))
        for value in range(1, count + 1)
    )


def by_node(given: Inputs) -> None:
    """BINARY by this project, with its headers repaired, into a file."""
    from dicom_node.results.segmentation import build_segmentation
    from dicom_node.results.writing import write_result

    one = given.request
    result = build_segmentation(
        one.source_images, one.frame_numbers, given.label_map, one.labels, one.algorithm,
        one.identity, series_number=9001, equipment=one.equipment, created_at=one.created_at,
    )  # fmt: skip
    _write(result, given, write_result)


def repair_headers(given: Inputs) -> None:
    """The part of ``by_node`` that makes copies of the headers fit to be carried."""
    from dicom_node.results.headers import normalise

    normalise(given.request.source_images)


def by_node_as_label_map(given: Inputs) -> None:
    """LABELMAP by this project, uncompressed."""
    from dicom_node.results.segmentation import build_label_map_segmentation
    from dicom_node.results.writing import write_result

    result = build_label_map_segmentation(given.request, given.label_map, series_number=9001)
    _write(result, given, write_result)


def gate(given: Inputs) -> None:
    """The check of the object that ``by_node`` left, from its file."""
    from dicom_node.results.gate import check_segmentation

    one = given.request
    check_segmentation(
        given.output, one.source_images, one.frame_numbers, given.label_map, one.labels
    )


def by_highdicom(given: Inputs) -> None:
    """BINARY by highdicom alone."""
    _write(_highdicom(given, "BINARY", None), given, _save)


def by_highdicom_as_label_map(given: Inputs) -> None:
    """LABELMAP by highdicom alone, RLE."""
    _write(_highdicom(given, "LABELMAP", _RLE), given, _save)


def by_dcmqi(given: Inputs) -> None:
    """BINARY by dcmqi's command, which reads its inputs itself."""
    command = [
        str(Path(sys.executable).parent / "itkimage2segimage"),
        "--inputImageList", str(given.directory / "labels.nrrd"),
        "--inputDICOMDirectory", str(given.directory / "sources"),
        "--inputMetadata", str(given.directory / "segments.json"),
        "--outputDICOM", str(given.output), "--skip", "1",
    ]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode or not given.output.exists():
        raise RuntimeError(f"dcmqi failed: {(done.stdout + done.stderr)[-600:]}")


def floor(given: Inputs) -> None:
    """No object at all: each label on each slice compared, packed where it is there, written."""
    with given.output.open("wb") as file:
        for value in range(1, int(given.label_map.max()) + 1):
            for plane in given.label_map:
                mask = plane == value
                if mask.any():
                    file.write(np.packbits(mask, bitorder="little").data)


WAYS: dict[str, Callable[[Inputs], None]] = {
    "floor": floor,
    "node": by_node,
    "node, of it headers": repair_headers,
    "node, gate": gate,
    "highdicom": by_highdicom,
    "dcmqi": by_dcmqi,
    "node, label map": by_node_as_label_map,
    "highdicom, label map RLE": by_highdicom_as_label_map,
}


def _highdicom(given: Inputs, segmentation_type: str, syntax: str | None) -> Any:
    import highdicom as hd
    from pydicom.uid import ExplicitVRLittleEndian

    count = int(given.label_map.max())
    code = hd.sr.CodedConcept(LUNG.value, LUNG.scheme, LUNG.meaning)
    category = hd.sr.CodedConcept(STRUCTURE.value, STRUCTURE.scheme, STRUCTURE.meaning)
    family = hd.sr.CodedConcept("123110", "DCM", "Artificial Intelligence")
    algorithm = hd.AlgorithmIdentificationSequence("Bench", family, "1.0")
    segments = [
        hd.seg.SegmentDescription(label.value, label.name, category, code, "AUTOMATIC", algorithm)
        for label in labels(count)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hd.seg.Segmentation(
            source_images=given.request.source_images, pixel_array=given.label_map,
            segmentation_type=segmentation_type, segment_descriptions=segments,
            series_instance_uid="2.25.1", series_number=9001, sop_instance_uid="2.25.2",
            instance_number=1, manufacturer="Bench", manufacturer_model_name="Bench",
            software_versions="1.0", device_serial_number="1", content_label="BENCH",
            transfer_syntax_uid=syntax or ExplicitVRLittleEndian,
        )  # fmt: skip


def _save(result: Any, file: Any) -> None:
    result.save_as(file, enforce_file_format=True)


def _write(result: Any, given: Inputs, write: Callable[[Any, Any], None]) -> None:
    with given.output.open("wb") as file:
        write(result, file)


def _cpu_s() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _held_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _peak_mb(*, of_child: bool) -> float:
    """Of this process from its own memory map: getrusage keeps the peak of the parent it is of."""
    if of_child:
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def prepared(way: str, folder: str) -> Callable[[], dict[str, float]]:
    """One way, warmed up and with its inputs loaded, to be done again and again (`bench.child`)."""
    directory = Path(folder)
    if way not in ("floor", "dcmqi"):
        _warm_up(way, directory)
    given = inputs(directory)

    def work() -> dict[str, float]:
        WAYS[way](given)
        found = {"file_mb": given.output.stat().st_size / 1e6}
        if way == "dcmqi":
            found["peak_mb"] = found["added_mb"] = _peak_mb(of_child=True)
        return found

    return work


def _warm_up(way: str, directory: Path) -> None:
    few = inputs(directory, most_slices=4)
    ones = np.ones_like(few.label_map)
    small = replace(few, label_map=ones, directory=directory / "warm")
    small.directory.mkdir(exist_ok=True)
    for name in ("node", way):
        WAYS[name](small)


def measure(way: str, directory: Path) -> dict[str, float]:
    """Seconds, CPU seconds, peak memory, what of it is above the inputs, size of the file."""
    if way not in ("floor", "dcmqi"):
        _warm_up(way, directory)
    given = inputs(directory)
    held_mb = _held_mb()
    begun, cpu_begun_s = time.perf_counter(), _cpu_s()
    WAYS[way](given)
    seconds, cpu_s = time.perf_counter() - begun, _cpu_s() - cpu_begun_s
    peak_mb = _peak_mb(of_child=way == "dcmqi")
    return {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "peak_mb": peak_mb,
        "added_mb": peak_mb if way == "dcmqi" else max(peak_mb - held_mb, 0.0),
        "file_mb": given.output.stat().st_size / 1e6 if given.output.exists() else 0.0,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure one way."""
    way, directory = sys.argv[1:] if arguments is None else arguments
    print(json.dumps(measure(way, Path(directory))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
