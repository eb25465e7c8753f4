"""The table of architectures: each can be built, loaded and asked, and none fetches weights."""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import Any

import pytest
import torch

from ai_models.backends.architectures import ARCHITECTURES, build
from ai_models.backends.torch_network import TorchNetwork
from ai_models.card import load_card
from ai_models.trust import Site
from ai_models.types import ModelError
from tests.ai_models.tiny_models import write_model


def loaded(folder: Path, name: str, arguments: dict[str, Any]) -> TorchNetwork:
    buffer = io.BytesIO()
    torch.save(build(name, arguments).state_dict(), buffer)
    card = load_card(write_model(
        folder, buffer.getvalue(), weights__path="w.pt", runtime__backend="state_dict",
        runtime__network={"name": name, "arguments": arguments}))
    one = TorchNetwork(card, "cpu", Site())
    one.load()
    return one


SMALL: dict[str, dict[str, Any]] = {
    "monai.SegResNet": {"init_filters": 8, "out_channels": 2},
    "monai.SegResNetDS": {"init_filters": 8, "out_channels": 2, "dsdepth": 2},
    "monai.AttentionUnet": {
        "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8],
        "strides": [2]},
    "monai.BasicUNet": {"features": [4, 4, 8, 8, 8, 4]},
    "monai.BasicUNetPlusPlus": {"features": [4, 4, 8, 8, 8, 4]},
    "monai.DynUNet": {
        "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [4, 8, 8]},
    "monai.UNETR": {
        "in_channels": 1, "out_channels": 2, "img_size": [16, 16, 16], "feature_size": 4,
        "hidden_size": 16, "mlp_dim": 16, "num_heads": 2},
    "monai.SwinUNETR": {
        "in_channels": 1, "out_channels": 2, "feature_size": 12, "depths": [1, 1, 1, 1]},
    "monai.MedNeXt": {"init_filters": 4, "out_channels": 2},
    "monai.VNet": {"out_channels": 2},
    "monai.HighResNet": {"out_channels": 2},
    "LungUNet": {"widths": [4, 4, 8, 8]},
}


@pytest.mark.parametrize("name", SMALL)
def test_networks_of_segmentation_answer_channels_of_voxels(name: str, tmp_path: Path) -> None:
    edge = 16 if name == "monai.UNETR" else 32
    # Five times halved, one voxel would be left, which has no deviation.
    edges = (edge, edge, 2 * edge if name == "monai.SwinUNETR" else edge)
    one = loaded(tmp_path / "m", name, SMALL[name])
    answer = one.run(torch.zeros(1, 1, *edges))
    assert answer.shape == (1, 3 if name == "LungUNet" else 2, *edges)
    assert ("roi" in one.fallbacks) is (name != "monai.UNETR")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("monai.DenseNet121", {"spatial_dims": 2, "in_channels": 1, "out_channels": 3}),
        ("monai.resnet10", {"spatial_dims": 2, "n_input_channels": 1, "num_classes": 3}),
        ("monai.ResNet", {
            "block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [4, 4, 8, 8],
            "spatial_dims": 2, "n_input_channels": 1, "num_classes": 3}),
        ("monai.EfficientNetBN", {
            "model_name": "efficientnet-b0", "in_channels": 1, "num_classes": 3}),
        ("monai.ViT", {
            "in_channels": 1, "img_size": [64, 64], "patch_size": 16, "hidden_size": 12,
            "mlp_dim": 12, "num_layers": 1, "num_heads": 2, "classification": True,
            "num_classes": 3, "spatial_dims": 2}),
        ("torchvision.resnet18", {"num_classes": 3}),
    ],
)
def test_networks_of_classification_answer_channels(
    name: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    if name.startswith("torchvision"):
        pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))
    one = loaded(tmp_path / "m", name, arguments)
    channels = 3 if name.startswith("torchvision") else 1
    assert one.run(torch.zeros(2, channels, 64, 64)).shape == (2, 3)


def test_every_architecture_of_the_table_is_there() -> None:
    for where in ARCHITECTURES.values():
        module, _, name = where.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("name", ["os.system", "torchvision.os", "monai.GlobalNet", ""])
def test_no_other_name_is_built(name: str) -> None:
    if name.startswith("torchvision"):
        pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))
    with pytest.raises(ModelError, match="no architecture") as caught:
        build(name, {})
    assert caught.value.reason == "model.architecture_unknown"
    assert "any other network: export it as ONNX, TorchScript or .pt2" in str(caught.value)


def test_a_name_that_is_nearly_one_of_the_table_is_recognised() -> None:
    with pytest.raises(ModelError, match="did you mean monai.UNet?"):
        build("monai.Unet", {})


def test_no_weights_are_fetched() -> None:
    with pytest.raises(ModelError, match="none are fetched"):
        build("monai.resnet18", {"pretrained": True})
