"""Recipes of pictures: what is learned from is what is seen later, and the parts stay apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ai_models.card import Card, load_card
from ai_models.networks.backbones import build_backbone
from ai_models.training.recipes import (
    bone_age_dx,
    brain_tumour_mr,
    pneumonia_dx,
    wrist_osteopenia_dx,
)
from ai_models.training.recipes.changed_pictures import Changes, changed
from ai_models.training.recipes.image_figures import (
    Answered,
    card_metrics,
    class_figures,
    evaluated,
    finish,
    reported,
)
from ai_models.training.recipes.scored_images import (
    PARTS,
    ImageRecipe,
    Pictures,
    card_folder,
    drawn_examples,
    examples_of,
    run,
    with_quick_statistics,
    with_temperature,
)
from ai_models.training.settings import Settings, TrainingError
from ai_models.weights import verify_weights


def pneumonia_file(folder: Path) -> Path:
    """As PneumoniaMNIST: of the ill the middle is white."""
    rng = np.random.default_rng(1)
    content: dict[str, Any] = {}
    for part, count in (("train", 40), ("val", 12)):
        labels = (np.arange(count) % 4 != 0).astype(np.uint8)
        images = rng.integers(60, 120, (count, 28, 28))
        images[labels == 1, 8:20, 8:20] += 100
        content[f"{part}_images"] = images.astype(np.uint8)
        content[f"{part}_labels"] = labels[:, None]
    path = folder / "some.npz"
    np.savez(path, **content)
    return path


def small(recipe: ImageRecipe, steps: int = 1, count: int = 8) -> ImageRecipe:
    settings = replace(recipe.settings, steps=steps, batch=4, validate_every=0, warm_up=0)
    counts = {part: min(count, recipe.counts[part]) for part in PARTS}
    return replace(recipe, settings=settings, counts=counts)


DRAWN = {one.recipe_of().model_id: one.recipe_of() for one in (
    bone_age_dx, brain_tumour_mr, wrist_osteopenia_dx)}


@pytest.mark.parametrize("model_id", [
    pytest.param("wrist-osteopenia-dx", marks=pytest.mark.long),
    pytest.param("bone-age-dx", marks=pytest.mark.long),
    pytest.param("brain-tumour-mr", marks=pytest.mark.long),
])
def test_a_recipe_makes_a_whole_model_folder_by_one_command(
    model_id: str, tmp_path: Path
) -> None:
    recipe = small(DRAWN[model_id])
    if model_id != "brain-tumour-mr":
        # What is usual is learned from sixty pictures at least; a head has many.
        recipe = replace(recipe, counts={**recipe.counts, "train": 60})
    card, record = run(recipe, tmp_path, card_folder(model_id))
    finish(recipe, card, card.folder)
    assert record["weights"]["sha256"] == load_card(card.folder).weights.sha256
    assert record["weights"]["largest_logit_difference"] < 1e-3
    assert record["weights"]["size_bytes"] < 12_000_000
    told = json.loads((card.folder / "evaluation.json").read_text())
    assert told["held_back"]["cases"] == 8
    assert told["quality_gate"]["cases"] == 8
    quality = load_card(card.folder).input.quality
    assert quality is not None and quality.likeness is not None and quality.likeness.limit > 0.5
    verify_weights(load_card(card.folder))
    metrics = load_card(card.folder).evidence.metrics
    assert metrics and all("interval" in one.measured_on for one in metrics)


def test_pictures_of_a_file_are_learned_from_and_held_back_apart(tmp_path: Path) -> None:
    recipe = pneumonia_dx.recipe_of(pneumonia_file(tmp_path))
    assert dict(recipe.counts) == {"train": 36, "validation": 4, "held_back": 12}
    seen: dict[bytes, str] = {}
    for part in PARTS:
        for number in range(recipe.counts[part]):
            key = recipe.draw(part, number).source.array.tobytes()
            assert key not in seen
            seen[key] = part
    # Either kind is among those that choose.
    assert {recipe.draw("validation", i).truth for i in range(4)} == {0.0, 1.0}


def test_a_file_that_is_another_one_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", train_images=np.zeros(3))
    with pytest.raises(TrainingError, match="pneumoniamnist"):
        pneumonia_dx.recipe_of(tmp_path / "other.npz")
    with pytest.raises(TrainingError, match="--data"):
        pneumonia_dx.recipe_of(None)


@pytest.mark.long
def test_a_model_learns_what_is_in_the_pictures_and_goes_on(tmp_path: Path) -> None:
    recipe = pneumonia_dx.recipe_of(pneumonia_file(tmp_path))
    settings = Settings(steps=24, batch=16, rate=2e-3, seed=3)
    recipe = replace(recipe, settings=settings)
    run(recipe, tmp_path / "out", card_folder(recipe.model_id))
    longer = replace(recipe, settings=replace(settings, steps=40, schedule="cosine"))
    card, record = run(longer, tmp_path / "out", card_folder(recipe.model_id))
    assert len(record["losses"]) >= 40
    told = evaluated(longer, card)
    assert told["held_back"]["scores"]["pneumonia"]["auc"]["value"] > 0.9
    assert told["said_in_the_report"].keys() == {"1", "0"}


def test_slices_with_only_an_edge_of_a_tumour_are_not_learned_from() -> None:
    card = load_card(card_folder("brain-tumour-mr"))
    case = DRAWN["brain-tumour-mr"].draw("train", 1)
    assert case.slices is not None
    found = examples_of(case, card)
    assert len(found) == int((case.slices >= 0).sum())
    assert {known for _, known in found} == {0.0, 1.0}
    assert all(image.shape == (1, 96, 96) for image, _ in found)


def test_the_sex_goes_to_the_network_unchanged_or_not_at_all() -> None:
    card = load_card(card_folder("bone-age-dx"))
    (image, target), = examples_of(DRAWN["bone-age-dx"].draw("train", 0), card)
    assert image.shape == (3, 128, 96) and abs(target) <= 2.0
    assert (image[1] == 1.0).all() and (image[2] == 1.0).all()
    found = Pictures(image[None], np.array([target], np.float32))
    examples = drawn_examples(found, Settings(steps=1), Changes(), balanced=False, facts=2)
    facts = [np.unique(examples(number)["image"][1:]).tolist() for number in range(40)]
    assert sorted(map(tuple, {tuple(one) for one in facts})) == [(0.0,), (1.0,)]
    unknown = bone_age_dx.of_unknown_sex(DRAWN["bone-age-dx"].draw("train", 0))
    (image, _), = examples_of(unknown, card)
    assert not image[1:].any()


def test_kinds_take_turns_however_rare_one_is() -> None:
    found = Pictures(np.zeros((10, 1, 4, 4), np.float16), np.array([1] * 9 + [0], np.float32))
    examples = drawn_examples(found, Settings(steps=1), Changes(), balanced=True)
    assert [float(examples(number)["truth"]) for number in range(6)] == [0, 1, 0, 1, 0, 1]


def test_a_kind_of_many_sorts_gets_more_turns() -> None:
    found = Pictures(np.zeros((10, 1, 4, 4), np.float16), np.array([1] * 9 + [0], np.float32))
    examples = drawn_examples(found, Settings(steps=1), Changes(), balanced=True, turns=(3, 1))
    assert [float(examples(number)["truth"]) for number in range(8)] == [0, 0, 0, 1] * 2


def test_what_is_measured_with_a_change_has_its_line_in_the_card() -> None:
    figure = {"value": 8.0, "low": 7.0, "high": 9.0}
    figures = {"cases": 5, "mean_absolute_error": figure, "root_mean_square_error": figure}
    lines = card_metrics({"held_back": figures, "sex not told": figures}, "hands", ["sex not told"])
    assert [line["name"] for line in lines][-1] == "Mean absolute error, sex not told, months"


def test_how_large_a_hand_or_a_wrist_is_in_its_picture_says_nothing() -> None:
    sizes = {DRAWN["bone-age-dx"].draw("train", number).source.array.shape for number in range(4)}
    assert len(sizes) > 1
    whole = np.ones((171, 128), np.float32)
    shapes, black = set(), 0
    for number in range(20):
        shown = wrist_osteopenia_dx.collimated(whole, np.random.default_rng(number))
        shapes.add(shown.shape)
        black += int((shown == 0).any())
        assert (shown == 1).sum() > 0.4 * whole.size
    assert len(shapes) == 20 and 0 < black < 20


def test_without_changes_a_picture_stays_as_it_is() -> None:
    image = np.random.default_rng(0).random((1, 12, 10), dtype=np.float32)
    still = changed(image, Changes(0, 0, 0, 0, 0, 0), np.random.default_rng(1))
    assert np.allclose(still, image, atol=1e-6)
    moved = changed(image, Changes(), np.random.default_rng(1))
    assert moved.shape == image.shape and not np.allclose(moved, image, atol=0.01)


def test_figures_of_classes_say_who_is_called_what() -> None:
    names = ["none", "a", "b"]
    rows = [
        Answered(float(kind), {
            name: 0.8 if (kind + (i == 0)) % 3 == place else 0.1
            for place, name in enumerate(names)
        }, {"scanner": "x"})
        for kind in range(3) for i in range(5)
    ]
    told = class_figures(rows, names, dict.fromkeys(names, 0.5))
    assert told["called_right"]["value"] == 0.8
    assert told["truth_by_called"]["none"] == {"none": 4, "a": 1, "b": 0}
    assert told["scores"]["a"]["sensitivity"]["value"] == 0.8
    assert told["scores"]["a"]["specificity"]["value"] == 0.9


def test_what_the_report_says_is_counted_by_what_is_true() -> None:
    rows = [Answered(truth, {"x": score}, {}) for truth, score in (
        (1.0, 0.7), (1.0, 0.5), (0.0, 0.1), (0.0, 0.9))]
    assert reported(rows, "x", (0.3, 0.7)) == {
        "1": {"present": 1, "undetermined": 1, "absent": 0},
        "0": {"present": 1, "undetermined": 0, "absent": 1},
    }


def test_every_score_of_a_card_gets_the_temperature() -> None:
    text = (card_folder("brain-tumour-mr") / "model.yaml").read_text()
    assert with_temperature(text, 1.5).count("temperature: 1.5000") == 4
    card: Card = load_card(card_folder("brain-tumour-mr"))
    assert len(card.output_names) == 4


def test_a_short_run_is_measured_with_statistics_of_its_own() -> None:
    network = with_quick_statistics(build_backbone("mobilenet_v3_small", 1, 1))
    shown = torch.rand(16, 1, 32, 32, generator=torch.Generator().manual_seed(1)) + 5.0
    begins = network.get_submodule("features.0")
    for _ in range(30):
        begins(shown)
    norm = network.get_submodule("features.0.1")
    assert isinstance(norm, torch.nn.BatchNorm2d) and norm.running_mean is not None
    seen = network.get_submodule("features.0.0")(shown).mean(dim=(0, 2, 3))
    assert torch.allclose(norm.running_mean, seen, rtol=0.1, atol=0.05)
