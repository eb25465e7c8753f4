"""A detector's answer on a small CT, and everything that is made of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from ai_models.array.marked_boxes import BoxMask
from ai_models.types import Code, Detection, DetectionPrediction, Label, Volume
from dicom_node.results.detections import MarkedDetections, findings_of
from dicom_node.results.report import build_planar_report, build_volumetric_report
from dicom_node.results.request import ResultRequest
from tests.results import samples

ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
NODULE = Label(1, "Nodule", ABNORMAL, Code("27925004", "SCT", "Nodule"), (255, 80, 0),
               anatomic_region=samples.LUNG)
MASS = Label(2, "Mass", ABNORMAL, Code("4147007", "SCT", "Mass"), (0, 80, 255),
             anatomic_region=samples.LUNG)
LARGE, SMALL, INSIDE = (8.0, 12.0, 10.0), (0.4, 0.4, 0.4), (3.0, 4.0, 5.0)


def detection(
    affine: npt.NDArray[np.float64], index: tuple[float, float, float],
    size_mm: tuple[float, float, float], score: float, value: int = 1,
) -> Detection:
    """A box along the axes of the grid: ``size_mm`` is (slice, row, column)."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    box = np.eye(4)
    box[:3, :3] = directions * np.asarray(size_mm)
    box[:3, 3] = (affine @ np.array([*index, 1.0]))[:3] - box[:3, :3].sum(axis=1) / 2
    return Detection(value, score, box)


def volume_of(datasets: Sequence[Dataset]) -> Volume:
    """A volume on the grid of a series, with values that differ from voxel to voxel."""
    array = (np.arange(np.prod(samples.SHAPE)) % 301 - 700).astype(np.int16)
    return Volume(array.reshape(samples.SHAPE), samples.affine_lps(datasets))


def prediction_on(affine: npt.NDArray[np.float64]) -> DetectionPrediction:
    """Two nodules, of which one lies within the other's box, and a very small one."""
    return DetectionPrediction(
        (
            detection(affine, (4.2, 18.0, 14.0), LARGE, 0.97312),
            detection(affine, (4.0, 18.0, 14.0), INSIDE, 0.8),
            detection(affine, (7.0, 30.1, 33.0), SMALL, 0.5004),
        ),
        (NODULE, MASS), samples.ALGORITHM,
    )


@dataclass(frozen=True)
class Reported:
    """Everything that is made of one prediction."""

    source: list[Dataset]
    headers: list[Dataset]
    prediction: DetectionPrediction
    found: MarkedDetections
    request: ResultRequest
    segmentation: Dataset
    volumetric: Dataset
    planar: Dataset


def reported(
    mask: BoxMask = "ellipsoid", language: str = "en",
    detections: tuple[Detection, ...] | None = None, **changes: object,
) -> Reported:
    """Segmentation and reports of `prediction_on` a CT, or of other ``detections`` on it;
    ``changes`` as for `samples.ct`."""
    source = samples.ct(**changes)
    headers = samples.headers(copy.deepcopy(source))
    volume = volume_of(headers)
    prediction = prediction_on(volume.affine_lps)
    if detections is not None:
        prediction = replace(prediction, detections=detections)
    found = findings_of(prediction, mask, volume)
    identity = found.tracked(
        samples.identity_of(headers), str(headers[0].SeriesInstanceUID)
    )
    algorithm = replace(samples.ALGORITHM, parameters=dict(found.parameters))
    request = samples.request_for(
        headers, labels=found.labels, template="lung_nodules", identity=identity,
        algorithm=algorithm, input_notes=(found.note,), language=language,
    )
    segmentation = samples.segmentation_of(
        headers, found.label_map, labels=found.labels, identity=identity, algorithm=algorithm
    )
    volumetric = build_volumetric_report(
        request, segmentation, found.outlined(), found.measurements, series_number=9002
    )
    planar = build_planar_report(request, found.outlined(), series_number=9003)
    assert planar is not None
    return Reported(source, headers, prediction, found, request, segmentation, volumetric, planar)
