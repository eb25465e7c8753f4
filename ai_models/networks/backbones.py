"""Ten classifiers of images with one way to ask for them: torchvision's, with logits as answer.

They are those of RadiologyNET (Scientific Reports 15:21622, 2025), whose weights
`ai_models.training.pretrained` reads, as it does those that torchvision has of ImageNet. The names
of all weights are torchvision's, so a file of the whole network can be served as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

_COLOURS = 3


@dataclass(frozen=True)
class Family:
    """What a backbone is made of.

    Attributes
    ----------
    head
        The last layer, which answers the classes.
    edge
        Rows and columns of the images that RadiologyNET and ImageNet trained it on.
    width
        Channels of its last feature maps.
    """

    head: str
    edge: int
    width: int


BACKBONES: Mapping[str, Family] = {
    "resnet18": Family("fc", 224, 512),
    "resnet34": Family("fc", 224, 512),
    "resnet50": Family("fc", 224, 2048),
    "vgg16": Family("classifier.6", 224, 512),
    "efficientnet_b3": Family("classifier.1", 300, 1536),
    "efficientnet_b4": Family("classifier.1", 380, 1792),
    "inception_v3": Family("fc", 299, 2048),
    "densenet121": Family("classifier", 224, 1024),
    "mobilenet_v3_small": Family("classifier.3", 224, 576),
    "mobilenet_v3_large": Family("classifier.3", 224, 960),
}


def build_backbone(
    backbone: str,
    out_channels: int = 1,
    in_channels: int = 3,
    aux_logits: bool = True,
    transform_input: bool = False,
) -> nn.Module:
    """A classifier with random weights: ``(batch, in_channels, rows, columns)`` to logits
    ``(batch, out_channels)``, of one class (binary), of one among many, or of many at once.

    Parameters
    ----------
    backbone
        A key of `BACKBONES`.
    in_channels
        3 for images in colour and for grey ones that are shown three times (``input.repeat: 3`` of
        a card), as pretrained weights need it. Otherwise the first layer is another one.
    aux_logits
        Of ``inception_v3``: keep the second head, which answers 1000 classes of ImageNet and is
        never asked. Weights of torchvision and RadiologyNET have it.
    transform_input
        Of ``inception_v3``: take images normalised for ImageNet to -1..1, which torchvision's
        weights of ImageNet were trained on.

    Raises
    ------
    ValueError
        No such backbone, an argument of another one, or no channels.
    ImportError
        torchvision is not there.
    """
    family = family_of(backbone)
    if out_channels < 1 or in_channels < 1:
        raise ValueError("in_channels and out_channels: 1 at least")
    if backbone == "inception_v3":
        if transform_input and in_channels != _COLOURS:
            raise ValueError("transform_input is for 3 channels")
        from ai_models.networks.inception import Inception

        network: nn.Module = Inception(aux_logits, transform_input)
    elif transform_input or not aux_logits:
        raise ValueError("aux_logits and transform_input are of inception_v3")
    else:
        network = _model(backbone)
    _replace(network, family.head, lambda old: _linear(old, out_channels))
    if in_channels != _COLOURS:
        _replace(network, first_layer(network), lambda old: _convolution(old, in_channels))
    return network


def family_of(backbone: str) -> Family:
    """What a backbone is made of; ValueError where there is none of this name."""
    if backbone not in BACKBONES:
        raise ValueError(f"no backbone {backbone!r}; there are: {', '.join(BACKBONES)}")
    return BACKBONES[backbone]


def first_layer(network: nn.Module) -> str:
    """The name of the convolution that sees the image."""
    from torch import nn

    named: str = next(
        name for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)
    )
    return named


def feature_stages(network: nn.Module) -> list[nn.Module]:
    """The layers up to the last feature maps, in order; of any of the ten."""
    from torch import nn

    features = getattr(network, "features", None)
    if features is not None:
        layers = list(features.children())
        if hasattr(features, "denseblock1"):
            # torchvision has this one in its forward, not among its layers.
            layers.append(nn.ReLU(inplace=True))
        return layers
    # Residual networks and Inception have everything side by side.
    layers = []
    for name, layer in network.named_children():
        if name == "avgpool":
            break
        if name != "AuxLogits":
            layers.append(layer)
    return layers


def feature_maps(network: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """``(batch, channels, rows, columns)`` to the last maps ``(batch, width, rows, columns)``."""
    centred: Any = getattr(network, "_transform_input", None)
    maps: torch.Tensor = image if centred is None else centred(image)
    for layer in feature_stages(network):
        maps = layer(maps)
    return maps


def without_head(network: nn.Module) -> None:
    """Leave out the layers that make classes of the last feature maps."""
    from torch import nn

    for name in ("fc", "classifier"):
        if hasattr(network, name):
            setattr(network, name, nn.Identity())


def _model(backbone: str) -> nn.Module:
    from torchvision import models

    network: nn.Module = models.get_model(backbone, weights=None)
    return network


def _linear(old: Any, out_channels: int) -> nn.Module:
    from torch import nn

    return nn.Linear(old.in_features, out_channels)


def _convolution(old: Any, in_channels: int) -> nn.Module:
    from torch import nn

    return nn.Conv2d(
        in_channels, old.out_channels, old.kernel_size, old.stride, old.padding,
        bias=old.bias is not None,
    )


def _replace(network: nn.Module, name: str, made: Callable[[Any], nn.Module]) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, made(network.get_submodule(name)))
