"""Architectures that a ``state_dict`` may belong to: a table of names; no weights are fetched."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ai_models.backends.builds import why_no_torchvision
from ai_models.backends.monai_alone import import_monai
from ai_models.types import ModelError

_MONAI = (
    "AttentionUnet", "BasicUNet", "BasicUNetPlusPlus", "DenseNet", "DenseNet121", "DenseNet169",
    "DenseNet201", "DenseNet264", "DynUNet", "EfficientNetBN", "FlexibleUNet", "HighResNet",
    "MedNeXt", "MedNeXtS", "MedNeXtB", "MedNeXtM", "MedNeXtL", "ResNet", "SENet154",
    "SEResNet50", "SEResNet101", "SEResNet152", "SEResNext50", "SEResNext101", "SegResNet",
    "SegResNetDS", "SegResNetVAE", "SwinUNETR", "UNETR", "UNet", "VNet", "ViT", "ViTAutoEnc",
    "resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200",
)
_TORCHVISION = "torchvision."
ARCHITECTURES: Mapping[str, str] = {
    **{f"monai.{name}": f"monai.networks.nets:{name}" for name in _MONAI},
    "Backbone": "ai_models.networks.backbones:build_backbone",
    "BackboneUNet": "ai_models.networks.backbone_unet:BackboneUNet",
    "BoneAge": "ai_models.networks.bone_age:BoneAge",
    "CnnLstm": "ai_models.networks.cnn_lstm:CnnLstm",
    "LateFusion": "ai_models.networks.late_fusion:LateFusion",
    "LungUNet": "ai_models.networks.lung_unet:LungUNet",
    "MeshNet": "ai_models.networks.meshnet:MeshNet",
    "PneumoLLM": "ai_models.backends.frozen_parts:build_pneumo_llm",
    "ResAttUNet": "ai_models.networks.res_att_unet:ResAttUNet",
    "RetinaNet": "ai_models.networks.retina:Detector",
}
_OF_TORCHVISION = frozenset({"Backbone", "BackboneUNet", "BoneAge"})
_OF_MONAI = frozenset({"ResAttUNet", "RetinaNet"})
# What they are built on: folders with weights of their own.
FOLDERS: Mapping[str, tuple[str, ...]] = {"PneumoLLM": ("clip", "llama")}
# They fetch weights unless they are told not to.
_FETCHING_BY_DEFAULT = frozenset({"monai.EfficientNetBN"})
_FETCHING_ARGUMENTS = ("pretrained", "weights", "weights_backbone")


def check_architecture(
    name: str, arguments: Mapping[str, Any], folders: Iterable[str] = ()
) -> None:
    """Refuse an unknown name, arguments that would fetch weights, and other ``folders`` (by their
    names in the card) than the architecture is built on.

    Classifiers of torchvision are named ``torchvision.resnet50`` and the like.

    Raises
    ------
    ModelError
        ``model.architecture_unknown``, ``model.backend_missing`` where torchvision is not there,
        ``model.load_failed``.
    """
    if name not in ARCHITECTURES and name not in _torchvision_names(name):
        by_small = {known.lower(): known for known in ARCHITECTURES}
        near = difflib.get_close_matches(name.lower(), by_small, 1, 0.8)
        hint = f"did you mean {by_small[near[0]]}, of these: " if near else "there are: "
        raise ModelError(
            f"no architecture {name!r}; {hint}{', '.join(ARCHITECTURES)}, and "
            "torchvision's classifiers (torchvision.resnet50); any other network: export it as "
            "ONNX, TorchScript or .pt2", reason="model.architecture_unknown",
        )
    if name in _OF_TORCHVISION:
        _torchvision()
    wanted, given = FOLDERS.get(name, ()), sorted(folders)
    if given != sorted(wanted):
        raise ModelError(
            f"runtime.network.folders: {name} is built on {' and '.join(wanted) or 'none'}, the "
            f"card names {', '.join(given) or 'none'}", reason="model.load_failed",
        )
    for argument in _FETCHING_ARGUMENTS:
        if arguments.get(argument):
            raise ModelError(
                f"runtime.network.arguments.{argument}: weights come from the card's file, and "
                "none are fetched", reason="model.load_failed",
            )


def build(
    name: str, arguments: Mapping[str, Any], folders: Mapping[str, Path] | None = None
) -> Any:
    """A module of this architecture with random weights, on the weights of ``folders`` where it is
    built on such; ModelError as `check_architecture`, or of what is in a folder."""
    check_architecture(name, arguments, folders or ())
    if name.startswith(_TORCHVISION):
        return _torchvision().models.get_model(name.removeprefix(_TORCHVISION), **arguments)
    where, _, attribute = ARCHITECTURES[name].partition(":")
    if name in _OF_MONAI or where.startswith("monai."):
        import_monai()
    given = dict(arguments)
    if name in _FETCHING_BY_DEFAULT:
        given["pretrained"] = False
    return getattr(importlib.import_module(where), attribute)(**(folders or {}), **given)


def _torchvision_names(name: str) -> frozenset[str]:
    if not name.startswith(_TORCHVISION):
        return frozenset()
    models = _torchvision().models
    return frozenset(f"{_TORCHVISION}{known}" for known in models.list_models(module=models))


def _torchvision() -> Any:
    if why := why_no_torchvision():
        raise ModelError(why, reason="model.backend_missing")
    return importlib.import_module("torchvision")
