"""How weights are changed for the scanners of a site: statistics anew, the last layer, or LoRA.

All work on a module of their own that was loaded from the card's file; the file is only read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ai_models.backends.builds import why_no_torchvision
from ai_models.types import ModelError

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_ADAPTED = (nn.Linear, nn.Conv2d, nn.Conv3d)


class KeepsStatistics(nn.Module):
    """A module that trains while its batch normalisation stays as it is.

    Few cases of one site must not become the statistics unnoticed: that is `take_statistics`.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Any) -> Any:
        """What the module says."""
        return self.inner(*inputs)

    def train(self, mode: bool = True) -> KeepsStatistics:
        """All but batch normalisation."""
        super().train(mode)
        for part in self.inner.modules():
            if isinstance(part, _NORMS):
                part.eval()
        return self


def take_statistics(module: nn.Module, batches: Iterable[torch.Tensor]) -> int:
    """Means and variances of every batch normalisation anew, from these inputs; how many batches.

    Adaptive batch normalisation (Li et al., Pattern Recognition 80, 2018): no weight is changed
    and no label is needed. Each batch counts the same.

    Raises
    ------
    ModelError
        ``model.cannot_adapt``: the network has no batch normalisation with statistics, or there
        are fewer than two batches.
    """
    norms = [
        part for part in module.modules()
        if isinstance(part, _NORMS) and part.track_running_stats
    ]
    if not norms:
        raise ModelError(
            "the network has no batch normalisation: adabn has nothing to change, try head or "
            "lora", reason=_REASON,
        )
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        # None: the mean of all batches, not one that forgets.
        norm.momentum = None
        norm.train()
    count = 0
    with torch.no_grad():
        for batch in batches:
            module(batch)
            count += 1
    module.eval()
    if count < 2:
        raise ModelError(f"{count} batches: statistics need two at least", reason=_REASON)
    return count


def open_head(module: nn.Module, example: torch.Tensor) -> list[str]:
    """Let only the layer that runs last of those with weights be trained; its parameters."""
    last = _in_order(module, example)[-1]
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name.rpartition(".")[0] == last)
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


def with_lora(module: nn.Module, example: torch.Tensor, rank: int) -> Any:
    """The module with small trainable additions to its layers (Hu et al., ICLR 2022), by peft.

    `merged` gives the module back, of the same architecture and with other weights. Layers that
    only mix channels of a volume (kernels 1x1x1) and grouped ones stay as they are.

    Raises
    ------
    ModelError
        ``model.cannot_adapt``: no layer can be adapted, or peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        why = "it is not installed: pip install dicom-node[adapt]"
        if error.name != "peft":
            why = why_no_torchvision() or str(error)
        raise ModelError(f"lora needs the peft package: {why}", reason=_REASON) from error
    parts = dict(module.named_modules())
    targets = [
        name for name in dict.fromkeys(_in_order(module, example))
        if isinstance(parts[name], _ADAPTED) and _can_be_merged(parts[name])
    ]
    if not targets:
        raise ModelError("the network has no layer that LoRA adapts", reason=_REASON)
    wanted = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=targets)
    model: Any = get_peft_model(module, wanted)
    return model


def _can_be_merged(part: nn.Module) -> bool:
    """peft takes three-dimensional kernels of one sample for two-dimensional ones when it merges
    them, and does not adapt layers in groups alike."""
    kernel = tuple(getattr(part, "kernel_size", ()))
    is_taken_for_flat = len(kernel) == 3 and kernel[:2] == (1, 1)
    return getattr(part, "groups", 1) == 1 and not is_taken_for_flat


def merged(adapted: Any) -> nn.Module:
    """What `with_lora` made, with the additions in the weights."""
    module: nn.Module = adapted.merge_and_unload()
    return module


def _in_order(module: nn.Module, example: torch.Tensor) -> list[str]:
    """Names of the layers that have weights of their own, in the order in which they run."""
    ran: list[str] = []

    def note(name: str) -> Any:
        return lambda *_: ran.append(name)

    hooks = [
        part.register_forward_hook(note(name)) for name, part in module.named_modules()
        if name and next(part.parameters(recurse=False), None) is not None
    ]
    module.eval()
    try:
        with torch.no_grad():
            module(example)
    finally:
        for hook in hooks:
            hook.remove()
    if not ran:
        raise ModelError("the network has no layers that can be trained", reason=_REASON)
    return ran


_REASON = "model.cannot_adapt"
