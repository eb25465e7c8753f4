"""A first recipe on a backbone, and a model that began with weights of RadiologyNET."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
import yaml

from ai_models.card import load_card
from ai_models.networks.backbones import build_backbone
from ai_models.training.command import add_arguments, run_command
from ai_models.training.settings import TrainingError
from tests.ai_models.training.pretrained_files import imagenet_file, radiologynet_file

pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))

SMALL = "mobilenet_v3_small"


def pictures(folder: Path, column: str = "pneumonia", count: int = 4) -> Path:
    """A table of grey pictures: bright ones have the score."""
    folder.mkdir()
    lines = [f"image,patient,split,{column}"]
    rng = np.random.default_rng(0)
    parts = ("training", "training", "validation", "test")
    for number in range(count):
        value = number % 2
        pixels = rng.integers(0, 100, (40, 30)) + 120 * value
        PIL.Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
        cell = value if column == "pneumonia" else 30.5 + 10 * number
        lines.append(f"{number}.png,{number},{parts[number % 4]},{cell}")
    (folder / "cases.csv").write_text("\n".join(lines))
    return folder


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run_command(parser.parse_args([str(word) for word in words]), None)


def drafted(folder: Path, *words: object, task: str = "classify", column: str = "pneumonia") -> Any:
    data = folder / "data"
    if not data.exists():
        pictures(data, column)
    output = folder / f"out-{len(list(folder.iterdir()))}"
    assert run("--task", task, "--data", data, "--output", output, *words) == 0
    return yaml.safe_load((output / "recipe.yaml").read_text())


def test_a_backbone_is_shown_images_as_its_weights_know_them(tmp_path: Path) -> None:
    path, _ = radiologynet_file(tmp_path, SMALL)
    recipe = drafted(tmp_path, "--backbone", SMALL, "--pretrained", path)
    entry = recipe["card"]["input"]
    assert entry["size"] == {"edges": [224, 224], "fit": "pad"}
    assert (entry["repeat"], entry["normalisation"]) == (3, "none")
    assert recipe["card"]["runtime"]["network"] == {
        "name": "Backbone", "arguments": {"backbone": SMALL, "out_channels": 1}}
    begins = recipe["training"]["pretrained"]
    assert begins["origin"] == "radiologynet"
    assert Path(begins["path"]) == path
    path, _ = imagenet_file(tmp_path, SMALL)
    recipe = drafted(tmp_path, "--backbone", SMALL, "--pretrained", path)
    assert recipe["card"]["input"]["normalisation"] == "imagenet"
    assert recipe["training"]["pretrained"]["origin"] == "imagenet"


def test_a_person_is_told_to_say_what_a_model_of_images_may_be_shown(tmp_path: Path) -> None:
    drafted(tmp_path, "--backbone", SMALL)
    (text,) = (path.read_text() for path in tmp_path.glob("out-*/recipe.yaml"))
    (line,) = (one for one in text.splitlines() if "modality:" in one)
    assert "# check: CR as well as DX?" in line and "docs/quality-gate.md" in line


def test_without_weights_it_begins_at_random_and_sees_images_as_they_are(tmp_path: Path) -> None:
    recipe = drafted(
        tmp_path, "--backbone", "inception_v3", task="regress", column="bone_age_months"
    )
    assert recipe["card"]["input"]["normalisation"] == "none"
    assert recipe["card"]["input"]["size"]["edges"] == [299, 299]
    assert "pretrained" not in recipe["training"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--backbone", "resnet101"), "there are: resnet18"),
        (("--pretrained", "a.pth"), "--backbone says of which network"),
        (("--backbone", SMALL, "--network", "LungUNet"), "one of the two"),
        (("--backbone", SMALL, "--pretrained", "absent.pth"), "cannot be read"),
    ],
)
def test_what_cannot_begin_is_refused(
    words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=message):
        drafted(tmp_path, *words)


def test_weights_of_another_backbone_are_refused_before_a_recipe_is_written(tmp_path: Path) -> None:
    path, _ = radiologynet_file(tmp_path, "mobilenet_v3_large")
    with pytest.raises(TrainingError, match="is not of mobilenet_v3_small"):
        drafted(tmp_path, "--backbone", SMALL, "--pretrained", path)
    assert list(tmp_path.glob("out-*/recipe.yaml")) == []


def test_a_recipe_says_itself_with_what_it_begins(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("card: {}\n")
    with pytest.raises(TrainingError, match="--backbone is for a first recipe"):
        run(tmp_path / "recipe.yaml", "--data", tmp_path, "--output", tmp_path / "o",
            "--backbone", SMALL)


@pytest.mark.long
def test_a_model_says_with_which_weights_it_began(tmp_path: Path) -> None:
    torch.manual_seed(3)
    begun = dict(build_backbone(SMALL, 36).state_dict())
    path, weights = radiologynet_file(tmp_path, SMALL, weights=begun)
    drafted(tmp_path, "--backbone", SMALL, "--pretrained", path)
    recipe = next(tmp_path.glob("out-*/recipe.yaml"))
    trained = tmp_path / "trained"
    assert run(recipe, "--data", tmp_path / "data", "--output", trained, "--device", "cpu",
               "--steps", 1, "--batch", 2, "--rate", 1e-6,
               "--set", "card.input.size.edges=[64, 64]") == 0
    card = load_card(trained / "model")
    record = json.loads((trained / "model" / "training.json").read_text())
    assert card.input.normalisation == "none"
    assert record["pretrained"]["sha256"] in card.weights.source
    assert "weights of RadiologyNET" in card.weights.source
    assert record["pretrained"]["restored"] == record["pretrained"]["tensors"]
    assert record["recipe"]["training"]["pretrained"]["path"] == path.name
    assert str(tmp_path) not in json.dumps(record)
    from safetensors.numpy import load_file

    learned = load_file(trained / "model" / "weights.safetensors")
    name = "features.0.0.weight"
    assert np.abs(learned[name] - weights[name].numpy()).max() < 1e-3
