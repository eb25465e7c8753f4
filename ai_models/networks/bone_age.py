"""A number of a radiograph and the patient's sex: bone age in the RSNA challenge.

After the network of RadiologyNET's authors (Scientific Reports 15:21622, 2025):
all feature maps, flattened, beside 128 numbers made of the sex, through two layers of 1000.
"""

from __future__ import annotations

import torch
from torch import nn

from ai_models.networks.backbones import build_backbone, family_of, feature_maps, without_head

_OF_SEX, _HIDDEN = 128, 1000


class BoneAge(nn.Module):
    """One number, ``(batch, 1)``: in months, where it was trained on months.

    The input is ``(batch, in_channels + 2, edge, edge)``: the image, then the two channels that
    one clinical entry of a card makes, the sex as a number and 1 where it is known. An unknown sex
    counts as 0, so a card says ``values: {F: -1, M: 1}``.

    Parameters
    ----------
    backbone
        A key of `ai_models.networks.backbones.BACKBONES`.
    edge
        Rows and columns of the image: how many numbers the maps have follows from it. Those that
        the backbone was pretrained with, where it is left out.
    in_channels
        Of the image.
    aux_logits, transform_input
        Of ``inception_v3``; see `build_backbone`.
    sex_is_zero
        Take the sex as 0 whatever the input says. The published training did so by an error of its
        loader, and weights that were trained that way must be asked that way.

    Raises
    ------
    ValueError
        As `build_backbone`; or the image is too small.
    """

    def __init__(
        self,
        backbone: str = "inception_v3",
        edge: int = 0,
        in_channels: int = 3,
        aux_logits: bool = False,
        transform_input: bool = False,
        sex_is_zero: bool = False,
    ) -> None:
        super().__init__()
        of_inception = {"aux_logits": aux_logits, "transform_input": transform_input}
        given = of_inception if backbone == "inception_v3" else {}
        family = family_of(backbone)
        self.in_channels, self.sex_is_zero = in_channels, sex_is_zero
        self.backbone = build_backbone(backbone, 1, in_channels, **given)
        without_head(self.backbone)
        width = _flattened(backbone, in_channels, edge or family.edge)
        self.sex = nn.Linear(1, _OF_SEX)
        self.head = nn.Sequential(
            nn.Linear(width + _OF_SEX, _HIDDEN), nn.ReLU(),
            nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 1),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels + 2, edge, edge)`` to ``(batch, 1)``."""
        said = image[:, self.in_channels :].mean(dim=(2, 3))
        # A mean of ones is not always one to the last bit.
        known = (said[:, 1:2] > 0.5).to(image.dtype)
        sex = said[:, :1] * known
        if self.sex_is_zero:
            sex = torch.zeros_like(sex)
        maps = feature_maps(self.backbone, image[:, : self.in_channels])
        value: torch.Tensor = self.head(torch.cat((maps.flatten(1), self.sex(sex)), dim=1))
        return value


def _flattened(backbone: str, in_channels: int, edge: int) -> int:
    """How many numbers the last maps have: asked of a network without memory."""
    with torch.device("meta"), torch.no_grad():
        network = build_backbone(backbone, 1, in_channels).eval()
        try:
            maps = feature_maps(network, torch.empty(1, in_channels, edge, edge))
        except RuntimeError as error:
            raise ValueError(f"{backbone} does not take images of {edge} x {edge}") from error
    return maps[0].numel()
