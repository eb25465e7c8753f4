"""Rows of building Segmentations and reports."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.child import Child
from bench.rows import LIMIT, NODE, PEER, AgainstWay, AtMost, Budget, Case, FigureOf, Way
from bench.segmentation import SEGMENTS_OF_BUDGET, TIMES_FLOOR, prepare
from bench.segmentation_process import Inputs, inputs

_WAYS = {"node": NODE, "highdicom": PEER, "dcmqi": PEER, "floor": LIMIT}
_LABELS = 2


def _volume_ml(given: Inputs, value: int) -> float:
    return float((given.label_map == value).sum()) * 0.49e-3


def report_by_node(folder: str) -> Callable[[], None]:
    """The volumetric report of this project: image library, sentences, measurements; as bytes."""
    from dicom_node.results.report import build_volumetric_report
    from dicom_node.results.segmentation import build_segmentation
    from dicom_node.results.writing import write_result
    from tests.results.samples import Measured

    given = inputs(Path(folder))
    one = given.request
    segmentation = build_segmentation(
        one.source_images, one.frame_numbers, given.label_map, one.labels, one.algorithm,
        one.identity, series_number=9001, equipment=one.equipment, created_at=one.created_at,
    )  # fmt: skip
    assert segmentation is not None
    measured = {
        value: Measured(_volume_ml(given, value), -800.0, 100.0, 1000)
        for value in range(1, _LABELS + 1)
    }

    def work() -> None:
        built = build_volumetric_report(
            one, segmentation, given.label_map, measured, series_number=9002
        )
        write_result(built, io.BytesIO())

    work()
    return work


def _by_highdicom(folder: str) -> tuple[Callable[[], Any], Inputs]:
    from bench.script_pipeline import report_of
    from bench.segmentation_process import _highdicom

    given = inputs(Path(folder))
    segmentation = _highdicom(given, "BINARY", None)
    numbers = {value: (_volume_ml(given, value), -800.0) for value in range(1, _LABELS + 1)}
    labels = given.request.labels[:_LABELS]
    images: Any = given.request.source_images

    return (lambda: report_of(images, labels, numbers, segmentation)), given


def report_by_highdicom(folder: str) -> Callable[[], None]:
    """A TID 1500 report by highdicom with two measurements of each segment, as bytes."""
    build, _ = _by_highdicom(folder)

    def work() -> None:
        build().save_as(io.BytesIO(), enforce_file_format=True)

    work()
    return work


def report_bytes(folder: str) -> Callable[[], None]:
    """A finished report of highdicom, only written."""
    build, _ = _by_highdicom(folder)
    finished = build()
    return lambda: finished.save_as(io.BytesIO(), enforce_file_format=True)


def _prepared(scratch: Path, slices: int, segments: int) -> Path:
    folder = scratch / f"describe-{slices}x{segments}"
    if not (folder / "segments.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        prepare(folder, slices, segments)
    return folder


def cases(scratch: Path, *, short: bool) -> list[Case]:
    """What is measured of building objects."""
    sizes = [(300, 20)] if short else [(100, 1), (300, 5), (300, 20), (600, 100)]

    def ways(slices: int, segments: int) -> list[Way]:
        folder = _prepared(scratch, slices, segments)
        # Each in a folder of its own: they write the same file.
        return [
            Child(
                way, role, "bench.segmentation_process", "prepared", way, _copied(folder, way),
            )
            for way, role in _WAYS.items()
        ]  # fmt: skip

    def budgets(segments: int) -> list[Budget]:
        time: Budget = (
            FigureOf(TIMES_FLOOR, "floor", "cpu_s", "CPU") if segments >= SEGMENTS_OF_BUDGET
            else FigureOf(1, "highdicom", "cpu_s", "CPU")
        )
        return [time, FigureOf(0.5, "highdicom", "added_mb", "memory added")]

    def reports() -> list[Way]:
        folder = _prepared(scratch, 300, _LABELS)
        return [
            Child("node", NODE, "bench.describing", "report_by_node", folder),
            Child("highdicom", PEER, "bench.describing", "report_by_highdicom", folder),
            Child("a finished report, written", LIMIT, "bench.describing", "report_bytes", folder),
        ]

    rounds = 2 if short else 3
    found = [
        Case("SEG", f"{slices} slices, {segments} segments, BINARY", "s", "object",
             partial(ways, slices, segments), budgets(segments), rounds)
        for slices, segments in sizes
    ]
    found.append(Case("SR", "300 slices, 2 segments", "s", "object", reports, (
        AtMost(0.2, "value", "s"), AgainstWay(1, "highdicom"),
    ), 2 * rounds))
    return found


def _copied(folder: Path, way: str) -> Path:
    """The inputs again, by links, with room for an output."""
    own = folder.with_name(f"{folder.name}-{way}")
    if not own.exists():
        own.mkdir()
        for path in folder.iterdir():
            if path.name not in ("output.dcm", "warm"):
                (own / path.name).symlink_to(path)
    return own
