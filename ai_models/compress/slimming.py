"""A narrower network that learns the answers of the one it is to stand in for (distillation).

Hinton et al., 2015. Of convolutions the parameters go with the square of the width: 0.447 of the
channels leave a fifth of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ai_models.adapt.inputs import window_of
from ai_models.backends.architectures import ARCHITECTURES, build
from ai_models.card import Card, DetectionCard
from ai_models.card_runtime import Network
from ai_models.training.augmentation import NONE
from ai_models.training.cases import Case
from ai_models.training.examples import CaseExamples, together
from ai_models.training.loop import train
from ai_models.training.losses import first_logits, loss_for
from ai_models.training.prepared import CaseStore
from ai_models.training.settings import Settings
from ai_models.types import ModelError

SHARE = 0.447
Run = Callable[[torch.Tensor], torch.Tensor]
# Arguments that say how wide a network is, and of what their numbers must be multiples.
_WIDTHS: Mapping[str, Mapping[str, int]] = {
    "ResAttUNet": {"channels": 1},
    "CnnLstm": {"widths": 1, "features": 1, "hidden": 1},
    "LateFusion": {"widths": 1, "features": 1},
    "LungUNet": {"widths": 1},
    "monai.AttentionUnet": {"channels": 1},
    "monai.BasicUNet": {"features": 1},
    "monai.DynUNet": {"filters": 1},
    "monai.SegResNet": {"init_filters": 8},
    "monai.SwinUNETR": {"feature_size": 12},
    "monai.UNet": {"channels": 1},
}
_TEMPERATURE = 2.0


def slimmer(network: Network, share: float = SHARE) -> Network:
    """The same architecture with ``share`` of the width.

    Raises
    ------
    ModelError
        ``model.cannot_compress``: it is not known which arguments are widths, or it is as narrow
        as it can be.
    """
    widths = _WIDTHS.get(network.name)
    if widths is None:
        raise ModelError(
            f"slim: it is not known what makes {network.name} narrower; of "
            f"{', '.join(_WIDTHS)} it is", reason=_REASON,
        )
    known = _defaults(network.name) | dict(network.arguments)
    narrow: dict[str, Any] = {}
    for key, multiple in widths.items():
        value = known.get(key)
        if isinstance(value, list | tuple):
            narrow[key] = [_narrow(int(one), share, multiple) for one in value]
        elif isinstance(value, int):
            narrow[key] = _narrow(value, share, multiple)
    if all(_listed(known[key]) == _listed(value) for key, value in narrow.items()):
        raise ModelError(f"slim: {network.name} is as narrow as it can be", reason=_REASON)
    changed = dict(network.arguments) | narrow
    return Network(name=network.name, arguments=changed)


def distilled(
    student: Network, teacher: Run, card: Card, cases: list[Case], store: CaseStore,
    folder: Path, steps: int, seed: int = 20,
) -> nn.Module:
    """The slim network, trained on ``cases`` to answer as the teacher does, and as is true.

    Parameters
    ----------
    teacher
        Logits of windows ``(batch, channels, *spatial)``.
    folder
        For checkpoints.

    Raises
    ------
    ModelError
        ``model.cannot_compress``: of detections nothing is learned this way.
    TrainingError
        The cases cannot be learned from.
    """
    if isinstance(card, DetectionCard):
        raise ModelError("slim: a detector answers boxes, not logits", reason=_REASON)
    torch.manual_seed(seed)
    module = build(student.name, student.arguments)
    window = window_of(card)
    examples = CaseExamples(cases, card, store, NONE, window=window, seed=seed)
    of_truth, activation = loss_for(card), getattr(card.output, "activation", "none")

    def loss(network: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
        answered: list[torch.Tensor] = []

        def asked(image: torch.Tensor) -> torch.Tensor:
            # The loss of the truth asks the network; what it answered serves the other as well.
            answered.append(network(image))
            return answered[-1]

        told = of_truth(_Asked(asked), batch)
        with torch.no_grad():
            wanted = teacher(batch["image"])
        return told + _distance(first_logits(answered[-1]), wanted.float(), activation)

    settings = Settings(
        steps, batch=2, at_once=0 if window is not None else 1, rate=3e-3,
        warm_up=min(20, steps // 10), average=0.0 if steps < 200 else 0.99, seed=seed,
        checkpoint_every=0,
    )
    train(module, examples, loss, settings, folder, collate=together, resume=False)
    result: nn.Module = module.eval()
    return result


class _Asked(nn.Module):
    """A function in the place of a network."""

    def __init__(self, function: Run) -> None:
        super().__init__()
        self.function = function

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """What the function says."""
        return self.function(image)


def _distance(logits: torch.Tensor, wanted: torch.Tensor, activation: str) -> torch.Tensor:
    """Cross-entropy to what the teacher holds likely; of numbers their squared difference."""
    axis = 1 if logits.ndim != 3 else 2
    if activation == "softmax":
        likely = torch.softmax(wanted / _TEMPERATURE, dim=axis)
        own = torch.log_softmax(logits / _TEMPERATURE, dim=axis)
        return -(likely * own).sum(dim=axis).mean() * _TEMPERATURE**2
    if activation == "sigmoid":
        return functional.binary_cross_entropy_with_logits(logits, torch.sigmoid(wanted))
    return functional.mse_loss(logits, wanted)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _narrow(value: int, share: float, multiple: int) -> int:
    least = 2 if multiple == 1 else multiple
    return max(least, int(value * share / multiple) * multiple)


def _defaults(name: str) -> dict[str, Any]:
    module, _, attribute = ARCHITECTURES[name].partition(":")
    made = getattr(__import__(module, fromlist=[attribute]), attribute)
    return {
        key: one.default for key, one in inspect.signature(made).parameters.items()
        if one.default is not inspect.Parameter.empty
    }


_REASON = "model.cannot_compress"
