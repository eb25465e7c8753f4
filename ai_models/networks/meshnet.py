"""MeshNet: a chain of dilated 3D convolutions at full resolution (Fedorov et al., IJCNN 2017).

No pooling and few channels, so that the whole brain passes in one piece with some hundred
kilobytes of weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

_ACTIVATIONS = {"relu": nn.ReLU, "elu": nn.ELU, "gelu": nn.GELU}


class MeshNet(nn.Module):
    """Dilated 3x3x3 convolutions, and a 1x1x1 one to the classes.

    Parameters
    ----------
    in_channels, channels, classes
        Of the input, of every hidden layer, and of the answer.
    dilations
        One for each hidden layer.
    activation
        ``relu``, ``elu`` or ``gelu``.
    normalised
        Each channel is normalised over the volume before the activation, without affine.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        classes: int,
        dilations: Sequence[int],
        activation: str = "relu",
        normalised: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for position, dilation in enumerate(dilations):
            layers.append(
                nn.Conv3d(
                    channels if position else in_channels, channels, 3, padding=dilation,
                    dilation=dilation,
                )
            )
            if normalised:
                layers.append(nn.InstanceNorm3d(channels))
            layers.append(_ACTIVATIONS[activation]())
        layers.append(nn.Conv3d(channels if dilations else in_channels, classes, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, D, H, W)`` to logits ``(batch, classes, D, H, W)``."""
        logits: torch.Tensor = self.layers(image)
        return logits
