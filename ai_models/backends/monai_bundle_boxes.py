"""Boxes of a bundle's detector, from the grid of its preprocessing to that of the input."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from ai_models.types import FloatArray, ModelError


def boxes_on_input(
    found: Mapping[str, torch.Tensor], prepared: torch.Tensor, image: torch.Tensor,
    first_label: int,
) -> FloatArray:
    """Boxes ``(n, 8)`` as `Answer.boxes` wants them.

    ``found`` has MONAI's ``boxes`` ``(n, 2 * axes)``, two corners in index coordinates of
    ``prepared`` (whole numbers are centres of voxels), ``labels`` and ``scores``. ``prepared`` and
    ``image`` are ``(channels, *spatial)`` with an ``affine`` each, in one frame. What lies
    outside of the prepared image is cut off.

    Raises
    ------
    ModelError
        ``model.wrong_output``.
    """
    boxes, scores, labels = (
        torch.as_tensor(found[name]).detach().float().cpu().numpy()
        for name in ("boxes", "scores", "labels")
    )
    axes = image.ndim - 1
    if boxes.ndim != 2 or boxes.shape[1] != 2 * axes or not np.isfinite(boxes).all():
        raise ModelError(
            f"the detector answered boxes {boxes.shape}, (n, {2 * axes}) expected",
            reason="model.wrong_output",
        )
    edges = np.array(prepared.shape[1:], dtype=np.float64)
    low = np.clip(boxes[:, :axes], -0.5, edges - 0.5)
    high = np.clip(boxes[:, axes:], -0.5, edges - 0.5)
    kept = (high > low).all(axis=1)
    to_input = np.linalg.inv(_affine(image, axes)) @ _affine(prepared, axes)
    corners = [
        np.where(choice, high[kept], low[kept]) @ to_input[:axes, :axes].T + to_input[:axes, axes]
        for choice in itertools.product((False, True), repeat=axes)
    ]
    # Edges of voxels, not their centres, are whole numbers in the answer.
    first, last = np.min(corners, axis=0) + 0.5, np.max(corners, axis=0) + 0.5
    if axes == 2:
        nothing = np.zeros((int(kept.sum()), 1))
        first, last = np.hstack([nothing, first]), np.hstack([nothing + 1, last])
    values = labels[kept] + 1 - first_label
    return np.column_stack([first, last, scores[kept], values]).astype(np.float32)


def _affine(image: torch.Tensor, axes: int) -> npt.NDArray[np.float64]:
    affine = np.asarray(torch.as_tensor(image.affine).cpu().numpy(), dtype=np.float64)  # type: ignore[attr-defined]
    answer = np.eye(axes + 1)
    answer[:axes, :axes], answer[:axes, axes] = affine[:axes, :axes], affine[:axes, -1]
    return answer
