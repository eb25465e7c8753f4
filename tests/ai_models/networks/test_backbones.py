"""Ten backbones under one name: as many weights as are known of them, logits, and ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ai_models.backends.architectures import build
from ai_models.networks.backbones import (
    BACKBONES,
    build_backbone,
    feature_maps,
    first_layer,
)
from tests.ai_models.networks.exported import by_onnx_runtime

pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))

# Of 36 classes, as RadiologyNET has them, and of 1000, as torchvision publishes them.
PARAMETERS = {
    "resnet18": (11_194_980, 11_689_512),
    "resnet34": (21_303_140, 21_797_672),
    "resnet50": (23_581_796, 25_557_032),
    "vgg16": (134_408_036, 138_357_544),
    "efficientnet_b3": (10_751_564, 12_233_232),
    "efficientnet_b4": (17_613_164, 19_341_616),
    "inception_v3": (25_186_028, 27_161_264),
    "densenet121": (6_990_756, 7_978_856),
    "mobilenet_v3_small": (1_554_756, 2_542_856),
    "mobilenet_v3_large": (4_248_148, 5_483_032),
}


@pytest.mark.parametrize("backbone", BACKBONES)
def test_backbones_have_the_parameters_that_are_known_of_them(backbone: str) -> None:
    with torch.device("meta"):
        networks = [
            build("Backbone", {"backbone": backbone, "out_channels": count})
            for count in (36, 1000)
        ]
    counts = tuple(sum(one.numel() for one in network.parameters()) for network in networks)
    assert counts == PARAMETERS[backbone]


@pytest.mark.parametrize("backbone", BACKBONES)
@torch.no_grad()
def test_backbones_answer_logits_of_images_of_their_size(backbone: str) -> None:
    family = BACKBONES[backbone]
    with torch.device("meta"):
        network = build_backbone(backbone, 4).eval()
        image = torch.empty(2, 3, family.edge, family.edge)
        assert network(image).shape == (2, 4)
        assert feature_maps(network, image).shape[:2] == (2, family.width)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_an_image_of_one_channel_changes_the_first_layer_alone(backbone: str) -> None:
    with torch.device("meta"):
        grey, colour = build_backbone(backbone, 1, 1), build_backbone(backbone, 1)
    shapes = [
        {name: tuple(one.shape) for name, one in network.state_dict().items()}
        for network in (grey, colour)
    ]
    changed = {name for name, shape in shapes[0].items() if shapes[1][name] != shape}
    assert changed == {f"{first_layer(grey)}.weight"}
    assert shapes[0].keys() == shapes[1].keys()


@torch.inference_mode()
def test_answers_are_logits_and_no_probabilities() -> None:
    torch.manual_seed(0)
    network = build_backbone("mobilenet_v3_small", 3).eval()
    network.get_submodule("classifier.3").bias.fill_(7.0)  # type: ignore[operator]
    assert network(torch.zeros(1, 3, 64, 64)).min() > 1.0


def test_inception_answers_one_thing_while_it_is_trained_and_never_asks_its_second_head() -> None:
    with torch.device("meta"):
        network = build_backbone("inception_v3", 2).train()
        answer = network(torch.empty(2, 3, 96, 96))
    assert isinstance(answer, torch.Tensor)
    assert answer.shape == (2, 2)
    with torch.device("meta"):
        alone = build_backbone("inception_v3", 2, aux_logits=False)
    left_out = set(network.state_dict()) - set(alone.state_dict())
    assert left_out
    assert all(name.startswith("AuxLogits.") for name in left_out)


def test_inception_takes_what_is_normalised_for_imagenet_to_its_own_range() -> None:
    seen = []
    image = torch.rand(1, 3, 80, 80)
    mean = torch.tensor((0.485, 0.456, 0.406))[:, None, None]
    std = torch.tensor((0.229, 0.224, 0.225))[:, None, None]
    with torch.device("meta"):
        given = build_backbone("inception_v3", 2, aux_logits=False, transform_input=True).eval()
    given.register_module("Conv2d_1a_3x3", torch.nn.Identity())
    given.get_submodule("Conv2d_1a_3x3").register_forward_pre_hook(
        lambda _, images: seen.append(images[0])
    )
    with pytest.raises(RuntimeError):  # behind it the network has no numbers
        given((image - mean) / std)
    assert torch.allclose(seen[0], 2 * image - 1, atol=1e-5)


@torch.inference_mode()
def test_feature_maps_are_what_the_head_is_given() -> None:
    torch.manual_seed(0)
    for backbone, head in (("resnet18", "fc"), ("densenet121", "classifier")):
        network = build_backbone(backbone, 3).eval()
        image = torch.rand(2, 3, 64, 64)
        pooled = feature_maps(network, image).mean(dim=(2, 3))
        layer = network.get_submodule(head)
        assert torch.allclose(layer(pooled), network(image), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "resnet101"}, "there are: resnet18"),
        ({"backbone": "resnet18", "transform_input": True}, "are of inception_v3"),
        ({"backbone": "resnet18", "aux_logits": False}, "are of inception_v3"),
        ({"backbone": "inception_v3", "transform_input": True, "in_channels": 1}, "3 channels"),
        ({"backbone": "resnet18", "out_channels": 0}, "1 at least"),
    ],
)
def test_what_is_no_backbone_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("Backbone", arguments)


@pytest.mark.parametrize(
    "backbone",
    [
        name if name == "mobilenet_v3_small"
        else pytest.param(name, marks=pytest.mark.long)
        for name in BACKBONES
    ],
)
def test_exported_they_answer_the_same(backbone: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    # VGG has layers that take images of one size; the others are quicker with a small one.
    edge = {"vgg16": 224, "inception_v3": 96}.get(backbone, 64)
    network = build_backbone(backbone, 2).eval()
    image = torch.rand(1, 3, edge, edge)
    with torch.inference_mode():
        expected = network(image).numpy()
    answered = by_onnx_runtime(network, image, tmp_path)
    assert np.abs(answered - expected).max() < 1e-4 * max(1.0, float(np.abs(expected).max()))
