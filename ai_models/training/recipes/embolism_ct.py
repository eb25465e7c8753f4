"""Train embolism-ct: ``python -m ai_models.training.recipes.embolism_ct --output DIR``.

CT angiographies are drawn (`ai_models.training.phantoms.angiography`), half of them with clots; the
network goes along all slices and answers each. A tenth of what it learns from has no contrast
medium: there it learns to be undecided. The result is the folder of the model with its card,
weights, and ``training.json``. A run that was stopped goes on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import default_collate

from ai_models.training.loop import Batch, Example
from ai_models.training.metrics import auc, bootstrap_interval, rounded
from ai_models.training.phantoms.angiography import (
    LEAST_AREA_MM2,
    LEVELS,
    AngiographyVariation,
    angiography_phantom,
    random_angiography,
)
from ai_models.training.phantoms.scanners import SCANNERS, random_scanner
from ai_models.training.recipes.case_examples import (
    CALIBRATED_ON,
    HELD_BACK,
    UNKNOWN,
    VALIDATED_ON,
    Case,
    Recipe,
)
from ai_models.training.recipes.scored_cases import (
    calibrated,
    called,
    finish,
    measured,
    metric,
    run_as_asked,
    straight_and_turned,
    turned_by,
)
from ai_models.training.recipes.scored_figures import Row, figures_of, said
from ai_models.training.settings import Settings
from ai_models.types import Volume

NAME = "pulmonary_embolism"
SHOWN_SLICES = 8
PLAIN_ONE_IN = 5
# So many are drawn to see what is said of them.
PLAIN = 24
# Of a cell of the network's second maps, and how many of its samples make it one with a clot.
CELL, FULL_CELL, SECOND_MAPS = 4, 8, "look.11"


def draw(seed: int, *, is_plain: bool | None = None) -> Case:
    """A CT angiography; odd seeds have clots. Of those learned from some have no contrast medium.

    ``is_plain``: whether this one has none, and then no clots either.
    """
    rng = np.random.default_rng((seed, 7))
    embolism = seed % 2 == 1
    variation = random_angiography(rng, embolism=embolism)
    if is_plain is None:
        is_plain = not embolism and seed < VALIDATED_ON and (seed // 2) % PLAIN_ONE_IN == 0
    if is_plain:
        variation = without_contrast(variation, rng)
    if seed >= HELD_BACK:
        scanner = SCANNERS[(seed // 2) % len(SCANNERS)]
        spacing = (max(2.0 * scanner.spacing_mm[0], 3.0), 1.6, 1.6)
        shape = (round(290.0 / spacing[0]), 170, 220)
        scanner = replace(scanner, spacing_mm=spacing)
    else:
        spacing = (float(rng.uniform(2.8, 4.4)), 2.0, 2.0)
        shape = (round(rng.uniform(230.0, 310.0) / spacing[0]), 136, 176)
        scanner = random_scanner(rng, spacing)
    phantom = angiography_phantom(seed, shape, spacing, variation, scanner)
    area = phantom.clots.sum(axis=(1, 2))
    slices = np.where(phantom.slices_with_clot, 1, np.where(area > 0, -1, 0)).astype(np.int8)
    central = LEVELS[min(phantom.levels)] if phantom.levels else "none"
    return Case(
        Volume(phantom.volume_hu, phantom.affine_lps), {NAME: float((slices == 1).any())}, slices,
        {"scanner": scanner.name, "kernel": scanner.kernel, "most central clot": central},
        phantom.clots, is_unknown=is_plain,
    )


def without_contrast(
    variation: AngiographyVariation, rng: np.random.Generator
) -> AngiographyVariation:
    """The same chest before contrast medium: whether there are clots cannot be seen."""
    return replace(variation, artery_hu=float(rng.uniform(30.0, 65.0)),
                   vein_hu=float(rng.uniform(0.0, 25.0)), clots=0)


def augment(example: Example, rng: np.random.Generator) -> Example:
    """Some slices in a row, mirrored, moved, with another contrast and noise."""
    count = min(example["slices"].size, SHOWN_SLICES)
    first = _first(example["slices"], count, rng)
    image = example["image"][:, first : first + count]
    slices = example["slices"][first : first + count]
    cells = example["cells"][first : first + count]
    if rng.random() < 0.5:
        image, cells = image[..., ::-1], cells[..., ::-1]
    if rng.random() < 0.2:
        image, slices, cells = image[:, ::-1], slices[::-1], cells[::-1]
    # By whole cells, so that these stay where they are.
    move = (int(rng.integers(-1, 2)), int(rng.integers(-1, 2)))
    image = np.roll(image, (CELL * move[0], CELL * move[1]), axis=(2, 3))
    cells = np.roll(cells, move, axis=(1, 2))
    image = image * float(rng.uniform(0.85, 1.15))
    image = image + float(rng.normal(0.0, 0.02))
    image = image + float(rng.gamma(1.5, 0.012)) * rng.standard_normal(image.shape, np.float32)
    return {
        "image": image.astype(np.float32), "slices": slices.astype(np.float32),
        "cells": cells.astype(np.float32),
        "truth": np.array([(slices == 1).any()], dtype=np.float32),
    }


def _first(slices: np.ndarray[Any, np.dtype[np.int8]], count: int, rng: np.random.Generator) -> int:
    """Of the slices that are shown; of a series with clots they mostly show one."""
    last = slices.size - count
    clots = np.flatnonzero(slices == 1)
    if clots.size and rng.random() < 0.8:
        return int(np.clip(int(rng.choice(clots)) - int(rng.integers(count)), 0, last))
    return int(rng.integers(last + 1))


class Learner(nn.Module):
    """The network, and where in a slice it sees a clot: that is told in training only.

    From scores alone, and from cells as coarse as its last maps, it learned nothing in as long.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        convolutions = [one for one in network.modules() if isinstance(one, nn.Conv2d)]
        self.cells = nn.Conv2d(convolutions[3].out_channels, 1, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits ``(batch, slices)`` and ``(batch, slices, rows, columns)`` of cells."""
        maps: list[torch.Tensor] = []
        second = self.network.get_submodule(SECOND_MAPS)
        handle = second.register_forward_hook(lambda _module, _input, output: maps.append(output))
        try:
            logits = self.network(image)[..., 0]
        finally:
            handle.remove()
        return logits, self.cells(maps[0])[:, 0].unflatten(0, logits.shape)


def loss_of(learner: nn.Module, batch: Batch) -> torch.Tensor:
    """Of every slice that is counted, and of where clots are: cross-entropy and Dice of cells."""
    logits, cells = learner(batch["image"])
    slices, counts = batch["slices"], batch["cells"]
    is_counted = (slices >= 0).float()
    # What cannot be seen is neither there nor not: half way between.
    wanted = torch.where(slices == UNKNOWN, 0.5, slices.clamp(min=0.0))
    each: torch.Tensor = functional.binary_cross_entropy_with_logits(
        logits, wanted, weight=is_counted, reduction="sum"
    ) / is_counted.sum()
    full, empty = (counts >= FULL_CELL).float(), (counts == 0).float()
    wrong = functional.binary_cross_entropy_with_logits(cells, full, reduction="none")
    found = torch.sigmoid(cells) * (full + empty)
    dice = (2.0 * (found * full).sum() + 1.0) / (found.sum() + full.sum() + 1.0)
    place = (wrong * full).sum() / full.sum().clamp(min=1.0) + (wrong * empty).sum() / empty.sum()
    total: torch.Tensor = 0.5 * each + 0.5 * place + 1.0 - dice
    return total


RECIPE = Recipe(
    model_id="embolism-ct",
    command="python -m ai_models.training.recipes.embolism_ct --output DIR",
    draw=draw, augment=augment, loss_of=loss_of, collate=default_collate,
    learner=Learner, cells=(1, CELL, CELL),
    settings=Settings(
        steps=3000, batch=4, rate=3e-3, warm_up=30, average=0.98,
        validate_every=500, watch="auc", seed=20,
    ),
    cases=300, validated=48, held_back=60, turned=0.4, least_area_mm2=LEAST_AREA_MM2,
    data="generated CT angiographies, half of them with clots in the pulmonary arteries; a tenth "
         "without contrast medium, learned as undecided; of all, two of five turned",
)


def slice_auc(rows: list[Row]) -> dict[str, float | None]:
    """AUC over all slices that are counted; whole patients are drawn for the interval."""

    def area(some: object) -> float:
        pairs = [pair for one in some for pair in one.by_slice]  # type: ignore[attr-defined]
        return auc([truth for truth, _ in pairs], [score for _, score in pairs])

    return rounded(bootstrap_interval(rows, area, resamples=300))


def main(arguments: list[str] | None = None) -> int:
    """Train, calibrate, measure on held-back phantoms, write the folder of the model."""
    card, record = run_as_asked(RECIPE, __doc__, arguments)
    seeds = range(CALIBRATED_ON, CALIBRATED_ON + RECIPE.calibrated)
    card = calibrated(card, record, ((seed, draw(seed)) for seed in seeds))
    seeds = range(HELD_BACK, HELD_BACK + RECIPE.held_back)
    rows = measured(card, ((seed, draw(seed)) for seed in seeds))
    oblique = measured(card, turned_by(17.0, ((seed, draw(seed)) for seed in seeds)))
    plain = measured(card, ((seed, draw(seed, is_plain=True)) for seed in seeds[: 2 * PLAIN : 2]))
    figures = figures_of(rows, NAME)
    figures["auc_of_slices"] = slice_auc(rows)
    figures["oblique_by_17_degrees"] = straight_and_turned(rows, oblique, NAME)
    figures["without_contrast_medium"] = said(plain, NAME)["without"]
    record["measured"] = {NAME: figures}
    record["held_back"] = [{"seed": r.seed, **r.scores, "truth": r.truth[NAME], **r.about}
                           for r in rows]
    where = (f"{figures['cases']} generated CT angiographies that were never trained on, "
             f"{figures['positive']} with clots, 4 scanners")
    finish(card, record, (
        "not validated on patients. Figures are of generated CT angiographies, seen by four "
        "invented scanners; see README.md here."
    ), [
        metric("AUC of a CT", figures["auc"], where),
        *called(figures, where),
        metric("AUC of a slice", figures["auc_of_slices"], where),
        metric("AUC of a CT, series oblique by 17 degrees",
               figures["oblique_by_17_degrees"]["auc"], where),
    ])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
