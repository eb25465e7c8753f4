"""A Segmentation read back and laid over what the model computed, voxel by voxel.

BINARY, LABELMAP and FRACTIONAL are decoded here by their own plane positions and segment numbers.
What costs time is done once for a plane: the frames of a plane become one plane of segment
numbers, and which of volume, centroid and voxels differs is asked only after something does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ai_models.array.labels import (
    bit_of,
    has_overlap,
    is_overlapping,
    mask_of,
    place_of,
    renumbered,
)
from ai_models.types import FloatArray, Label, LabelMap
from dicom_node.results.explicit_decoding import items_of
from dicom_node.results.gate_geometry import (
    Grid,
    Vector,
    functional_group,
    planes_of_frames,
    source_grid,
)
from dicom_node.results.gate_pixels import Mask, bytes_of_frames, frame_mask
from dicom_node.results.gate_reading import check_references, read_back, refused
from dicom_node.results.segmentation_frames import PROBABILITY_STEPS, is_probable
from dicom_node.results.segmentation_segments import segment_numbers

_CENTROID_TOLERANCE_MM = 0.01
_RIGHT, _LEFT = "24028007", "7771000"
_LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"


def check_segmentation(
    segmentation: Dataset | bytes | Path,
    source_images: Sequence[Dataset],
    frame_numbers: Sequence[int],
    label_map: LabelMap,
    labels: Sequence[Label],
) -> None:
    """Refuse a BINARY Segmentation that does not say what the mask says.

    Parameters
    ----------
    segmentation
        What will be sent: its Part 10 bytes, its file, or a data set (encoded first).
    source_images, frame_numbers
        As they went into ``build_segmentation``, before any repair. Images that lie nowhere in
        the patient (a radiograph) are compared voxel by voxel only.
    label_map
        ``(slices, rows, columns)`` of the model.

    Raises
    ------
    GateRefused
        ``gate.unreadable``, ``gate.reference`` (patient, study, frame of reference, source
        instances), ``gate.labels`` (segments and their codes), ``gate.geometry`` (planes),
        ``gate.volume``, ``gate.centroid``, ``gate.laterality``, ``gate.voxels``.
    """
    decoded = read_back(segmentation)
    _check_type(decoded, _SEGMENTATION_STORAGE, "BINARY")
    _check_labels(decoded, source_images, frame_numbers, label_map, labels)


def check_label_map(
    segmentation: Dataset | bytes | Path,
    source_images: Sequence[Dataset],
    frame_numbers: Sequence[int],
    label_map: LabelMap,
    labels: Sequence[Label],
) -> None:
    """Refuse a LABELMAP Segmentation that does not say what the mask says.

    Parameters and errors are those of ``check_segmentation``. The pixels must be segment numbers
    in MONOCHROME2: a palette is misread without an error.
    """
    decoded = read_back(segmentation)
    _check_type(decoded, _LABEL_MAP_STORAGE, "LABELMAP")
    if decoded.get("PhotometricInterpretation") != "MONOCHROME2" or decoded.BitsAllocated != 8:
        raise refused("unreadable", "the label map is not of 8 bits in MONOCHROME2")
    _check_labels(decoded, source_images, frame_numbers, label_map, labels)


def check_probability_map(
    segmentation: Dataset | bytes | Path,
    source_images: Sequence[Dataset],
    frame_numbers: Sequence[int],
    probabilities: Mapping[int, FloatArray],
    labels: Sequence[Label],
) -> None:
    """Refuse a FRACTIONAL Segmentation off the model's probabilities by more than half a step.

    Parameters
    ----------
    probabilities
        Label value to 0..1, ``(slices, rows, columns)``, as for ``build_probability_map``.

    Raises
    ------
    GateRefused
        As ``check_segmentation``, without volume, centroid and laterality.
    """
    decoded = read_back(segmentation)
    _check_type(decoded, _SEGMENTATION_STORAGE, "FRACTIONAL")
    scale = (
        decoded.get("SegmentationFractionalType"),
        decoded.get("MaximumFractionalValue"),
        decoded.get("BitsAllocated"),
    )
    if scale != ("PROBABILITY", PROBABILITY_STEPS, 8):
        raise refused("unreadable", "the values are not probabilities of one byte")
    shown = [value for value in sorted(probabilities) if is_probable(probabilities[value])]
    _check_segments(decoded, labels, {value: n for n, value in enumerate(shown, start=1)})
    check_references(decoded, source_images)
    frames = _segment_frames(decoded, source_grid(source_images, frame_numbers))
    pixels = bytes_of_frames(decoded)
    for number, value in enumerate(shown, start=1):
        for plane, wanted in enumerate(probabilities[value]):
            frame = frames.pop((plane, number), None)
            if frame is None and not is_probable(wanted):
                continue
            if frame is None or wanted.shape != pixels.shape[1:]:
                raise refused("voxels", f"segment {number} is not shown as the model computed it")
            off = np.abs(pixels[frame] - wanted * PROBABILITY_STEPS).max()
            if not off <= 0.5 + 1e-3:
                raise refused("voxels", f"segment {number} differs from the probabilities")
    if frames:
        raise refused("voxels", "a frame shows what is not probable")


def read_label_map(
    segmentation: Dataset | bytes | Path,
    source_images: Sequence[Dataset],
    frame_numbers: Sequence[int],
) -> LabelMap:
    """A stored Segmentation (BINARY or LABELMAP) as segment numbers ``(slices, rows, columns)``.

    It is a map of labels that may share voxels (uint64) where the Segmentation says that segments
    overlap.

    Raises
    ------
    GateRefused
        As `check_segmentation`, for everything that needs no mask to compare with.
    """
    decoded = read_back(segmentation)
    check_references(decoded, source_images)
    shape = (len(frame_numbers), int(decoded.Rows), int(decoded.Columns))
    overlapping = decoded.get("SegmentsOverlap") == "YES"
    label_map: LabelMap = np.zeros(shape, np.uint64 if overlapping else np.uint8)
    grid = source_grid(source_images, frame_numbers)
    for plane, shown in _shown_planes(decoded, grid, overlapping=overlapping):
        label_map[plane] = shown
    return label_map


def _check_type(decoded: Dataset, sop_class_uid: str, segmentation_type: str) -> None:
    found = decoded.get("SOPClassUID"), decoded.get("SegmentationType")
    if found != (sop_class_uid, segmentation_type):
        raise refused("unreadable", f"the result is no {segmentation_type} Segmentation")


def _check_labels(
    decoded: Dataset,
    source_images: Sequence[Dataset],
    frame_numbers: Sequence[int],
    label_map: LabelMap,
    labels: Sequence[Label],
) -> None:
    numbers = segment_numbers(label_map, labels)
    check_references(decoded, source_images)
    _check_segments(decoded, labels, numbers)
    source = source_grid(source_images, frame_numbers)
    overlapping = is_overlapping(label_map)
    shown = dict(_shown_planes(decoded, source, overlapping=overlapping))
    if overlapping and (decoded.get("SegmentsOverlap") == "YES") != has_overlap(label_map):
        raise refused("labels", "the Segmentation says otherwise whether its segments overlap")
    if (int(decoded.Rows), int(decoded.Columns)) != label_map.shape[1:]:
        raise refused("geometry", "the matrix is not the source's")
    _compare(shown, label_map, numbers, source)
    if source is not None:
        _check_laterality(shown, source, labels, numbers)


def _check_segments(decoded: Dataset, labels: Sequence[Label], numbers: dict[int, int]) -> None:
    by_value = {label.value: label for label in labels}
    if not set(numbers) <= set(by_value):
        raise refused("labels", "a value has no label")
    expected = {number: _codes_of_label(by_value[value]) for value, number in numbers.items()}
    found = {
        int(segment.SegmentNumber): _codes_of_segment(segment)
        for segment in decoded.SegmentSequence
    }
    if decoded.SegmentationType == "LABELMAP":
        found.pop(0, None)  # the background, which may be described (PS3.3 C.8.20.2)
    if found != expected:
        raise refused("labels", "the segments do not describe the labels of the mask")


def _codes_of_label(label: Label) -> tuple[str, str, str]:
    laterality = label.laterality.value if label.laterality else ""
    return label.category.value, label.type.value, laterality


def _codes_of_segment(segment: Dataset) -> tuple[str, str, str]:
    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    modifiers = kind.get("SegmentedPropertyTypeModifierCodeSequence", [])
    category = segment.SegmentedPropertyCategoryCodeSequence[0]
    laterality = str(modifiers[0].CodeValue) if modifiers else ""
    return str(category.CodeValue), str(kind.CodeValue), laterality


def _segment_frames(decoded: Dataset, source: Grid | None) -> dict[tuple[int, int], int]:
    """(source slice, segment number) to the index of the frame that shows it."""
    planes = planes_of_frames(decoded, source)
    shared = items_of(decoded, "SharedFunctionalGroupsSequence")[0]
    frames = {}
    for index, group in enumerate(items_of(decoded, "PerFrameFunctionalGroupsSequence")):
        identification = functional_group(shared, group, "SegmentIdentificationSequence")
        frames[planes[index], int(identification.ReferencedSegmentNumber)] = index
    if len(frames) != len(planes):
        raise refused("geometry", "two frames show the same segment on the same slice")
    return frames


def _shown_planes(
    decoded: Dataset, source: Grid | None, *, overlapping: bool = False
) -> Iterator[tuple[int, LabelMap]]:
    """Every source slice that has frames, with the segment numbers that they show there.

    Where ``overlapping``, a bit each, as labels that share voxels have them.
    """
    if decoded.SegmentationType == "LABELMAP":
        planes = planes_of_frames(decoded, source)
        if len(set(planes)) != len(planes):
            raise refused("geometry", "two frames show the same slice")
        yield from zip(planes, bytes_of_frames(decoded), strict=True)
        return
    kind = np.uint64 if overlapping else np.uint8
    on_plane = defaultdict(list)
    for (plane, number), index in _segment_frames(decoded, source).items():
        on_plane[plane].append((number, index))
    for plane, frames in on_plane.items():
        shown: LabelMap = np.zeros((int(decoded.Rows), int(decoded.Columns)), kind)
        for place, (number, index) in enumerate(frames):
            rows, mask = frame_mask(decoded, index)
            if overlapping:
                _mark(shown[rows], mask, number)
                continue
            if place and (shown[rows].astype(bool) & mask).any():
                raise refused("voxels", "a voxel belongs to two segments")
            shown[rows] += mask.view(np.uint8) * np.uint8(number)
        yield plane, shown


def _mark(shown: LabelMap, mask: Mask, number: int) -> None:
    bit = bit_of(number)
    if not bit:
        raise refused("labels", "there are more segments that overlap than labels that can")
    shown[mask] |= bit


def _compare(
    shown: Mapping[int, LabelMap], label_map: LabelMap, numbers: dict[int, int], grid: Grid | None
) -> None:
    """Refuse unless every plane shows the segment numbers of its labels."""
    empty = np.zeros(label_map.shape[1:], label_map.dtype)
    differing = [
        plane
        for plane, wanted in enumerate(label_map)
        if not _shows(shown.get(plane, empty), wanted, numbers)
    ]
    if not differing:
        return
    for value, number in numbers.items():
        expected, found, voxels = _Sum(), _Sum(), 0
        for plane, wanted in enumerate(label_map):
            here = mask_of(wanted, value)
            there = mask_of(shown.get(plane, empty), number)
            expected.add(plane, here, grid)
            found.add(plane, there, grid)
            voxels += int((here != there).sum())
        _compare_sums(number, expected, found, voxels)
    raise refused("voxels", "a voxel shows a segment that is none of the labels")


def _shows(shown: LabelMap, wanted: LabelMap, numbers: dict[int, int]) -> bool:
    """Whether a plane shows the numbers of the labels where they are, and nothing beside them."""
    top, left, box = place_of(wanted)
    rows, columns = box.shape
    there = shown[top : top + rows, left : left + columns]
    # Every value that occurs has a number: where that is the value, there is nothing to look up.
    is_same = all(value == number for value, number in numbers.items())
    return np.array_equal(there, box if is_same else renumbered(box, numbers)) and bool(
        np.count_nonzero(there) == np.count_nonzero(shown)
    )


class _Sum:
    """Running voxel count and sum of voxel centres of one segment."""

    def __init__(self) -> None:
        self.count = 0
        self.centres_mm = np.zeros(3)

    def add(
        self, plane: int, mask: Mask, grid: Grid | None, origin: tuple[int, int] = (0, 0)
    ) -> None:
        """Count a plane from ``origin`` on; without a grid no centres are known."""
        if grid is None:
            self.count += int(np.count_nonzero(mask))
            return
        count, centres_mm = grid.moments(plane, mask, origin)
        self.count += count
        self.centres_mm = self.centres_mm + centres_mm

    @property
    def centroid_mm(self) -> Vector:
        centroid: Vector = self.centres_mm / max(self.count, 1)
        return centroid


def _compare_sums(number: int, expected: _Sum, found: _Sum, differing: int) -> None:
    if expected.count != found.count:
        raise refused(
            "volume", f"segment {number} has {found.count} voxels, the mask {expected.count}"
        )
    distance_mm = float(np.linalg.norm(expected.centroid_mm - found.centroid_mm))
    if distance_mm > _CENTROID_TOLERANCE_MM:
        raise refused("centroid", f"segment {number} lies {distance_mm:.2f} mm off the mask")
    if differing:
        raise refused("voxels", f"segment {number} differs from the mask in {differing} voxels")


def _check_laterality(
    shown: Mapping[int, LabelMap], grid: Grid, labels: Sequence[Label], numbers: dict[int, int]
) -> None:
    """Of two labels of one type, the one coded right must lie nearer the patient's right."""
    sides = {
        (label.type.value, label.laterality.value): numbers[label.value]
        for label in labels
        if label.laterality is not None and label.value in numbers
    }
    pairs = [
        (right, sides[kind, _LEFT]) for (kind, side), right in sides.items()
        if side == _RIGHT and (kind, _LEFT) in sides
    ]
    left_mm = _left_mm(shown, grid, {number for pair in pairs for number in pair})
    if any(left_mm[right] >= left_mm[left] for right, left in pairs):
        raise refused("laterality", "the segment coded right lies left of the segment coded left")


def _left_mm(
    shown: Mapping[int, LabelMap], grid: Grid, numbers: Collection[int]
) -> dict[int, float]:
    """How far to the patient's left the centroid of each of these segments lies."""
    totals = {number: _Sum() for number in numbers}
    for plane, segments in shown.items() if totals else ():
        top, left, box = place_of(segments)
        for number, total in totals.items():
            total.add(plane, mask_of(box, number), grid, (top, left))
    return {number: float(total.centroid_mm[0]) for number, total in totals.items()}
