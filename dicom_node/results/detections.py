"""What a detector found as labels of voxels, so that it is reported as every segmentation is.

Each finding becomes a label of its own: the ellipsoid in its box, or the box, with the codes of its
class, a name with a number, a colour of its own and a Tracking UID that stays with its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ai_models.array.finding_labels import numbered_label
from ai_models.array.labels import MOST_OVERLAPPING
from ai_models.array.marked_boxes import BoxMask, centre_voxel, marked_box
from ai_models.array.measurements import Measurement, measure
from ai_models.types import Detection, DetectionPrediction, Label, LabelMap, Volume
from dicom_node.errors import ModelFailed
from dicom_node.results.detection_shapes import Shape, painted, whole
from dicom_node.results.identity import ResultIdentity, TrackedIdentity
from dicom_node.results.segmentation_segments import finding_of

MOST_FINDINGS = 255
_WRONG = "model.wrong_output"
_TRACKING_CELL_MM = 5.0
_NOTES: Mapping[BoxMask, str] = {
    "ellipsoid": "findings are drawn as the ellipsoids that fit in their boxes; volumes are theirs",
    "box": "findings are drawn as their boxes; volumes are those of the boxes",
}
_CUT = (
    "where they overlap the segments are cut, the larger by the smaller; numbers and outlines in "
    "reports are of the whole findings"
)
_DRAWN: Mapping[BoxMask, str] = {"ellipsoid": "ellipsoids in boxes", "box": "boxes"}
_CUT_IN_SHORT = " cut where they overlap"


@dataclass(frozen=True)
class DetectionMeasurement(Measurement):
    """Measures of one finding: those of its whole shape, and what the detector said of it.

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
        ``(slices, rows, columns)`` on the grid of the model's input, or on the slices of the
        source. What overlaps is cut (`detection_shapes.painted`); uint64 where some finding would
        have no voxel of its own.
    labels
        One for each finding, numbered from 1 in the order of the prediction; behind them the
        classes of which nothing was found, which have no voxels.
    measurements
        By label value, of the whole shapes: what is cut away is only not drawn.
    shapes
        Of each finding, whole, in the same order.
    mask
        Whether they are ellipsoids or boxes.
    is_cut
        Whether some are not drawn whole.
    """

    label_map: LabelMap
    labels: tuple[Label, ...]
    measurements: Mapping[int, DetectionMeasurement]
    shapes: tuple[Shape, ...]
    detections: tuple[Detection, ...]
    mask: BoxMask
    is_cut: bool

    @property
    def note(self) -> str:
        """How the shapes came about, for ``ResultRequest.input_notes``; empty without findings."""
        if not self.detections:
            return ""
        return f"{_NOTES[self.mask]}; {_CUT}" if self.is_cut else _NOTES[self.mask]

    @property
    def parameters(self) -> Mapping[str, str]:
        """The same in few words, for ``Algorithm.parameters``: each segment names them."""
        if not self.detections:
            return {}
        return {"drawn": _DRAWN[self.mask] + (_CUT_IN_SHORT if self.is_cut else "")}

    def outlined(self) -> LabelMap:
        """The label map of whole shapes, for reports: uint64 where `label_map` cuts some.

        Of more than 64 findings it is the cut one.
        """
        if not self.is_cut or len(self.shapes) > MOST_OVERLAPPING:
            return self.label_map
        return whole(self.shapes, self.label_map.shape)

    def on_slices(self, to_source_grid: Callable[[LabelMap], LabelMap]) -> MarkedDetections:
        """The same on the slices of the source; no finding is lost between two of them.

        ``to_source_grid`` takes values of the grid to the nearest source slices. What was measured
        stays.
        """
        slices = len(self.label_map)
        places = np.arange(slices, dtype=np.uint16)[:, None, None]
        origin = to_source_grid(np.broadcast_to(places, self.label_map.shape))[:, 0, 0]
        if np.array_equal(origin, np.arange(slices)):
            return self
        shapes = tuple(one.on_slices(origin.astype(np.int64)) for one in self.shapes)
        label_map, is_cut = painted(shapes, (len(origin), *self.label_map.shape[1:]))
        return replace(self, label_map=label_map, shapes=shapes, is_cut=is_cut)

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
        more than 255, or than 64 of which some have no voxel of their own.
    """
    found = prediction.detections
    if len(found) > MOST_FINDINGS:
        raise ModelFailed(f"the model answers {len(found)} findings", reason=_WRONG)
    labels = _labels(found, prediction.labels)
    shapes = tuple(_shape(one, mask, volume) for one in found)
    label_map, is_cut = painted(shapes, volume.array.shape)
    return MarkedDetections(
        label_map, labels,
        {
            value: DetectionMeasurement(
                **vars(_measured(shape, volume)), probability=one.score,
                long_axis_mm=max(one.size_mm),
            )
            for value, (shape, one) in enumerate(zip(shapes, found, strict=True), start=1)
        },
        shapes, found, mask, is_cut,
    )


def _shape(one: Detection, mask: BoxMask, volume: Volume) -> Shape:
    marked = marked_box(one.box_lps, volume.affine_lps, volume.array.shape, mask)
    if marked is None:
        raise ModelFailed("a finding lies outside of the images", reason=_WRONG)
    return Shape(*marked, centre_voxel(one.box_lps, volume.affine_lps), one.score)


def _measured(shape: Shape, volume: Volume) -> Measurement:
    """Of the whole shape, whatever else lies in it."""
    corner = np.eye(4)
    corner[:3, 3] = [side.start for side in shape.place]
    part = replace(
        volume, array=volume.array[shape.place], affine_lps=volume.affine_lps @ corner
    )
    return measure(shape.marked.astype(np.uint8), part)[1]


def _labels(found: Sequence[Detection], classes: Sequence[Label]) -> tuple[Label, ...]:
    by_value = {label.value: label for label in classes}
    labels, seen = [], Counter[int]()
    for value, one in enumerate(found, start=1):
        kind = by_value.get(one.label_value)
        if kind is None:
            raise ModelFailed(f"a finding is of class {one.label_value}, which the card does not "
                              "have", reason=_WRONG)
        seen[kind.value] += 1
        labels.append(numbered_label(kind, value, seen[kind.value]))
    absent = [label for label in classes if not seen[label.value]]
    return (
        *labels,
        *(replace(one, value=value) for value, one in enumerate(absent, start=len(labels) + 1)),
    )

