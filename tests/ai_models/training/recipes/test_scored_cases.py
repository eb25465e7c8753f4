"""What examples are made of, how a card is written anew, and that a recipe trains at all."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ai_models.card import load_card
from ai_models.card_outputs import ClassificationOutput
from ai_models.catalog import ZOO
from ai_models.training.recipes import embolism_ct, fdg_pet_ct, lesion_dce_mr
from ai_models.training.recipes.case_examples import (
    UNKNOWN,
    Recipe,
    cell_loss,
    counted,
    example_of,
    learned_from,
)
from ai_models.training.recipes.scored_cases import (
    answering_always,
    calibrated,
    finish,
    inner,
    measured,
    metric,
    trained,
    trained_before,
    turned_by,
    write_weights,
    written_card,
)
from ai_models.training.recipes.scored_figures import Row, figures_of
from ai_models.training.recipes.turned_series import on_grid_of
from ai_models.types import JointInput

RECIPES = {one.RECIPE.model_id: one.RECIPE for one in (embolism_ct, lesion_dce_mr, fdg_pet_ct)}


def test_a_mask_is_found_at_its_place_on_a_finer_grid() -> None:
    mask = np.zeros((4, 6, 6), dtype=np.uint8)
    mask[1, 2, 3] = 1
    affine = np.diag([4.0, 2.0, 2.0, 1.0])
    fine = np.diag([2.0, 1.0, 1.0, 1.0])
    there = np.argwhere(on_grid_of(mask, affine, (8, 12, 12), fine))
    places = {tuple((fine @ np.array([*one, 1.0]))[:3]) for one in there}
    assert (4.0, 4.0, 6.0) in places
    assert all(abs(z - 4) <= 2 and abs(y - 4) <= 1 and abs(x - 6) <= 1 for z, y, x in places)


def test_samples_of_a_mask_are_counted_by_cells_and_none_is_lost_at_the_end() -> None:
    mask = np.ones((3, 5, 4), dtype=np.uint8)
    found = counted(mask, (2, 2, 4))
    assert found.shape == (2, 3, 1) and int(found.sum()) == mask.size
    assert found[0, 0, 0] == 16 and found[1, 2, 0] == 4


def test_cells_on_the_edge_of_something_are_not_counted_in_the_loss() -> None:
    counts = torch.tensor([[0.0, 2.0, 9.0]])
    losses = [cell_loss(torch.tensor([[-1.0, edge, 1.0]]), counts, 5) for edge in (-9.0, 9.0)]
    assert float(losses[0]) == float(losses[1])
    assert float(losses[0]) < float(cell_loss(torch.tensor([[1.0, 0.0, -1.0]]), counts, 5))


@pytest.mark.parametrize("model_id", [
    one if one == "embolism-ct" else pytest.param(one, marks=pytest.mark.long)
    for one in sorted(RECIPES)
])
def test_a_recipe_trains_the_network_of_its_card_and_goes_on(
    model_id: str, tmp_path: Path
) -> None:
    recipe = _small(RECIPES[model_id], steps=1)
    card = load_card(ZOO / model_id)
    first = trained(recipe, card, tmp_path)
    assert len(first.losses) == 1 and math.isfinite(first.losses[0])
    again = trained(_small(recipe, steps=2), card, tmp_path)
    assert again.losses[0] == first.losses[0] and len(again.losses) == 2
    own = inner(again.network).state_dict()
    write_weights(inner(again.network), tmp_path / "weights.safetensors")
    from safetensors.torch import load_file

    read = load_file(tmp_path / "weights.safetensors")
    assert read.keys() == own.keys()
    assert all(torch.equal(read[name], own[name]) for name in own)


def _small(recipe: Recipe, steps: int) -> Recipe:
    settings = replace(
        recipe.settings, steps=steps, batch=2, validate_every=0, checkpoint_every=1,
        schedule="constant",
    )
    return replace(recipe, cases=2, validated=1, settings=settings)


@pytest.mark.parametrize("model_id", sorted(RECIPES))
def test_augmenting_moves_the_cells_with_the_image(model_id: str) -> None:
    recipe = RECIPES[model_id]
    case = recipe.draw(3)
    example = example_of(case, load_card(ZOO / model_id), recipe)
    assert case.mask is not None and case.mask.any() and example["cells"].any()
    changed = recipe.augment(
        {**example, "image": example["image"].astype(np.float32)}, np.random.default_rng(4)
    )
    assert changed["image"].dtype == np.float32
    spatial = [edge // cell for edge, cell in zip(
        changed["image"].shape[1:], recipe.cells, strict=True
    )]
    assert list(changed["cells"].shape) == spatial


def test_a_written_card_has_the_new_digest_and_figures(tmp_path: Path) -> None:
    text = (ZOO / "fdg-pet-ct" / "model.yaml").read_text()
    figure = {"value": 0.9, "low": 0.8, "high": 0.95}
    unsure = metric("AUC", {"value": 0.9, "low": None, "high": None}, "4 phantoms")
    assert unsure["measured_on"] == "4 phantoms; too few for an interval"
    lines = [metric("AUC", figure, "10 phantoms")]
    (tmp_path / "model.yaml").write_text(written_card(text, "ab" * 32, "not validated", lines))
    card = load_card(tmp_path)
    assert card.weights.sha256 == "ab" * 32 and card.evidence.validated_on == "not validated"
    assert [(one.name, one.value) for one in card.evidence.metrics] == [("AUC", 0.9)]
    assert card.evidence.metrics[0].measured_on.endswith("0.800 to 0.950")
    finish(card, {"weights_sha256": "cd" * 32}, "measured", [])
    assert load_card(tmp_path).weights.sha256 == "cd" * 32
    before = load_card(ZOO / "fdg-pet-ct").monitor
    assert before is not None and load_card(tmp_path).monitor == before
    assert (tmp_path / "training.json").exists() and (tmp_path / "evaluation.json").exists()


def test_figures_count_cases_and_say_an_auc_with_its_interval() -> None:
    rows = [
        Row(i, {"x": 0.1 + 0.8 * (i % 2) - 0.05 * (i % 5)}, {"x": float(i % 2)},
            {"scanner": "ab"[i // 12]})
        for i in range(24)
    ]
    figures = figures_of(rows, "x")
    assert figures["cases"] == 24 and figures["positive"] == 12
    assert figures["auc"]["value"] == 1.0 and figures["auc_by"]["scanner"]["a"]["cases"] == 12


def test_leaving_out_leaves_the_rest() -> None:
    case = fdg_pet_ct.draw(1)
    source = case.source
    assert isinstance(source, JointInput) and source.companions["pt"] is not None
    alone = fdg_pet_ct.without(case, pet=True, clinical=True).source
    assert isinstance(alone, JointInput)
    assert alone.companions == {"pt": None} and set(alone.clinical.values()) == {None}
    assert alone.reference is source.reference
    without_pet = fdg_pet_ct.without(case, pet=True).source
    assert isinstance(without_pet, JointInput) and without_pet.clinical == source.clinical


def test_of_turned_series_the_slices_with_clots_are_those_of_the_mask() -> None:
    card, recipe = load_card(ZOO / "embolism-ct"), embolism_ct.RECIPE
    straight = example_of(embolism_ct.draw(3), card, recipe)
    assert set(np.unique(straight["slices"])) <= {-1, 0, 1} and (straight["slices"] == 1).any()
    assert len(straight["slices"]) == straight["image"].shape[1] == len(straight["cells"])
    case = learned_from(replace(recipe, turned=1.0), 3)
    oblique = example_of(case, card, recipe)
    assert case.slices is None and (oblique["slices"] == 1).any()
    full = oblique["cells"].sum(axis=(1, 2)) > 0
    assert full[oblique["slices"] == 1].all() and not full[oblique["slices"] == 0].any()


def test_before_contrast_medium_every_slice_is_learned_as_undecided() -> None:
    case = embolism_ct.draw(3, is_plain=True)
    example = example_of(case, load_card(ZOO / "embolism-ct"), embolism_ct.RECIPE)
    assert (example["slices"] == UNKNOWN).all() and not example["cells"].any()
    logits = torch.zeros(1, len(example["slices"]))
    batch = {
        "image": logits, "slices": torch.from_numpy(example["slices"].astype(np.float32))[None],
        "cells": torch.from_numpy(example["cells"].astype(np.float32))[None],
    }

    class Said(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return image, torch.full_like(batch["cells"], -9.0)

    undecided = embolism_ct.loss_of(Said(), batch)
    for sure in (4.0, -4.0):
        assert embolism_ct.loss_of(Said(), {**batch, "image": logits + sure}) > undecided + 0.5


def test_a_model_that_is_there_is_calibrated_and_measured_anew(tmp_path: Path) -> None:
    recipe = fdg_pet_ct.RECIPE
    card, record = trained_before(recipe, tmp_path, ZOO)
    assert card.folder == tmp_path / recipe.model_id and "measured" not in record
    cases = [(seed, fdg_pet_ct.draw(seed)) for seed in (70_000, 70_001)]
    card = calibrated(card, record, cases)
    told = record["calibration"]["malignant_lesion"]
    assert told["cases"] == 2 and told["positive"] == 1
    output = load_card(card.folder).output
    assert isinstance(output, ClassificationOutput)
    entry = output.scores[0]
    assert entry.calibration.temperature == pytest.approx(told["temperature"])
    assert entry.needs == ["pt"]
    without_pet = [(seed, fdg_pet_ct.without(case, pet=True)) for seed, case in cases]
    assert [row.scores for row in measured(card, without_pet)] == [{}, {}]
    assert all(row.scores for row in measured(answering_always(card), without_pet))
    (_, oblique), = turned_by(17.0, cases[:1])
    straight = cases[0][1].source
    assert isinstance(oblique.source, JointInput) and isinstance(straight, JointInput)
    assert oblique.slices is None and oblique.source.companions == straight.companions
