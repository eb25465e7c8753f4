"""How a picture is changed before a network learns from it: moved, and exposed otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ai_models.types import FloatArray


@dataclass(frozen=True)
class Changes:
    """By how much an example of training is changed at most.

    ``turn_degrees``, ``shift`` and ``scale`` (shares of the edge) move it; ``contrast`` is the
    exponent's range about 1, ``brightness`` is added, ``noise`` the highest deviation; ``mirror``
    swaps left and right.
    """

    turn_degrees: float = 10.0
    shift: float = 0.06
    scale: float = 0.1
    contrast: float = 0.25
    brightness: float = 0.06
    noise: float = 0.02
    mirror: bool = False


def changed(image: FloatArray, changes: Changes, rng: np.random.Generator) -> FloatArray:
    """Move a picture ``(channels, rows, columns)`` of 0 to 1 and change how it is exposed."""
    angle = np.deg2rad(rng.uniform(-changes.turn_degrees, changes.turn_degrees))
    zoom = 1.0 + rng.uniform(-changes.scale, changes.scale)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
    if changes.mirror and rng.random() < 0.5:
        turn[:, 1] *= -1.0
    edges = np.array(image.shape[1:], dtype=np.float64)
    middle = (edges - 1.0) / 2.0
    moved = rng.uniform(-changes.shift, changes.shift, 2) * edges
    offset = middle - turn @ (middle + moved)
    shown = np.stack([
        ndimage.affine_transform(one, turn, offset, order=1, mode="nearest") for one in image
    ])
    shown = np.clip(shown, 0.0, 1.0) ** (1.0 + rng.uniform(-changes.contrast, changes.contrast))
    shown = shown + rng.uniform(-changes.brightness, changes.brightness)
    shown = shown + rng.uniform(0.0, changes.noise) * rng.standard_normal(shown.shape)
    return np.asarray(np.clip(shown, 0.0, 1.0), dtype=np.float32)
