"""From what a network answers to scores: calibration of its logits, then softmax or sigmoid."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ai_models.types import FloatArray, ModelError


def calibrated(
    logits: FloatArray, calibration: Mapping[int, tuple[float, float]]
) -> FloatArray:
    """Logits ``(..., channels)`` with ``(logit - bias) / temperature`` in the channels named.

    ``calibration`` maps a channel to its (temperature, bias).
    """
    answer = np.array(logits, dtype=np.float32)
    for channel, (temperature, bias) in calibration.items():
        answer[..., channel] = (answer[..., channel] - bias) / temperature
    return answer


def activated(logits: FloatArray, activation: str, axis: int = -1) -> FloatArray:
    """Scores float32 of the same shape; ``activation`` is ``softmax``, ``sigmoid`` or ``none``.

    Raises
    ------
    ModelError
        ``model.not_finite``: there is NaN or infinity in the logits.
    """
    if not np.isfinite(logits).all():
        raise ModelError("the network answered NaN or infinity", reason="model.not_finite")
    if activation == "none":
        return np.asarray(logits, dtype=np.float32)
    values = np.asarray(logits, dtype=np.float64)
    if activation == "sigmoid":
        # Of the negative absolute value, so that nothing overflows.
        small = np.exp(-np.abs(values))
        return (np.where(values >= 0, 1.0, small) / (1.0 + small)).astype(np.float32)
    shifted = np.exp(values - values.max(axis=axis, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=axis, keepdims=True), dtype=np.float32)
