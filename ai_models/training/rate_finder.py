"""Which learning rate to begin with: the loss while the rate grows (Smith, WACV 2017)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils.data import default_collate

from ai_models.training.loop import Batch, Example, Examples, LossOf, descend_once
from ai_models.training.settings import Settings

_SMOOTHING = 0.8
_TOO_HIGH = 4.0


@dataclass(frozen=True)
class RateCurve:
    """Rates that were tried with the smoothed loss of each, and the one to take.

    ``suggested`` is where the loss fell fastest; ``None`` where it never fell.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggested: float | None


def find_rate(
    network: nn.Module, examples: Examples, loss_of: LossOf, settings: Settings, *,
    lowest: float = 1e-6, highest: float = 1.0, steps: int = 60, device: str = "cpu",
    collate: Callable[[list[Example]], Batch] = default_collate,
) -> RateCurve:
    """Train a copy of the network with a rate that grows from step to step, until it diverges."""
    settings = replace(settings, steps=steps, warm_up=0, average=0.0, workers=0)
    tried = copy.deepcopy(network).to(device).train()
    optimiser = torch.optim.AdamW(tried.parameters(), lowest)
    rates: list[float] = []
    losses: list[float] = []
    running, best = 0.0, math.inf
    for step in range(steps):
        rate = lowest * (highest / lowest) ** (step / max(steps - 1, 1))
        numbers = range(step * settings.batch, (step + 1) * settings.batch)
        batch: dict[str, Any] = collate([examples(number) for number in numbers])
        loss = descend_once(tried, optimiser, loss_of, batch, rate, settings, device)
        running = _SMOOTHING * running + (1.0 - _SMOOTHING) * loss
        smooth = running / (1.0 - _SMOOTHING ** (step + 1))
        if not math.isfinite(smooth) or (step > 5 and smooth > _TOO_HIGH * best):
            break
        best = min(best, smooth)
        rates.append(rate)
        losses.append(smooth)
    return RateCurve(tuple(rates), tuple(losses), _steepest(rates, losses))


def _steepest(rates: list[float], losses: list[float]) -> float | None:
    """Up to the lowest loss: behind it the curve tells of divergence only."""
    lowest = losses.index(min(losses)) if losses else 0
    falls = [(losses[i + 1] - losses[i - 1], rates[i]) for i in range(1, lowest)]
    fastest = min(falls, default=(0.0, 0.0))
    return fastest[1] if fastest[0] < 0 else None
