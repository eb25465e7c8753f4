"""A 2D U-Net that goes down through a pretrained backbone.

After the network of RadiologyNET's authors (Scientific Reports 15:21622, 2025):
every stage of the backbone, and the image itself, is shown again on the way up. It is large (284
million weights on ResNet50): almost all of them lie at the deepest levels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from ai_models.networks.backbones import build_backbone, feature_stages, without_head

BACKBONES_OF_UNETS = (
    "resnet18", "resnet34", "resnet50", "vgg16", "efficientnet_b3", "efficientnet_b4",
)
_HALVED = 32


class BackboneUNet(nn.Module):
    """Logits of every pixel.

    Parameters
    ----------
    backbone
        One of `BACKBONES_OF_UNETS`.
    out_channels, in_channels
        Of the answer and of the image; pretrained weights need 3, ``input.repeat: 3`` of a card.
    as_published
        Have the layers as well that the published network has and never asks: with them it has as
        many weights as that one.

    Raises
    ------
    ValueError
        A backbone without stages of this kind; as `build_backbone`.
    """

    def __init__(
        self,
        backbone: str = "resnet50",
        out_channels: int = 1,
        in_channels: int = 3,
        as_published: bool = False,
    ) -> None:
        super().__init__()
        if backbone not in BACKBONES_OF_UNETS:
            raise ValueError(
                f"no U-Net on {backbone!r}; there are: {', '.join(BACKBONES_OF_UNETS)}"
            )
        self.backbone = build_backbone(backbone, 1, in_channels)
        without_head(self.backbone)
        levels = _levels(backbone, in_channels)
        deepest = levels[-1][0]
        self.bridge = nn.Sequential(_convolution(deepest, deepest), _convolution(deepest, deepest))
        self.up = nn.ModuleList([_Up(deepest, deepest, False, as_published)])
        for (below, edge_below), (channels, edge) in zip(
            levels[:0:-1], levels[-2::-1], strict=True
        ):
            self.up.append(_Up(below, channels, edge != edge_below, as_published))
        self.head = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, rows, columns)`` to ``(batch, out_channels, rows, columns)``.

        Rows and columns are multiples of 32.
        """
        if image.shape[-2] % _HALVED or image.shape[-1] % _HALVED:
            # In the words by which the node knows that it is about the size of its windows.
            raise ValueError(f"edges of {tuple(image.shape[-2:])} must be divisible by 32")
        seen = [image]
        for stage in _stages(self.backbone):
            maps = seen[-1]
            for layer in stage:
                maps = layer(maps)
            seen.append(maps)
        maps = self.bridge(seen[-1])
        for up, shown in zip(self.up, reversed(seen), strict=True):
            maps = up(maps, shown)
        logits: torch.Tensor = self.head(maps)
        return logits


class _Up(nn.Module):
    """What comes from below, brought to this level, beside what the backbone saw here."""

    def __init__(self, below: int, channels: int, doubles: bool, as_published: bool) -> None:
        super().__init__()
        self.doubles = doubles
        if doubles or as_published:
            self.rise = nn.ConvTranspose2d(below, channels, 2, stride=2)
        if as_published or not doubles:
            self.level = nn.Conv2d(below, channels, 1)
        self.join = nn.Sequential(
            _convolution(2 * channels, channels), _convolution(channels, channels)
        )

    def forward(self, maps: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        risen = self.rise(maps) if self.doubles else self.level(maps)
        joined: torch.Tensor = self.join(torch.cat((risen, shown), dim=1))
        return joined


def _convolution(old: int, new: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(old, new, 3, padding=1), nn.BatchNorm2d(new), nn.ReLU())


def _stages(network: nn.Module) -> Iterator[list[nn.Module]]:
    """The layers between one picture that is shown again and the next."""
    layers, name = feature_stages(network), type(network).__name__
    if name == "EfficientNet":
        yield from ([layer] for layer in layers)
        return
    if name == "ResNet":
        # Convolution, normalisation, ReLU; pooling with the first blocks; the other blocks.
        yield from (layers[:3], layers[3:5], *([layer] for layer in layers[5:]))
        return
    stage: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.MaxPool2d):
            # The last one has nothing behind it, and is left out.
            yield stage
            stage = []
        stage.append(layer)


def _levels(backbone: str, in_channels: int) -> list[tuple[int, int]]:
    """Channels and edge of the image and of what each stage makes of it, of 256 x 256."""
    with torch.device("meta"), torch.no_grad():
        network = build_backbone(backbone, 1, in_channels).eval()
        maps = torch.empty(1, in_channels, 256, 256)
        levels = [(in_channels, 256)]
        for stage in _stages(network):
            for layer in stage:
                maps = layer(maps)
            levels.append((maps.shape[1], maps.shape[-1]))
    return levels
