from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from ai_models.types import FloatArray
from dicom_node.errors import GateRefused
from dicom_node.results.gate_parametric_map import check_parametric_map
from dicom_node.results.parametric_map import NO_UNITS, PROBABILITY, SALIENCY, build_parametric_map
from tests.results import corner_phantom, samples

FRAMES = [1] * 10
VALUES = np.random.default_rng(7).random(samples.SHAPE, np.float32)


@pytest.fixture(scope="module")
def datasets() -> list[Dataset]:
    return samples.ct()


@pytest.fixture(scope="module")
def stored(datasets: list[Dataset]) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, built(datasets, VALUES), enforce_file_format=True)
    return buffer.getvalue()


def built(datasets: list[Dataset], values: FloatArray) -> Dataset:
    request = samples.request_for(datasets)
    return build_parametric_map(
        request, values, PROBABILITY, NO_UNITS, name="lung", series_number=9005
    )


def reason(parametric_map: Dataset | bytes, datasets: list[Dataset]) -> str:
    with pytest.raises(GateRefused) as refused:
        check_parametric_map(parametric_map, datasets, FRAMES, VALUES, PROBABILITY)
    return refused.value.reason


def test_what_was_built_from_the_values_passes(datasets: list[Dataset], stored: bytes) -> None:
    check_parametric_map(stored, datasets, FRAMES, VALUES, PROBABILITY)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v[:, ::-1],
        lambda v: v[::-1],
        lambda v: v[:, :, ::-1],
        lambda v: np.roll(v, 1, axis=2),
        lambda v: np.roll(v, 1, axis=0),
        lambda v: v + np.float32(1e-6),
    ],
    ids=["upside down", "feet to head", "mirrored", "one column off", "one slice off", "rounded"],
)
def test_a_map_of_other_values_is_refused(
    datasets: list[Dataset], change: Callable[[FloatArray], FloatArray]
) -> None:
    changed = np.ascontiguousarray(change(VALUES))
    assert reason(built(datasets, changed), datasets) == "gate.voxels"


def test_a_map_of_another_quantity_is_refused(datasets: list[Dataset], stored: bytes) -> None:
    with pytest.raises(GateRefused) as refused:
        check_parametric_map(stored, datasets, FRAMES, VALUES, SALIENCY)
    assert refused.value.reason == "gate.quantity"


def _set_patient(parametric_map: Dataset) -> None:
    parametric_map.PatientID = "ANOTHER"


def _set_class(parametric_map: Dataset) -> None:
    parametric_map.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"


def _scale(parametric_map: Dataset) -> None:
    shared = parametric_map.SharedFunctionalGroupsSequence[0]
    shared.RealWorldValueMappingSequence[0].RealWorldValueSlope = 0.01


def _exchange_frames(parametric_map: Dataset) -> None:
    first, second = parametric_map.PerFrameFunctionalGroupsSequence[:2]
    keyword = "PlanePositionSequence"
    first[keyword], second[keyword] = second[keyword], first[keyword]


def _move_a_frame(parametric_map: Dataset) -> None:
    plane = parametric_map.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0]
    plane.ImagePositionPatient = [-10, -20, 30.5]


def _repeat_a_frame(parametric_map: Dataset) -> None:
    first, second = parametric_map.PerFrameFunctionalGroupsSequence[:2]
    second.PlanePositionSequence = first.PlanePositionSequence


def _mirror_orientation(parametric_map: Dataset) -> None:
    shared = parametric_map.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]


def _cut_pixels(parametric_map: Dataset) -> None:
    parametric_map.FloatPixelData = parametric_map.FloatPixelData[:-400]


def _change_a_pixel(parametric_map: Dataset) -> None:
    pixels = np.frombuffer(parametric_map.FloatPixelData, "<f4").copy()
    pixels[-1] += 0.5
    parametric_map.FloatPixelData = pixels.tobytes()


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (_set_patient, "gate.reference"),
        (_set_class, "gate.reference"),
        (_scale, "gate.quantity"),
        (_exchange_frames, "gate.reference"),
        (_move_a_frame, "gate.geometry"),
        (_repeat_a_frame, "gate.geometry"),
        (_mirror_orientation, "gate.geometry"),
        (_cut_pixels, "gate.unreadable"),
        (_change_a_pixel, "gate.voxels"),
    ],
)
def test_a_map_that_was_damaged_is_refused(
    datasets: list[Dataset], stored: bytes, break_it: Callable[[Dataset], None], expected: str
) -> None:
    broken = pydicom.dcmread(io.BytesIO(stored))
    break_it(broken)
    assert reason(broken, datasets) == expected


@pytest.mark.parametrize("name", corner_phantom.NAMES)
def test_the_eight_corners_come_back_where_they_were(name: str) -> None:
    pose = corner_phantom.pose(name)
    values = (pose.label_map / 8).astype(np.float32)
    result = build_parametric_map(
        corner_phantom.request_for(pose), values, PROBABILITY, NO_UNITS, name="corner",
        series_number=9005,
    )  # fmt: skip
    assert corner_phantom.voxels_off(pose, _centroids_mm(result)) < 0.5
    check_parametric_map(result, pose.datasets, pose.frame_numbers, values, PROBABILITY)


def _centroids_mm(result: Dataset) -> dict[int, np.ndarray]:
    """Label to the mean of its pixel centres, by the map's own geometry."""
    shared = result.SharedFunctionalGroupsSequence[0]
    cosines = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    along_row, along_column = np.asarray(cosines, float).reshape(2, 3)
    row_mm, column_mm = shared.PixelMeasuresSequence[0].PixelSpacing
    pixels = np.frombuffer(result.FloatPixelData, "<f4").reshape(-1, result.Rows, result.Columns)
    points: dict[int, list[np.ndarray]] = {}
    for frame, plane in zip(result.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        origin = np.asarray(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        for row, column in np.argwhere(plane):
            place = origin + row * row_mm * along_column + column * column_mm * along_row
            points.setdefault(round(float(plane[row, column]) * 8), []).append(place)
    return {label: np.mean(places, axis=0) for label, places in points.items()}
