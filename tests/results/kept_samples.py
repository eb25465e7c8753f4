"""Results as the node keeps them: kinds and data sets of one job, and what they were made from."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from ai_models.types import Label, LabelMap
from dicom_node.results.declined import build_not_analysed_report
from dicom_node.results.forms import Source
from dicom_node.results.parametric_map import NO_UNITS, SALIENCY, build_parametric_map
from dicom_node.results.report import (
    build_image_report,
    build_negative_report,
    build_planar_report,
    build_volumetric_report,
)
from dicom_node.results.request import Reference
from tests.results import samples

Kept = list[tuple[str, Dataset]]


@dataclass
class Images:
    """Grey images of ``shape``; ``asked_for`` are the labels that each call was for."""

    shape: tuple[int, ...] = samples.SHAPE
    asked_for: list[Sequence[Label]] = field(default_factory=list)

    def __call__(self, labels: Sequence[Label]) -> LabelMap:
        self.asked_for.append(labels)
        return np.full(self.shape, 90, np.uint8)


def source_of(datasets: Sequence[Dataset], images: Images | None = None) -> Source:
    """What a result on ``datasets`` was made from."""
    return Source(datasets, [1] * len(datasets), images or Images(), samples.EQUIPMENT)


def lungs(datasets: Sequence[Dataset], mask: LabelMap | None = None, **changes: object) -> Kept:
    """Segmentation, volumetric and planar report."""
    mask = samples.lungs() if mask is None else mask
    request = samples.request_for(datasets, **changes)
    segmentation = samples.segmentation_of(datasets, mask)
    planar = build_planar_report(request, mask, series_number=9003)
    assert planar is not None
    volumetric = build_volumetric_report(
        request, segmentation, mask, samples.MEASUREMENTS, series_number=9002
    )
    return [
        ("segmentation", segmentation),
        ("volumetric report", volumetric),
        ("planar report", planar),
    ]


def negative(datasets: Sequence[Dataset], **changes: object) -> Kept:
    """The report that nothing was found."""
    request = samples.request_for(datasets, **changes)
    return [("negative report", build_negative_report(request, series_number=9002))]


def not_analysed(datasets: Sequence[Dataset], **changes: object) -> Kept:
    """The report that the images were not analysed."""
    request = samples.request_for(datasets, labels=(), **changes)
    report = build_not_analysed_report(
        request, "input.too_few_slices", "3 slices", series_number=9002
    )
    return [("not analysed report", report)]


def embolism(datasets: Sequence[Dataset]) -> Kept:
    """A probability of the whole study, and the map that explains it."""
    outputs = {"pulmonary_embolism": 0.83}
    request = samples.request_for(
        datasets, labels=(), template="pulmonary_embolism", outputs=outputs
    )
    saliency = np.zeros(samples.SHAPE, np.float32)
    saliency[3:6, 10:20, 12:25] = np.linspace(0.2, 0.9, 13, dtype=np.float32)
    explained = build_parametric_map(
        request, saliency, SALIENCY, NO_UNITS, name="pulmonary_embolism", series_number=9005
    )
    reference = Reference(
        str(explained.SOPClassUID),
        str(explained.SOPInstanceUID),
        str(explained.SeriesInstanceUID),
        str(explained.StudyInstanceUID),
    )
    report = build_image_report(request, series_number=9002, explanation=reference)
    return [("parametric map", explained), ("image report", report)]


def from_files(kept: Kept, directory: Path) -> Kept:
    """``kept`` as it is read from the outbox."""
    read = []
    for number, (kind, dataset) in enumerate(kept):
        path = directory / f"{number}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        read.append((kind, pydicom.dcmread(path)))
    return read


def encoded(dataset: Dataset) -> bytes:
    """The bytes of ``dataset`` as a file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
