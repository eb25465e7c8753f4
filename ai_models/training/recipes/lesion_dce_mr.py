"""Train lesion-dce-mr: ``python -m ai_models.training.recipes.lesion_dce_mr --output DIR``.

Dynamic series of the breasts are drawn (`ai_models.training.phantoms.dynamic`): a quarter without a
lesion, a quarter each with one that goes on enhancing, stays, or washes out. The network sees each
phase with the same convolutions and remembers along the phases, so their order matters. The result
is the folder of the model with its card, weights, and ``training.json``. A run that was stopped
goes on.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ai_models.catalog import ZOO
from ai_models.training.loop import Batch, Example
from ai_models.training.phantoms.dynamic import (
    KINDS,
    MR_SCANNERS,
    MrScanner,
    dynamic_phantom,
    random_dynamic,
)
from ai_models.training.recipes.scored_cases import (
    HELD_BACK,
    Case,
    Recipe,
    figures_of,
    finish,
    measured,
    metric,
    run,
)
from ai_models.training.settings import Settings
from ai_models.types import JointInput, Volume

LESION, WASHOUT = "enhancing_lesion", "washout_lesion"
FEWEST_PHASES = 4


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
    )


def augment(example: Example, rng: np.random.Generator) -> Example:
    """Mirror, move, change contrast and noise, and end earlier."""
    image = example["image"]
    count = int(rng.integers(FEWEST_PHASES + 1, image.shape[0] + 1))
    image = image[:count]
    if rng.random() < 0.5:
        image = image[..., ::-1]
    if rng.random() < 0.5:
        image = image[:, ::-1]
    move = (int(rng.integers(-2, 3)), int(rng.integers(-4, 5)), int(rng.integers(-6, 7)))
    image = np.roll(image, move, axis=(1, 2, 3)) * float(rng.uniform(0.8, 1.2))
    image = image + float(rng.gamma(1.5, 0.006)) * rng.standard_normal(image.shape, np.float32)
    return {**example, "image": image.astype(np.float32)}


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
        "lengths": torch.tensor([one["image"].shape[0] for one in some]),
    }


def loss_of(network: nn.Module, batch: Batch) -> torch.Tensor:
    """Of both scores alike."""
    logits = network(batch["image"], batch["lengths"]).float()
    return functional.binary_cross_entropy_with_logits(logits, batch["truth"])


RECIPE = Recipe(
    model_id="lesion-dce-mr",
    command="python -m ai_models.training.recipes.lesion_dce_mr --output DIR",
    draw=draw, augment=augment, loss_of=loss_of, collate=collate,
    settings=Settings(
        steps=600, batch=4, rate=2e-3, warm_up=30, average=0.98,
        validate_every=100, watch="auc", seed=20,
    ),
    cases=400, validated=60, held_back=160,
    data="generated dynamic contrast series of the breasts, with lesions of three kinds of curve",
)


def main(arguments: list[str] | None = None) -> int:
    """Train, measure on held-back phantoms, write the folder of the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--card", type=Path, default=ZOO, help="folder with the folder of the card")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=RECIPE.settings.steps)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    recipe = replace(RECIPE, settings=replace(RECIPE.settings, steps=options.steps))
    card, record = run(recipe, options.output, options.card)
    seeds = range(HELD_BACK, HELD_BACK + recipe.held_back)
    rows = measured(card, ((seed, draw(seed)) for seed in seeds))
    figures = {name: figures_of(rows, name) for name in (LESION, WASHOUT)}
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
        metric("AUC of a lesion that washes out", washout["auc"], of_washout),
        metric("Sensitivity for wash-out at 0.5", washout["sensitivity_at_0.5"], of_washout),
        metric("Specificity for wash-out at 0.5", washout["specificity_at_0.5"], of_washout),
    ])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
