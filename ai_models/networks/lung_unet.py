"""Small residual 3D U-Net for the lungs on chest CT.

Works at half resolution inside (its first convolution has stride 2) and refines the result once at
full resolution beside the input, which keeps a whole chest affordable on two CPU threads.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn

CLASSES = 3
DOWNSAMPLING = 16


def _normalised(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.InstanceNorm3d(channels, affine=True), nn.LeakyReLU(0.01))


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions with instance normalisation around an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(channels, channels, 3, padding=1, bias=False),
            _normalised(channels),
            nn.Conv3d(channels, channels, 3, padding=1, bias=False),
            nn.InstanceNorm3d(channels, affine=True),
        )
        self.activation = nn.LeakyReLU(0.01)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Same shape in and out, ``(batch, channels, slices, rows, columns)``."""
        result: torch.Tensor = self.activation(features + self.body(features))
        return result


class LungUNet(nn.Module):
    """Logits of background, right lung and left lung.

    Parameters
    ----------
    widths
        Channels at 1/2, 1/4, 1/8 and 1/16 of the input resolution.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (16, 32, 64, 96)) -> None:
        super().__init__()
        before = (1, *widths[:-1])
        self.down = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(old, new, 3, stride=2, padding=1, bias=False),
                _normalised(new),
                ResidualBlock(new),
            )
            for old, new in zip(before, widths, strict=True)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(new, old, 2, stride=2) for old, new in itertools.pairwise(widths)
        )
        self.merge = nn.ModuleList(ResidualBlock(width) for width in widths[:-1])
        self.last_up = nn.ConvTranspose3d(widths[0], 8, 2, stride=2)
        self.refine = nn.Sequential(nn.Conv3d(9, 8, 3, padding=1), nn.LeakyReLU(0.01))
        self.head = nn.Conv3d(8, CLASSES, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits ``(batch, 3, slices, rows, columns)`` of ``(batch, 1, slices, rows, columns)``.

        The image is scaled to 0 (-1024 HU, air and padding) to 1 (600 HU); its axes run to
        superior, posterior and left; every extent is a multiple of 16.
        """
        skips: list[torch.Tensor] = []
        features = image
        for stage in self.down:
            features = stage(features)
            skips.append(features)
        for index in range(len(self.up) - 1, -1, -1):
            features = self.merge[index](self.up[index](features) + skips[index])
        full = torch.cat((self.last_up(features), image), dim=1)
        logits: torch.Tensor = self.head(self.refine(full))
        return logits
