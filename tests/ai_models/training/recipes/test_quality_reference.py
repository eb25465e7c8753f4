"""The gate compares with what the network is shown: of a cropped card the rectangle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ai_models.card import load_card
from ai_models.catalog import ZOO
from ai_models.prediction.preparing import prepare
from ai_models.predictor import Predictor
from ai_models.training.recipes import pneumoconiosis_dx
from ai_models.training.recipes.pneumoconiosis_dx import CARDS, MODEL_ID
from ai_models.training.recipes.quality_reference import (
    Shown,
    recipe_for,
    refused_share,
    with_likeness,
    write_quality,
)
from ai_models.training.recipes.scored_images import ImageCase, ImageRecipe, Part
from ai_models.types import Image
from tests.ai_models.prediction.test_cropping import SHAPE, write_cropped

FIRST = {"train": 0, "validation": 1000, "held_back": 2000}


def chest(part: Part, number: int) -> ImageCase:
    """Two lungs that lie here or there, in what is dark and has a grain of its own."""
    rng = np.random.default_rng(FIRST[part] + number)
    shown = rng.normal(0.1, 0.02, SHAPE)
    top, left = (int(one) for one in rng.integers(8, 30, 2))
    high, wide = (int(one) for one in rng.integers(30, 44, 2))
    shown[top : top + high, left : left + wide // 2] = 0.6
    shown[top + 4 : top + high - 2, left + wide // 2 + 6 : left + wide] = 1.0
    return ImageCase(Image(np.clip(shown, 0, 1).astype(np.float32), (4.0, 4.0)), 1.0)


def recipe() -> ImageRecipe:
    return ImageRecipe(
        model_id="bright", command="none", draw=chest,
        counts={"train": 60, "validation": 40, "held_back": 20},
        settings=pneumoconiosis_dx.recipe_of().settings, data="drawings", shortcomings="All.",
        held_back="drawings", steps=(0.3, 0.7),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_cropped(tmp_path)
    path = folder / "model.yaml"
    quality = (
        "  quality:\n    min_contrast: 0.0\n"
        f'    likeness: {{reference: quality.npy, sha256: "{"0" * 64}", limit: 1.0}}\n'
    )
    text = path.read_text()
    assert text.count("\ninput:\n") == 1
    path.write_text(text.replace("\ninput:\n", f"\ninput:\n{quality}"))
    return folder


def test_shown_is_the_rectangle(folder: Path) -> None:
    card = load_card(folder)
    source = chest("train", 3).source
    shown = Shown(card).slices_of(source)
    assert shown.shape == (1, 40, 32)
    assert abs(shown.mean() - prepare(source, card).image.array.mean()) > 0.2


def test_the_gate_of_a_cropped_card_takes_what_is_like_what_it_learned_from(folder: Path) -> None:
    card = write_quality(recipe(), load_card(folder))
    told = refused_share(recipe(), card)
    assert told["refused"] <= 4, json.dumps(told)
    predictor = Predictor(card)
    predictor.load()
    notes = predictor.predict(chest("train", 0).source).notes
    predictor.close()
    assert any("rectangle" in note for note in notes)
    assert any("like what the model learned from" in note for note in notes)


def test_training_the_model_of_dust_lungs_anew_makes_its_gate_anew() -> None:
    """Its recipe's card had no line for the likeness: the gate was lost with the next training."""
    text = (CARDS / MODEL_ID / "model.yaml").read_text()
    assert "1" * 64 in with_likeness(text, "1" * 64, {"limit": 3.0})
    shipped = load_card(ZOO / MODEL_ID).input.quality
    begun = load_card(CARDS / MODEL_ID).input.quality
    assert shipped is not None and begun is not None
    assert shipped.likeness is not None and begun.likeness is not None
    assert shipped.model_copy(update={"likeness": begun.likeness}) == begun
    # Its gate declines mirrored chests.
    assert shipped.likeness.mirrored is not None
    assert not recipe_for(MODEL_ID, None).changes.mirror
