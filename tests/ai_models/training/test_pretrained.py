"""Weights of RadiologyNET and ImageNet: all of them to the last bit, or none."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ai_models.networks.backbone_unet import BackboneUNet
from ai_models.networks.backbones import BACKBONES, build_backbone
from ai_models.networks.bone_age import BoneAge
from ai_models.training.pretrained import begin, load_pretrained, read_pretrained, words_on
from ai_models.training.recipe import recipe_of
from ai_models.training.settings import TrainingError
from ai_models.types import ModelError
from tests.ai_models.training.pretrained_files import (
    NAMES,
    head_of,
    imagenet_file,
    radiologynet_file,
)

pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))

SMALL = "mobilenet_v3_small"
_LARGE = ("vgg16", "efficientnet_b4", "resnet50", "inception_v3")
_QUICK = ("resnet18", "densenet121", "inception_v3", SMALL)


def empty(backbone: str, classes: int = 2) -> nn.Module:
    """A network of zeros: to draw the numbers of all ten takes longer than to read them."""
    with torch.device("meta"):
        network = build_backbone(backbone, classes)
    network = network.to_empty(device="cpu")
    for one in network.state_dict().values():
        one.zero_()
    return network


@pytest.mark.parametrize(
    "backbone",
    [name if name in _QUICK else pytest.param(name, marks=pytest.mark.long) for name in BACKBONES],
)
def test_files_of_radiologynet_are_restored_bit_by_bit(backbone: str, tmp_path: Path) -> None:
    path, weights = radiologynet_file(tmp_path, backbone, real=backbone not in _LARGE)
    if backbone in NAMES:
        assert len(torch.load(path, weights_only=True)["model_state"]) == NAMES[backbone]
    network = empty(backbone)
    found = load_pretrained(network, backbone, path)
    state = network.state_dict()
    for name in set(weights) - head_of(backbone):
        assert torch.equal(state[name], weights[name]), name
    assert all(not state[name].any() for name in head_of(backbone))
    assert found.origin == "radiologynet"
    assert found.normalisation == "none"
    assert found.restored == found.tensors > 25
    assert found.missing == ()
    assert set(found.left_out) == head_of(backbone)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("backbone", [SMALL, "densenet121"])
def test_files_of_imagenet_are_restored_bit_by_bit(backbone: str, tmp_path: Path) -> None:
    path, weights = imagenet_file(tmp_path, backbone)
    network = empty(backbone)
    found = load_pretrained(network, backbone, path)
    state = network.state_dict()
    for name in set(weights) - head_of(backbone):
        assert torch.equal(state[name], weights[name]), name
    assert (found.origin, found.normalisation) == ("imagenet", "imagenet")
    assert found.restored == found.tensors


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("resnet18", "resnet50"), ("resnet34", "resnet18"), ("mobilenet_v3_large", SMALL),
        *(pytest.param(*both, marks=pytest.mark.long) for both in (
            ("resnet18", "resnet34"), ("efficientnet_b4", "efficientnet_b3"),
            ("inception_v3", "densenet121"),
        )),
    ],
)
def test_files_of_another_architecture_are_refused_with_counts_and_names(
    theirs: str, ours: str, tmp_path: Path
) -> None:
    path, _ = radiologynet_file(tmp_path, theirs)
    network = empty(ours)
    counts = rf"{path.name} is not of {ours}: \d+ of the \d+"
    with pytest.raises(TrainingError, match=counts) as one:
        load_pretrained(network, ours, path)
    assert "not there or of another shape: " in str(one.value) or "not known: " in str(one.value)
    assert all(not tensor.any() for tensor in network.state_dict().values())


def changed(path: Path, change: Any) -> Path:
    content = torch.load(path, weights_only=True)
    change(content["model_state"])
    torch.save(content, path)
    return path


def test_a_file_that_lacks_more_than_one_tensor_in_twenty_is_refused(tmp_path: Path) -> None:
    path, _ = radiologynet_file(tmp_path, SMALL)
    kept = [name for name in torch.load(path, weights_only=True)["model_state"]
            if name.endswith(("weight", "bias", "mean", "var")) and "classifier.3" not in name]

    def without(count: int) -> Any:
        return lambda state: [state.pop(name) for name in kept[-count:] if name in state]

    few, many = len(kept) // 25, len(kept) // 15
    found = load_pretrained(empty(SMALL), SMALL, changed(path, without(few)))
    assert found.restored == found.tensors - few
    assert len(found.missing) == few
    with pytest.raises(TrainingError, match="is not of"):
        load_pretrained(empty(SMALL), SMALL, changed(path, without(many)))


def test_two_tensors_under_one_name_and_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    path, _ = radiologynet_file(tmp_path, "densenet121")
    name = "model.features.conv0.weight"
    changed(path, lambda state: state.update({name: state[name] + 1}))
    with pytest.raises(TrainingError, match="two different tensors for features.conv0.weight"):
        read_pretrained(path)
    path, _ = radiologynet_file(tmp_path, SMALL)
    broken = torch.full((16,), float("nan"))
    changed(path, lambda state: state.update({"features.0.1.weight": broken}))
    with pytest.raises(TrainingError, match="features.0.1.weight holds values that are no numbers"):
        read_pretrained(path)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda one: one.flatten()[:1].expand(10**11), "no tensor whose values are in the file"),
        (lambda one: one.to_sparse(), "no tensor whose values are in the file"),
        (lambda one: one.to("meta"), "no tensor whose values are in the file"),
        (lambda one: one.to(torch.int8), "torch.int8, no floating point"),
        (lambda one: one.to(torch.complex64), "torch.complex64, no floating point"),
    ],
)
def test_tensors_that_only_claim_to_be_weights_are_refused(
    tmp_path: Path, broken: Any, words: str
) -> None:
    name = "features.0.0.weight"
    path = tmp_path / "one.pth"
    torch.save({"model_state": {name: broken(torch.ones(16, 3, 3, 3))}}, path)
    with pytest.raises(TrainingError, match=f"{name} .*{words}"):
        read_pretrained(path)


def test_a_file_that_is_a_program_another_or_no_weights_is_refused(tmp_path: Path) -> None:
    path, _ = radiologynet_file(tmp_path, SMALL)
    with pytest.raises(TrainingError, match=f"{path.name} has SHA-256 "):
        read_pretrained(path, "0" * 64)
    torch.save({"model_state": {}, "epoch": 1}, tmp_path / "none.pth")
    with pytest.raises(TrainingError, match="holds no weights by name"):
        read_pretrained(tmp_path / "none.pth")
    torch.save(Path("anything"), tmp_path / "program.pth")
    with pytest.raises(ModelError, match="would run Python") as caught:
        read_pretrained(tmp_path / "program.pth")
    assert caught.value.reason == "model.pickle"
    (tmp_path / "torn.pth").write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="torch cannot read torn.pth"):
        read_pretrained(tmp_path / "torn.pth")
    with pytest.raises(TrainingError, match="cannot be read"):
        read_pretrained(tmp_path / "absent.pth")


def test_who_trained_the_weights_is_known_or_said(tmp_path: Path) -> None:
    path, _ = radiologynet_file(tmp_path, SMALL, classes=7)
    with pytest.raises(TrainingError, match=r"--pretrained-by, or training\.pretrained\.origin"):
        load_pretrained(empty(SMALL), SMALL, path)
    assert load_pretrained(empty(SMALL), SMALL, path, origin="other").normalisation is None
    path, _ = imagenet_file(tmp_path, SMALL)
    with pytest.raises(TrainingError, match="is of imagenet by its classes, not of radiologynet"):
        load_pretrained(empty(SMALL), SMALL, path, origin="radiologynet")


def test_networks_on_a_backbone_begin_with_its_weights(tmp_path: Path) -> None:
    path, weights = radiologynet_file(tmp_path, "resnet18", real=True)
    unet = BackboneUNet("resnet18")
    found = load_pretrained(unet, "resnet18", path)
    assert torch.equal(unet.backbone.layer4[1].conv2.weight,  # type: ignore[index,union-attr]
                       weights["layer4.1.conv2.weight"])
    assert found.restored == found.tensors == 100
    path, weights = radiologynet_file(tmp_path, SMALL, real=True)
    age = BoneAge(SMALL, edge=64)
    assert load_pretrained(age, SMALL, path).missing == ()
    first = age.backbone.get_submodule("features.0.0").weight
    assert torch.equal(first, weights["features.0.0.weight"])  # type: ignore[arg-type]


def test_weights_of_three_channels_are_not_taken_for_one(tmp_path: Path) -> None:
    path, _ = radiologynet_file(tmp_path, SMALL)
    with pytest.raises(TrainingError, match="trained on 3 channels, the network takes 1"):
        load_pretrained(build_backbone(SMALL, 2, in_channels=1), SMALL, path)


def recipe(path: Path, network: dict[str, Any], **values: Any) -> Any:
    return recipe_of({
        "card": {"input": values, "runtime": {"network": network}},
        "training": {"pretrained": {"path": path.name}},
    }, "recipe")


def test_a_card_that_shows_other_images_than_the_weights_know_is_refused(tmp_path: Path) -> None:
    named = {"name": "Backbone", "arguments": {"backbone": SMALL, "out_channels": 2}}
    path, _ = radiologynet_file(tmp_path, SMALL)
    found = begin(recipe(path, named, normalisation="none"), empty(SMALL), tmp_path)
    assert found is not None
    assert words_on(found) == (
        f"from weights of RadiologyNET ({path.name}, SHA-256 {found.sha256})"
    )
    assert begin(recipe(path, named), empty(SMALL), tmp_path) == found
    with pytest.raises(TrainingError, match="normalisation: none expected .* found imagenet"):
        begin(recipe(path, named, normalisation="imagenet"), empty(SMALL), tmp_path)
    path, _ = imagenet_file(tmp_path, SMALL)
    with pytest.raises(TrainingError, match="normalisation: imagenet expected .* found none"):
        begin(recipe(path, named), empty(SMALL), tmp_path)


def test_inception_of_imagenet_takes_its_own_range_and_of_radiologynet_none(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"backbone": "inception_v3", "out_channels": 2}
    path, _ = imagenet_file(tmp_path, "inception_v3")
    named = {"name": "Backbone", "arguments": arguments}
    with pytest.raises(TrainingError, match="transform_input: true expected"):
        begin(recipe(path, named, normalisation="imagenet"), empty("inception_v3"), tmp_path)
    path, _ = radiologynet_file(tmp_path, "inception_v3")
    arguments["transform_input"] = True
    with pytest.raises(TrainingError, match="transform_input: false expected"):
        begin(recipe(path, named), empty("inception_v3"), tmp_path)


def test_a_network_without_a_backbone_and_two_beginnings_are_refused(tmp_path: Path) -> None:
    path, _ = radiologynet_file(tmp_path, SMALL)
    with pytest.raises(TrainingError, match="LungUNet has no backbone"):
        begin(recipe(path, {"name": "LungUNet"}), empty(SMALL), tmp_path)
    with pytest.raises(TrainingError, match="two beginnings"):
        recipe_of({"card": {}, "training": {
            "start_from": "a.safetensors", "pretrained": {"path": "b.pth"}}}, "recipe")
