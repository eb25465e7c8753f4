"""Files of weights as RadiologyNET and torchvision have them, small on disk.

Each tensor is one number shown at every place, another for each tensor, unless ``real`` ones are
asked for: VGG16 has 134 million.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ai_models.networks.backbones import BACKBONES, build_backbone

FILES = {
    "resnet18": "ResNet18", "resnet34": "ResNet34", "resnet50": "ResNet50", "vgg16": "VGG16",
    "efficientnet_b3": "EfficientNetB3", "efficientnet_b4": "EfficientNetB4",
    "inception_v3": "InceptionV3", "densenet121": "DenseNet121",
    "mobilenet_v3_small": "MobileNetV3Small", "mobilenet_v3_large": "MobileNetV3Large",
}
# How many names each file of RadiologyNET has, heads and counters of batches among them.
NAMES = {"resnet18": 122, "resnet34": 218, "resnet50": 320, "inception_v3": 580,
         "densenet121": 1454}
_WRAPPED = ("resnet18", "resnet34", "resnet50", "inception_v3")


def weights_of(backbone: str, classes: int, *, real: bool = False) -> dict[str, torch.Tensor]:
    """Another number in each tensor, by torchvision's names."""
    with torch.device("meta"):
        layout = build_backbone(backbone, classes).state_dict()
    torch.manual_seed(len(backbone) + classes)
    weights = {}
    for number, (name, one) in enumerate(layout.items(), start=1):
        if not one.is_floating_point():
            weights[name] = torch.tensor(number)
        elif real:
            weights[name] = torch.randn(one.shape)
        else:
            weights[name] = torch.full((1,) * one.ndim, number / 4096).expand(one.shape)
    return weights


def radiologynet_file(
    folder: Path, backbone: str, *, classes: int = 36, real: bool = False,
    weights: dict[str, torch.Tensor] | None = None,
) -> tuple[Path, dict[str, torch.Tensor]]:
    """A ``.pth`` in the layout of its family, and its tensors by torchvision's names."""
    weights = weights or weights_of(backbone, classes, real=real)
    wrapped = {f"model.{name}": one for name, one in weights.items()}
    state = wrapped if backbone in _WRAPPED else dict(weights)
    if backbone == "densenet121":
        state |= wrapped
    path = folder / f"{FILES[backbone]}.pth"
    torch.save({
        "time": "2023-05-01 12:00:00", "model_state": state, "model_name": FILES[backbone],
        "optimizer_state": {
            "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}},
            "param_groups": [{"lr": 1e-4, "weight_decay": 1e-3, "params": [0]}],
        },
        "optimizer_name": "AdamW", "epoch": 41,
    }, path)
    return path, weights


def imagenet_file(folder: Path, backbone: str) -> tuple[Path, dict[str, torch.Tensor]]:
    """torchvision's own: no counters of batches, and of DenseNet names of an older time."""
    weights = {
        name: one for name, one in weights_of(backbone, 1000).items()
        if not name.endswith("num_batches_tracked")
    }
    state = {}
    for name, one in weights.items():
        for layer in ("norm1", "norm2", "conv1", "conv2"):
            if "denselayer" in name:
                name = name.replace(f".{layer}.", f".{layer[:-1]}.{layer[-1]}.")
        state[name] = one
    path = folder / f"{backbone}-0123abcd.pth"
    torch.save(state, path)
    return path, weights


def head_of(backbone: str) -> set[str]:
    """Names of the weights of the last layer."""
    return {f"{BACKBONES[backbone].head}.{part}" for part in ("weight", "bias")}
