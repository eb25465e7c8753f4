"""Sliding-window inference on whole CT volumes and Dice on their original grid."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ai_models.array.resample import to_coarse_grid, to_model_grid, to_source_labels
from ai_models.training.lungs_data import LOW_HU, Affine, FloatArray, LabelMap, regridding, scaled

ROI = (64, 112, 144)
OVERLAP = 0.25

Predict = Callable[[FloatArray], FloatArray]
"""``(batch, 1, *ROI)`` in 0..1 to logits ``(batch, 3, *ROI)``."""


def _starts(extent: int, window: int) -> list[int]:
    if extent <= window:
        return [0]
    steps = int(np.ceil((extent - window) / (window * (1.0 - OVERLAP))))
    return [round(i * (extent - window) / steps) for i in range(steps + 1)]


def _importance() -> FloatArray:
    """Gaussian weights of a window, an eighth of its extent wide, never zero."""
    weights = np.ones(ROI, dtype=np.float32)
    for axis, extent in enumerate(ROI):
        distance = (np.arange(extent) - (extent - 1) / 2.0) / (0.125 * extent)
        shape = [1, 1, 1]
        shape[axis] = -1
        weights *= np.exp(-0.5 * distance**2).astype(np.float32).reshape(shape)
    return np.maximum(weights, 1e-3)


def window_probabilities(image: FloatArray, predict: Predict) -> FloatArray:
    """Class probabilities ``(3, ...)`` of an image in 0..1, window by window.

    Images smaller than the window are padded with 0 (air) on both sides.
    """
    pad = [max(0, window - extent) for window, extent in zip(ROI, image.shape, strict=True)]
    padded = np.pad(image, [(p // 2, p - p // 2) for p in pad])
    total = np.zeros((3, *padded.shape), dtype=np.float32)
    weight = np.zeros(padded.shape, dtype=np.float32)
    importance = _importance()
    places = [_starts(extent, window) for extent, window in zip(padded.shape, ROI, strict=True)]
    for start in itertools.product(*places):
        box = tuple(slice(s, s + w) for s, w in zip(start, ROI, strict=True))
        logits = predict(padded[box][None, None])[0]
        shifted = np.exp(logits - logits.max(axis=0))
        total[(slice(None), *box)] += importance * shifted / shifted.sum(axis=0)
        weight[box] += importance
    inner = tuple(slice(p // 2, p // 2 + n) for p, n in zip(pad, image.shape, strict=True))
    return np.asarray((total / weight)[(slice(None), *inner)], dtype=np.float32)


def segment(
    volume_hu: npt.NDArray[np.generic], affine_lps: Affine, predict: Predict
) -> tuple[LabelMap, float]:
    """Labels on the original grid ``(slices, rows, columns)`` and the seconds that it took."""
    started = time.perf_counter()
    plan = regridding((volume_hu.shape[0], volume_hu.shape[1], volume_hu.shape[2]), affine_lps)
    image = scaled(to_model_grid(volume_hu, plan, lowest=LOW_HU))
    probabilities = window_probabilities(image, predict)
    background = np.array([1.0, 0.0, 0.0], dtype=np.float32)
    labels = to_source_labels(to_coarse_grid(probabilities, plan, background), plan)
    return labels, time.perf_counter() - started


def dice(found: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    """Dice coefficient; 1 where both are empty."""
    both = int(found.sum()) + int(truth.sum())
    return 1.0 if both == 0 else 2.0 * int((found & truth).sum()) / both


def dice_by_side(found: LabelMap, truth: LabelMap) -> dict[str, float]:
    """Dice of the right lung, the left lung, and of both as one."""
    return {
        "right": round(dice(found == 1, truth == 1), 4),
        "left": round(dice(found == 2, truth == 2), 4),
        "both": round(dice(found > 0, truth > 0), 4),
    }
