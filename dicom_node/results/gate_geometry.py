"""Where the frames of an image lie, from its own attributes, against where its source lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_node.results.explicit_decoding import Part, items_of
from dicom_node.results.gate_reading import refused

_POSITION_TOLERANCE_MM = 0.01
_DIRECTION_TOLERANCE = 1.1e-3
_SPACING_TOLERANCE_MM = 1.1e-3

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Where each plane lies: ``positions_mm`` (planes, 3) LPS, unit ``directions`` (2, 3) of a row
    and of a column, ``spacing_mm`` (row, column)."""

    positions_mm: Vector
    directions: Vector
    spacing_mm: Vector

    def moments(
        self, plane: int, mask: npt.NDArray[np.bool_], origin: tuple[int, int] = (0, 0)
    ) -> tuple[int, Vector]:
        """Voxel count and sum of voxel centres (LPS mm) of a (rows, columns) mask.

        ``origin`` is the row and the column of its first voxel.
        """
        # Counts of a row or a column, which float32 holds exactly; their sums float64 does.
        marked = mask.astype(np.float32)
        per_row, per_column = marked.sum(axis=1), marked.sum(axis=0)
        count = int(per_row.sum(dtype=np.float64))
        top, left = origin
        columns = float(per_column @ np.arange(left, left + len(per_column), dtype=np.float64))
        rows = float(per_row @ np.arange(top, top + len(per_row), dtype=np.float64))
        along_row = columns * self.spacing_mm[1] * self.directions[0]
        along_column = rows * self.spacing_mm[0] * self.directions[1]
        return count, count * self.positions_mm[plane] + along_row + along_column


def source_grid(source_images: Sequence[Dataset], frame_numbers: Sequence[int]) -> Grid | None:
    """The grid of the source slices; ``None`` for an image that lies nowhere, as a radiograph."""
    first = source_images[0]
    if "PerFrameFunctionalGroupsSequence" in first:
        frames = [first.PerFrameFunctionalGroupsSequence[number - 1] for number in frame_numbers]
        return _functional_grid(first, frames)
    if "ImagePositionPatient" not in first:
        return None
    positions = [image.ImagePositionPatient for image in source_images]
    return _grid(positions, first.ImageOrientationPatient, first.PixelSpacing)


def planes_of_frames(decoded: Dataset, source: Grid | None) -> list[int]:
    """The source slice of every frame, found by its position; 0 where the source has no place.

    Raises
    ------
    GateRefused
        ``gate.geometry``: a frame lies on no slice, or not as its source does.
    """
    groups = items_of(decoded, "PerFrameFunctionalGroupsSequence")
    if len(groups) != int(decoded.NumberOfFrames):
        raise refused("geometry", "NumberOfFrames is not the number of frames")
    if source is None:
        return [0] * len(groups)
    grid = _functional_grid(decoded, groups)
    if (
        np.abs(grid.directions - source.directions).max() > _DIRECTION_TOLERANCE
        or np.abs(grid.spacing_mm - source.spacing_mm).max() > _SPACING_TOLERANCE_MM
    ):
        raise refused("geometry", "orientation or pixel spacing is not the source's")
    planes = []
    for position in grid.positions_mm:
        distances = np.linalg.norm(source.positions_mm - position, axis=1)
        plane = int(distances.argmin())
        if distances[plane] > _POSITION_TOLERANCE_MM:
            raise refused("geometry", "a frame lies on no slice of the source")
        planes.append(plane)
    return planes


def functional_group(shared: Part, frame: Part, keyword: str) -> Any:
    """The item of a functional group that holds for ``frame``, its own or the shared one."""
    groups = frame.get(keyword) or shared.get(keyword)
    if not groups:
        raise refused("geometry", f"{keyword} is in neither the frame nor the shared groups")
    return groups[0]


def _functional_grid(image: Dataset, frames: Sequence[Part]) -> Grid:
    shared = items_of(image, "SharedFunctionalGroupsSequence")[0]
    measures = functional_group(shared, frames[0], "PixelMeasuresSequence")
    orientation = functional_group(shared, frames[0], "PlaneOrientationSequence")
    positions = [
        functional_group(shared, frame, "PlanePositionSequence").ImagePositionPatient
        for frame in frames
    ]
    return _grid(positions, orientation.ImageOrientationPatient, measures.PixelSpacing)


def _grid(positions: Sequence[Any], cosines: Sequence[Any], spacing: Sequence[Any]) -> Grid:
    return Grid(
        np.asarray(positions, float),
        np.asarray(cosines, float).reshape(2, 3),
        np.asarray(spacing, float),
    )
