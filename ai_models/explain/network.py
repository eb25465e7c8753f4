"""A network as torch knows it: its layers, its device, and what it answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ai_models.card import ClassificationCard
from ai_models.prediction.preparing import Prepared
from ai_models.types import FloatArray

SMALLEST_EDGE = 4


class NoLayerError(Exception):
    """The network has no layer to take a map from."""


def logits_of(output: Any) -> torch.Tensor:
    """Logits ``(batch, channels)`` of whatever a classifier answers."""
    output = getattr(output, "logits", output)
    if isinstance(output, tuple | list):
        output = output[0]
    logits: torch.Tensor = output
    return logits.flatten(1)


def is_sequence(card: ClassificationCard) -> bool:
    """Whether the network answers every slice of one input."""
    return card.output.per == "sequence"


def as_batch(prepared: Prepared, card: ClassificationCard) -> FloatArray:
    """``(inputs, channels, *spatial)`` of an input: its slices where the network is flat."""
    array = prepared.image.array
    if prepared.is_sliced(card):
        return np.ascontiguousarray(np.moveaxis(array, 0, 1))
    return np.ascontiguousarray(array)[None]


def deepest_layer(module: torch.nn.Module, image: torch.Tensor) -> str:
    """The layer that runs last of those whose map is large enough to show a place.

    Where no map has `SMALLEST_EDGE` samples along an axis because the input itself is that small,
    the largest edge that there is suffices. The flat maps of all slices of a volume, seen one by
    one, are as long as there are slices.

    Raises
    ------
    NoLayerError
        The network is one piece (TorchScript, an exported graph), or has no maps.
    """
    axes = image.ndim - 2
    ran: list[tuple[str, tuple[int, ...]]] = []

    def watch(name: str) -> Any:
        def note(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
            if not isinstance(output, torch.Tensor):
                return
            if output.ndim == axes + 2:
                ran.append((name, tuple(output.shape[2:])))
            elif output.ndim == 4 and axes == 3 and len(output) == image.shape[2] * len(image):
                ran.append((name, (image.shape[2], *output.shape[2:])))

        return note

    if isinstance(module, torch.jit.ScriptModule):
        raise NoLayerError("TorchScript does not show its layers")
    hooks = [
        part.register_forward_hook(watch(name)) for name, part in module.named_modules() if name
    ]
    try:
        with torch.no_grad():
            module(image)
    finally:
        for hook in hooks:
            hook.remove()
    wanted = [min(SMALLEST_EDGE, length) for length in image.shape[2:]]
    fitting = [
        name for name, edges in ran
        if all(edge >= least for edge, least in zip(edges, wanted, strict=True))
    ]
    if not fitting:
        raise NoLayerError("no layer of this network has a map that shows a place")
    return fitting[-1]


def device_of(module: torch.nn.Module) -> torch.device:
    """Where the network's weights are."""
    return next((one.device for one in module.parameters()), torch.device("cpu"))


def dtype_of(module: torch.nn.Module) -> torch.dtype:
    """In which precision the network's weights are."""
    return next(
        (one.dtype for one in module.parameters() if one.is_floating_point()), torch.float32
    )


@contextmanager
def at_rest(module: torch.nn.Module) -> Iterator[None]:
    """In evaluation, nothing learned; as it was afterwards."""
    training = module.training
    asked = [one.requires_grad for one in module.parameters()]
    module.eval()
    # The input asks for gradients; those of the weights would cost memory for nothing.
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.train(training)
        for one, before in zip(module.parameters(), asked, strict=True):
            one.requires_grad_(before)
