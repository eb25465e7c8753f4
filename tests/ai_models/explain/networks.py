"""Classifiers whose answer is known, and cards that name them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ai_models.backends import architectures
from ai_models.card import load_card
from ai_models.predictor import Predictor
from ai_models.types import Volume
from tests.ai_models.marked_phantom import CENTRE_MM
from tests.ai_models.tiny_models import write_model

LESION_MM = np.array([14.0, -10.0, 18.0])
RADIUS_MM = 9.0


class Finder(torch.nn.Module):
    """Scores how much of the input is bright (channel 1); channel 0 asks for nothing at all.

    The deepest layers are too small to show a place, and one changes its map in place.
    """

    def __init__(self, dims: int = 3, in_channels: int = 1) -> None:
        super().__init__()
        convolution = torch.nn.Conv3d if dims == 3 else torch.nn.Conv2d
        pool = torch.nn.AvgPool3d if dims == 3 else torch.nn.AvgPool2d
        self.spread = convolution(in_channels, 2, 3, padding=1)
        self.rectified = torch.nn.ReLU(inplace=True)
        self.smaller = pool(2)
        self.tiny = torch.nn.AdaptiveMaxPool3d(2) if dims == 3 else torch.nn.AdaptiveMaxPool2d(2)
        self.head = torch.nn.Linear(2 * 2**dims, 2)
        with torch.no_grad():
            for one in self.parameters():
                one.zero_()
            self.spread.weight[0] = 1.0 / (in_channels * 3**dims)
            self.spread.bias[0] = -0.6
            self.spread.weight[1] = -1.0 / (in_channels * 3**dims)
            self.head.weight[1, : 2**dims] = 40.0
            self.head.bias[1] = -2.0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, 2)."""
        return self.head(self.tiny(self.smaller(self.rectified(self.spread(image)))).flatten(1))


class SequenceFinder(Finder):
    """As the flat `Finder`, for every slice of a volume at once."""

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, slices, 2) of (B, 1, slices, rows, columns)."""
        steps = image.transpose(1, 2).flatten(0, 1)
        return super().forward(steps).unflatten(0, (len(image), -1))


def saved(module: torch.nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    return buffer.getvalue()


def as_onnx(module: torch.nn.Module, shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    torch.onnx.export(
        module.eval(), (torch.zeros(1, 1, *shape),), buffer, dynamo=False,
        input_names=["image"], output_names=["logits"],
    )
    return buffer.getvalue()


def lesion(directions: np.ndarray, spacing_mm: tuple[float, float, float]) -> Volume:
    """One bright ball in the patient, on any grid."""
    matrix = directions * np.array(spacing_mm)
    lengths = [int(np.ceil(80 / step)) for step in spacing_mm]
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = CENTRE_MM - matrix @ ((np.array(lengths) - 1) / 2)
    index = np.stack(np.indices(lengths), axis=-1)
    points = index @ matrix.T + affine[:3, 3]
    distance = np.linalg.norm(points - (CENTRE_MM + LESION_MM), axis=-1)
    return Volume(np.where(distance < RADIUS_MM, 1000, -1000).astype(np.int16), affine)


def classifier(
    folder: Path, method: str, weights: bytes, monkeypatch: pytest.MonkeyPatch, **changes: Any
) -> Predictor:
    """A loaded classifier of volumes in 32 voxels along every axis."""
    monkeypatch.setitem(
        architectures.ARCHITECTURES, "tests.Finder",  # type: ignore[arg-type]
        "tests.ai_models.explain.networks:Finder",
    )
    monkeypatch.setitem(
        architectures.ARCHITECTURES, "tests.SequenceFinder",  # type: ignore[arg-type]
        "tests.ai_models.explain.networks:SequenceFinder",
    )
    base: dict[str, Any] = {
        "task": "classification",
        "runtime": {
            "backend": "state_dict", "network": {"name": "tests.Finder"}, "batch": 16,
        },
        "weights__path": "weights.pt",
        "input__size": {"edges": [32, 32, 32], "fit": "pad"}, "input__spacing_mm": None,
        "output": {
            "activation": "sigmoid", "channels": 2,
            "scores": [{"name": "bright", "channel": 1}, {"name": "nothing", "channel": 0}],
        },
        "explanation": {"method": method},
    }
    predictor = Predictor(load_card(write_model(folder, weights, **{**base, **changes})))
    predictor.load()
    return predictor


def peak_lps(saliency: np.ndarray, volume: Volume) -> np.ndarray:
    """The middle of the highest values (a coarse map has several alike)."""
    where = np.argwhere(saliency >= saliency.max() - 0.02).mean(axis=0)
    return volume.affine_lps[:3, :3] @ where + volume.affine_lps[:3, 3]
