"""Which method explains which score, and the way of its map back to the grid of the input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ai_models.array.resample import to_source_scores
from ai_models.backends import Answer, Backend
from ai_models.backends.protocol import is_out_of_memory
from ai_models.card import Card, ClassificationCard
from ai_models.card_entries import ScoreEntry
from ai_models.explain.grad_cam import grad_cam_maps
from ai_models.explain.network import NoLayerError
from ai_models.explain.occlusion import occlusion_maps
from ai_models.prediction.preparing import Prepared
from ai_models.types import FloatArray, ModelError

NOTHING_RAISES_IT = "no part of the input raises this score, by this method"


@dataclass(frozen=True)
class Explained:
    """Maps float32 0..1 by the score's name, on the grid of the input; and how they were made.

    Of a volume ``(slices, rows, columns)``, of an image ``(rows, columns)``. The highest value of
    a map is 1 on the network's grid, unless nothing mattered: then it is zero everywhere.
    """

    saliency: dict[str, FloatArray] = field(default_factory=dict)
    method: str = ""
    notes: tuple[str, ...] = ()


def explain(
    card: Card, backend: Backend, prepared: Prepared, answer: Answer,
    scores: Mapping[str, float],
) -> Explained:
    """Explain every score that the card names, that is told, and is at least ``from_score``.

    Grad-CAM needs the layers of a network that torch runs here; where it has none, occlusion
    takes its place, and a note says so.
    """
    if not isinstance(card, ClassificationCard) or card.explanation is None:
        return Explained()
    entry = card.explanation
    asked = [
        one for one in card.output.scores
        if (not entry.scores or one.name in entry.scores)
        and scores.get(one.name, -1.0) >= entry.from_score
    ]
    if not asked:
        return Explained()
    method, notes = entry.method, tuple[str, ...]()
    module = network_of(backend)
    maps: dict[str, FloatArray] | None = None
    if method != "occlusion":
        maps, notes = _by_gradient(card, module, prepared, answer, asked)
        if maps is None:
            method = "occlusion"
    if maps is None:
        maps = occlusion_maps(card, backend, module, prepared, answer, asked)
    saliency = {}
    for name, found in maps.items():
        if not found.any():
            notes = (*notes, f"{method} of {name}: {NOTHING_RAISES_IT}")
        saliency[name] = to_source(found, prepared)
    return Explained(saliency, method, notes)


def _by_gradient(
    card: ClassificationCard, module: Any, prepared: Prepared, answer: Answer,
    asked: list[ScoreEntry],
) -> tuple[dict[str, FloatArray] | None, tuple[str, ...]]:
    if module is None:
        return None, ("occlusion instead of grad-CAM: the layers of this network are not known",)
    notes: tuple[str, ...] = ()
    if card.weights.ensemble:
        notes = ("grad-CAM shows the first network of the ensemble",)
    try:
        return grad_cam_maps(card, module, prepared, answer, asked), notes
    except NoLayerError as error:
        return None, (f"occlusion instead of grad-CAM: {error}",)
    except Exception as error:  # every library has its own type for a lack of memory
        if not is_out_of_memory(error):
            raise ModelError(f"grad-CAM failed: {error}", reason="model.failed") from error
    return None, ("occlusion instead of grad-CAM: memory did not suffice",)


def network_of(backend: Backend) -> torch.nn.Module | None:
    """The network of a back-end as torch knows it; of an ensemble the first."""
    # A Hugging Face folder has networks as well, without being tiled itself.
    networks = getattr(backend, "networks", ())
    module = getattr(networks[0], "module", None) if networks else None
    return module if isinstance(module, torch.nn.Module) else None


def to_source(found: FloatArray, prepared: Prepared) -> FloatArray:
    """A map ``(slices, rows, columns)`` on the network's grid, on the grid of the input."""
    coarse = prepared.to_coarse(found[None], np.zeros(1, dtype=np.float32))[0]
    moved = to_source_scores(coarse, prepared.plan)
    return moved[0] if prepared.is_flat else moved
