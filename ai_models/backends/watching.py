"""What a layer of a network says of a whole input, pooled while the windows run.

The mean and the standard deviation of each channel of the layer's map, over all windows and
samples of one input. Nothing of the patient's shape is left in them, and much of the scanner's
noise, sharpness and scale: it is what batch normalisation would correct (Li et al., "Adaptive
Batch Normalization for practical domain adaptation", Pattern Recognition 80, 2018).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch

from ai_models.types import ModelError

if TYPE_CHECKING:
    from ai_models.backends.protocol import Network
    from ai_models.card import Card

MOST_CHANNELS = 4096


class Watch:
    """Sums over the maps of one layer, from `begin` until `taken`."""

    def __init__(self, layer: str) -> None:
        self._layer = layer
        self._count = 0
        self._sum: torch.Tensor | None = None
        self._squares: torch.Tensor | None = None

    def begin(self) -> None:
        """Forget: another input, or the same one once more in smaller pieces."""
        self._count, self._sum, self._squares = 0, None, None

    def add(self, output: Any) -> None:
        """A map ``(batch, channels, *spatial)``, tokens ``(batch, tokens, channels)`` or vectors
        ``(batch, channels)`` of the layer; of several outputs the first.

        Raises
        ------
        ModelError
            ``model.wrong_layer``: it answers no such thing, or too many channels.
        """
        while isinstance(output, list | tuple) and output:
            output = output[0]
        if not isinstance(output, torch.Tensor) or output.ndim < 2:
            raise ModelError(f"the layer {self._layer} answers no map", reason=_WRONG)
        values = output.detach().float()
        if output.ndim == 3:
            values = values.movedim(2, 1)
        if not 0 < values.shape[1] <= MOST_CHANNELS:
            raise ModelError(
                f"the layer {self._layer} has {values.shape[1]} channels, at most {MOST_CHANNELS} "
                "are kept", reason=_WRONG,
            )
        axes = [axis for axis in range(values.ndim) if axis != 1]
        total = values.sum(dim=axes, dtype=torch.float64)
        squares = values.square().sum(dim=axes, dtype=torch.float64)
        self._count += values.numel() // values.shape[1]
        # A network that goes on on the CPU, for want of memory, begins again: no sum is carried.
        self._sum = total if self._sum is None else self._sum + total
        self._squares = squares if self._squares is None else self._squares + squares

    def taken(self) -> tuple[float, ...]:
        """Means of the channels and then their standard deviations; ModelError if none came.

        Raises
        ------
        ModelError
            ``model.wrong_layer``: the layer did not run; ``model.not_finite``.
        """
        if self._sum is None or self._squares is None:
            raise ModelError(f"the layer {self._layer} never ran", reason=_WRONG)
        mean = self._sum / self._count
        spread = (self._squares / self._count - mean.square()).clamp_min(0.0).sqrt()
        features = torch.cat([mean, spread]).cpu()
        if not bool(torch.isfinite(features).all()):
            raise ModelError("the network answered NaN or infinity", reason="model.not_finite")
        return tuple(features.tolist())


@runtime_checkable
class ShowsLayers(Protocol):
    """A network of which one layer can be watched."""

    def watch(self, watch: Watch, layer: str) -> None:
        """Let ``watch`` see what this layer answers, until `Network.close`.

        Raises
        ------
        ModelError
            ``model.wrong_layer``: there is none of this name.
        """


def watched(card: Card, network: Network) -> Watch | None:
    """The watch over the layer that the card names, of a network that is loaded."""
    if card.monitor is None or card.monitor.layer is None:
        return None
    if not isinstance(network, ShowsLayers):
        raise ModelError(f"{card.id} shows no layers to watch", reason=_WRONG)
    watch = Watch(card.monitor.layer)
    network.watch(watch, card.monitor.layer)
    return watch


def hook(module: torch.nn.Module, watch: Watch, layer: str) -> None:
    """Let ``watch`` see what a part of a module answers whenever it runs."""
    parts = dict(module.named_modules())
    if layer not in parts or not layer:
        names = ", ".join([name for name in parts if name][:12])
        raise ModelError(f"no layer {layer}; there are {names} ...", reason=_WRONG)
    parts[layer].register_forward_hook(lambda _module, _inputs, output: watch.add(output))


_WRONG = "model.wrong_layer"
