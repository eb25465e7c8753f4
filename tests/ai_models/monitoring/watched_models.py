"""Models whose card watches how their inputs look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from ai_models.backends.architectures import build
from ai_models.backends.onnx_layers import with_output
from ai_models.card import Card, load_card
from ai_models.types import Volume
from tests.ai_models.tiny_models import threshold_onnx, write_model

UNET: dict[str, Any] = {
    "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2],
}


def watched_onnx(folder: Path, **changes: object) -> Card:
    """A threshold of two convolutions, of which the first is watched."""
    content = with_output(threshold_onnx(0.5, convolutions=2), "t0")
    return load_card(write_model(folder, content, **{"monitor__layer": "t0", **changes}))


def watched_unet(folder: Path, layer: str = "model.0", **changes: object) -> Card:
    torch.manual_seed(3)
    content: bytes = save(build("monai.UNet", UNET).state_dict())
    told: dict[str, object] = {
        "weights__path": "weights.safetensors", "runtime__backend": "state_dict",
        "runtime__network": {"name": "monai.UNet", "arguments": UNET}, "monitor__layer": layer,
    }
    return load_card(write_model(folder, content, **{**told, **changes}))


def noisy(seed: int, noise_hu: float = 20.0, edge: int = 24, brighter_hu: float = 0.0) -> Volume:
    """A block of soft tissue in air, 2 mm apart, as a scanner of so much noise shows it."""
    random = np.random.default_rng(seed)
    array = np.full((edge, edge, edge), -1000.0)
    array[4:-4, 4:-4, 4:-4] = 40.0 + brighter_hu
    array += random.normal(0, noise_hu, array.shape)
    return Volume(array.astype(np.float32), np.diag([2.0, 2.0, 2.0, 1.0])[[2, 1, 0, 3]])
