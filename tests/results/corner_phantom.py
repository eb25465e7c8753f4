"""One phantom in the patient, seen on every grid that a scanner may choose.

Eight blocks stand in the corners of a box, each with its own label, size and value, so that no
turn, mirror or exchange of axes leaves the phantom as it was. The 48 aligned poses sample the
same phantom at the same points of the patient and differ only in which way slices, rows and
columns run; their names are the directions (LPS letters) in which these three indices grow.
The other poses turn it, tilt it, or space its slices unevenly.

    pose = corner_phantom.pose("SPL")
    request = corner_phantom.request_for(pose)
    assert corner_phantom.voxels_off(pose, found_mm) < 0.5
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from ai_models.types import Code, Label, LabelMap
from dicom_node.results.request import ResultRequest
from tests.dicom_samples import ct_series, enhanced_series
from tests.results import samples

Points = npt.NDArray[np.float64]

# Voxels and millimetres along Superior, Posterior and Left.
SIZE = (10, 12, 14)
SPACING_MM = (2.5, 1.25, 0.75)
ORIGIN_MM = np.array([-40.0, 25.0, -310.0])
AIR_HU, CORNER_HU = -1000, 100

_DIRECTIONS = {
    "S": (0.0, 0.0, 1.0), "P": (0.0, 1.0, 0.0), "L": (1.0, 0.0, 0.0),
    "I": (0.0, 0.0, -1.0), "A": (0.0, -1.0, 0.0), "R": (-1.0, 0.0, 0.0),
}  # fmt: skip
_AXES = ("SI", "PA", "LR")
_CORNER = Code("91723000", "SCT", "Anatomical structure")
LABELS = tuple(
    Label(
        1 + 4 * superior + 2 * posterior + left,
        " ".join(
            (
                ("inferior", "superior")[superior],
                ("anterior", "posterior")[posterior],
                ("right", "left")[left],
            )
        ),
        samples.STRUCTURE,
        _CORNER,
        (40 + 200 * superior, 40 + 200 * posterior, 40 + 200 * left),
    )
    for superior, posterior, left in itertools.product((0, 1), repeat=3)
)


@dataclass(frozen=True)
class Pose:
    """The phantom on one grid.

    Attributes
    ----------
    datasets
        The source with pixel data (``CORNER_HU`` times the label, air around), in slice order;
        one data set for an enhanced source.
    frame_numbers
        1-based frame of each slice.
    label_map
        ``(slices, rows, columns)`` with the values of ``LABELS``.
    positions_mm
        (slices, 3) LPS of the first pixel of each slice.
    steps_mm
        (3, 3) LPS: what one slice (the mean one), one row and one column further means.
    corners_mm
        Label value to the centre of its block, LPS.
    """

    name: str
    datasets: list[Dataset]
    frame_numbers: list[int]
    label_map: LabelMap
    positions_mm: Points
    steps_mm: Points
    corners_mm: dict[int, Points]


ALIGNED = tuple(
    "".join(letters)
    for order in itertools.permutations(_AXES)
    for letters in itertools.product(*order)
)
UNUSUAL = ("oblique", "tilted gantry", "uneven slices", "enhanced", "enhanced in another order")
NAMES = (*ALIGNED, *UNUSUAL)


@cache
def pose(name: str) -> Pose:
    """The pose of this name, made once; change nothing in it."""
    if name in ALIGNED:
        return _pose(name, name)
    if name == "oblique":
        return _pose(name, "SPL", rotation=_rotation(0.31, -0.22, 0.47))
    if name == "tilted gantry":
        return _pose(name, "SPL", shear_mm=(0.0, 0.9, 0.0))
    if name == "uneven slices":
        return _pose(name, "SPL", gaps_mm=(0.0, 0.6, -0.4))
    order = range(SIZE[0]) if name == "enhanced" else [3, 7, 1, 0, 2, 9, 8, 6, 5, 4]
    return _enhanced(name, list(order))


def request_for(pose: Pose, **changes: Any) -> ResultRequest:
    """A request for results on ``pose``."""
    changes.setdefault("labels", LABELS)
    return samples.request_for(pose.datasets, frame_numbers=pose.frame_numbers, **changes)


def phantom() -> LabelMap:
    """The labels along Superior, Posterior and Left, shape ``SIZE``."""
    labels: LabelMap = np.zeros(SIZE, np.uint8)
    for number, corner in enumerate(itertools.product((0, 1), repeat=3), start=1):
        block = tuple(
            slice(length - 5, length - 1) if far else slice(1, 4)
            for far, length in zip(corner, SIZE, strict=True)
        )
        labels[block] = number
    return labels


def centres_mm(pose: Pose, label_map: npt.NDArray[np.integer[Any]]) -> dict[int, Points]:
    """Label value to the mean of its voxel centres (LPS), for a map on the grid of ``pose``."""
    return {
        int(value): _to_patient(pose.positions_mm, pose.steps_mm, np.argwhere(label_map == value))
        for value in np.unique(label_map[label_map > 0])
    }


def voxels_off(pose: Pose, found_mm: Mapping[int, Sequence[float] | Points]) -> float:
    """How far the farthest corner was found from its place, in voxels along the worst axis."""
    if set(found_mm) != set(pose.corners_mm):
        return np.inf
    to_index = np.linalg.inv(pose.steps_mm.T)
    return max(
        float(np.abs(to_index @ (np.asarray(found_mm[value]) - corner)).max())
        for value, corner in pose.corners_mm.items()
    )


def _pose(
    name: str,
    letters: str,
    rotation: Points | None = None,
    shear_mm: Sequence[float] = (0.0, 0.0, 0.0),
    gaps_mm: Sequence[float] = (0.0,),
) -> Pose:
    label_map, positions_mm, steps_mm = _grid(letters)
    turn = np.eye(3) if rotation is None else rotation
    steps_mm = steps_mm @ turn.T
    steps_mm[0] += np.asarray(shear_mm)
    numbers = np.arange(len(label_map))
    uneven_mm = np.resize(np.asarray(gaps_mm), len(numbers))[:, None] * _unit(steps_mm[0])
    positions_mm = turn @ positions_mm + numbers[:, None] * steps_mm[0] + uneven_mm
    lengths_mm = np.linalg.norm(steps_mm, axis=1)
    datasets = ct_series(
        label_map.shape,
        (float(lengths_mm[0]), float(lengths_mm[1]), float(lengths_mm[2])),
        [*_unit(steps_mm[2]), *_unit(steps_mm[1])],
        positions_mm[0],
        values_hu=_values_hu(label_map),
        slice_step_mm=steps_mm[0],
        Manufacturer="SynthCo",
        StudyDescription="Phantom",
    )
    for dataset, position_mm in zip(datasets, positions_mm, strict=True):
        dataset.ImagePositionPatient = [f"{value:.10g}" for value in position_mm]
    return _located(name, datasets, [1] * len(datasets), label_map, positions_mm, steps_mm)


def _enhanced(name: str, order: list[int]) -> Pose:
    label_map, origin_mm, steps_mm = _grid("SPL")
    dataset = enhanced_series(
        label_map.shape,
        SPACING_MM,
        origin_mm=[float(value) for value in origin_mm],
        values_hu=_values_hu(label_map),
        frame_order=order,
        Manufacturer="SynthCo",
        StudyDescription="Phantom",
    )
    frame_numbers = [order.index(number) + 1 for number in range(len(label_map))]
    positions_mm = origin_mm + np.arange(len(label_map))[:, None] * steps_mm[0]
    return _located(name, [dataset], frame_numbers, label_map, positions_mm, steps_mm)


def _located(
    name: str,
    datasets: list[Dataset],
    frame_numbers: list[int],
    label_map: LabelMap,
    positions_mm: Points,
    steps_mm: Points,
) -> Pose:
    corners_mm = {
        label.value: _to_patient(positions_mm, steps_mm, np.argwhere(label_map == label.value))
        for label in LABELS
    }
    return Pose(name, datasets, frame_numbers, label_map, positions_mm, steps_mm, corners_mm)


def _grid(letters: str) -> tuple[LabelMap, Points, Points]:
    """The phantom along ``letters``; where its first voxel lies, and its index steps (LPS mm)."""
    order = [next(axis for axis, pair in enumerate(_AXES) if one in pair) for one in letters]
    backwards = [number for number, one in enumerate(letters) if one in "IAR"]
    label_map = np.flip(phantom().transpose(order), tuple(backwards))
    spacing_mm = [SPACING_MM[axis] for axis in order]
    steps_mm = np.array([_DIRECTIONS[one] for one in letters]) * np.array(spacing_mm)[:, None]
    first_mm = ORIGIN_MM.copy()
    for number in backwards:
        first_mm -= steps_mm[number] * (label_map.shape[number] - 1)
    return np.ascontiguousarray(label_map), first_mm, steps_mm


def _values_hu(label_map: LabelMap) -> npt.NDArray[np.int16]:
    return np.where(label_map, label_map.astype(np.int16) * CORNER_HU, AIR_HU).astype(np.int16)


def _to_patient(positions_mm: Points, steps_mm: Points, indices: npt.NDArray[np.intp]) -> Points:
    centre: Points = (positions_mm[indices[:, 0]] + indices[:, 1:] @ steps_mm[1:]).mean(axis=0)
    return centre


def _unit(vector: Points) -> Points:
    unit: Points = vector / np.linalg.norm(vector)
    return unit


def _rotation(about_x: float, about_y: float, about_z: float) -> Points:
    """Radians about the three axes of the patient, in this order."""
    turn = np.eye(3)
    for axis, angle in enumerate((about_x, about_y, about_z)):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[first, first] = step[second, second] = np.cos(angle)
        step[first, second], step[second, first] = -np.sin(angle), np.sin(angle)
        turn = step @ turn
    return turn
