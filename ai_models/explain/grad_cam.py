"""Grad-CAM and Grad-CAM++ (MONAI's) of a network that torch runs.

Selvaraju et al., ICCV 2017, and Chattopadhay et al., WACV 2018. The map is as coarse as the layer
it is taken from: the deepest one whose map still has a few samples along every axis,
unless the card names a layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.visualize.class_activation_maps import GradCAM, GradCAMpp, ModelWithHooks

from ai_models.backends import Answer
from ai_models.card import ClassificationCard
from ai_models.card_entries import ScoreEntry
from ai_models.explain.network import (
    NoLayerError,
    as_batch,
    at_rest,
    deepest_layer,
    device_of,
    dtype_of,
    is_sequence,
    logits_of,
)
from ai_models.explain.scaling import scaled, worth_of_slices
from ai_models.prediction.preparing import Prepared
from ai_models.types import FloatArray

# Of a network that looks at slices: the highest scores only, for time's sake.
MOST_SLICES = 64
_SLICES_AT_ONCE = 8


class _Watched(ModelWithHooks):
    """Keeps one layer's map and its gradient; the network is left as it was.

    MONAI's own hooks stay on the network for good, and break where a map is changed in place
    after its layer: here a copy goes on.
    """

    def __init__(self, module: torch.nn.Module, layer: str) -> None:
        super().__init__(module, ())
        self._layer = module.get_submodule(layer)
        self.steps: torch.Tensor | None = None
        """``(slices,)``: what each counts, of a network that answers every slice of its input."""

    def __call__(
        self, x: torch.Tensor, class_idx: int = 0, retain_graph: bool = False, **_: Any
    ) -> tuple[torch.Tensor, tuple[torch.Tensor], tuple[torch.Tensor]]:
        kept: list[torch.Tensor] = []

        def keep(_module: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            if not kept:
                kept.append(output)
            return output.clone()

        hook = self._layer.register_forward_hook(keep)
        try:
            answered = self.model(x)
            if self.steps is not None:
                answered = (answered * self.steps[:, None]).sum(dim=1)
            logits = logits_of(answered)
        finally:
            hook.remove()
        if not kept:
            raise NoLayerError("the layer was not reached")
        gradient: torch.Tensor | None = None
        if logits.requires_grad and kept[0].requires_grad:
            (gradient,) = torch.autograd.grad(
                self.class_score(logits, class_idx).sum(), kept[0], allow_unused=True
            )
        if gradient is None:
            gradient = torch.zeros_like(kept[0])
        # Only its exponential is used, as one factor for the whole map: it would overflow.
        self.score = torch.zeros((), device=logits.device)
        return logits, (kept[0].detach(),), (gradient,)


def grad_cam_maps(
    card: ClassificationCard, module: torch.nn.Module, prepared: Prepared, answer: Answer,
    asked: list[ScoreEntry],
) -> dict[str, FloatArray]:
    """A map ``(slices, rows, columns)`` on the network's grid for each score, highest value 1.

    Of a network that looks at slices, alone or as a sequence, the `MOST_SLICES` with the highest
    score of all that reach the card's ``from_score`` are explained, each as strongly as it was
    scored.

    Raises
    ------
    NoLayerError
        No layer fits, or the card's does not exist.
    """
    if card.explanation is None:
        return {}
    batch = as_batch(prepared, card)
    with torch.inference_mode(False), torch.enable_grad(), at_rest(module):
        first = _placed(batch[:1], module)
        layer = card.explanation.layer or deepest_layer(module, first)
        if layer not in dict(module.named_modules()):
            raise NoLayerError(f"the network has no layer {layer!r}")
        kind = GradCAMpp if card.explanation.method == "grad_cam_pp" else GradCAM
        watched: Any = _Watched(module, layer)
        cam = kind(nn_module=watched, target_layers=layer)
        maps = {}
        for entry in asked:
            worth = _worth(card, prepared, answer, entry.channel)
            if is_sequence(card):
                watched.steps = _placed(worth, module)
                worth = np.ones(1, dtype=np.float32)
            maps[entry.name] = _map(cam, batch, prepared, entry.channel, worth)
        return maps


def _map(
    cam: GradCAM, batch: FloatArray, prepared: Prepared, channel: int, worth: FloatArray
) -> FloatArray:
    found = np.zeros((len(batch), *batch.shape[2:]), dtype=np.float32)
    chosen = np.flatnonzero(worth)
    for start in range(0, len(chosen), _SLICES_AT_ONCE):
        numbers = chosen[start : start + _SLICES_AT_ONCE]
        inputs = _placed(batch[numbers], cam.nn_module.model).requires_grad_()
        coarse = _together(cam.compute_map(inputs, class_idx=channel).detach().float(), inputs)
        maps = cam.upsampler(batch.shape[2:])(coarse)[:, 0].cpu().numpy()
        for number, one in zip(numbers, maps, strict=True):
            found[number] = scaled(one) * worth[number]
    return scaled(found.reshape(prepared.shape))


def _together(coarse: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """The maps of the steps of a sequence as one: slices lie one upon another, phases add up."""
    if coarse.ndim < inputs.ndim:
        stacked: torch.Tensor = coarse[:, 0].unflatten(0, (len(inputs), -1))[:, None]
        return stacked
    added: torch.Tensor = coarse.unflatten(0, (len(inputs), -1)).sum(dim=1)
    return added


def _worth(
    card: ClassificationCard, prepared: Prepared, answer: Answer, channel: int
) -> FloatArray:
    if not prepared.is_sliced(card) and not is_sequence(card):
        return np.ones(1, dtype=np.float32)
    return worth_of_slices(card, answer, channel, MOST_SLICES)


def _placed(batch: FloatArray, module: torch.nn.Module) -> torch.Tensor:
    return torch.from_numpy(batch.copy()).to(device_of(module), dtype_of(module))
