"""Boxes of a detector: one form for all, and of boxes that overlap only the best.

A box is two corners in voxels of the model's input, edges and not centres, in the order of its
axes: ``(lowest of axis 0, 1, 2, highest of axis 0, 1, 2)``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ai_models.types import FloatArray, ModelError


def corners_of(boxes: FloatArray, box_format: str) -> FloatArray:
    """Corners ``(n, 2 * axes)`` of boxes as the card's ``box_format`` says they come.

    Raises
    ------
    ModelError
        ``model.wrong_output``: a box ends before it begins, so that the format is another.
    """
    axes = boxes.shape[1] // 2
    first, second = boxes[:, :axes], boxes[:, axes:]
    if box_format == "center_size":
        half = np.asarray(second / 2, dtype=np.float32)
        first, second = first - half, first + half
    if (second < first).any():
        raise ModelError(
            f"a box ends before it begins: the network's boxes are not {box_format}",
            reason="model.wrong_output",
        )
    return np.concatenate([first, second], axis=1).astype(np.float32)


def clipped(corners: FloatArray, edges: tuple[int, ...]) -> FloatArray:
    """Corners cut off at the borders of an input of these edges."""
    limits = np.array(edges * 2, dtype=np.float32)
    return np.clip(corners, 0.0, limits)


def best_of_overlapping(
    corners: FloatArray, scores: FloatArray, max_overlap: float, most: int
) -> npt.NDArray[np.intp]:
    """Which boxes stay, the highest score first: of two that overlap, the better one.

    Two boxes overlap when their intersection over union is above ``max_overlap`` (greedy
    non-maximum suppression). Of equal scores, the box that came first is the better one.

    Raises
    ------
    ModelError
        ``model.too_many_findings``: more than ``most`` stay.
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size:
        if len(kept) == most:
            raise ModelError(
                f"more than {most} findings: such an answer is noise",
                reason="model.too_many_findings",
            )
        best, rest = order[0], order[1:]
        kept.append(int(best))
        order = rest[overlaps(corners[best], corners[rest]) <= max_overlap]
    return np.array(kept, dtype=np.intp)


def overlaps(one: FloatArray, others: FloatArray) -> FloatArray:
    """Intersection over union of one box ``(2 * axes,)`` with others ``(n, 2 * axes)``."""
    axes = one.shape[0] // 2
    low = np.maximum(one[:axes], others[:, :axes])
    high = np.minimum(one[axes:], others[:, axes:])
    common = np.prod(np.maximum(high - low, 0.0), axis=1, dtype=np.float64)
    size = np.prod(one[axes:] - one[:axes], dtype=np.float64)
    sizes = np.prod(others[:, axes:] - others[:, :axes], axis=1, dtype=np.float64)
    union = size + sizes - common
    share = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return np.asarray(share, dtype=np.float32)
