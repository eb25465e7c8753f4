"""Networks that are functions, for what a back-end makes of any network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ai_models.backends.protocol import NetworkInput, found_by_name
from ai_models.backends.tiled import TiledBackend
from ai_models.card import Card, load_card
from ai_models.trust import Site
from tests.ai_models.tiny_models import LUNG, STRUCTURE, write_model

Run = Callable[[torch.Tensor], Any]


def label(value: int) -> dict[str, Any]:
    return {"value": value, "name": f"Part {value}", "category": STRUCTURE, "type": LUNG,
            "color_rgb": [value, 0, 0]}


def image_of(*shape: int, background: float = 0.0) -> NetworkInput:
    random = np.random.default_rng(3)
    array = random.random(shape, dtype=np.float32)
    return NetworkInput(array, np.eye(4), (2.0,) * (len(shape) - 1), background)


class Simple:
    """A network that is a function. Members of an ensemble are told by the name of their file."""

    run_function: Run
    able: frozenset[str] = frozenset()

    def __init__(
        self, card: Card, device: str, site: Site, path: Path | None = None, sha256: str = ""
    ) -> None:
        self.device = torch.device("cpu")
        self.fallbacks = self.able
        self.notes = ("a function",)
        self.settled: list[tuple[bool, bool]] = []
        self.path = path
        self.half = False

    def probe(self) -> None:
        """There is nothing to look for."""

    def load(self) -> None:
        """There is nothing to load."""

    def run(self, windows: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = type(self).run_function(windows)
        return answer + float(self.path.stem) if self.path else answer

    def detect(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return found_by_name(type(self).run_function(image))

    def settle(self, *, half: bool, cpu: bool) -> None:
        self.half = half
        self.settled.append((half, cpu))

    def close(self) -> None:
        """There is nothing to let go of."""


def backend_of(
    folder: Path, run: Run, able: tuple[str, ...] = (), **changes: object
) -> TiledBackend:
    changes = {"runtime__backend": "torchscript", "weights__path": "weights.ts", **changes}
    card = load_card(write_model(folder, b"weights", **changes))
    kind = type("Kind", (Simple,), {
        "run_function": staticmethod(run), "able": frozenset(able)})
    backend = TiledBackend(card, "cpu", Site(), kind)
    backend.load()
    return backend


def two(windows: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.zeros_like(windows[:, :1]), windows[:, :1] - 0.5], dim=1)
