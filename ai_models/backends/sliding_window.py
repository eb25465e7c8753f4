"""Sliding windows over a volume, by MONAI, with what it leaves out.

Windows that hold one single value (air, padding) all get the same answer, so it is computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from monai.data.utils import compute_importance_map
from monai.inferers.utils import sliding_window_inference

from ai_models.types import FloatArray, ModelError

Predict = Callable[[FloatArray], FloatArray]


def sliding_window_scores(
    image: FloatArray,
    predict: Predict,
    *,
    roi: tuple[int, int, int],
    overlap: float,
    batch: int,
    channels: int,
    padding: float,
) -> FloatArray:
    """Scores ``(channels, slices, rows, columns)`` of an image ``(slices, rows, columns)``.

    ``predict`` takes windows ``(batch, 1, *roi)`` to scores ``(batch, channels, *roi)``. Windows
    overlap by the fraction ``overlap`` and are blended with Gaussian weights. An image smaller
    than a window is padded on both sides with ``padding``.

    Raises
    ------
    ModelError
        ``model.wrong_output``: the network answered another shape; ``model.not_finite``.
    """
    once = _ConstantWindows(predict, roi, channels)
    blended = sliding_window_inference(
        torch.from_numpy(np.ascontiguousarray(image)[None, None]),
        roi, batch, once, overlap=overlap, mode="gaussian", padding_mode="constant",
        cval=padding, roi_weight_map=_gaussian(roi),
    )
    answer: FloatArray = blended[0].numpy()
    if not np.isfinite(answer).all():
        raise ModelError("the network answered NaN or infinity", reason="model.not_finite")
    return answer


@lru_cache(maxsize=4)
def _gaussian(roi: tuple[int, int, int]) -> torch.Tensor:
    weights: torch.Tensor = compute_importance_map(roi, mode="gaussian", sigma_scale=0.125)
    return weights[None, None]


class _ConstantWindows:
    def __init__(self, predict: Predict, roi: tuple[int, int, int], channels: int) -> None:
        self._predict = predict
        self._roi = roi
        self._channels = channels
        self._known: dict[float, FloatArray] = {}

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        array = windows.numpy()
        flat = array.reshape(len(array), -1)
        constant = flat.min(axis=1) == flat.max(axis=1)
        answer = np.empty((len(array), self._channels, *self._roi), dtype=np.float32)
        if not constant.all():
            answer[~constant] = self._checked(array[~constant])
        for position in np.flatnonzero(constant):
            value = float(flat[position, 0])
            if value not in self._known:
                self._known[value] = self._checked(array[position : position + 1])[0]
            answer[position] = self._known[value]
        return torch.from_numpy(answer)

    def _checked(self, windows: FloatArray) -> FloatArray:
        scores = self._predict(windows)
        expected = (len(windows), self._channels, *self._roi)
        if scores.shape != expected:
            raise ModelError(
                f"the network answered {scores.shape}, the card's labels and windows ask for "
                f"{expected}", reason="model.wrong_output",
            )
        return scores
