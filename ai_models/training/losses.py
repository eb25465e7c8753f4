"""What a network is told about its answer, by the task of its card."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ai_models.card import (
    Card,
    ClassificationCard,
    DetectionCard,
    RegressionCard,
    SegmentationCard,
)
from ai_models.training.settings import TrainingError

Batch = dict[str, Any]
LossOf = Callable[[nn.Module, Batch], torch.Tensor]
OF_TASK = {
    "segmentation": ("dice_ce", "dice_focal", "ce"),
    "classification": ("ce", "focal", "bce"),
    "regression": ("smooth_l1", "mse"),
    "detection": ("retina",),
}
"""The losses of every task; the first is the usual one."""


def loss_for(card: Card, name: str | None = None) -> LossOf:
    """The loss of this name for this card.

    Raises
    ------
    TrainingError
        The task has no such loss, or the card's activation leaves nothing to be trained on.
    """
    known = OF_TASK.get(card.task)
    if known is None:
        raise TrainingError(f"a {card.task} model is not trained here")
    name = name or known[0]
    if name not in known:
        raise TrainingError(f"loss {name}: of a {card.task} one of {', '.join(known)}")
    if getattr(card.output, "activation", "") == "none":
        raise TrainingError("output.activation: softmax or sigmoid, for the network learns logits")
    if isinstance(card, SegmentationCard):
        return _segmentation(card, name)
    if isinstance(card, ClassificationCard):
        return _sequence(card) if card.output.per == "sequence" else _classification(card, name)
    if isinstance(card, RegressionCard):
        return _regression(card, name)
    if isinstance(card, DetectionCard):
        return _detection
    raise TrainingError(f"a {card.task} model is not trained here")


def first_logits(answer: Any) -> torch.Tensor:
    """Of a network that answers more than one thing, the first."""
    while isinstance(answer, list | tuple):
        answer = answer[0]
    logits: torch.Tensor = answer
    return logits.float()


def _segmentation(card: SegmentationCard, name: str) -> LossOf:
    from monai.losses import DiceCELoss, DiceFocalLoss

    softmax = card.output.activation == "softmax"
    values = [one.value for one in card.labels]
    told: dict[str, Any] = {
        "softmax": softmax, "sigmoid": not softmax, "to_onehot_y": softmax,
        "include_background": not softmax, "batch": True, "smooth_nr": 1e-3, "smooth_dr": 1e-3,
    }
    if name == "ce" and not softmax:
        compare: Any = functional.binary_cross_entropy_with_logits
    elif name == "ce":
        def compare(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return functional.cross_entropy(logits, target[:, 0].long())
    else:
        compare = (DiceCELoss if name == "dice_ce" else DiceFocalLoss)(**told)

    def target_of(labels: torch.Tensor) -> torch.Tensor:
        """``(B, *spatial)``: values, or bits of labels that may overlap, as the loss wants them."""
        if softmax:
            return labels[:, None]
        if card.output.overlapping:
            return torch.stack([(labels >> (one - 1)) & 1 for one in values], dim=1).float()
        return torch.stack([labels == one for one in values], dim=1).float()

    def loss_of(network: nn.Module, batch: Batch) -> torch.Tensor:
        target = target_of(batch["target"])
        heads = _heads(network(batch["image"]), batch["image"].ndim)
        total = torch.zeros((), device=target.device)
        weights = [0.5**level for level in range(len(heads))]
        for weight, logits in zip(weights, heads, strict=True):
            here = target
            if logits.shape[2:] != target.shape[2:]:
                here = functional.interpolate(target.float(), logits.shape[2:], mode="nearest")
            total = total + weight / sum(weights) * compare(logits.float(), here)
        return total

    return loss_of


def _heads(answer: Any, axes: int) -> list[torch.Tensor]:
    """The answers of deep supervision, the finest first: a list, or stacked (DynUNet)."""
    if isinstance(answer, torch.Tensor):
        return list(answer.unbind(1)) if answer.ndim == axes + 1 else [answer]
    return list(answer)


def _classification(card: ClassificationCard, name: str) -> LossOf:
    channels = [one.channel for one in card.output.scores]
    softmax = card.output.activation == "softmax"

    def loss_of(network: nn.Module, batch: Batch) -> torch.Tensor:
        logits, target = first_logits(network(batch["image"])), batch["values"].float()
        if softmax:
            # A row that names no score is of the one channel that nobody reports.
            whole = torch.zeros_like(logits)
            whole[:, channels] = target
            rest = next((one for one in range(logits.shape[1]) if one not in channels), None)
            if rest is not None:
                whole[:, rest] = 1.0 - target.sum(dim=1)
            if name == "bce":
                # Each channel for itself, as PneumoLLM was trained; softmax makes one of them.
                return functional.binary_cross_entropy_with_logits(logits, whole)
            logs = functional.log_softmax(logits, dim=1)
            if name == "focal":
                logs = logs * (1.0 - logs.exp()) ** 2
            return -(whole * logs).sum(dim=1).mean()
        logits = logits[:, channels]
        loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        if name == "focal":
            # Lin et al., ICCV 2017, with gamma 2.
            sure = torch.where(target > 0.5, logits.sigmoid(), 1.0 - logits.sigmoid())
            loss = loss * (1.0 - sure) ** 2
        return loss.mean()

    return loss_of


def _sequence(card: ClassificationCard) -> LossOf:
    """Of slices ``(B, D, channels)``: of each where its truth is known, and of the whole series."""
    if card.output.activation != "sigmoid":
        raise TrainingError("output.activation: sigmoid, of a network that answers each slice")
    if card.output.aggregate == "decisive":
        raise TrainingError("output.aggregate: max, mean or noisy_or, where a series is learned")
    channels = [one.channel for one in card.output.scores]

    def of_series(logits: torch.Tensor) -> torch.Tensor:
        if card.output.aggregate == "max":
            return logits.amax(dim=1)
        if card.output.aggregate == "mean":
            return torch.logit(logits.sigmoid().mean(dim=1), eps=1e-6)
        # log(1 - P) is the sum of log(1 - p), and its logit is log(P) - log(1 - P).
        none = functional.logsigmoid(-logits).sum(dim=1)
        return torch.log(-torch.expm1(none.clamp(max=-1e-6))) - none

    def loss_of(network: nn.Module, batch: Batch) -> torch.Tensor:
        logits = first_logits(network(batch["image"]))[..., channels]
        loss = functional.binary_cross_entropy_with_logits(
            of_series(logits), batch["values"].float()
        )
        if "slices" in batch:
            loss = loss + functional.binary_cross_entropy_with_logits(
                logits, batch["slices"].float()
            )
        return loss

    return loss_of


def _regression(card: RegressionCard, name: str) -> LossOf:
    quantities = card.output.quantities
    channels = [one.channel for one in quantities]
    compare = functional.smooth_l1_loss if name == "smooth_l1" else functional.mse_loss

    def loss_of(network: nn.Module, batch: Batch) -> torch.Tensor:
        answer = first_logits(network(batch["image"]))[:, channels]
        target = batch["values"].float()
        offset = target.new_tensor([one.offset for one in quantities])
        factor = target.new_tensor([one.factor for one in quantities])
        return compare(answer, (target - offset) / factor)

    return loss_of


def _detection(network: nn.Module, batch: Batch) -> torch.Tensor:
    losses = network(batch["image"], batch["boxes"])
    total: torch.Tensor = sum(losses.values(), start=torch.zeros((), device=batch["image"].device))
    return total
