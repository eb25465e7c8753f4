"""The predictor on a network that is being trained: it is measured as it will be served."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn

from ai_models.backends.tiled import TiledBackend
from ai_models.backends.torch_network import TorchNetwork
from ai_models.card import Card, DetectionCard, RegressionCard, SegmentationCard
from ai_models.prediction.cropping import Cropper
from ai_models.predictor import Predictor
from ai_models.trust import Site

_ANY_NUMBER = 1_000_000


class _InMemory(TorchNetwork):
    """A module that is there already, on the device where it lies."""

    def __init__(self, card: Card, module: nn.Module, device: str) -> None:
        super().__init__(card, device, Site())
        self._module = module
        self.device = self._home = torch.device(device)

    def probe(self) -> None:
        """There is no file."""

    def load(self) -> None:
        """There is nothing to load."""

    def close(self) -> None:
        """The module is another's."""


def predictor_of(
    network: nn.Module, card: Card, device: str = "cpu", cropper: Cropper | None = None
) -> Predictor:
    """A predictor whose answers are those of a network in evaluation mode, in fp32.

    Parts of a segmentation stay one label, and their probabilities are handed on. ``cropper`` is
    one of this card that is loaded: without it each predictor loads its own.

    Raises
    ------
    ModelError
        What outlines the part that is looked at (`input.crop`) cannot be loaded.
    """
    card = measured_card(card)

    def made(
        card: Card, device: str, site: Site, path: Path | None = None, sha256: str = ""
    ) -> _InMemory:
        return _InMemory(card, network, device)

    backend = TiledBackend(card, device, Site(), made)
    predictor = Predictor(card, device, backend=backend, cropper=cropper)
    predictor.load_crop()
    return predictor


def measured_card(card: Card) -> Card:
    """The card under which figures are computed.

    Nothing is explained, parts are not named, and an answer that the node would refuse (a quantity
    out of bounds, more boxes than can be meant) is an answer: early in training there are many.
    Every case counts, whatever `input.quality` says of it.
    """
    changed: dict[str, object] = {
        "explanation": None, "input": card.input.model_copy(update={"quality": None}),
    }
    if isinstance(card, SegmentationCard) and card.output.instances:
        changed["output"] = card.output.model_copy(
            update={"instances": False, "probabilities": True}
        )
    elif isinstance(card, RegressionCard):
        changed["output"] = card.output.model_copy(update={"quantities": [
            one.model_copy(update={"minimum": -math.inf, "maximum": math.inf})
            for one in card.output.quantities
        ]})
    elif isinstance(card, DetectionCard):
        changed["output"] = card.output.model_copy(update={"max_findings": _ANY_NUMBER})
    return card.model_copy(update=changed)
