"""The demonstration of PneumoLLM: what it learns from is what its card shows it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ai_models.card import load_card
from ai_models.card_crop import Crop
from ai_models.prediction.cropping import Cropped, window_about
from ai_models.prediction.preparing import prepare
from ai_models.training.phantoms.bones import XRAY_UNITS
from ai_models.training.recipes import lungs_dx, pneumoconiosis_parts
from ai_models.training.recipes.image_figures import Answered
from ai_models.training.recipes.pneumoconiosis_dx import (
    CARDS,
    MODEL_ID,
    SCORE,
    _grey,
    by_category,
    category_of,
    draw,
    drawn,
    examples_of,
    in_colours,
    recipe_of,
    validated,
)
from ai_models.training.recipes.pneumoconiosis_parts import EDGE, PATCH, SIDE, Dust, write_parts
from ai_models.types import Image


class DrawnLungs:
    """Finds what was drawn."""

    def __init__(self, number: int) -> None:
        self.lungs = drawn("held_back", number)[0].lungs

    def find(self, _source: object) -> Cropped:
        entry = Crop(model="x", sha256="0" * 64, labels=[1, 2], margin=0.02)
        return Cropped(window_about(self.lungs, entry))


def test_half_of_the_chests_are_ill_and_units_see_every_category() -> None:
    numbers = range(36)
    assert [category_of(number) for number in range(8)] == [0, 1, 0, 2, 0, 3, 0, 1]
    assert sum(category_of(number) > 0 for number in numbers) == 18
    seen = {(category_of(number), (number // 6) % 3) for number in numbers}
    assert len(seen) == 12
    assert draw("held_back", 3).about == {"unit": XRAY_UNITS[0].name}
    assert [draw("train", number).truth for number in (0, 1)] == [0.0, 1.0]


def test_it_learns_from_what_its_card_shows() -> None:
    card = load_card(CARDS / MODEL_ID)
    for number in (2, 5):
        source, cropper = draw("held_back", number).source, DrawnLungs(number)
        shown = prepare(source, card, cropper.find(source).window).image.array
        grey = _grey(source, card, cropper)  # type: ignore[arg-type]
        assert shown.shape == (3, EDGE, EDGE)
        np.testing.assert_allclose(in_colours(grey[None].astype(np.float32)), shown, atol=5e-3)


def test_examples_have_both_kinds_in_turn() -> None:
    images = np.random.default_rng(0).random((6, EDGE, EDGE)).astype(np.float16)
    truth = np.array([0, 1, 0, 1, 0, 1], dtype=np.float32)
    example = examples_of(images, truth, 20)
    assert [float(example(number)["values"][0]) for number in range(4)] == [0.0, 1.0, 0.0, 1.0]
    assert example(1)["image"].shape == (3, EDGE, EDGE)
    np.testing.assert_array_equal(example(3)["image"], example(3)["image"])


def test_weights_are_chosen_by_the_mean_of_four_figures() -> None:
    class Brightness(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            mean = image.mean(dim=(1, 2, 3))
            return torch.stack([mean, -mean], dim=1)

    images = np.zeros((4, EDGE, EDGE), dtype=np.float16)
    images[[1, 3]] = 1.0
    truth = np.array([0, 1, 0, 1], dtype=np.float32)
    assert validated(images, truth)(Brightness()) == {"chosen_by": 1.0, "auc": 1.0}
    # One of four is called wrong, and scores no higher than those of the other kind.
    images[3] = 0.0
    found = validated(images, truth)(Brightness())
    assert found["chosen_by"] == pytest.approx((0.75 + 0.5 + 1.0 + 0.75) / 4)


def test_each_category_is_measured_against_chests_without_opacities() -> None:
    rows = [
        Answered(float(category_of(one) > 0), {SCORE: max(category_of(one) - 1, 0) * 0.3}, {})
        for one in range(24)
    ]
    figures = by_category(rows)
    assert figures["3"]["value"] == 1.0
    assert figures["1"]["value"] == 0.5


def test_the_first_filters_see_grain_and_not_brightness() -> None:
    filters = pneumoconiosis_parts.first_filters(16, 20)
    assert filters.shape == (16, PATCH, PATCH)
    flat = np.abs(filters.sum(axis=(1, 2)))
    assert (flat[7::8] > 0.1).all()
    assert np.delete(flat, [7, 15]).max() < 1e-3


def test_the_schedule_is_the_published_one_but_for_rate_and_epochs() -> None:
    settings = recipe_of().settings
    assert settings.second_beta == 0.95 and settings.weight_decay == 0.02
    assert settings.watch == "chosen_by"


@pytest.mark.long
def test_lungs_are_outlined_and_a_tiny_clip_begins(tmp_path: Path) -> None:
    card = lungs_dx.make(tmp_path, steps=2, count=4)
    assert card.id == "lungs-dx"
    images = np.random.default_rng(0).random((4, EDGE, EDGE)).astype(np.float16)
    dust = np.random.default_rng(1).random((4, SIDE, SIDE)).astype(np.float32)
    clip, llama = write_parts(
        tmp_path / "parts", Dust(images, dust), tmp_path / "run",
        replace(pneumoconiosis_parts.SETTINGS, steps=2, batch=2),
    )
    assert (clip / "model.safetensors").exists() and (llama / "config.json").exists()


def test_a_chest_is_as_the_node_reads_it() -> None:
    chest = lungs_dx.drawn(1, held_back=True)
    assert isinstance(lungs_dx.picture_of(chest), Image)
    assert chest.lungs.max() == 2
