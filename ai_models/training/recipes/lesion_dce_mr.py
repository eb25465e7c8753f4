"""Train lesion-dce-mr: ``python -m ai_models.training.recipes.lesion_dce_mr --output DIR``.

Dynamic series of the breasts are drawn (`ai_models.training.phantoms.dynamic`): a quarter without a
lesion, a quarter each with one that goes on enhancing, stays, or washes out. The network sees each
phase with the same convolutions and remembers along the phases, so their order matters. The result
is the folder of the model with its card, weights, and ``training.json``. A run that was stopped
goes on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ai_models.card import Card
from ai_models.training.loop import Batch, Example
from ai_models.training.phantoms.dynamic import (
    KINDS,
    MR_SCANNERS,
    MrScanner,
    dynamic_phantom,
    random_dynamic,
)
from ai_models.training.recipes.case_examples import (
    CALIBRATED_ON,
    HELD_BACK,
    Case,
    Recipe,
    cell_loss,
)
from ai_models.training.recipes.scored_cases import (
    answering_oblique,
    calibrated,
    called,
    finish,
    measured,
    metric,
    run_as_asked,
    straight_and_turned,
    turned_by,
)
from ai_models.training.recipes.scored_figures import Row, figures_of
from ai_models.training.settings import Settings
from ai_models.types import JointInput, Volume

LESION, WASHOUT = "enhancing_lesion", "washout_lesion"
FEWEST_PHASES = 4
# Of a cell of the network's last maps, and how many of its samples make it one with a lesion.
CELL, FULL_CELL = 8, 6


def draw(seed: int) -> Case:
    """A dynamic series; the seed says of which kind: `KINDS` in turn."""
    rng = np.random.default_rng((seed, 8))
    kind = KINDS[seed % len(KINDS)]
    if seed >= HELD_BACK:
        scanner = MR_SCANNERS[(seed // len(KINDS)) % len(MR_SCANNERS)]
    else:
        step = float(rng.uniform(1.8, 3.0))
        scanner = MrScanner(
            "training", "Phantom Works", "Any", 1.5, (float(rng.uniform(2.5, 4.5)), step, step),
            noise=float(rng.uniform(2.0, 12.0)), bias=float(rng.uniform(0.0, 0.3)),
            gain=float(rng.uniform(0.5, 4.0)),
        )
    spacing = scanner.spacing_mm
    shape = (round(112.0 / spacing[0]), round(200.0 / spacing[1]), round(350.0 / spacing[2]))
    phantom = dynamic_phantom(seed, shape, spacing, random_dynamic(rng, kind), scanner)
    phases = tuple(Volume(one, phantom.affine_lps, "arbitrary") for one in phantom.phases)
    return Case(
        JointInput(phases[0], phases=phases, times_s=phantom.times_s),
        {LESION: float(kind != "none"), WASHOUT: float(kind == "wash-out")},
        about={"kind": kind, "scanner": scanner.name, "field": f"{scanner.field_t:g} T"},
        mask=phantom.lesion,
    )


def augment(example: Example, rng: np.random.Generator) -> Example:
    """Mirror, change contrast and noise, and end earlier."""
    image, cells = example["image"], example["cells"]
    count = int(rng.integers(FEWEST_PHASES + 1, image.shape[0] + 1))
    image = image[:count]
    if rng.random() < 0.5:
        image, cells = image[..., ::-1], cells[..., ::-1]
    if rng.random() < 0.5:
        image, cells = image[:, ::-1], cells[::-1]
    # By whole cells, so that these stay where they are.
    move = int(rng.integers(-1, 2))
    image, cells = np.roll(image, CELL * move, axis=3), np.roll(cells, move, axis=2)
    image = image * float(rng.uniform(0.8, 1.2))
    image = image + float(rng.gamma(1.5, 0.006)) * rng.standard_normal(image.shape, np.float32)
    return {
        **example, "image": image.astype(np.float32), "cells": cells.astype(np.float32),
    }


def collate(some: list[Example]) -> Batch:
    """Padded with phases at the end; ``lengths`` says how many each has."""
    most = max(one["image"].shape[0] for one in some)
    images = [
        np.pad(one["image"], ((0, most - one["image"].shape[0]), (0, 0), (0, 0), (0, 0)))
        for one in some
    ]
    return {
        "image": torch.from_numpy(np.stack(images)),
        "truth": torch.from_numpy(np.stack([one["truth"] for one in some])),
        "cells": torch.from_numpy(np.stack([one["cells"] for one in some])),
        "lengths": torch.tensor([one["image"].shape[0] for one in some]),
    }


class Learner(nn.Module):
    """The network, and where in a phase it sees the lesion: that is told in training only."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        last = [one for one in network.modules() if isinstance(one, nn.Conv3d)][-1]
        self.cells = nn.Conv3d(last.out_channels, 1, 1)

    def forward(
        self, image: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits ``(batch, scores)`` and those of cells ``(phases there are, ...)``."""
        maps: list[torch.Tensor] = []
        look = self.network.get_submodule("look")
        handle = look.register_forward_hook(lambda _module, _input, output: maps.append(output))
        try:
            logits = self.network(image, lengths)
        finally:
            handle.remove()
        return logits, self.cells(maps[0])[:, 0]


def loss_of(learner: nn.Module, batch: Batch) -> torch.Tensor:
    """Of both scores alike, and of where the lesion is, once contrast medium is there."""
    logits, cells = learner(batch["image"], batch["lengths"])
    scores = functional.binary_cross_entropy_with_logits(logits.float(), batch["truth"])
    of_phase = torch.cat([
        torch.arange(int(length)) for length in batch["lengths"]
    ])
    counts = batch["cells"].repeat_interleave(batch["lengths"], dim=0)
    late = of_phase > 0
    return scores + cell_loss(cells[late].float(), counts[late], FULL_CELL)


RECIPE = Recipe(
    model_id="lesion-dce-mr",
    command="python -m ai_models.training.recipes.lesion_dce_mr --output DIR",
    draw=draw, augment=augment, loss_of=loss_of, collate=collate,
    learner=Learner, cells=(CELL, CELL, CELL),
    settings=Settings(
        steps=600, batch=4, rate=2e-3, warm_up=30, average=0.98,
        validate_every=100, watch="auc", seed=20,
    ),
    cases=200, validated=48, held_back=96, calibrated=80,
    data="generated dynamic contrast series of the breasts, with lesions of three kinds of curve",
)


def main(arguments: list[str] | None = None) -> int:
    """Train, calibrate, measure on held-back phantoms, write the folder of the model."""
    card, record = run_as_asked(RECIPE, __doc__, arguments)
    seeds = range(CALIBRATED_ON, CALIBRATED_ON + RECIPE.calibrated)
    card = calibrated(card, record, ((seed, draw(seed)) for seed in seeds))
    seeds = range(HELD_BACK, HELD_BACK + RECIPE.held_back)
    rows = measured(card, ((seed, draw(seed)) for seed in seeds))
    some = seeds[: RECIPE.held_back // 2]
    oblique = measured(
        answering_oblique(card), turned_by(17.0, ((seed, draw(seed)) for seed in some))
    )
    tell(card, record, rows, oblique)
    return 0


def tell(card: Card, record: dict[str, Any], rows: list[Row], oblique: list[Row]) -> None:
    """Write what was measured, straight and oblique, into the folder of the model."""
    figures = {name: figures_of(rows, name) for name in (LESION, WASHOUT)}
    for name, of_score in figures.items():
        of_score["oblique_by_17_degrees"] = straight_and_turned(rows, oblique, name)
    record["measured"] = figures
    record["held_back"] = [{"seed": r.seed, **r.scores, **r.about} for r in rows]
    lesions, washout = figures[LESION], figures[WASHOUT]
    where = f"{lesions['cases']} generated series never trained on, {{}}, 3 scanners"
    of_lesions = where.format(f"{lesions['positive']} with a lesion")
    of_washout = where.format(f"{washout['positive']} with one that washes out")
    finish(card, record, (
        "not validated on patients. Figures are of generated dynamic series, seen by three "
        "invented scanners; see README.md here."
    ), [
        metric("AUC of an enhancing lesion", lesions["auc"], of_lesions),
        *called(lesions, of_lesions, " for an enhancing lesion"),
        metric("AUC of a lesion that washes out", washout["auc"], of_washout),
        *called(washout, of_washout, " for wash-out"),
        *(metric(f"AUC of {name}, series oblique by 17 degrees",
                 of_score["oblique_by_17_degrees"]["auc"], f"the first {len(oblique)} of {of}")
          for name, of_score, of in (("an enhancing lesion", lesions, of_lesions),
                                     ("wash-out", washout, of_washout))),
    ])


if __name__ == "__main__":
    raise SystemExit(main())
