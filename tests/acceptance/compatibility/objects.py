"""The objects of the matrix: one or more of each kind, made by the project's own builders."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np
from pydicom.dataset import Dataset

from ai_models.types import LabelMap
from dicom_node.results.report import (
    build_negative_report,
    build_planar_report,
    build_volumetric_report,
)
from dicom_node.results.request import SERIES_NUMBERS
from tests.acceptance.compatibility.specimen import Specimen
from tests.dicom_samples import radiograph
from tests.results import samples


def specimens() -> list[Specimen]:
    """All of them; each call makes new source series."""
    return [*_on_ct(), *_on_enhanced_ct(), *_on_radiograph()]


def _on_ct() -> Iterator[Specimen]:
    source = samples.ct()
    mask = samples.lungs(source)
    request = samples.request_for(_headers(source))
    segmentation = samples.segmentation_of(_headers(source), mask)
    yield Specimen("segmentation", "CT", segmentation, source, voxels=_voxels(mask))
    volumetric = build_volumetric_report(
        request,
        segmentation,
        mask,
        samples.MEASUREMENTS,
        series_number=SERIES_NUMBERS["volumetric report"],
    )
    yield Specimen("volumetric report", "CT", volumetric, source)
    planar = build_planar_report(request, mask, series_number=SERIES_NUMBERS["planar report"])
    assert planar is not None
    yield Specimen("planar report", "CT", planar, source, measurements=2)
    negative = build_negative_report(request, series_number=SERIES_NUMBERS["planar report"])
    yield Specimen("negative report", "CT", negative, source)


def _on_enhanced_ct() -> Iterator[Specimen]:
    source = samples.enhanced()
    mask = samples.lungs()
    segmentation = samples.segmentation_of(
        _headers([source]), mask, frame_numbers=list(range(1, len(mask) + 1))
    )
    yield Specimen("segmentation", "enhanced CT", segmentation, [source], voxels=_voxels(mask))


def _on_radiograph() -> Iterator[Specimen]:
    source = radiograph(modality="DX", StudyDescription="Thorax PA")
    mask = np.zeros((1, source.Rows, source.Columns), np.uint8)
    mask[0, 10:30, 8:20] = 1
    mask[0, 12:34, 36:50] = 2
    segmentation = samples.segmentation_of(_headers([source]), mask)
    yield Specimen("segmentation", "radiograph (DX)", segmentation, [source], voxels=_voxels(mask))


def _headers(datasets: Sequence[Dataset]) -> list[Dataset]:
    return samples.headers([copy.deepcopy(dataset) for dataset in datasets])


def _voxels(mask: LabelMap) -> dict[int, int]:
    values, counts = np.unique(mask[mask > 0], return_counts=True)
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}
