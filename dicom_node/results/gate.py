"""The last look at a result before it may leave: read it back, compare it with the model's mask.

The Segmentation is decoded here from its encoded bytes, by its own plane positions and segment
numbers and without the library that wrote it, and laid over the mask in the patient. The source
geometry is taken from the headers as they were received. Any difference refuses the result.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset

from ai_models.types import Label, LabelMap
from dicom_node.errors import GateRefused
from dicom_node.results.segmentation import segment_numbers

_POSITION_TOLERANCE_MM = 0.01
_DIRECTION_TOLERANCE = 1.1e-3
_SPACING_TOLERANCE_MM = 1.1e-3
_CENTROID_TOLERANCE_MM = 0.01
_RIGHT, _LEFT = "24028007", "7771000"
_COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Grid:
    """Where each plane lies: ``positions_mm`` (planes, 3) LPS, unit ``directions`` (2, 3) of a row
    and of a column, ``spacing_mm`` (row, column)."""

    positions_mm: Vector
    directions: Vector
    spacing_mm: Vector

    def moments(self, plane: int, mask: npt.NDArray[np.bool_]) -> tuple[int, Vector]:
        """Voxel count and sum of voxel centres (LPS mm) of a (rows, columns) mask."""
        per_row, per_column = mask.sum(axis=1), mask.sum(axis=0)
        count = int(per_row.sum())
        columns = float(per_column @ np.arange(len(per_column)))
        rows = float(per_row @ np.arange(len(per_row)))
        along_row = columns * self.spacing_mm[1] * self.directions[0]
        along_column = rows * self.spacing_mm[0] * self.directions[1]
        return count, count * self.positions_mm[plane] + along_row + along_column


def check_segmentation(
    segmentation: Dataset | bytes | Path,
    source_images: Sequence[Dataset],
    frame_numbers: Sequence[int],
    label_map: LabelMap,
    labels: Sequence[Label],
) -> None:
    """Refuse a Segmentation that does not say what the mask says.

    Parameters
    ----------
    segmentation
        What will be sent: its Part 10 bytes, its file, or a data set (encoded first).
    source_images, frame_numbers
        As they went into ``build_segmentation``, before any repair.
    label_map
        ``(slices, rows, columns)`` of the model.

    Raises
    ------
    GateRefused
        ``gate.unreadable``, ``gate.reference`` (patient, study, frame of reference, source
        instances), ``gate.labels`` (segments and their codes), ``gate.geometry`` (planes),
        ``gate.volume``, ``gate.centroid``, ``gate.laterality``, ``gate.voxels``.
    """
    decoded = _read(segmentation)
    numbers = segment_numbers(label_map, labels)
    _check_references(decoded, source_images)
    _check_segments(decoded, labels, numbers)
    source = _source_grid(source_images, frame_numbers)
    frames = _frames(decoded, source)
    centroids_mm = _compare(decoded, frames, source, label_map, numbers)
    _check_laterality(centroids_mm, labels)


def read_label_map(
    segmentation: Dataset | bytes | Path,
    source_images: Sequence[Dataset],
    frame_numbers: Sequence[int],
) -> LabelMap:
    """A stored Segmentation as segment numbers, ``(slices, rows, columns)`` of its source.

    Raises
    ------
    GateRefused
        As `check_segmentation`, for everything that needs no mask to compare with.
    """
    decoded = _read(segmentation)
    _check_references(decoded, source_images)
    frames = _frames(decoded, _source_grid(source_images, frame_numbers))
    shape = (len(frame_numbers), int(decoded.Rows), int(decoded.Columns))
    label_map = np.zeros(shape, np.uint8)
    for index, (plane, number) in enumerate(frames):
        label_map[plane][_frame_mask(decoded, index)] = number
    return label_map


def check_report(
    report: Dataset | bytes | Path,
    source_images: Sequence[Dataset],
    segmentations: Sequence[Dataset] = (),
) -> None:
    """Refuse a report that refers to something it was not made from.

    Every referenced instance must be an input or one of ``segmentations`` and stand in the
    evidence, a referenced segment must exist, and patient and study must be the source's.

    Raises
    ------
    GateRefused
        ``gate.unreadable`` or ``gate.reference``.
    """
    decoded = _read(report)
    if (
        decoded.SOPClassUID != _COMPREHENSIVE_3D_SR
        or decoded.get("VerificationFlag") != "UNVERIFIED"
    ):
        raise _refused("reference", "the report is not an unverified Comprehensive 3D SR")
    _check_identity(decoded, source_images)
    segments = {str(image.SOPInstanceUID): set[int]() for image in source_images}
    for segmentation in segmentations:
        numbers = {int(item.SegmentNumber) for item in segmentation.SegmentSequence}
        segments[str(segmentation.SOPInstanceUID)] = numbers
    evidence = {
        str(instance.ReferencedSOPInstanceUID)
        for study in decoded.get("CurrentRequestedProcedureEvidenceSequence", [])
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    for reference in _references(decoded):
        uid = str(reference.ReferencedSOPInstanceUID)
        if uid not in segments or uid not in evidence:
            raise _refused("reference", "the report refers to an instance it was not made from")
        if not set(_as_list(reference.get("ReferencedSegmentNumber"))) <= segments[uid]:
            raise _refused("reference", "the report refers to a segment that does not exist")


def _read(result: Dataset | bytes | Path) -> Dataset:
    try:
        if isinstance(result, Path):
            return pydicom.dcmread(result)
        if isinstance(result, Dataset):
            buffer = io.BytesIO()
            pydicom.dcmwrite(buffer, result, enforce_file_format=True)
            result = buffer.getvalue()
        return pydicom.dcmread(io.BytesIO(result))
    except (
        pydicom.errors.InvalidDicomError,
        ValueError,
        TypeError,
        AttributeError,
        OSError,
    ) as problem:
        raise _refused("unreadable", f"a result cannot be read back: {problem}") from problem


def _refused(reason: str, message: str) -> GateRefused:
    return GateRefused(message, reason=f"gate.{reason}")


def _as_list(value: Any) -> list[int]:
    if value is None:
        return []
    return [int(value)] if isinstance(value, (int, str)) else [int(part) for part in value]


def _references(item: Dataset) -> list[Dataset]:
    found = list(item.get("ReferencedSOPSequence", []))
    for child in item.get("ContentSequence", []):
        found += _references(child)
    return found


def _check_identity(decoded: Dataset, source_images: Sequence[Dataset]) -> None:
    source = source_images[0]
    for keyword in ("PatientID", "StudyInstanceUID"):
        if str(decoded.get(keyword) or "") != str(source.get(keyword) or ""):
            raise _refused("reference", f"{keyword} of the result is not the source's")
    if decoded.SeriesInstanceUID == source.SeriesInstanceUID:
        raise _refused("reference", "the result is in the series of its source")


def _check_references(decoded: Dataset, source_images: Sequence[Dataset]) -> None:
    _check_identity(decoded, source_images)
    frame_of_reference_uid = str(source_images[0].get("FrameOfReferenceUID", ""))
    if str(decoded.get("FrameOfReferenceUID", "")) != frame_of_reference_uid:
        raise _refused("reference", "FrameOfReferenceUID of the result is not the source's")
    known = {str(image.SOPInstanceUID) for image in source_images}
    series_uid = str(source_images[0].SeriesInstanceUID)
    series = decoded.get("ReferencedSeriesSequence", [])
    listed = {
        str(instance.ReferencedSOPInstanceUID)
        for item in series
        for instance in item.ReferencedInstanceSequence
    }
    if [str(item.SeriesInstanceUID) for item in series] != [series_uid] or listed != known:
        raise _refused("reference", "ReferencedSeriesSequence does not list the source")


def _check_segments(decoded: Dataset, labels: Sequence[Label], numbers: dict[int, int]) -> None:
    by_value = {label.value: label for label in labels}
    expected = {number: _codes_of_label(by_value[value]) for value, number in numbers.items()}
    found = {
        int(segment.SegmentNumber): _codes_of_segment(segment)
        for segment in decoded.SegmentSequence
    }
    if found != expected:
        raise _refused("labels", "the segments do not describe the labels of the mask")


def _codes_of_label(label: Label) -> tuple[str, str, str]:
    laterality = label.laterality.value if label.laterality else ""
    return label.category.value, label.type.value, laterality


def _codes_of_segment(segment: Dataset) -> tuple[str, str, str]:
    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    modifiers = kind.get("SegmentedPropertyTypeModifierCodeSequence", [])
    category = segment.SegmentedPropertyCategoryCodeSequence[0]
    laterality = str(modifiers[0].CodeValue) if modifiers else ""
    return str(category.CodeValue), str(kind.CodeValue), laterality


def _source_grid(source_images: Sequence[Dataset], frame_numbers: Sequence[int]) -> _Grid:
    first = source_images[0]
    if "PerFrameFunctionalGroupsSequence" not in first:
        positions = [image.ImagePositionPatient for image in source_images]
        return _grid(positions, first.ImageOrientationPatient, first.PixelSpacing)
    frames = [first.PerFrameFunctionalGroupsSequence[number - 1] for number in frame_numbers]
    return _functional_grid(first, frames)


def _functional_grid(image: Dataset, frames: Sequence[Dataset]) -> _Grid:
    shared = image.SharedFunctionalGroupsSequence[0]
    measures = _group(shared, frames[0], "PixelMeasuresSequence")
    orientation = _group(shared, frames[0], "PlaneOrientationSequence")
    positions = [_group(shared, f, "PlanePositionSequence").ImagePositionPatient for f in frames]
    return _grid(positions, orientation.ImageOrientationPatient, measures.PixelSpacing)


def _group(shared: Dataset, frame: Dataset, keyword: str) -> Dataset:
    groups = frame.get(keyword) or shared.get(keyword)
    if not groups:
        raise _refused("geometry", f"{keyword} is in neither the frame nor the shared groups")
    group: Dataset = groups[0]
    return group


def _grid(positions: Sequence[Any], cosines: Sequence[Any], spacing: Sequence[Any]) -> _Grid:
    return _Grid(
        np.asarray(positions, float),
        np.asarray(cosines, float).reshape(2, 3),
        np.asarray(spacing, float),
    )


def _frames(decoded: Dataset, source: _Grid) -> list[tuple[int, int]]:
    """(source slice, segment number) of every frame, its plane found by its position."""
    groups = list(decoded.PerFrameFunctionalGroupsSequence)
    if len(groups) != int(decoded.NumberOfFrames):
        raise _refused("geometry", "NumberOfFrames is not the number of frames")
    grid = _functional_grid(decoded, groups)
    if (
        np.abs(grid.directions - source.directions).max() > _DIRECTION_TOLERANCE
        or np.abs(grid.spacing_mm - source.spacing_mm).max() > _SPACING_TOLERANCE_MM
    ):
        raise _refused("geometry", "orientation or pixel spacing is not the source's")
    shared = decoded.SharedFunctionalGroupsSequence[0]
    frames = []
    for group, position in zip(groups, grid.positions_mm, strict=True):
        distances = np.linalg.norm(source.positions_mm - position, axis=1)
        plane = int(distances.argmin())
        if distances[plane] > _POSITION_TOLERANCE_MM:
            raise _refused("geometry", "a frame lies on no slice of the source")
        segment = _group(shared, group, "SegmentIdentificationSequence").ReferencedSegmentNumber
        frames.append((plane, int(segment)))
    if len(set(frames)) != len(frames):
        raise _refused("geometry", "two frames show the same segment on the same slice")
    return frames


def _compare(
    decoded: Dataset,
    frames: list[tuple[int, int]],
    source: _Grid,
    label_map: LabelMap,
    numbers: dict[int, int],
) -> dict[int, Vector]:
    """Compare every segment with the mask; returns label value to centroid (LPS mm)."""
    if (int(decoded.Rows), int(decoded.Columns)) != label_map.shape[1:]:
        raise _refused("geometry", "the matrix is not the source's")
    by_frame = {key: index for index, key in enumerate(frames)}
    centroids_mm: dict[int, Vector] = {}
    for value, number in numbers.items():
        expected, found = _Sum(), _Sum()
        differing = 0
        for plane in range(len(label_map)):
            wanted = label_map[plane] == value
            frame = by_frame.get((plane, number))
            if frame is None and not wanted.any():
                continue
            shown = np.zeros_like(wanted) if frame is None else _frame_mask(decoded, frame)
            expected.add(source.moments(plane, wanted))
            found.add(source.moments(plane, shown))
            differing += int((wanted != shown).sum())
        _compare_sums(number, expected, found, differing)
        centroids_mm[value] = found.centroid_mm
    return centroids_mm


class _Sum:
    """Running voxel count and sum of voxel centres of one segment."""

    def __init__(self) -> None:
        self.count = 0
        self.centres_mm = np.zeros(3)

    def add(self, moments: tuple[int, Vector]) -> None:
        self.count += moments[0]
        self.centres_mm = self.centres_mm + moments[1]

    @property
    def centroid_mm(self) -> Vector:
        centroid: Vector = self.centres_mm / max(self.count, 1)
        return centroid


def _compare_sums(number: int, expected: _Sum, found: _Sum, differing: int) -> None:
    if expected.count != found.count:
        raise _refused(
            "volume", f"segment {number} has {found.count} voxels, the mask {expected.count}"
        )
    distance_mm = float(np.linalg.norm(expected.centroid_mm - found.centroid_mm))
    if distance_mm > _CENTROID_TOLERANCE_MM:
        raise _refused("centroid", f"segment {number} lies {distance_mm:.2f} mm off the mask")
    if differing:
        raise _refused("voxels", f"segment {number} differs from the mask in {differing} voxels")


def _frame_mask(decoded: Dataset, frame: int) -> npt.NDArray[np.bool_]:
    """One frame unpacked from its bits (PS3.5 8.1.1: least significant bit first, no padding)."""
    rows, columns = int(decoded.Rows), int(decoded.Columns)
    first_bit = frame * rows * columns
    last_bit = first_bit + rows * columns
    packed = np.frombuffer(decoded.PixelData, np.uint8)[first_bit // 8 : -(-last_bit // 8)]
    bits = np.unpackbits(packed, bitorder="little")[first_bit % 8 :][: rows * columns]
    if len(bits) < rows * columns:
        raise _refused("unreadable", "PixelData is shorter than its frames")
    return bits.reshape(rows, columns).astype(bool)


def _check_laterality(centroids_mm: dict[int, Vector], labels: Sequence[Label]) -> None:
    """Of two labels of one type, the one coded right must lie nearer the patient's right."""
    sides = {
        (label.type.value, label.laterality.value): float(centroids_mm[label.value][0])
        for label in labels
        if label.value in centroids_mm and label.laterality is not None
    }
    for (kind, side), right_mm in sides.items():
        left_mm = sides.get((kind, _LEFT))
        if side == _RIGHT and left_mm is not None and right_mm >= left_mm:
            raise _refused(
                "laterality", "the segment coded right lies left of the segment coded left"
            )
