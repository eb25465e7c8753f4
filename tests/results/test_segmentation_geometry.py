"""Where a segmentation says that its voxels lie, over every way that a grid can lie.

Decoded here from the encoded object alone: its own plane positions, orientation, pixel spacing
and segment numbers, with pydicom and numpy.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom.dataset import Dataset

from ai_models.types import FloatArray, LabelMap
from dicom_node.results.gate import check_label_map, check_probability_map, check_segmentation
from dicom_node.results.segmentation import build_label_map_segmentation, build_probability_map
from tests.results import corner_phantom, samples
from tests.results.corner_phantom import Pose

Points = npt.NDArray[np.float64]


def _sent(result: Dataset | None) -> bytes:
    assert result is not None
    buffer = io.BytesIO()
    result.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _planes(decoded: Dataset) -> npt.NDArray[np.uint8]:
    shape = (int(decoded.NumberOfFrames), int(decoded.Rows), int(decoded.Columns))
    raw = np.frombuffer(decoded.PixelData, np.uint8)
    if decoded.BitsAllocated == 1:
        raw = np.unpackbits(raw, bitorder="little")
    return raw[: int(np.prod(shape))].reshape(shape)


def _centres_mm(encoded: bytes) -> dict[int, Points]:
    """Segment number to the centre of its voxels (LPS), weighted by what the voxels hold."""
    decoded = pydicom.dcmread(io.BytesIO(encoded))
    shared = decoded.SharedFunctionalGroupsSequence[0]
    row, column = np.asarray(
        shared.PlaneOrientationSequence[0].ImageOrientationPatient, float
    ).reshape(2, 3)
    spacing = np.asarray(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    sums: dict[int, Points] = {}
    for group, plane in zip(
        decoded.PerFrameFunctionalGroupsSequence, _planes(decoded), strict=True
    ):
        origin = np.asarray(group.PlanePositionSequence[0].ImagePositionPatient, float)
        for number, weights in _segments(decoded, shared, group, plane):
            rows, columns = np.nonzero(weights)
            at = origin + np.outer(rows * spacing[0], column) + np.outer(columns * spacing[1], row)
            weight = weights[rows, columns][:, None].astype(float)
            total = np.append((at * weight).sum(axis=0), weight.sum())
            sums[number] = sums.get(number, np.zeros(4)) + total
    return {number: total[:3] / total[3] for number, total in sums.items()}


def _segments(
    decoded: Dataset, shared: Dataset, group: Dataset, plane: npt.NDArray[np.uint8]
) -> list[tuple[int, npt.NDArray[np.generic]]]:
    if decoded.SegmentationType == "LABELMAP":
        return [(int(number), plane == number) for number in np.unique(plane[plane > 0])]
    identification = group.get("SegmentIdentificationSequence") or (
        shared.SegmentIdentificationSequence
    )
    return [(int(identification[0].ReferencedSegmentNumber), plane)]


def _probabilities(label_map: LabelMap) -> dict[int, FloatArray]:
    return {
        label.value: (label_map == label.value).astype(np.float32) * np.float32(0.8)
        for label in corner_phantom.LABELS
    }


@pytest.mark.parametrize("name", corner_phantom.NAMES)
def test_every_corner_lies_where_it_is_in_the_patient_in_every_form(name: str) -> None:
    pose = corner_phantom.pose(name)
    for encoded in _forms(pose):
        assert corner_phantom.voxels_off(pose, _centres_mm(encoded)) < 0.01


@pytest.mark.parametrize("name", ["RAI", *corner_phantom.UNUSUAL])
def test_every_form_passes_its_gate(name: str) -> None:
    pose = corner_phantom.pose(name)
    binary, label_map, fractional = _forms(pose)
    source, labels = (pose.datasets, pose.frame_numbers), corner_phantom.LABELS
    check_segmentation(binary, *source, pose.label_map, labels)
    check_label_map(label_map, *source, pose.label_map, labels)
    check_probability_map(fractional, *source, _probabilities(pose.label_map), labels)


def _forms(pose: Pose) -> tuple[bytes, bytes, bytes]:
    """The phantom as BINARY, LABELMAP and FRACTIONAL, as it would be sent."""
    request = corner_phantom.request_for(pose)
    binary = samples.segmentation_of(
        pose.datasets,
        pose.label_map,
        labels=corner_phantom.LABELS,
        frame_numbers=pose.frame_numbers,
    )
    label_map = build_label_map_segmentation(request, pose.label_map, series_number=9001)
    fractional = build_probability_map(request, _probabilities(pose.label_map), series_number=9004)
    return _sent(binary), _sent(label_map), _sent(fractional)


def _mirrored(pose: Pose, axis: int) -> LabelMap:
    return np.ascontiguousarray(np.flip(pose.label_map, axis))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mirrored_phantom_is_seen_to_be_off(axis: int) -> None:
    pose = corner_phantom.pose("IAR")
    segmentation = samples.segmentation_of(
        pose.datasets, _mirrored(pose, axis), labels=corner_phantom.LABELS
    )
    assert corner_phantom.voxels_off(pose, _centres_mm(_sent(segmentation))) > 2
