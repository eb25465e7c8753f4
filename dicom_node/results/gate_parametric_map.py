"""The gate for Parametric Maps: every value where it was computed, and said to be what it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ai_models.types import Code, FloatArray
from dicom_node.results.gate_geometry import functional_group, planes_of_frames, source_grid
from dicom_node.results.gate_reading import check_references, read_back, refused
from dicom_node.results.sop_classes import PARAMETRIC_MAP


def check_parametric_map(
    parametric_map: Dataset | bytes | Path,
    source_images: Sequence[Dataset],
    frame_numbers: Sequence[int],
    values: FloatArray,
    quantity: Code,
) -> None:
    """Refuse a Parametric Map that does not say what ``values`` say.

    Each frame is laid over the source by its own position; its pixels must be bit for bit those of
    its slice, stand for themselves (slope 1, intercept 0), measure ``quantity`` and name the image
    of that slice as what they were derived from.

    Parameters
    ----------
    parametric_map
        What will be sent: its Part 10 bytes, its file, or a data set (encoded first).
    source_images, frame_numbers
        As they went into ``build_parametric_map``, before any repair.
    values
        ``(slices, rows, columns)`` float32 of the model.

    Raises
    ------
    GateRefused
        ``gate.unreadable``, ``gate.reference``, ``gate.geometry``, ``gate.quantity`` or
        ``gate.voxels``.
    """
    decoded = read_back(parametric_map)
    if decoded.SOPClassUID != PARAMETRIC_MAP:
        raise refused("reference", "the map is not a Parametric Map")
    check_references(decoded, source_images)
    _check_quantity(decoded, quantity)
    planes = planes_of_frames(decoded, source_grid(source_images, frame_numbers))
    if sorted(planes) != list(range(len(frame_numbers))):
        raise refused("geometry", "the map has not one frame for each slice")
    for frame, plane in enumerate(planes):
        _check_source(decoded, frame, source_images, frame_numbers, plane)
        if not np.array_equal(_frame_values(decoded, frame), values[plane]):
            raise refused("voxels", f"slice {plane} of the map has other values than were computed")


def _check_quantity(decoded: Dataset, quantity: Code) -> None:
    shared = decoded.SharedFunctionalGroupsSequence[0]
    for frame in decoded.PerFrameFunctionalGroupsSequence:
        mapping = functional_group(shared, frame, "RealWorldValueMappingSequence")
        if (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) != (1, 0):
            raise refused("quantity", "the values of the map do not stand for themselves")
        named = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0]
        if (named.CodeValue, named.CodingSchemeDesignator) != (quantity.value, quantity.scheme):
            raise refused("quantity", "the map measures something else")


def _check_source(
    decoded: Dataset,
    frame: int,
    source_images: Sequence[Dataset],
    frame_numbers: Sequence[int],
    plane: int,
) -> None:
    group = decoded.PerFrameFunctionalGroupsSequence[frame]
    shared = decoded.SharedFunctionalGroupsSequence[0]
    derivation = functional_group(shared, group, "DerivationImageSequence")
    named = derivation.SourceImageSequence[0]
    source = source_images[plane] if len(source_images) > 1 else source_images[0]
    expected_frame = frame_numbers[plane] if len(source_images) == 1 else 1
    if (
        named.ReferencedSOPInstanceUID != source.SOPInstanceUID
        or int(named.get("ReferencedFrameNumber") or 1) != expected_frame
    ):
        raise refused("reference", "a frame names another image than it was derived from")


def _frame_values(decoded: Dataset, frame: int) -> FloatArray:
    rows, columns = int(decoded.Rows), int(decoded.Columns)
    pixels = np.frombuffer(decoded.FloatPixelData, "<f4")
    if len(pixels) != int(decoded.NumberOfFrames) * rows * columns:
        raise refused("unreadable", "FloatPixelData is not as long as its frames")
    values: FloatArray = pixels.reshape(-1, rows, columns)[frame]
    return values
