"""The gate for RT Structure Sets: contours filled again, in the patient, against the mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from ai_models.array.labels import mask_of
from ai_models.types import Label, LabelMap
from dicom_node.results.equipment import long_string
from dicom_node.results.gate_geometry import Grid, source_grid
from dicom_node.results.gate_reading import check_identity, read_back, refused
from dicom_node.results.segmentation import segment_numbers
from dicom_node.results.sop_classes import RT_STRUCTURE_SET

# Contours are written to the micrometre.
_PLANE_TOLERANCE_MM = 0.01

Vectors = npt.NDArray[np.float64]


def check_structure_set(
    structure_set: Dataset | bytes | Path,
    source_images: Sequence[Dataset],
    frame_numbers: Sequence[int],
    label_map: LabelMap,
    labels: Sequence[Label],
) -> None:
    """Refuse an RT Structure Set whose contours do not fill to the mask.

    The slice of each contour is found by where its points lie in the patient, and must be that of
    the image it names. Every pixel of a label must lie in one contour of its region, every other
    in none.

    Parameters
    ----------
    structure_set
        What will be sent: its Part 10 bytes, its file, or a data set (encoded first).
    source_images, frame_numbers
        As they went into ``build_structure_set``, before any repair.
    label_map
        ``(slices, rows, columns)`` of the model.

    Raises
    ------
    GateRefused
        ``gate.unreadable``, ``gate.reference``, ``gate.labels``, ``gate.geometry`` or
        ``gate.voxels``.
    """
    decoded = read_back(structure_set)
    if decoded.SOPClassUID != RT_STRUCTURE_SET or decoded.get("ApprovalStatus") != "UNAPPROVED":
        raise refused("reference", "the structure set is not one that awaits approval")
    check_identity(decoded, source_images)
    _check_frame_of_reference(decoded, source_images)
    grid = source_grid(source_images, frame_numbers)
    if grid is None:
        raise refused("geometry", "the source lies nowhere in the patient")
    images = _image_keys(source_images, frame_numbers)
    regions = _regions(decoded, label_map, labels)
    for label, contours in regions:
        _compare(contours, grid, images, mask_of(label_map, label.value))


def _check_frame_of_reference(decoded: Dataset, source_images: Sequence[Dataset]) -> None:
    uid = str(source_images[0].FrameOfReferenceUID)
    named = [str(item.FrameOfReferenceUID) for item in decoded.ReferencedFrameOfReferenceSequence]
    named += [str(item.ReferencedFrameOfReferenceUID) for item in decoded.StructureSetROISequence]
    series = decoded.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    listed = {
        str(image.ReferencedSOPInstanceUID)
        for item in series.RTReferencedSeriesSequence
        for image in item.ContourImageSequence
    }
    if set(named) != {uid} or listed != {str(image.SOPInstanceUID) for image in source_images}:
        raise refused("reference", "the structure set does not lie on the source")


def _image_keys(
    source_images: Sequence[Dataset], frame_numbers: Sequence[int]
) -> list[tuple[str, int]]:
    """UID and frame number of the image of each slice."""
    if len(source_images) > 1:
        return [(str(image.SOPInstanceUID), 1) for image in source_images]
    return [(str(source_images[0].SOPInstanceUID), number) for number in frame_numbers]


def _regions(
    decoded: Dataset, label_map: LabelMap, labels: Sequence[Label]
) -> list[tuple[Label, Sequence[Dataset]]]:
    """The label of every region, and its contours."""
    by_value = {label.value: label for label in labels}
    expected = {
        number: by_value[value] for value, number in segment_numbers(label_map, labels).items()
    }
    names = {int(roi.ROINumber): str(roi.ROIName) for roi in decoded.StructureSetROISequence}
    codes = {
        int(item.ReferencedROINumber): _codes(item) for item in decoded.RTROIObservationsSequence
    }
    contours = {
        int(item.ReferencedROINumber): item.ContourSequence for item in decoded.ROIContourSequence
    }
    if (
        names != {number: long_string(label.name) for number, label in expected.items()}
        or codes != {number: _codes_of_label(label) for number, label in expected.items()}
        or set(contours) != set(expected)
    ):
        raise refused("labels", "the regions do not describe the labels of the mask")
    return [(label, contours[number]) for number, label in expected.items()]


def _codes(observation: Dataset) -> tuple[str, str]:
    kind = observation.RTROIIdentificationCodeSequence[0]
    modifiers = kind.get("SegmentedPropertyTypeModifierCodeSequence", [])
    return str(kind.CodeValue), str(modifiers[0].CodeValue) if modifiers else ""


def _codes_of_label(label: Label) -> tuple[str, str]:
    return label.type.value, label.laterality.value if label.laterality else ""


def _compare(
    contours: Sequence[Dataset],
    grid: Grid,
    images: list[tuple[str, int]],
    mask: npt.NDArray[np.bool_],
) -> None:
    by_plane: dict[int, list[Vectors]] = {}
    for contour in contours:
        plane, points = _in_plane(contour, grid)
        image = contour.ContourImageSequence[0]
        named = (str(image.ReferencedSOPInstanceUID), int(image.get("ReferencedFrameNumber") or 1))
        if named != images[plane]:
            raise refused("reference", "a contour names an image that it does not lie on")
        by_plane.setdefault(plane, []).append(points)
    differing = 0
    for plane, wanted in enumerate(mask):
        filled = [_filled(points, wanted.shape) for points in by_plane.get(plane, ())]
        differing += int((sum(filled, np.zeros(wanted.shape, np.int16)) != wanted).sum())
    if differing:
        raise refused("voxels", f"a region differs from the mask in {differing} voxels")


def _in_plane(contour: Dataset, grid: Grid) -> tuple[int, Vectors]:
    """The slice that a contour lies on, and its points as (column, row), 0, 0 at a pixel centre."""
    points_mm = _points_mm(contour)
    normal = np.cross(*grid.directions)
    depths_mm, levels_mm = points_mm @ normal, grid.positions_mm @ normal
    plane = int(np.abs(levels_mm - depths_mm[0]).argmin())
    if np.abs(depths_mm - levels_mm[plane]).max() > _PLANE_TOLERANCE_MM:
        raise refused("geometry", "a contour lies on no slice of the source")
    inside_mm = (points_mm - grid.positions_mm[plane]) @ grid.directions.T
    return plane, inside_mm / grid.spacing_mm[::-1]


def _points_mm(contour: Dataset) -> Vectors:
    """``(n, 3)`` LPS, from the text of the element: a decimal string object per number is slow."""
    element: Any = contour.get_item("ContourData")
    try:
        points_mm = np.array(element.value.split(b"\\"), "S16").astype(float)
    except (AttributeError, ValueError) as problem:
        raise refused("unreadable", "a contour has no points") from problem
    if (
        contour.ContourGeometricType != "CLOSED_PLANAR"
        or len(points_mm) != 3 * contour.NumberOfContourPoints
    ):
        raise refused("geometry", "a contour is not what it says it is")
    return points_mm.reshape(-1, 3)


def _filled(points: Vectors, shape: tuple[int, ...]) -> npt.NDArray[np.int16]:
    """1 where the centre of a pixel has an odd number of edges on its left, 0 elsewhere."""
    rows, columns = shape
    ends = np.roll(points, -1, axis=0)
    limits = np.sort(np.stack([points[:, 1], ends[:, 1]]), axis=0)
    first, last = np.clip(np.ceil(limits), 0, rows).astype(int)
    edges = np.repeat(np.arange(len(points)), last - first)
    before = np.cumsum(last - first) - (last - first)
    row = first[edges] + np.arange(len(edges)) - before[edges]
    (start_column, start_row), (end_column, end_row) = points[edges].T, ends[edges].T
    column = start_column + (row - start_row) / (end_row - start_row) * (end_column - start_column)
    crossings = np.zeros((rows, columns + 1), np.int16)
    np.add.at(crossings, (row, np.clip(np.ceil(column), 0, columns).astype(int)), 1)
    filled: npt.NDArray[np.int16] = np.cumsum(crossings, axis=1, dtype=np.int16)[:, :-1] % 2
    return filled
