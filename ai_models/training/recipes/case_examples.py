"""Phantoms as a model takes them, and the examples that training is given of them.

Inputs go to training by the very steps that the card asks for when the model is run
(`ai_models.prediction.preparing`), so what is learned is what is seen later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ai_models.card import Card
from ai_models.prediction.preparing import prepare
from ai_models.training.loop import Batch, Example, Examples, LossOf, generator_of
from ai_models.training.recipes.turned_series import on_grid_of, turned
from ai_models.training.settings import Settings
from ai_models.types import ModelInput

HARD_ONE_IN = 20
TRAINED_ON, VALIDATED_ON, CALIBRATED_ON, HELD_BACK = 0, 50_000, 70_000, 90_000
"""Seeds of the phantoms that are learned from, by which weights are chosen, by which scores are
made probabilities, and held back."""
UNKNOWN = 2
"""Of a slice of which nobody could say whether it shows what is looked for."""


@dataclass(frozen=True)
class Case:
    """One phantom as the model takes it, and the truth.

    Attributes
    ----------
    truth
        By the name of the score, 0 or 1.
    slices
        ``(slices,)`` of the input, 0 or 1, where the network answers each slice; -1: not counted.
    about
        For figures by subgroup: ``scanner``, ``kind``, ...
    """

    source: ModelInput
    truth: Mapping[str, float]
    slices: npt.NDArray[np.int8] | None = None
    about: Mapping[str, str] = field(default_factory=dict)
    mask: npt.NDArray[np.uint8] | None = None
    """On the grid of the reference: where what is scored lies. Only training looks at it."""
    is_unknown: bool = False
    """Nobody could say it of these images: every slice is learned as `UNKNOWN`."""


Draw = Callable[[int], Case]
"""The case of a seed; from `HELD_BACK` on as a scanner of its own sees it."""


@dataclass(frozen=True)
class Recipe:
    """What a model is made of.

    Attributes
    ----------
    model_id
        Of the card below ``ai_models/zoo``.
    command
        By which this is run again.
    augment
        Changes an example of training, given its random numbers.
    learner
        The network with what only training needs, from the network; it has it as ``network``.
    cells
        Of how many samples along (slice, row, column) a cell of ``example["cells"]`` is.
    loss_of, collate
        As `ai_models.training.loop.train` takes them.
    data
        What was trained on, in a sentence.
    turned
        Which share of what is learned from, and of that by which weights are chosen, is turned
        (`ai_models.training.recipes.turned_series`).
    least_area_mm2
        Of a network that answers each slice: from how much of the mask on a slice shows it.
    calibrated
        How many phantoms the scores are made probabilities by.
    """

    model_id: str
    command: str
    draw: Draw
    augment: Callable[[Example, np.random.Generator], Example]
    loss_of: LossOf
    collate: Callable[[list[Example]], Batch]
    learner: Callable[[torch.nn.Module], torch.nn.Module]
    cells: tuple[int, int, int]
    settings: Settings
    cases: int
    validated: int
    held_back: int
    data: str
    turned: float = 0.0
    least_area_mm2: float | None = None
    calibrated: int = 120


def example_of(case: Case, card: Card, recipe: Recipe) -> Example:
    """``image`` float16 ``(channels, slices, rows, columns)``, ``truth``, ``slices``, ``cells``.

    ``cells`` has one number for each cell of the network's grid: its samples in the mask.
    ``slices`` int8: 1 with so much of it that it counts, 0 with none, -1 in between: not counted.
    """
    prepared = prepare(case.source, card)
    truth = [case.truth[name] for name in card.output_names]
    example: Example = {
        "image": prepared.image.array.astype(np.float16),
        "truth": np.array(truth, dtype=np.float32),
    }
    if case.mask is not None:
        inside = on_grid_of(case.mask, prepared.source_affine, prepared.shape, prepared.affine)
        example["cells"] = counted(inside, recipe.cells)
        if recipe.least_area_mm2 is not None:
            steps = np.linalg.norm(prepared.affine[:3, 1:3], axis=0)
            area = inside.sum(axis=(1, 2)) * float(steps[0] * steps[1])
            shown = np.where(area >= recipe.least_area_mm2, 1, np.where(area > 0, -1, 0))
            example["slices"] = np.full_like(shown, UNKNOWN) if case.is_unknown else shown
            example["slices"] = example["slices"].astype(np.int8)
    return example


def counted(mask: npt.NDArray[np.uint8], cells: tuple[int, int, int]) -> npt.NDArray[np.uint16]:
    """How many samples of a mask lie in each cell; the last of an axis may be smaller."""
    lacking = [(0, -edge % cell) for edge, cell in zip(mask.shape, cells, strict=True)]
    padded = np.pad(mask, lacking)
    parts = [
        n for edge, cell in zip(padded.shape, cells, strict=True) for n in (edge // cell, cell)
    ]
    return np.asarray(padded.reshape(parts).sum(axis=(1, 3, 5), dtype=np.uint16))


def cell_loss(logits: torch.Tensor, counts: torch.Tensor, least: int) -> torch.Tensor:
    """Of cells with at least so many samples of the mask, and of those with none, alike.

    A cell with fewer is not counted: it shows the edge of something. Nearly all empty ones are
    easily told: those that look most like full ones count once more (Shrivastava et al., CVPR
    2016).
    """
    full, empty = counts >= least, counts == 0
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, full.to(logits.dtype), reduction="none"
    )
    of_empty = each[empty]
    if not of_empty.numel():
        return each[full].mean()
    hardest = of_empty.topk(max(1, of_empty.numel() // HARD_ONE_IN)).values.mean()
    lack = 0.25 * of_empty.mean() + 0.25 * hardest
    return lack + 0.5 * each[full].mean() if full.any() else lack


def learned_from(recipe: Recipe, seed: int) -> Case:
    """The case of ``seed``, turned where its turn has come."""
    case, rng = recipe.draw(seed), np.random.default_rng((seed, 17))
    if rng.random() >= recipe.turned:
        return case
    source, mask = turned(case.source, case.mask, rng)
    return replace(case, source=source, mask=mask, slices=None)


def cached(folder: Path, seed: int, recipe: Recipe, card: Card) -> Example:
    """`example_of` the case of ``seed``, kept in ``folder``."""
    path = folder / f"{seed:06d}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez(part, **example_of(learned_from(recipe, seed), card, recipe))
        part.replace(path)
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def examples(folder: Path, recipe: Recipe, card: Card) -> Examples:
    """The endless row of training examples: drawn once, augmented each time."""

    def example(number: int) -> Example:
        rng = generator_of(recipe.settings.seed, number)
        drawn = dict(cached(folder, TRAINED_ON + int(rng.integers(recipe.cases)), recipe, card))
        drawn["image"] = drawn["image"].astype(np.float32)
        return recipe.augment(drawn, rng)

    return example
