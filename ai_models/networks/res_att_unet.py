"""Residual U-Net with attention gates on its skips: what MONAI has the parts of and no network.

Residual units after He et al. (CVPR 2016), gates after Oktay et al. (Attention U-Net, 2018).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from monai.networks.blocks.convolutions import ResidualUnit
from monai.networks.nets.attentionunet import AttentionBlock, UpConv
from torch import nn


class ResAttUNet(nn.Module):
    """Logits of every voxel.

    Parameters
    ----------
    in_channels, out_channels
        Of the input, and of the answer.
    channels
        One for each level, as many levels as wanted, two at least; every level below the first has
        half the resolution of the one above it.
    spatial_dims
        3 for volumes, 2 for images and slices.
    dropout
        Share of the features that is left out in training, 0 to 1.

    Raises
    ------
    ValueError
        Fewer than two levels, or a level of fewer than two channels.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        channels: Sequence[int] = (16, 32, 64, 128, 256),
        spatial_dims: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(channels) < 2 or min(channels) < 2:
            raise ValueError(f"channels {tuple(channels)}: two levels of two channels at least")

        def unit(before: int, after: int, stride: int = 1) -> nn.Module:
            return ResidualUnit(
                spatial_dims, before, after, strides=stride, subunits=2, norm="INSTANCE",
                act="PRELU", dropout=dropout or None,
            )

        before = (in_channels, *channels[:-1])
        self.down = nn.ModuleList(
            unit(old, new, 2 if level else 1)
            for level, (old, new) in enumerate(zip(before, channels, strict=True))
        )
        pairs = list(itertools.pairwise(channels))
        self.up = nn.ModuleList(UpConv(spatial_dims, low, high) for high, low in pairs)
        self.gates = nn.ModuleList(
            AttentionBlock(spatial_dims, f_int=high // 2, f_g=high, f_l=high) for high, _ in pairs
        )
        self.merge = nn.ModuleList(unit(2 * high, high) for high, _ in pairs)
        self.head = (nn.Conv3d if spatial_dims == 3 else nn.Conv2d)(channels[0], out_channels, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, D, H, W)`` to logits ``(batch, out_channels, D, H, W)``.

        Every extent is a multiple of two to the number of levels less one. In two dimensions
        without ``D``.
        """
        skips: list[torch.Tensor] = []
        features = image
        for stage in self.down:
            features = stage(features)
            skips.append(features)
        for level in range(len(self.up) - 1, -1, -1):
            above = self.up[level](features)
            seen = self.gates[level](above, skips[level])
            features = self.merge[level](torch.cat((seen, above), dim=1))
        logits: torch.Tensor = self.head(features)
        return logits
