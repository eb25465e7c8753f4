"""TorchScript models that misbehave on an input that holds something, though they warm up well."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import torch

from ai_models.card import Card, load_card
from tests.ai_models.tiny_models import write_model


class Endless(torch.nn.Module):
    """Computes for days; lets other threads of the process run."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if bool(image.max() > 0):
            for _ in range(100000000000):
                image = image * 1.0
        return torch.cat([0.5 - image, image - 0.5], dim=1)


class Greedy(torch.nn.Module):
    """Wants a pebibyte, which no machine has."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if bool(image.max() > 0):
            image = image + torch.zeros([1 << 50], dtype=torch.uint8).sum()
        return torch.cat([0.5 - image, image - 0.5], dim=1)


class Stuck(torch.nn.Module):
    """Does not even end when it is warmed up."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        for _ in range(100000000000):
            image = image * 1.0
        return torch.cat([0.5 - image, image - 0.5], dim=1)


class Talkative(torch.nn.Module):
    """Fails with more words than anyone wants to read, some of them for a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.words = "NORMAL \x1b[2J" + 20000 * "patient is well "

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if bool(image.max() > 0):
            raise RuntimeError(self.words)
        return torch.cat([0.5 - image, image - 0.5], dim=1)


class Holding(torch.nn.Module):
    """Answers by a threshold of one half, and holds so many MiB of weights."""

    def __init__(self, mib: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(mib << 18))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        image = image * self.weight[0]
        return torch.cat([0.5 - image, image - 0.5], dim=1)


def write_torchscript(folder: Path, module: torch.nn.Module, **changes: Any) -> Card:
    """A model folder of this module, by the name of the folder."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # TorchScript is old, and still what many networks come in.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module), buffer)
    values = {
        "id": folder.name, "weights__path": "w.ts", "runtime__backend": "torchscript", **changes
    }
    return load_card(write_model(folder, buffer.getvalue(), **values))
