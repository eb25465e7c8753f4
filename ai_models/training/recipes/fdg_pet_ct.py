"""Train fdg-pet-ct: ``python -m ai_models.training.recipes.fdg_pet_ct --output DIR``.

Pairs of PET and CT are drawn (`ai_models.training.phantoms.pet`), half of them with a malignant
lesion. In training the PET and what is known of the patient are left out at random, so the network
has an answer for every lack; what each lack costs is measured and told. The result is the folder of
the model with its card, weights, and ``training.json``. A run that was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import default_collate

from ai_models.card import Card
from ai_models.training.loop import Batch, Example
from ai_models.training.metrics import age_band
from ai_models.training.phantoms.pet import (
    PET_SCANNERS,
    Patient,
    PetScanner,
    petct_phantom,
    random_petct,
)
from ai_models.training.phantoms.scanners import SCANNERS, random_scanner
from ai_models.training.recipes.case_examples import (
    CALIBRATED_ON,
    HELD_BACK,
    Case,
    Recipe,
    cell_loss,
)
from ai_models.training.recipes.scored_cases import (
    answering_always,
    calibrated,
    called,
    finish,
    measured,
    metric,
    run_as_asked,
)
from ai_models.training.recipes.scored_figures import Row, figures_of
from ai_models.training.settings import Settings
from ai_models.types import JointInput, Volume

NAME = "malignant_lesion"
IMAGES = 2
# Of a cell of the network's last maps, and how many of its samples make it one with a lesion.
CELL, FULL_CELL = 8, 6


def draw(seed: int) -> Case:
    """A PET-CT; of odd seeds with a malignant lesion."""
    rng = np.random.default_rng((seed, 9))
    variation = random_petct(rng, malignant=seed % 2 == 1)
    if seed >= HELD_BACK:
        scanner = SCANNERS[(seed // 2) % len(SCANNERS)]
        pet = PET_SCANNERS[(seed // 8) % len(PET_SCANNERS)]
        spacing = (3.5, 2.4, 2.4)
        shape, scanner = (84, 120, 150), replace(scanner, spacing_mm=spacing)
    else:
        spacing = (4.0, 3.0, 3.0)
        shape, scanner = (72, 96, 120), random_scanner(rng, spacing)
        step = float(rng.uniform(3.0, 5.5))
        pet = PetScanner(
            "training", "Phantom Works", "Any", (step, step, step),
            float(rng.uniform(4.5, 8.0)), float(rng.uniform(0.05, 0.25)),
        )
    phantom = petct_phantom(seed, shape, spacing, variation, scanner, pet)
    source = JointInput(
        Volume(phantom.volume_hu, phantom.ct_affine_lps),
        companions={"pt": Volume(phantom.suv, phantom.pet_affine_lps, "SUVbw")},
        clinical=clinical_of(variation.patient),
    )
    kind = "malignant" if variation.malignant else "benign" if variation.lesion else "no lesion"
    return Case(source, {NAME: float(variation.malignant)}, about={
        "kind": kind, "scanner": scanner.name, "pet": pet.name,
        "sex": variation.patient.sex or "unknown", "age": age_band(variation.patient.age_y),
    }, mask=phantom.lesion)


def clinical_of(patient: Patient) -> dict[str, float | None]:
    """As the card has it, of what is known."""
    sex = {"F": -1.0, "M": 1.0}.get(patient.sex or "")
    smokes = None if patient.smokes is None else 1.0 if patient.smokes else -1.0
    return {"age": patient.age_y, "sex": sex, "smoking": smokes}


def without(case: Case, *, pet: bool = False, clinical: bool = False) -> Case:
    """The same patient of whom less is there: no ``pet``, nothing ``clinical``."""
    source = case.source
    if not isinstance(source, JointInput):
        raise TypeError("a PET-CT is a joint input")
    return replace(case, source=replace(
        source,
        companions={"pt": None} if pet else source.companions,
        clinical=dict.fromkeys(source.clinical) if clinical else source.clinical,
    ))


def augment(example: Example, rng: np.random.Generator) -> Example:
    """Mirror and move both images, change contrast and noise of each; the facts stay."""
    image, cells = example["image"].copy(), example["cells"]
    shown = image[:IMAGES]
    if rng.random() < 0.5:
        shown, cells = shown[..., ::-1], cells[..., ::-1]
    # By whole cells, so that these stay where they are.
    move = (0, int(rng.integers(-1, 2)), int(rng.integers(-1, 2)))
    shown = np.roll(shown, [CELL * one for one in move], axis=(1, 2, 3))
    cells = np.roll(cells, move, axis=(0, 1, 2))
    for number, noise in enumerate((0.01, 0.006)):
        grain = rng.standard_normal(shown.shape[1:], np.float32)
        scale = float(rng.uniform(0.95, 1.05) if number == 0 else rng.uniform(0.88, 1.12))
        image[number] = shown[number] * scale + float(rng.gamma(1.5, noise)) * grain
    return {
        **example, "image": image.astype(np.float32), "cells": cells.astype(np.float32),
    }


class Learner(nn.Module):
    """The network, and where each series shows the lesion: that is told in training only."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        last = [one for one in network.modules() if isinstance(one, nn.Conv3d)][-1]
        self.cells = nn.ModuleList(nn.Conv3d(last.out_channels, 1, 1) for _ in range(IMAGES))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Logits ``(batch, 1)``, and those of the cells of CT and PET ``(batch, ...)``."""
        maps: list[torch.Tensor] = []
        handles = [
            self.network.get_submodule(f"look.{number}.body").register_forward_hook(
                lambda _module, _input, output: maps.append(output)
            )
            for number in range(IMAGES)
        ]
        try:
            logits = self.network(image)
        finally:
            for handle in handles:
                handle.remove()
        return logits, [
            cells(shown)[:, 0] for cells, shown in zip(self.cells, maps, strict=True)
        ]


def loss_of(learner: nn.Module, batch: Batch) -> torch.Tensor:
    """Of the score; of where the CT shows a lesion; of where the PET shows a malignant one."""
    logits, (ct, pet) = learner(batch["image"])
    score = functional.binary_cross_entropy_with_logits(logits.float(), batch["truth"])
    malignant = batch["cells"] * batch["truth"][:, :, None, None]
    return (
        score + 0.5 * cell_loss(ct.float(), batch["cells"], FULL_CELL)
        + 0.5 * cell_loss(pet.float(), malignant, FULL_CELL)
    )


RECIPE = Recipe(
    model_id="fdg-pet-ct",
    command="python -m ai_models.training.recipes.fdg_pet_ct --output DIR",
    draw=draw, augment=augment, loss_of=loss_of, collate=default_collate,
    learner=Learner, cells=(CELL, CELL, CELL),
    settings=Settings(
        steps=300, batch=4, rate=2e-3, warm_up=30, average=0.98, validate_every=100, watch="auc",
        seed=20,
    ),
    cases=300, validated=48, held_back=96, calibrated=80,
    data="generated pairs of FDG PET and CT of the chest, half of them with a malignant lesion",
)


def main(arguments: list[str] | None = None) -> int:
    """Train, calibrate, measure on held-back phantoms with and without PET, write the folder."""
    card, record = run_as_asked(RECIPE, __doc__, arguments)

    seeds = range(CALIBRATED_ON, CALIBRATED_ON + RECIPE.calibrated)
    # Of half of them nothing is known but the images.
    card = calibrated(card, record, (
        (seed, without(draw(seed), clinical=seed % 4 > 1)) for seed in seeds
    ))

    def cases(lacking: dict[str, bool]) -> Iterator[tuple[int, Case]]:
        for seed in range(HELD_BACK, HELD_BACK + RECIPE.held_back):
            yield seed, without(drawn[seed], **lacking)

    drawn = {s: draw(s) for s in range(HELD_BACK, HELD_BACK + RECIPE.held_back)}
    lacks = {
        "everything": {}, "no PET": {"pet": True}, "nothing clinical": {"clinical": True},
        "CT alone": {"pet": True, "clinical": True},
    }
    # Without PET nothing is told; what would be shows why.
    asked = answering_always(card)
    tell(card, record, {name: measured(asked, cases(lack)) for name, lack in lacks.items()})
    return 0


def tell(card: Card, record: dict[str, Any], rows: Mapping[str, list[Row]]) -> None:
    """Write what was measured with everything and with each lack into the folder of the model."""
    figures = {name: figures_of(some, NAME) for name, some in rows.items()}
    record["measured"] = figures
    record["held_back"] = [
        {"seed": one.seed, "truth": one.truth[NAME], **one.about,
         **{name: some[i].scores[NAME] for name, some in rows.items()}}
        for i, one in enumerate(rows["everything"])
    ]
    whole = figures["everything"]
    where = (f"{whole['cases']} generated PET-CTs never trained on, {whole['positive']} with a "
             "malignant lesion, {}")
    finish(card, record, (
        "not validated on patients. Figures are of generated PET-CTs; the numbers behind them are "
        "invented. See README.md here."
    ), [
        metric("AUC", whole["auc"], where.format("with PET and what was known")),
        *called(whole, where.format("with PET and what was known")),
        metric("AUC without age, sex, smoking", figures["nothing clinical"]["auc"],
               where.format("CT and PET")),
        metric("AUC without PET, which is told as undetermined", figures["no PET"]["auc"],
               where.format("CT and what was known")),
        metric("AUC of CT alone, which is told as undetermined", figures["CT alone"]["auc"],
               where.format("CT alone")),
    ])


if __name__ == "__main__":
    raise SystemExit(main())
