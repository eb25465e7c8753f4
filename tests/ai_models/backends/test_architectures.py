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
    "ResAttUNet": {"channels": [4, 8, 8]},
}
# Published, or counted on the authors' own networks.
PARAMETERS: dict[str, tuple[dict[str, Any], int]] = {
    "monai.SwinUNETR": ({"in_channels": 1, "out_channels": 14, "feature_size": 48}, 62_187_296),
    "monai.UNETR": ({
        "in_channels": 1, "out_channels": 14, "img_size": [96, 96, 96], "feature_size": 16,
        "hidden_size": 768, "mlp_dim": 3072, "num_heads": 12, "proj_type": "perceptron",
        "norm_name": "instance", "res_block": True}, 92_802_478),
    "monai.SegResNet": ({
        "spatial_dims": 3, "in_channels": 1, "out_channels": 105, "init_filters": 32,
        "blocks_down": [1, 2, 2, 4], "blocks_up": [1, 1, 1]}, 18_799_401),
    "monai.AttentionUnet": ({
        "spatial_dims": 3, "in_channels": 1, "out_channels": 2,
        "channels": [16, 32, 64, 128, 256], "strides": [2, 2, 2, 2]}, 5_909_130),
    "monai.ViT": ({
        "in_channels": 3, "img_size": [224, 224], "patch_size": [16, 16], "hidden_size": 768,
        "mlp_dim": 3072, "num_layers": 12, "num_heads": 12, "proj_type": "conv",
        "classification": True, "num_classes": 1000, "spatial_dims": 2, "post_activation": ""},
        86_557_672),
    "RetinaNet": ({"backbone": "resnet50", "scales": [1, 2, 4]}, 20_902_741),
    "ResAttUNet": ({}, 7_714_232),
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


@pytest.mark.parametrize("name", PARAMETERS)
def test_networks_have_the_parameters_that_are_known_of_them(name: str) -> None:
    arguments, count = PARAMETERS[name]
    # It asks for a number while it is made.
    with torch.device("cpu" if name == "monai.SwinUNETR" else "meta"):
        network = build(name, arguments)
    assert sum(one.numel() for one in network.parameters()) == count


@pytest.mark.parametrize(
    ("name", "arguments", "channels", "shape"),
    [
        ("CnnLstm", {"widths": [4, 8], "out_channels": 2}, 1, (1, 32, 2)),
        ("CnnLstm", {"widths": [4, 8], "sequence": "phases", "every_step": False}, 5, (1, 1)),
        ("LateFusion", {"widths": [4, 8], "clinical": 2, "out_channels": 2}, 7, (1, 2)),
        ("monai.ViT", {
            "in_channels": 1, "img_size": [32, 32, 32], "patch_size": [16, 16, 16],
            "hidden_size": 12, "mlp_dim": 12, "num_layers": 1, "num_heads": 2,
            "classification": True, "num_classes": 3, "post_activation": ""}, 1, (1, 3)),
    ],
)
def test_networks_of_whole_volumes_answer_steps_or_channels(
    name: str, arguments: dict[str, Any], channels: int, shape: tuple[int, ...], tmp_path: Path
) -> None:
    one = loaded(tmp_path / "m", name, arguments)
    assert one.run(torch.zeros(1, channels, 32, 32, 32)).shape == shape


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
