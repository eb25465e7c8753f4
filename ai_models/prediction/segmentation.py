"""From scores, or labels, on the network's grid to a label map on the grid of the input.

Scores are interpolated and decided on the input's own grid, so that outlines are as fine as the
images are. Labels that a back-end decided itself go the same way as scores of 0 and 1, as long as
memory allows, and by the nearest sample otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ai_models.array.labels import (
    is_overlapping,
    mask_of,
    overlapping,
    renumbered,
    values_in,
)
from ai_models.array.postprocess import clean_labels
from ai_models.array.relabel import nearest_labels
from ai_models.array.resample import best_channel, to_source_labels, to_source_scores
from ai_models.backends import Answer
from ai_models.card import SegmentationCard
from ai_models.card_entries import Postprocessing, SegmentationOutput
from ai_models.prediction.checking import WRONG, checked_probabilities
from ai_models.prediction.instances import separated
from ai_models.prediction.preparing import Prepared
from ai_models.prediction.search import parts_within
from ai_models.prediction.timing import timed
from ai_models.types import (
    Algorithm,
    FloatArray,
    LabelMap,
    ModelError,
    SegmentationPrediction,
)

# Labels as scores: 1 GiB of them.
LARGEST_STACK = 1 << 28


@dataclass(frozen=True)
class _Stack:
    """Scores ``(k, slices, rows, columns)`` of labels ``values``.

    With ``thresholds`` channel ``i`` is of ``values[i]``; without, channel 0 is the background
    and channel ``i + 1`` of ``values[i]``. ``overlapping``: every label for itself.
    """

    scores: FloatArray
    values: tuple[int, ...]
    thresholds: FloatArray | None
    overlapping: bool = False

    @property
    def first(self) -> int:
        """Channel of the first label."""
        return 1 if self.thresholds is None else 0

    @property
    def outside(self) -> FloatArray:
        """What the scores are where the network did not look."""
        background = np.zeros(len(self.scores), dtype=np.float32)
        background[: self.first] = 1.0
        return background

    def to_values(self, numbers: LabelMap) -> LabelMap:
        """Label values in the place of 1, 2, 3..."""
        if self.values == tuple(range(1, len(self.values) + 1)):
            return numbers
        table = np.array([0, *self.values], dtype=np.uint8)
        return table[numbers]


def segmentation(
    card: SegmentationCard, prepared: Prepared, answer: Answer, algorithm: Algorithm,
    seconds: dict[str, float], notes: tuple[str, ...],
) -> SegmentationPrediction:
    """The label map that a back-end's answer means, on the grid of the input.

    With ``output.instances`` each connected part of it has a label of its own.

    Raises
    ------
    ModelError
        ``model.wrong_output``, ``model.unknown_label``, ``model.not_finite``.
    """
    entry = card.output
    rules = entry.postprocessing
    if prepared.is_flat:
        # An image has no millilitres.
        rules = rules.model_copy(update={"min_volume_ml": 0.0})
    probabilities: dict[int, FloatArray] = {}
    with timed(seconds, "restore"):
        if answer.scores is None and answer.label_map is not None:
            label_map = _of_labels(entry, prepared, answer.label_map, rules)
        else:
            stack = _of_scores(entry, prepared, answer.scores)
            stack = _restored(stack, prepared)
            if entry.probabilities:
                probabilities = {
                    value: to_source_scores(channel, prepared.plan)
                    for value, channel in zip(
                        stack.values, stack.scores[stack.first :], strict=True
                    )
                }
            label_map = _decided(stack, prepared, rules)
    with timed(seconds, "postprocess"):
        label_map = _clean_source(label_map, prepared, rules)
        labels = card.labels
        if prepared.searched is not None:
            label_map, elsewhere = parts_within(label_map, prepared.searched)
            if elsewhere:
                notes = (*notes, f"marked outside of what was searched, left out: {elsewhere}")
        if entry.instances:
            label_map, labels, further = separated(label_map, labels)
            notes = (*notes, *further)
    return SegmentationPrediction(label_map, labels, algorithm, seconds, notes, probabilities)


def _of_scores(
    entry: SegmentationOutput, prepared: Prepared, answered: FloatArray | None
) -> _Stack:
    scores = checked_probabilities(answered, "scores of voxels")
    if prepared.is_flat and scores.ndim == 3:
        scores = scores[:, None]
    reported = len(entry.labels) + len(entry.ignored)
    has_background = entry.activation == "softmax" or (
        entry.activation == "none" and not entry.overlapping and len(scores) == reported + 1
    )
    expected = (reported + has_background, *prepared.shape)
    if scores.shape != expected:
        raise ModelError(
            f"the network answered {scores.shape}, the card's labels and the input ask for "
            f"{expected}", reason=WRONG,
        )
    values = tuple(label.value for label in entry.labels)
    channels = [value if has_background else value - 1 for value in values]
    if any(channel >= len(scores) for channel in [*channels, *entry.ignored]):
        raise ModelError(
            f"the network has {len(scores)} channels, the card names more", reason=WRONG
        )
    if has_background:
        order = [0, *channels]
        stack = scores if order == list(range(len(scores))) else scores[order]
        for channel in entry.ignored:
            np.maximum(stack[0], scores[channel], out=stack[0])
        return _Stack(stack, values, None)
    stack = scores if channels == list(range(len(scores))) else scores[channels]
    thresholds = np.array([label.threshold for label in entry.labels], dtype=np.float32)
    if entry.ignored and not entry.overlapping:
        best = scores[entry.ignored].max(axis=0)
        stack[:, (best > 0.5) & (best >= stack.max(axis=0))] = 0.0
    return _Stack(stack, values, thresholds, entry.overlapping)


def _of_labels(
    entry: SegmentationOutput, prepared: Prepared, label_map: LabelMap, rules: Postprocessing
) -> LabelMap:
    if label_map.ndim == 2 and prepared.is_flat:
        label_map = label_map[None]
    allowed = (np.uint8, np.uint64) if entry.overlapping else (np.uint8,)
    if label_map.shape != prepared.shape or label_map.dtype not in allowed:
        raise ModelError(
            f"labels {label_map.dtype} {label_map.shape} for an input {prepared.shape}",
            reason=WRONG,
        )
    known = {label.value for label in entry.labels}
    shift = 1 if entry.activation == "sigmoid" else 0
    found = set(values_in(label_map))
    unknown = sorted(found - known - {channel + shift for channel in entry.ignored})
    if unknown:
        raise ModelError(f"label {unknown[0]} is not on the card", reason="model.unknown_label")
    present = tuple(sorted(found & known))
    is_both = is_overlapping(label_map)
    if not present:
        return np.zeros(prepared.plan.source_shape, dtype=label_map.dtype)
    if prepared.keeps_samples or (len(present) + 1) * label_map.size > LARGEST_STACK:
        index_map = np.linalg.inv(prepared.affine) @ prepared.source_affine
        reported = renumbered(label_map, {value: value for value in present})
        return nearest_labels(reported, prepared.plan.source_shape, index_map)
    stack = _restored(_as_scores(label_map, present, is_both), prepared)
    return _decided(stack, prepared, rules)


def _as_scores(label_map: LabelMap, values: tuple[int, ...], is_both: bool) -> _Stack:
    masks = [mask_of(label_map, value) for value in values]
    if is_both:
        halves = np.full(len(values), 0.5, dtype=np.float32)
        return _Stack(np.stack(masks).astype(np.float32), values, halves, True)
    stack = np.empty((len(values) + 1, *label_map.shape), dtype=np.float32)
    stack[0] = ~np.logical_or.reduce(masks)
    for channel, mask in zip(stack[1:], masks, strict=True):
        channel[:] = mask
    return _Stack(stack, values, None)


def _restored(stack: _Stack, prepared: Prepared) -> _Stack:
    return replace(stack, scores=prepared.to_coarse(stack.scores, stack.outside))


def _decided(stack: _Stack, prepared: Prepared, rules: Postprocessing) -> LabelMap:
    """Which label holds where on the source grid, cleaned on the coarse grid before."""
    voxel_ml = float(abs(np.linalg.det(prepared.plan.coarse_affine_lps[:3, :3]))) / 1000.0
    if not stack.overlapping or stack.thresholds is None:
        scores = _cleaned(stack.scores, stack.thresholds, rules, voxel_ml)
        return stack.to_values(to_source_labels(scores, prepared.plan, stack.thresholds))
    masks = {}
    for position, value in enumerate(stack.values):
        one = slice(position, position + 1)
        threshold = stack.thresholds[one]
        scores = _cleaned(stack.scores[one], threshold, rules, voxel_ml)
        masks[value] = to_source_labels(scores, prepared.plan, threshold) > 0
    return overlapping(masks, prepared.plan.source_shape)


def _cleaned(
    scores: FloatArray, thresholds: FloatArray | None, rules: Postprocessing, voxel_ml: float
) -> FloatArray:
    if not (rules.fill_holes or rules.largest_component or rules.min_volume_ml > 0):
        return scores
    before = best_channel(scores, thresholds)
    after = clean_labels(
        before, voxel_ml, fill_holes=rules.fill_holes,
        largest_component=rules.largest_component, min_volume_ml=rules.min_volume_ml,
    )
    changed = before != after
    if not changed.any():
        return scores
    cleaned = scores.copy()
    for value, channel in enumerate(cleaned, start=0 if thresholds is None else 1):
        channel[changed] = after[changed] == value
    return cleaned


def _clean_source(label_map: LabelMap, prepared: Prepared, rules: Postprocessing) -> LabelMap:
    """Once more where it is looked at: interpolation may cut what hung together by a corner."""
    if not (rules.largest_component or rules.min_volume_ml > 0):
        return label_map
    voxel_ml = float(abs(np.linalg.det(prepared.source_affine[:3, :3]))) / 1000.0

    def cleaned(one: LabelMap) -> LabelMap:
        return clean_labels(
            one, voxel_ml, largest_component=rules.largest_component,
            min_volume_ml=rules.min_volume_ml,
        )

    if not is_overlapping(label_map):
        return cleaned(label_map)
    masks = {
        value: cleaned(mask_of(label_map, value).astype(np.uint8)) > 0
        for value in values_in(label_map)
    }
    return overlapping(masks, label_map.shape)
