"""Train wrist-osteopenia-dx: ``python -m ai_models.training.recipes.wrist_osteopenia_dx
--output DIR``.

Wrists are drawn (`ai_models.training.phantoms.wrists`), every second one with bones that lack
mineral, and the collimator leaves more or less of them. ``--evaluate`` measures the weights of the
card again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ai_models.training.phantoms.bones import XRAY_UNITS, random_unit
from ai_models.training.phantoms.wrists import random_wrist, wrist_radiograph
from ai_models.training.recipes.changed_pictures import Changes
from ai_models.training.recipes.scored_images import (
    ImageCase,
    ImageRecipe,
    Part,
    run_as_asked,
)
from ai_models.training.settings import Settings
from ai_models.types import FloatArray, Image

FIRST_SEED: dict[Part, int] = {"train": 0, "validation": 50_000, "held_back": 130_000}
SPACING_MM = 0.75
# Of the edge: how much a collimator cuts from each side at most, and a shutter leaves black.
_CUT, _BLACK = 0.18, 0.18


def collimated(shown: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A picture ``(rows, columns)`` of which sides are cut, or which has black ones: how large a
    wrist is in the picture then says nothing, and an empty edge neither."""
    most = rng.uniform(0.0, _CUT)
    sides = []
    for edge in shown.shape:
        first, last = (round(edge * float(rng.uniform(0.0, most))) for _ in range(2))
        sides.append(slice(first, edge - last))
    shown = shown[sides[0], sides[1]]
    if rng.random() < 0.5:
        most = rng.uniform(0.0, _BLACK)
        black = rng.uniform(0.0, most, (2, 2)) * np.array(shown.shape)[:, None]
        shown = np.pad(shown, np.rint(black).astype(int).tolist())
    return np.ascontiguousarray(shown, dtype=np.float32)


def draw(part: Part, number: int) -> ImageCase:
    """A wrist; of odd numbers one that lacks mineral."""
    seed = FIRST_SEED[part] + number
    rng = np.random.default_rng((seed, 6))
    variation = random_wrist(rng, low=number % 2 == 1)
    is_own = part == "held_back"
    unit = XRAY_UNITS[(number // 2) % len(XRAY_UNITS)] if is_own else random_unit(rng)
    shown = collimated(wrist_radiograph(seed, variation, unit, SPACING_MM), rng)
    return ImageCase(
        Image(shown, (SPACING_MM, SPACING_MM)), float(variation.is_low),
        about={"unit": unit.name},
    )


def recipe_of(data: Path | None = None) -> ImageRecipe:
    """The recipe; nothing is read."""
    return ImageRecipe(
        model_id="wrist-osteopenia-dx",
        command="python -m ai_models.training.recipes.wrist_osteopenia_dx --output DIR",
        draw=draw, counts={"train": 1200, "validation": 150, "held_back": 240},
        settings=Settings(
            steps=900, batch=32, rate=1.5e-3, warm_up=50, weight_decay=1e-3, average=0.99,
            validate_every=180, checkpoint_every=180, watch="auc", seed=20,
        ),
        changes=Changes(turn_degrees=6.0, shift=0.03, scale=0.06, mirror=True, noise=0.01),
        data="drawn radiographs of grown wrists, half of them with bones that lack mineral",
        shortcomings=(
            "Drawn wrists: how bones look that lack mineral is invented, nobody's density was "
            "measured, half a standard deviation about the limit is left out, and no wrist is "
            "broken or in plaster. Figures say nothing of patients."
        ),
        held_back="drawn wrists, seen by three X-ray units of their own",
        steps=(0.3, 0.7),
    )


def main(arguments: list[str] | None = None) -> int:
    """Train, measure on held-back wrists, write the folder of the model."""
    return run_as_asked(recipe_of, __doc__, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
