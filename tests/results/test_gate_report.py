"""A report that says something else than was computed does not leave."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.errors import GateRefused
from dicom_node.results.gate_report import check_findings
from tests.results import kept_samples, samples
from tests.results.samples import items, named

DATASETS = samples.ct()
KEPT = dict(kept_samples.lungs(DATASETS))


def refusal(report: Dataset, mask: Any = None) -> str:
    label_map = samples.lungs() if mask is None else mask
    frames = [1] * len(DATASETS)
    try:
        check_findings(
            report, DATASETS, frames, label_map, samples.MEASUREMENTS, KEPT["segmentation"]
        )
    except GateRefused as refused:
        return refused.reason
    return ""


@pytest.mark.parametrize("kind", ["volumetric report", "planar report"])
def test_a_report_that_says_what_was_computed_passes(kind: str) -> None:
    assert refusal(KEPT[kind]) == ""


def test_outlines_of_parts_and_holes_pass() -> None:
    mask = samples.lungs()
    mask[:, 10:12, 11:13] = 0
    mask[4, 0, 0] = 1
    report = dict(kept_samples.lungs(DATASETS, mask))["planar report"]
    assert refusal(report, mask) == ""


def outlines_of(report: Dataset) -> list[Dataset]:
    return [one for one in items(report) if one.ValueType == "SCOORD"]


def mirrored(report: Dataset) -> None:
    for one in outlines_of(report):
        points = np.asarray(one.GraphicData, float).reshape(-1, 2)
        points[:, 0] = DATASETS[0].Columns - points[:, 0]
        one.GraphicData = points.ravel().tolist()


def shifted(report: Dataset) -> None:
    one = outlines_of(report)[0]
    one.GraphicData = [float(value) + 1 for value in one.GraphicData]


def on_another_slice(report: Dataset) -> None:
    reference = outlines_of(report)[0].ContentSequence[0].ReferencedSOPSequence[0]
    reference.ReferencedSOPInstanceUID = DATASETS[0].SOPInstanceUID


def exchanged_sides(report: Dataset) -> None:
    for side in named(report, "272741003"):
        code = side.ConceptCodeSequence[0]
        code.CodeValue = {"24028007": "7771000", "7771000": "24028007"}.get(
            str(code.CodeValue), code.CodeValue
        )


def exchanged_numbers(report: Dataset) -> None:
    first, second, *_ = named(report, "118565006")
    one, other = first.MeasuredValueSequence[0], second.MeasuredValueSequence[0]
    one.NumericValue, other.NumericValue = other.NumericValue, one.NumericValue


def exchanged_segments(report: Dataset) -> None:
    first, second, *_ = named(report, "121191")
    one, other = first.ReferencedSOPSequence[0], second.ReferencedSOPSequence[0]
    one.ReferencedSegmentNumber, other.ReferencedSegmentNumber = 2, 1


def one_finding_less(report: Dataset) -> None:
    groups = next(
        one.ContentSequence for one in items(report)
        if one.ValueType == "CONTAINER" and named(one, "125007")
    )
    del groups[0]


@pytest.mark.parametrize(
    ("kind", "spoil", "reason"),
    [
        ("planar report", mirrored, "gate.contour"),
        ("planar report", shifted, "gate.contour"),
        ("planar report", on_another_slice, "gate.contour"),
        ("planar report", exchanged_sides, "gate.labels"),
        ("planar report", one_finding_less, "gate.labels"),
        ("volumetric report", exchanged_sides, "gate.labels"),
        ("volumetric report", exchanged_numbers, "gate.number"),
        ("volumetric report", exchanged_segments, "gate.labels"),
    ],
)
def test_a_report_that_says_something_else_is_refused(
    kind: str, spoil: Callable[[Dataset], None], reason: str
) -> None:
    report = copy.deepcopy(KEPT[kind])
    spoil(report)
    assert refusal(report) == reason
