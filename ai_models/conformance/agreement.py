"""Whether two answers say the same of the patient, whatever the grids that they were given on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ai_models.array.labels import mask_of, values_in
from ai_models.array.relabel import nearest_labels
from ai_models.card import Card, DetectionCard, RegressionCard
from ai_models.conformance.scene import affine_of, shape_of
from ai_models.prediction.instances import of_kinds
from ai_models.types import (
    ClassificationPrediction,
    Detection,
    DetectionPrediction,
    LabelMap,
    ModelInput,
    Prediction,
    RegressionPrediction,
    SegmentationPrediction,
    TextPrediction,
)

MARKS_NOTHING = (
    "marks nothing on what was shown: name a series in which it does with --on PATH"
)


@dataclass(frozen=True)
class Tolerance:
    """How alike two answers must be.

    Attributes
    ----------
    dice
        At least, of every label that has ``voxels``.
    scores
        At most between probabilities; between numbers, as a share of what the card allows.
    boxes
        At most between the middles of boxes, in steps of the network's grid, and
    box_share
        in shares of the box's edge besides.
    border
        So many voxels along the edge of the grid are left out: what lies beyond a series is not
        known, and sampled otherwise it mixes with what lies within.
    """

    dice: float
    voxels: int
    scores: float
    boxes: float
    box_share: float = 0.0
    border: int = 0


SAME = Tolerance(dice=0.98, voxels=20, scores=1e-3, boxes=0.5)
"""Of the same samples in another order."""
ALIKE = Tolerance(dice=0.85, voxels=400, scores=0.05, boxes=1.5, box_share=0.15, border=1)
"""Of the same thing sampled otherwise."""
COARSE = Tolerance(dice=0.6, voxels=400, scores=0.15, boxes=3.0, box_share=0.3, border=1)
"""Of the same thing on a small drawing with large voxels: what is less alike is wrong anywhere."""
PRECISE = Tolerance(dice=0.99, voxels=20, scores=0.02, boxes=0.5, box_share=0.02)
"""Of the same samples computed in fewer bits."""
EQUAL = Tolerance(dice=0.9999, voxels=1, scores=1e-5, boxes=0.01)
"""Of the same computation in other portions."""


@dataclass(frozen=True)
class Agreement:
    """``holds`` is ``None`` where there is nothing to compare; ``figure`` is what was measured."""

    holds: bool | None
    figure: str
    worst: float = 1.0


@dataclass(frozen=True)
class Answered:
    """An answer and the input that it was given to."""

    source: ModelInput
    prediction: Prediction


def agreement(card: Card, first: Answered, second: Answered, allowed: Tolerance) -> Agreement:
    """Compare ``second`` with ``first``; ``worst`` is 1 where they are the same."""
    one, other = first.prediction, second.prediction
    if isinstance(one, SegmentationPrediction) and isinstance(other, SegmentationPrediction):
        # Numbers of findings change with what else is found: kinds are compared.
        here = replace(
            one, label_map=of_kinds(one.label_map, one.labels, card.labels), labels=card.labels
        )
        there = _there(
            of_kinds(other.label_map, other.labels, card.labels), second.source, first.source
        )
        inside = _there(
            np.ones(other.label_map.shape, dtype=np.uint8), second.source, first.source
        )
        return _of_labels(here, there, _without_border(inside > 0, allowed.border), allowed)
    if isinstance(one, ClassificationPrediction) and isinstance(other, ClassificationPrediction):
        return _of_numbers(one.scores, other.scores, dict.fromkeys(one.scores, 1.0), allowed)
    if isinstance(one, RegressionPrediction) and isinstance(other, RegressionPrediction):
        return _of_numbers(one.values, other.values, _ranges(card), allowed)
    if isinstance(one, DetectionPrediction) and isinstance(other, DetectionPrediction):
        return _of_boxes(card, one, other, _step_mm(card, first.source), allowed)
    if isinstance(one, TextPrediction) and isinstance(other, TextPrediction):
        if one.text == other.text:
            return Agreement(True, "the same text")
        return Agreement(False, "another text", 0.0)
    return Agreement(False, f"{type(one).__name__} and {type(other).__name__}", 0.0)


def is_same_answer(one: Prediction, other: Prediction) -> bool:
    """Whether two predictions on one input are the same to the last bit, times and notes aside."""
    if isinstance(one, SegmentationPrediction) and isinstance(other, SegmentationPrediction):
        return np.array_equal(one.label_map, other.label_map) and _same_arrays(
            one.probabilities, other.probabilities
        )
    if isinstance(one, ClassificationPrediction) and isinstance(other, ClassificationPrediction):
        return (
            one.scores == other.scores
            and _same_arrays(one.saliency, other.saliency)
            and _same_arrays(one.by_slice, other.by_slice)
        )
    if isinstance(one, RegressionPrediction) and isinstance(other, RegressionPrediction):
        return one.values == other.values
    if isinstance(one, DetectionPrediction) and isinstance(other, DetectionPrediction):
        return len(one.detections) == len(other.detections) and all(
            a.label_value == b.label_value and a.score == b.score
            and np.array_equal(a.box_lps, b.box_lps)
            for a, b in zip(one.detections, other.detections, strict=True)
        )
    if isinstance(one, TextPrediction) and isinstance(other, TextPrediction):
        return one.text == other.text
    return False


def marks_nothing(prediction: Prediction) -> bool:
    """Whether a segmentation or detection has nothing to compare."""
    if isinstance(prediction, SegmentationPrediction):
        return not prediction.label_map.any()
    return isinstance(prediction, DetectionPrediction) and not prediction.detections


def _same_arrays(one: dict[int, npt.NDArray[np.float32]] | dict[str, npt.NDArray[np.float32]],
                 other: object) -> bool:
    return isinstance(other, dict) and one.keys() == other.keys() and all(
        np.array_equal(one[key], other[key]) for key in one  # type: ignore[index]
    )


def _there(label_map: LabelMap, source: ModelInput, on: ModelInput) -> LabelMap:
    """Labels of the grid of ``source`` on the grid of ``on``: what the nearest voxel has."""
    index_map = np.linalg.inv(affine_of(source)) @ affine_of(on)
    # Multiples of a rotation leave dust where a grid has only other axes.
    index_map[np.abs(index_map) < 1e-9] = 0.0
    return nearest_labels(label_map, shape_of(on), index_map)


def _without_border(inside: npt.NDArray[np.bool_], border: int) -> npt.NDArray[np.bool_]:
    if border:
        for axis, edge in enumerate(inside.shape):
            if edge > 4 * border:
                along = np.moveaxis(inside, axis, 0)
                along[:border] = along[-border:] = False
    return inside


def _of_labels(
    one: SegmentationPrediction, other: LabelMap, inside: npt.NDArray[np.bool_],
    allowed: Tolerance,
) -> Agreement:
    names = {label.value: label.name for label in one.labels}
    worst, named, compared = 1.0, "", 0
    for value in sorted(set(values_in(one.label_map)) | set(values_in(other))):
        first, second = mask_of(one.label_map, value) & inside, mask_of(other, value) & inside
        there, here = int(np.count_nonzero(first)), int(np.count_nonzero(second))
        if max(there, here) < allowed.voxels:
            continue
        compared += 1
        dice = 2 * int(np.count_nonzero(first & second)) / (there + here)
        if dice < worst:
            worst, named = dice, names.get(value, str(value))
    if not compared:
        return Agreement(None, f"no label has {allowed.voxels} voxels to compare")
    figure = f"Dice {worst:.4f}" + (f" of {named}" if named else "")
    return Agreement(worst >= allowed.dice, figure, worst)


def _ranges(card: Card) -> dict[str, float]:
    if not isinstance(card, RegressionCard):
        return {}
    return {one.name: one.maximum - one.minimum for one in card.output.quantities}


def _of_numbers(
    one: dict[str, float], other: dict[str, float], ranges: dict[str, float], allowed: Tolerance
) -> Agreement:
    if one.keys() != other.keys():
        return Agreement(False, "other names", 0.0)
    if not one:
        return Agreement(None, "no number is told")
    apart = {name: abs(one[name] - other[name]) / (ranges.get(name) or 1.0) for name in one}
    name = max(apart, key=lambda key: apart[key])
    figure = f"{name} {one[name]:.4f} and {other[name]:.4f}"
    return Agreement(apart[name] <= allowed.scores, figure, 1.0 - apart[name])


def _step_mm(card: Card, source: ModelInput) -> float:
    steps = card.input.spacing_mm or tuple(np.linalg.norm(affine_of(source)[:3, :3], axis=0))
    return float(max(steps))


def _of_boxes(
    card: Card, one: DetectionPrediction, other: DetectionPrediction, step_mm: float,
    allowed: Tolerance,
) -> Agreement:
    """Every box of either side has a partner, but those that hardly reached ``min_score``."""
    if not one.detections and not other.detections:
        return Agreement(None, "no box to compare")
    least = card.output.min_score if isinstance(card, DetectionCard) else 0.0
    furthest = 0.0
    for here, there in ((one, other), (other, one)):
        for box in here.detections:
            near_mm = min(
                (_apart_mm(box, partner) for partner in there.detections
                 if partner.label_value == box.label_value), default=np.inf,
            )
            reach = allowed.boxes * step_mm + allowed.box_share * max(box.size_mm)
            if near_mm > reach and box.score >= least + allowed.scores:
                return Agreement(
                    False, f"a box (score {box.score:.2f}) has no partner within {reach:.1f} mm",
                    0.0,
                )
            furthest = max(furthest, near_mm if near_mm <= reach else 0.0)
    figure = f"{len(one.detections)} boxes, {furthest:.2f} mm apart at most"
    return Agreement(True, figure, 1.0 - furthest * 1e-6)


def _apart_mm(one: Detection, other: Detection) -> float:
    return float(np.linalg.norm(np.subtract(one.center_lps_mm, other.center_lps_mm)))
