"""Inception v3 that answers one thing: in torchvision it answers two while it is trained."""

from __future__ import annotations

import torch
from torchvision.models import Inception3


class Inception(Inception3):  # type: ignore[misc]
    """torchvision's, with its names of weights; the second head is kept and never asked.

    Parameters
    ----------
    aux_logits
        Whether there is that second head.
    transform_input
        Take images normalised for ImageNet to -1..1 first.
    """

    def __init__(self, aux_logits: bool = True, transform_input: bool = False) -> None:
        super().__init__(
            aux_logits=aux_logits, transform_input=transform_input, init_weights=True
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, channels, rows, columns)``, 75 x 75 at least, to logits ``(batch, out)``."""
        maps: torch.Tensor = self._transform_input(x)
        for name, layer in self.named_children():
            if name == "fc":
                maps = torch.flatten(maps, 1)
            if name != "AuxLogits":
                maps = layer(maps)
        return maps
