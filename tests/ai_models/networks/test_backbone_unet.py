"""A U-Net that goes down through a backbone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ai_models.backends.architectures import build
from ai_models.networks.backbone_unet import BACKBONES_OF_UNETS, BackboneUNet
from tests.ai_models.networks.exported import by_onnx_runtime

pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))


@pytest.mark.parametrize(
    ("backbone", "count"),
    [("resnet50", 284_381_967), ("vgg16", 39_409_167), ("efficientnet_b4", 191_764_135)],
)
def test_it_has_the_parameters_of_the_published_network(backbone: str, count: int) -> None:
    with torch.device("meta"):
        published = build("BackboneUNet", {"backbone": backbone, "as_published": True})
    assert sum(one.numel() for one in published.parameters()) == count


@pytest.mark.parametrize(
    "backbone",
    [name if name in ("resnet18", "resnet50", "vgg16")
     else pytest.param(name, marks=pytest.mark.long) for name in BACKBONES_OF_UNETS],
)
@torch.no_grad()
def test_it_answers_every_pixel_of_crops_and_of_whole_slices(backbone: str) -> None:
    with torch.device("meta"):
        network = BackboneUNet(backbone, 2).eval()
        for edges in ((64, 64), (512, 512)):
            assert network(torch.empty(1, 3, *edges)).shape == (1, 2, *edges)


def test_every_weight_that_it_has_is_used() -> None:
    torch.manual_seed(0)
    network = BackboneUNet("resnet18").train()
    with torch.device("meta"):
        published = BackboneUNet("resnet18", as_published=True)
    assert set(network.state_dict()) < set(published.state_dict())
    network(torch.rand(2, 3, 64, 64)).square().mean().backward()
    assert [name for name, one in network.named_parameters() if one.grad is None] == []


@torch.no_grad()
def test_edges_that_cannot_be_halved_are_refused() -> None:
    with torch.device("meta"):
        network = BackboneUNet("resnet18").eval()
        with pytest.raises(ValueError, match="must be divisible by 32"):
            network(torch.empty(1, 3, 64, 70))


def test_backbones_without_such_stages_are_refused() -> None:
    with pytest.raises(ValueError, match="no U-Net on 'densenet121'; there are: resnet18"):
        BackboneUNet("densenet121")


@pytest.mark.long
def test_exported_it_answers_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, image = BackboneUNet("resnet18").eval(), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected = network(image).numpy()
    assert np.abs(by_onnx_runtime(network, image, tmp_path) - expected).max() < 1e-4
