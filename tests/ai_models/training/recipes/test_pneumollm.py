"""The published recipe, and a training by it with a tiny CLIP and LLaMA from files to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image as Picture

from ai_models.card import load_card
from ai_models.predictor import Predictor
from ai_models.training.__main__ import main as train_command
from ai_models.training.losses import loss_for
from ai_models.training.recipes.pneumollm import main, published_settings, recipe_values
from ai_models.training.settings import TrainingError
from ai_models.trust import Site, why_refused
from ai_models.types import ClassificationPrediction, Image
from tests.ai_models.backends.pneumo_models import CLIP, write_parts, write_pneumo_model


def test_the_schedule_is_the_published_one() -> None:
    settings = published_settings(1600)
    assert (settings.steps, settings.batch, settings.warm_up) == (10_000, 16, 200)
    assert (settings.second_beta, settings.weight_decay, settings.seed) == (0.95, 0.02, 20)
    assert settings.rate_at(0) == pytest.approx(5e-7)
    assert settings.rate_at(200) == pytest.approx(3e-4)
    assert settings.rate_at(10_000) == pytest.approx(1e-7)
    with pytest.raises(TrainingError):
        published_settings(0)


def test_the_loss_is_of_both_logits_each_for_itself(tmp_path: Path) -> None:
    write_pneumo_model(tmp_path)
    logits = torch.tensor([[1.0, -0.5], [0.2, 0.3]])
    sick = torch.tensor([[1.0], [0.0]])
    loss = loss_for(load_card(tmp_path), "bce")(
        torch.nn.Identity(), {"image": logits, "values": sick})
    one_hot = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, one_hot)
    torch.testing.assert_close(loss, expected)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    write_parts(folder)
    return folder


def written_recipe(parts: Path, folder: Path, *more: str) -> dict[str, Any]:
    arguments = ["--clip", str(parts / "clip"), "--llama", str(parts / "llama"), "--cases", "8",
                 "--output", str(folder), *more]
    assert main(arguments) == 0
    values: dict[str, Any] = yaml.safe_load((folder / "recipe.yaml").read_text())
    return values


def test_the_defects_of_the_published_training_can_be_had(parts: Path, tmp_path: Path) -> None:
    mended = written_recipe(parts, tmp_path)["card"]["runtime"]["network"]["arguments"]
    legacy = written_recipe(parts, tmp_path, "--engine-as-published")
    assert mended["train_engine"] is True and mended["pool"] == "all"
    assert legacy["card"]["runtime"]["network"]["arguments"]["train_engine"] is False
    other = recipe_values(parts / "clip", parts / "llama", 8, pool="diagnosis")
    assert other["card"]["runtime"]["network"]["arguments"]["pool"] == "diagnosis"


def test_pictures_have_the_size_that_the_folder_of_clip_takes(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = written_recipe(parts, tmp_path)["card"]["input"]["size"]
    assert size == {"edges": [CLIP["image_size"]] * 2, "fit": "stretch"}
    for given, said in (
        (["--clip", str(tmp_path / "away")], "no config.json in"),
        (["--clip", str(parts / "llama")], "clip or clip_vision_model expected"),
        (["--llama", str(tmp_path / "away")], "no config.json in"),
        (["--lungs", str(tmp_path / "away")], "model.yaml: cannot be read: No such file"),
    ):
        assert main(["--clip", str(parts / "clip"), "--llama", str(parts / "llama"), "--cases",
                     "8", "--output", str(tmp_path / "none"), *given]) == 1
        assert said in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_training_makes_a_model_that_answers(parts: Path, tmp_path: Path) -> None:
    written_recipe(parts, tmp_path, "--frozen", "fp32", "--llama-licence", "llama3.2")
    rows = ["image,patient,pneumoconiosis"]
    for number in range(12):
        shown = np.random.default_rng(number).integers(0, 120, (40, 40)).astype(np.uint8)
        if number % 2:
            shown += 100
        Picture.fromarray(shown).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,p{number},{number % 2}")
    (tmp_path / "cases.csv").write_text("\n".join(rows) + "\n")
    assert train_command([
        str(tmp_path / "recipe.yaml"), "--data", str(tmp_path / "cases.csv"),
        "--output", str(tmp_path / "out"), "--steps", "2", "--device", "cpu",
        "--set", "card.runtime.network.arguments.every=2",
        "--set", "card.input.size.edges=[28, 28]", "--set", "training.warm_up=1",
        "--set", "training.checkpoint_every=0", "--set", "training.validate_every=0",
        "--set", "training.batch=4",
    ]) == 0
    folder = tmp_path / "out" / "model"
    card = load_card(folder)
    assert (folder / "clip" / "config.json").exists()
    assert (folder / "weights.safetensors").stat().st_size < 200_000
    assert why_refused(card, Site(use="research")) is None
    predictor = Predictor(card)
    predictor.load()
    said = predictor.predict(Image(np.ones((40, 40), dtype=np.float32), (1.0, 1.0)))
    predictor.close()
    assert isinstance(said, ClassificationPrediction)
    assert 0.0 < said.scores["pneumoconiosis"] < 1.0
