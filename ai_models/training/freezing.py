"""Pretrained layers that rest at first, while the layers behind them learn from nothing."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ai_models.training.pretrained import Pretrained
from ai_models.training.settings import TrainingError


@dataclass(frozen=True)
class Frozen:
    """What rests, and for how long.

    Attributes
    ----------
    names
        Of parameters of the network.
    steps
        Changes of the weights, from the first on.
    """

    names: frozenset[str]
    steps: int

    def holds(self, step: int) -> bool:
        """Whether they rest in a step, counted from 0."""
        return step < self.steps

    def rest(self, network: nn.Module) -> None:
        """Let layers of which every parameter rests work as in evaluation: what normalises keeps
        its means and deviations, and nothing is dropped."""
        for prefix, module in network.named_modules():
            own = [f"{prefix}.{name}" if prefix else name for name, _ in module.named_parameters()]
            if own and self.names.issuperset(own):
                module.eval()

    def forget(self, network: nn.Module) -> None:
        """Drop their gradients: what has none is neither changed nor decays."""
        for name, parameter in network.named_parameters():
            if name in self.names:
                parameter.grad = None


def frozen_encoder(network: nn.Module, found: Pretrained, steps: int) -> Frozen | None:
    """All parameters that a file gave a network; ``None`` where they learn from the beginning.

    Raises
    ------
    TrainingError
        Nothing would be left to learn.
    """
    if not steps:
        return None
    inner = getattr(network, "backbone", None)
    prefix, body = ("backbone.", inner) if isinstance(inner, nn.Module) else ("", network)
    own = {*found.left_out, *found.missing}
    names = frozenset(f"{prefix}{name}" for name, _ in body.named_parameters() if name not in own)
    if all(name in names for name, _ in network.named_parameters()):
        raise TrainingError(
            "training.pretrained.frozen_steps: every weight is from the file, so none would learn"
        )
    return Frozen(names, steps)
