"""A small CT with two lungs, in several poses, and everything else that a result needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from ai_models.types import Algorithm, Code, Label, LabelMap
from dicom_node.results.equipment import Equipment
from dicom_node.results.identity import ResultIdentity
from dicom_node.results.request import ResultRequest
from dicom_node.results.segmentation import build_segmentation
from tests.dicom_samples import ct_series, enhanced_series

STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
LUNG = Code("39607008", "SCT", "Lung")
RIGHT = Label(1, "Right lung", STRUCTURE, LUNG, (66, 135, 245), Code("24028007", "SCT", "Right"))
LEFT = Label(2, "Left lung", STRUCTURE, LUNG, (245, 166, 35), Code("7771000", "SCT", "Left"))
LABELS = (RIGHT, LEFT)
ALGORITHM = Algorithm(
    model_id="lungs-ct",
    name="Lungs in CT (demonstration)",
    version="1.0.0",
    manufacturer="DICOM Node project",
    weights_sha256="ab" * 32,
    family=Code("123110", "DCM", "Artificial Intelligence"),
    demonstration=True,
    parameters={"precision": "fp32"},
)
EQUIPMENT = Equipment("DICOM Node project", "DICOM Node", "0.1.0", "TESTNODE")
CREATED_AT = datetime(2026, 11, 22, 14, 30, 15)  # noqa: DTZ001 - the wall clock of the source
SHAPE = (10, 40, 48)
SPACING_MM = (2.5, 1.0, 1.25)
OBLIQUE = (0.98, 0.17, 0.1034, -0.1632, 0.9842, -0.0712)


@dataclass(frozen=True)
class Measured:
    """A measurement as reports take it."""

    volume_ml: float
    mean_hu: float
    standard_deviation_hu: float
    voxel_count: int


MEASUREMENTS = {1: Measured(2400.25, -812.5, 120.5, 3000), 2: Measured(2100.5, -820.0, 110.0, 1000)}


def ct(**changes: Any) -> list[Dataset]:
    """A classic CT series of ``SHAPE``; ``changes`` as for ``ct_series``."""
    changes.setdefault("Manufacturer", "SynthCo")
    changes.setdefault("ManufacturerModelName", "Synth 1")
    changes.setdefault("StudyDescription", "CT Thorax")
    changes.setdefault("TimezoneOffsetFromUTC", "+0100")
    orientation = changes.pop("orientation", (1, 0, 0, 0, 1, 0))
    return ct_series(
        changes.pop("shape", SHAPE),
        changes.pop("spacing_mm", SPACING_MM),
        orthonormal(orientation),
        **changes,
    )


def orthonormal(orientation: Sequence[float]) -> tuple[float, ...]:
    """``orientation`` with exact unit vectors at a right angle."""
    row = np.asarray(orientation[:3], float)
    row /= np.linalg.norm(row)
    column = np.asarray(orientation[3:], float)
    column -= row * (row @ column)
    column /= np.linalg.norm(column)
    return tuple(float(value) for value in (*row, *column))


def tilted() -> list[Dataset]:
    """A tilted gantry: slices shifted along their columns."""
    return ct(slice_step_mm=(0.0, 0.6, 2.5))


def irregular() -> list[Dataset]:
    """Slices at uneven distances."""
    datasets = ct()
    for number, dataset in enumerate(datasets):
        x, y, z = (float(value) for value in dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = [f"{x:g}", f"{y:g}", f"{z + 0.4 * (number % 3):g}"]
    return datasets


def enhanced(frame_order: Sequence[int] | None = None) -> Dataset:
    """One enhanced CT; frame ``n`` holds slice ``frame_order[n]``."""
    dataset = enhanced_series(SHAPE, SPACING_MM, frame_order=frame_order, Manufacturer="SynthCo")
    dataset.StudyDescription = "CT Thorax"
    return dataset


def lungs(datasets: Sequence[Dataset] | None = None) -> LabelMap:
    """Two unequal lungs, asymmetric along every axis; label 1 lies to the patient's right."""
    mask: LabelMap = np.zeros(SHAPE, np.uint8)
    near, far = (4, 18), (26, 44)
    flipped = datasets is not None and float(datasets[0].ImageOrientationPatient[0]) < 0
    right, left = (far, near) if flipped else (near, far)
    mask[1:7, 8:30, right[0] : right[1]] = 1
    mask[2:9, 10:33, left[0] : left[1]] = 2
    mask[3:5, 15:20, right[0] + 3 : right[0] + 6] = 0
    mask[1, 8, right[0]] = 0
    mask[8, 32, left[0] : left[0] + 5] = 0
    return mask


def headers(datasets: Sequence[Dataset]) -> list[Dataset]:
    """``datasets`` as a loader hands them on: without pixel data."""
    for dataset in datasets:
        dataset.pop("PixelData", None)
    return list(datasets)


def identity_of(datasets: Sequence[Dataset], **changes: Any) -> ResultIdentity:
    """Identity of results on ``datasets``."""
    digests = {str(dataset.SOPInstanceUID): "content" for dataset in datasets}
    basis: dict[str, Any] = {
        "input_digests": digests,
        "model_id": "lungs-ct",
        "model_version": "1.0.0",
        "weights_sha256": "ab" * 32,
        "effective_configuration": {"overlap": 0.25},
    }
    return ResultIdentity(**{**basis, **changes})


def segmentation_of(
    datasets: Sequence[Dataset],
    mask: LabelMap,
    *,
    frame_numbers: Sequence[int] | None = None,
    **changes: Any,
) -> Dataset:
    """The Segmentation of ``mask`` on ``datasets``."""
    segmentation = build_segmentation(
        datasets,
        frame_numbers or [1] * len(mask),
        mask,
        changes.pop("labels", LABELS),
        changes.pop("algorithm", ALGORITHM),
        changes.pop("identity", identity_of(datasets)),
        series_number=9001,
        equipment=EQUIPMENT,
        created_at=changes.pop("created_at", CREATED_AT),
    )
    assert segmentation is not None
    assert not changes
    return segmentation


def request_for(datasets: Sequence[Dataset], **changes: Any) -> ResultRequest:
    """A request for a report on ``datasets``."""
    basis: dict[str, Any] = {
        "source_images": datasets,
        "frame_numbers": [1] * len(datasets),
        "labels": LABELS,
        "algorithm": ALGORITHM,
        "identity": identity_of(datasets),
        "equipment": EQUIPMENT,
        "created_at": CREATED_AT,
        "input_notes": ("gantry tilt of 12 degrees corrected",),
    }
    return ResultRequest(**{**basis, **changes})


def affine_lps(datasets: Sequence[Dataset]) -> npt.NDArray[np.float64]:
    """Index (slice, row, column) to LPS mm of a regular stack."""
    first, last = datasets[0], datasets[-1]
    row, column = np.asarray(first.ImageOrientationPatient, float).reshape(2, 3)
    origin = np.asarray(first.ImagePositionPatient, float)
    affine = np.eye(4)
    affine[:3, 0] = (np.asarray(last.ImagePositionPatient, float) - origin) / (len(datasets) - 1)
    affine[:3, 1] = column * float(first.PixelSpacing[0])
    affine[:3, 2] = row * float(first.PixelSpacing[1])
    affine[:3, 3] = origin
    return affine


def items(report: Dataset) -> list[Dataset]:
    """Every content item of a report, depth first."""
    found = []
    for item in report.get("ContentSequence", []):
        found.append(item)
        found += items(item)
    return found


def named(report: Dataset, value: str) -> list[Dataset]:
    """Content items whose concept name has this code value."""
    return [
        item
        for item in items(report)
        if "ConceptNameCodeSequence" in item and item.ConceptNameCodeSequence[0].CodeValue == value
    ]
