"""What a detector found as labels of voxels, so that it is reported as every segmentation is.

Each finding becomes a label of its own: the ellipsoid in its box, or the box, with the codes of its
class, a name with a number, a colour of its own and a Tracking UID that stays with its place.
"""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ai_models.array.labels import (
    MOST_OVERLAPPING,
    BoolArray,
    bit_of,
    is_overlapping,
    values_in,
)
from ai_models.array.marked_boxes import BoxMask, Index, centre_voxel, marked_box
from ai_models.array.measurements import Measurement, measure
from ai_models.types import Detection, DetectionPrediction, Label, LabelMap, Volume
from dicom_node.errors import ModelFailed
from dicom_node.results.identity import ResultIdentity, TrackedIdentity
from dicom_node.results.segmentation_segments import finding_of

MOST_FINDINGS = 255
_WRONG = "model.wrong_output"
_TRACKING_CELL_MM = 5.0
_GOLDEN_ANGLE = 0.381966
_LONGEST_CLASS_NAME = 60
_NOTES: Mapping[BoxMask, str] = {
    "ellipsoid": "findings are drawn as the ellipsoids that fit in their boxes; volumes are theirs",
    "box": "findings are drawn as their boxes; volumes are those of the boxes",
}


@dataclass(frozen=True)
class DetectionMeasurement(Measurement):
    """Measures of one finding: those of its voxels, and what the detector said of it.

    ``probability`` is its score, ``long_axis_mm`` the longest edge of its box.
    """

    probability: float
    long_axis_mm: float


@dataclass(frozen=True)
class MarkedDetections:
    """Findings as labels.

    Attributes
    ----------
    label_map
        ``(slices, rows, columns)`` on the grid of the model's input; uint64 where findings overlap.
    labels
        One for each finding, numbered from 1 in the order of the prediction; behind them the
        classes of which nothing was found, which have no voxels.
    measurements
        By label value.
    centres
        The voxel at the centre of each finding, in the same order.
    note
        How the shapes came about, for ``ResultRequest.input_notes``; empty without findings.
    """

    label_map: LabelMap
    labels: tuple[Label, ...]
    measurements: Mapping[int, DetectionMeasurement]
    centres: tuple[Index, ...]
    detections: tuple[Detection, ...]
    note: str

    def on_slices(self, to_source_grid: Callable[[LabelMap], LabelMap]) -> LabelMap:
        """The label map on the slices of the source; no finding is lost between two of them.

        ``to_source_grid`` takes values of the grid to the nearest source slices.
        """
        picked = to_source_grid(self.label_map)
        missing = set(values_in(self.label_map)) - set(values_in(picked))
        if not missing:
            return picked
        places = np.arange(len(self.label_map), dtype=np.uint16)[:, None, None]
        origin = to_source_grid(np.broadcast_to(places, self.label_map.shape))[:, 0, 0]
        kept = picked.copy()
        for value in sorted(missing):
            along, row, column = self.centres[value - 1]
            nearest = int(np.abs(origin.astype(int) - along).argmin())
            place = (
                slice(nearest, nearest + 1), slice(row, row + 1), slice(column, column + 1)
            )
            kept = _with(kept, value, place, np.ones((1, 1, 1), bool))
        return kept

    def tracked(self, identity: ResultIdentity, series_instance_uid: str) -> ResultIdentity:
        """``identity`` with a Tracking UID for each finding that follows from class and place.

        The number of a finding changes with what else is found; two findings of different places
        must not become one by it (PS3.16 TID 4108).
        """
        uids, seen = {}, Counter[str]()
        for label, one in zip(self.labels, self.detections, strict=False):
            place = [round(mm / _TRACKING_CELL_MM) for mm in one.center_lps_mm]
            key = f"detection:{label.type.scheme}:{label.type.value}:{place}"
            seen[key] += 1
            uids[finding_of(label)] = identity.tracking_uid(
                series_instance_uid, f"{key}:{seen[key]}"
            )
        return TrackedIdentity(
            identity.input_digests, identity.model_id, identity.model_version,
            identity.weights_sha256, identity.effective_configuration, uids,
        )


def findings_of(
    prediction: DetectionPrediction, mask: BoxMask, volume: Volume
) -> MarkedDetections:
    """The findings of ``prediction`` as labels on the grid of ``volume``, measured there.

    Raises
    ------
    ModelFailed
        ``model.wrong_output``: a finding lies outside of the volume, is of no class, or there are
        more than 255, or than 64 of which some overlap.
    """
    found = prediction.detections
    if len(found) > MOST_FINDINGS:
        raise ModelFailed(f"the model answers {len(found)} findings", reason=_WRONG)
    labels = _labels(found, prediction.labels)
    label_map: LabelMap = np.zeros(volume.array.shape, np.uint8)
    for value, one in enumerate(found, start=1):
        marked = marked_box(one.box_lps, volume.affine_lps, label_map.shape, mask)
        if marked is None:
            raise ModelFailed("a finding lies outside of the images", reason=_WRONG)
        label_map = _with(label_map, value, *marked)
    measured = measure(label_map, volume)
    if len(measured) != len(found):
        raise ModelFailed("a finding has no voxel", reason=_WRONG)
    return MarkedDetections(
        label_map, labels,
        {
            value: DetectionMeasurement(
                **vars(measured[value]), probability=one.score, long_axis_mm=max(one.size_mm)
            )
            for value, one in enumerate(found, start=1)
        },
        tuple(centre_voxel(one.box_lps, volume.affine_lps) for one in found),
        found,
        _NOTES[mask] if found else "",
    )


def _with(
    label_map: LabelMap, value: int, place: tuple[slice, slice, slice], marked: BoolArray
) -> LabelMap:
    """``label_map`` with a label more; it becomes one of labels that overlap when they do.

    Changed in place where that is possible: eight bytes a voxel are spent only when needed.
    """
    if not is_overlapping(label_map) and label_map[place][marked].any():
        label_map = _by_bit(label_map)
    if is_overlapping(label_map):
        if not bit_of(value):
            raise ModelFailed(
                f"more than {MOST_OVERLAPPING} findings, of which some overlap", reason=_WRONG
            )
        label_map[place][marked] |= bit_of(value)
    else:
        label_map[place][marked] = value
    return label_map


def _by_bit(label_map: LabelMap) -> LabelMap:
    values = values_in(label_map)
    if values and max(values) > MOST_OVERLAPPING:
        raise ModelFailed(
            f"more than {MOST_OVERLAPPING} findings, of which some overlap", reason=_WRONG
        )
    table = np.array([bit_of(value) for value in range(256)], np.uint64)
    bits: LabelMap = table[label_map]
    return bits


def _labels(found: Sequence[Detection], classes: Sequence[Label]) -> tuple[Label, ...]:
    by_value = {label.value: label for label in classes}
    labels, seen = [], Counter[int]()
    for value, one in enumerate(found, start=1):
        kind = by_value.get(one.label_value)
        if kind is None:
            raise ModelFailed(f"a finding is of class {one.label_value}, which the card does not "
                              "have", reason=_WRONG)
        seen[kind.value] += 1
        labels.append(replace(
            kind, value=value, name=f"{kind.name[:_LONGEST_CLASS_NAME]} {seen[kind.value]}",
            color_rgb=_turned(kind.color_rgb, seen[kind.value] - 1),
        ))
    absent = [label for label in classes if not seen[label.value]]
    return (
        *labels,
        *(replace(one, value=value) for value, one in enumerate(absent, start=len(labels) + 1)),
    )


def _turned(color_rgb: tuple[int, int, int], steps: int) -> tuple[int, int, int]:
    """A colour of the same brightness further round the circle; the first is the class's own."""
    if not steps:
        return color_rgb
    hue, saturation, brightness = colorsys.rgb_to_hsv(*(part / 255 for part in color_rgb))
    turned = colorsys.hsv_to_rgb(
        (hue + steps * _GOLDEN_ANGLE) % 1, max(saturation, 0.6), max(brightness, 0.6)
    )
    red, green, blue = (round(255 * part) for part in turned)
    return red, green, blue
