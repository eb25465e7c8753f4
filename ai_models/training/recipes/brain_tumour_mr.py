"""Train brain-tumour-mr: ``python -m ai_models.training.recipes.brain_tumour_mr --output DIR``.

Heads are drawn (`ai_models.training.phantoms.brain`), a quarter of them without a tumour. Every
slice is learned from by itself; of a series the slice with the lowest probability of no tumour
answers. What is held back is seen by scanners of its own. A run that was stopped goes on;
``--evaluate`` measures the weights of the card again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ai_models.training.phantoms.brain import (
    HEAD_SCANNERS,
    KINDS,
    brain_phantom,
    random_brain,
    random_head_scanner,
)
from ai_models.training.recipes.changed_pictures import Changes
from ai_models.training.recipes.scored_images import (
    ImageCase,
    ImageRecipe,
    Part,
    run_as_asked,
)
from ai_models.training.settings import Settings
from ai_models.types import Volume

FIRST_SEED: dict[Part, int] = {"train": 0, "validation": 50_000, "held_back": 170_000}


def draw(part: Part, number: int) -> ImageCase:
    """A head; the kinds take turns."""
    seed = FIRST_SEED[part] + number
    rng = np.random.default_rng((seed, 4))
    kind = KINDS[number % len(KINDS)]
    variation = random_brain(rng, kind)
    if part == "held_back":
        scanner = HEAD_SCANNERS[(number // len(KINDS)) % len(HEAD_SCANNERS)]
    else:
        scanner = random_head_scanner(rng)
    phantom = brain_phantom(seed, variation, scanner)
    return ImageCase(
        Volume(phantom.signal, phantom.affine_lps, "arbitrary"), float(KINDS.index(kind)),
        slices=phantom.slice_kinds(),
        about={"scanner": scanner.name,
               "tumour radius": "none" if kind == "none" else
               "below 13 mm" if variation.radius_mm < 13.0 else "from 13 mm on"},
    )


def recipe_of(data: Path | None = None) -> ImageRecipe:
    """The recipe; nothing is read."""
    return ImageRecipe(
        model_id="brain-tumour-mr",
        command="python -m ai_models.training.recipes.brain_tumour_mr --output DIR",
        draw=draw, counts={"train": 480, "validation": 96, "held_back": 120},
        settings=Settings(
            steps=1200, batch=32, rate=1.5e-3, warm_up=60, weight_decay=1e-3, average=0.99,
            validate_every=150, checkpoint_every=150, watch="auc", seed=20,
        ),
        # A slice with a normal gland is one of thirty without a tumour, and must not be called one.
        turns=(12, 1, 1, 1),
        changes=Changes(mirror=True, noise=0.04, contrast=0.3),
        data="drawn T1 MR of heads after contrast medium, a quarter of them without a tumour",
        shortcomings=(
            "Drawn heads: shapes, places and signal of tumours are invented, every kind is as "
            "common, and nothing is shown that is neither one of three tumours nor normal. "
            "Figures say nothing of patients."
        ),
        held_back="drawn heads, seen by three scanners of their own",
    )


def main(arguments: list[str] | None = None) -> int:
    """Train, measure on held-back heads, write the folder of the model."""
    return run_as_asked(recipe_of, __doc__, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
