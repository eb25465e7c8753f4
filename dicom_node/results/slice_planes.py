"""Where the slices of a normalised source lie, for results whose points are millimetres in LPS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dicom_node.errors import UnsuitableInput

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Vectors = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SlicePlanes:
    """The plane of every slice.

    ``positions_mm`` is ``(slices, 3)``: the centre of each first pixel. ``row_step_mm`` and
    ``column_step_mm`` are what one row and one column further means. All are LPS.
    """

    positions_mm: Vectors
    row_step_mm: Vectors
    column_step_mm: Vectors

    def to_patient_mm(self, slice_index: int, points: Vectors) -> Vectors:
        """``(n, 2)`` points (column, row) of one slice, 0, 0 at the outer corner of its first
        pixel, as ``(n, 3)`` LPS."""
        columns, rows = points[:, :1] - 0.5, points[:, 1:] - 0.5
        patient_mm: Vectors = (
            self.positions_mm[slice_index] + columns * self.column_step_mm + rows * self.row_step_mm
        )
        return patient_mm


def slice_planes(sources: Sequence[Dataset], frame_numbers: Sequence[int]) -> SlicePlanes:
    """The planes of a stack of slices or of the frames of an enhanced image.

    Raises
    ------
    UnsuitableInput
        ``input.no_frame_of_reference``: a projection image or a cine loop lies nowhere.
    """
    first = sources[0]
    if "ImagePositionPatient" in first:
        positions = [image.ImagePositionPatient for image in sources]
        return _planes(positions, first.ImageOrientationPatient, first.PixelSpacing)
    frames = first.get("PerFrameFunctionalGroupsSequence", [])
    if not frames or "PlanePositionSequence" not in frames[0]:
        raise UnsuitableInput(
            "the source has no place in the patient", reason="input.no_frame_of_reference"
        )
    shared = first.SharedFunctionalGroupsSequence[0]
    groups = {**_groups(shared), **_groups(frames[0])}
    positions = [frames[n - 1].PlanePositionSequence[0].ImagePositionPatient for n in frame_numbers]
    orientation = groups["PlaneOrientationSequence"].ImageOrientationPatient
    return _planes(positions, orientation, groups["PixelMeasuresSequence"].PixelSpacing)


def _groups(functional_groups: Dataset) -> dict[str, Dataset]:
    return {
        keyword: functional_groups[keyword].value[0]
        for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence")
        if keyword in functional_groups
    }


def _planes(
    positions: Sequence[Any], cosines: Sequence[Any], spacing: Sequence[Any]
) -> SlicePlanes:
    along_row, along_column = np.asarray(cosines, float).reshape(2, 3)
    row_mm, column_mm = (float(value) for value in spacing)
    return SlicePlanes(np.asarray(positions, float), along_column * row_mm, along_row * column_mm)
