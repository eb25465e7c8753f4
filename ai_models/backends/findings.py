"""Boxes of a detector: asked for window by window, and made what the card says they are."""

from __future__ import annotations

import numpy as np
import torch

from ai_models.array.boxes import best_of_overlapping, clipped, corners_of
from ai_models.backends.protocol import Network, NetworkInput
from ai_models.backends.windows import places
from ai_models.card import DetectionCard
from ai_models.types import FloatArray, ModelError

Found = tuple[FloatArray, FloatArray, FloatArray]


def found_boxes(
    card: DetectionCard, network: Network, image: NetworkInput, roi: tuple[int, ...] | None
) -> FloatArray:
    """Boxes ``(n, 8)`` as `Answer.boxes` wants them, the highest score first.

    Of an image, a box reaches from 0 to 1 along the axis of slices, which it does not have.

    Raises
    ------
    ModelError
        ``model.wrong_output``, ``model.not_finite``, ``model.unknown_label``, or
        ``model.too_many_findings``.
    """
    array = np.ascontiguousarray(image.array)
    edges = array.shape[1:]
    parts = [
        _of_window(card, network, array, origin, roi, image.background)
        for origin in _origins(edges, roi, card.runtime.overlap)
    ]
    corners, scores, labels = (np.concatenate(several) for several in zip(*parts, strict=True))
    corners = clipped(corners, edges)
    half = len(edges)
    inside = (corners[:, half:] > corners[:, :half]).all(axis=1)
    corners, scores, labels = corners[inside], scores[inside], labels[inside]
    kept = best_of_overlapping(
        corners, scores, card.output.max_overlap, card.output.max_findings
    )
    corners, scores, labels = corners[kept], scores[kept], labels[kept]
    if half == 2:
        low, high = np.zeros((len(kept), 1)), np.ones((len(kept), 1))
        corners = np.hstack([low, corners[:, :2], high, corners[:, 2:]])
    answer = np.column_stack([corners, scores, labels])
    return np.asarray(answer, dtype=np.float32)


def _origins(
    edges: tuple[int, ...], roi: tuple[int, ...] | None, overlap: float
) -> list[tuple[int, ...]]:
    if roi is None:
        return [(0,) * len(edges)]
    padded = tuple(max(edge, window) for edge, window in zip(edges, roi, strict=True))
    return [tuple(one.start for one in window) for window in places(padded, roi, overlap)]


def _of_window(
    card: DetectionCard, network: Network, array: FloatArray, origin: tuple[int, ...],
    roi: tuple[int, ...] | None, background: float,
) -> Found:
    """Corners in voxels of the whole input, scores and `Label.value` of one window's boxes."""
    window = array
    if roi is not None:
        place = tuple(
            slice(start, start + length) for start, length in zip(origin, roi, strict=True)
        )
        here = array[(slice(None), *place)]
        window = np.full((len(array), *roi), background, dtype=np.float32)
        window[(slice(None), *(slice(0, length) for length in here.shape[1:]))] = here
    tensors = network.detect(torch.from_numpy(window)[None].to(network.device))
    boxes, scores, labels = (one.detach().float().cpu().numpy() for one in tensors)
    _check(boxes, scores, labels, len(origin))
    good = scores >= card.output.min_score
    corners = corners_of(boxes[good], card.output.box_format)
    values = labels[good] - card.output.first_label + 1
    known = [label.value for label in card.labels]
    if not np.isin(values, known).all():
        raise ModelError(
            f"the network answers labels {sorted(set(labels[good].tolist()))}, from "
            f"{card.output.first_label} on the card has {len(known)}",
            reason="model.unknown_label",
        )
    offset = np.array(origin * 2, dtype=np.float32)
    return corners + offset, scores[good], values


def _check(boxes: FloatArray, scores: FloatArray, labels: FloatArray, axes: int) -> None:
    count = len(scores) if scores.ndim == 1 else -1
    if boxes.shape != (count, 2 * axes) or labels.shape != (count,):
        raise ModelError(
            f"the network answered boxes {boxes.shape}, scores {scores.shape} and labels "
            f"{labels.shape}: (n, {2 * axes}), (n,) and (n,) expected", reason="model.wrong_output",
        )
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ModelError("the network answered NaN or infinity", reason="model.not_finite")
    if count and not (scores.min() >= 0 and scores.max() <= 1):
        raise ModelError(
            f"scores from {scores.min():g} to {scores.max():g} are no probabilities",
            reason="model.wrong_output",
        )
