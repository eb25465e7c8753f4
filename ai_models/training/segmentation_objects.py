"""DICOM Segmentations (PS3.3 A.51) as labels on the grid of the images that they refer to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ai_models.array.labels import overlapping
from ai_models.training.settings import TrainingError
from ai_models.types import Affine, Code, Label, LabelMap

Mask = npt.NDArray[np.bool_]
# Of a step between slices; and how much larger a pixel may be before voxels are left out.
_PLANE_TOLERANCE, _COARSEST = 0.05, 1.01


@dataclass(frozen=True)
class Segment:
    """What a segment is said to be: number in its object, label, type, laterality."""

    number: int
    name: str
    type: Code | None
    laterality: str = ""


def read_segments(path: Path) -> list[Segment]:
    """The Segment Sequence (0062,0002) of an object; its pixels are not read."""
    import pydicom

    return _segments(pydicom.dcmread(path, stop_before_pixels=True))


def labels_of(
    paths: Sequence[Path], labels: Sequence[Label], shape: tuple[int, ...], affine_lps: Affine,
    *, overlap: bool = False,
) -> LabelMap:
    """Segments that are of a label, on a grid ``(slices, rows, columns)``.

    A segment belongs to the label of its type code and laterality, or of its name. Frames go to
    the slice in whose plane they lie; where the grids differ, to the nearest voxels. With
    ``overlap`` the map has a bit for each label; else the higher number wins.

    Raises
    ------
    TrainingError
        An object is no binary Segmentation, or no segment is of any label.
    """
    masks = {one.value: np.zeros(shape, dtype=bool) for one in labels}
    known = False
    for path in paths:
        for number, mask in _masks(path, labels, (shape[0], shape[1], shape[2]), affine_lps):
            masks[number] |= mask
            known = True
    if not known:
        raise TrainingError(
            f"{paths[0]}: none of its segments is {', '.join(one.name for one in labels)}"
        )
    if overlap:
        return overlapping(masks, shape)
    label_map = np.zeros(shape, dtype=np.uint8)
    for value in sorted(masks):
        label_map[masks[value]] = value
    return label_map


def _segments(dataset: Any) -> list[Segment]:
    found = []
    for item in dataset.get("SegmentSequence", ()):
        kind, side = _code(item, "SegmentedPropertyTypeCodeSequence"), ""
        for holder in item.get("SegmentedPropertyTypeCodeSequence", ()):
            modifier = _code(holder, "SegmentedPropertyTypeModifierCodeSequence")
            side = modifier.value if modifier else ""
        name = str(item.get("SegmentLabel", ""))
        found.append(Segment(int(item.SegmentNumber), name, kind, side))
    return found


def _code(item: Any, keyword: str) -> Code | None:
    for one in item.get(keyword, ()):
        return Code(str(one.CodeValue), str(one.CodingSchemeDesignator), str(one.CodeMeaning))
    return None


def _value_of(segment: Segment, labels: Sequence[Label]) -> int | None:
    for one in labels:
        if segment.name.casefold() == one.name.casefold():
            return one.value
    same = [
        one for one in labels if segment.type is not None
        and (one.type.value, one.type.scheme) == (segment.type.value, segment.type.scheme)
        and segment.laterality in ("", one.laterality.value if one.laterality else "")
    ]
    return same[0].value if len(same) == 1 else None


def _masks(
    path: Path, labels: Sequence[Label], shape: tuple[int, int, int], affine_lps: Affine
) -> list[tuple[int, Mask]]:
    import pydicom

    dataset = pydicom.dcmread(path)
    if dataset.get("SegmentationType") not in ("BINARY", "LABELMAP"):
        raise TrainingError(f"{path}: a binary Segmentation is expected")
    wanted = {
        segment.number: value for segment in _segments(dataset)
        if (value := _value_of(segment, labels)) is not None
    }
    if not wanted:
        return []
    frames = dataset.pixel_array
    frames = frames[None] if frames.ndim == 2 else frames
    shared = _first(dataset, "SharedFunctionalGroupsSequence")
    masks = {value: np.zeros(shape, dtype=bool) for value in wanted.values()}
    for frame, own in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        to_index = np.linalg.inv(affine_lps) @ _frame_affine(own, shared)
        if np.linalg.norm(to_index[:3, 1:3], axis=0).max() > _COARSEST:
            raise TrainingError(f"{path}: its pixels are larger than those of the images")
        for number in _numbers(dataset, own, shared, wanted):
            lit = frame == number if dataset.SegmentationType == "LABELMAP" else frame > 0
            _put(masks[wanted[number]], lit, to_index)
    return list(masks.items())


def _numbers(
    dataset: Any, own: Any, shared: Any, wanted: Mapping[int, int]
) -> Sequence[int]:
    if dataset.SegmentationType == "LABELMAP":
        return list(wanted)
    group = _first(own, "SegmentIdentificationSequence") or _first(
        shared, "SegmentIdentificationSequence")
    number = int(group.ReferencedSegmentNumber)
    return [number] if number in wanted else []


def _first(holder: Any, keyword: str) -> Any:
    items = holder.get(keyword) if holder is not None else None
    return items[0] if items else None


def _frame_affine(own: Any, shared: Any) -> Affine:
    """Index ``(0, row, column, 1)`` of a frame to mm; a slice's thickness is not looked at."""
    def group(keyword: str) -> Any:
        return _first(own, keyword) or _first(shared, keyword)

    position = np.array(group("PlanePositionSequence").ImagePositionPatient, dtype=np.float64)
    across, down = np.array(
        group("PlaneOrientationSequence").ImageOrientationPatient, dtype=np.float64
    ).reshape(2, 3)
    row_mm, column_mm = (float(one) for one in group("PixelMeasuresSequence").PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0] = np.cross(across, down)
    affine[:3, 1], affine[:3, 2] = down * row_mm, across * column_mm
    affine[:3, 3] = position
    return affine


def _put(mask: Mask, lit: Mask, to_index: Affine) -> None:
    """Set the voxels nearest to what is lit in a frame."""
    rows, columns = np.nonzero(lit)
    if not rows.size:
        return
    ones = np.ones(rows.size)
    places = to_index @ np.stack([0.0 * ones, rows, columns, ones])
    at = np.rint(places[:3]).astype(int)
    inside = np.all((at >= 0) & (at < np.array(mask.shape)[:, None]), axis=0)
    # A frame between two slices belongs to neither; half a step is as far as a voxel reaches.
    inside &= np.abs(places[0] - at[0]) <= 0.5 + _PLANE_TOLERANCE
    mask[tuple(at[:, inside])] = True
