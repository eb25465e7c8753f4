"""Train and measure a network that scores whole examinations, on phantoms that a recipe draws.

Inputs go to training by the very steps that the card asks for when the model is run
(`ai_models.prediction.preparing`), so what is learned is what is seen later. What is measured is
measured with `ai_models.predictor`, on phantoms of seeds of their own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from ai_models.backends.architectures import build
from ai_models.card import Card, load_card
from ai_models.catalog import ZOO
from ai_models.prediction.preparing import prepare
from ai_models.prediction.scores import source_slices
from ai_models.predictor import Predictor
from ai_models.training.loop import Batch, Example, Examples, LossOf, Outcome, generator_of, train
from ai_models.training.metrics import (
    auc,
    bootstrap_interval,
    by_subgroup,
    rounded,
    sensitivity_at_specificity,
    sensitivity_specificity,
)
from ai_models.training.settings import Settings
from ai_models.training.tracking import Terminal
from ai_models.types import Affine, ClassificationPrediction, FloatArray, ModelInput

HARD_ONE_IN = 20
TRAINED_ON, VALIDATED_ON, HELD_BACK = 0, 50_000, 90_000
"""Seeds of the phantoms that are learned from, by which weights are chosen, and held back."""


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


def example_of(case: Case, card: Card, cells: tuple[int, int, int]) -> Example:
    """``image`` float16 ``(channels, slices, rows, columns)``, ``truth``, ``slices``, ``cells``.

    ``cells`` has one number for each cell of the network's grid: its samples in the mask.
    """
    prepared = prepare(case.source, card)
    truth = [case.truth[name] for name in card.output_names]
    example: Example = {
        "image": prepared.image.array.astype(np.float16),
        "truth": np.array(truth, dtype=np.float32),
    }
    if case.slices is not None:
        own = np.full(prepared.shape[0], -1, dtype=np.int8)
        for there, found in enumerate(source_slices(prepared) or []):
            own[found] = np.maximum(own[found], case.slices[there])
        example["slices"] = own
    if case.mask is not None:
        inside = on_grid_of(case.mask, prepared.source_affine, prepared.shape, prepared.affine)
        example["cells"] = counted(inside, cells)
    return example


def on_grid_of(
    mask: npt.NDArray[np.uint8], affine: Affine, shape: tuple[int, int, int], to_affine: Affine
) -> npt.NDArray[np.uint8]:
    """A mask on another grid, each sample that of the nearest voxel; both affines to mm in LPS."""
    back = np.linalg.inv(affine) @ to_affine
    return np.asarray(ndimage.affine_transform(
        mask, back[:3, :3], back[:3, 3], shape, order=0, mode="constant"
    ))


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


def cached(folder: Path, seed: int, recipe: Recipe, card: Card) -> Example:
    """`example_of` the case of ``seed``, kept in ``folder``."""
    path = folder / f"{seed:06d}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez(part, **example_of(recipe.draw(seed), card, recipe.cells))
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


def validate_on(
    folder: Path, recipe: Recipe, card: Card
) -> Callable[[torch.nn.Module], Mapping[str, float]]:
    """AUC of every score on phantoms that training does not see, and their mean."""
    kept = [cached(folder, VALIDATED_ON + i, recipe, card) for i in range(recipe.validated)]

    def validate(learner: torch.nn.Module) -> Mapping[str, float]:
        scores = np.array([_scores(inner(learner), one) for one in kept])
        truth = np.array([one["truth"] for one in kept])
        figures = {
            f"auc of {name}": auc(truth[:, i].tolist(), scores[:, i].tolist())
            for i, name in enumerate(card.output_names)
        }
        return {"auc": float(np.mean(list(figures.values()))), **figures}

    return validate


def inner(learner: torch.nn.Module) -> torch.nn.Module:
    """The network alone, without what only training needs."""
    network = learner.network
    if not isinstance(network, torch.nn.Module):
        raise TypeError("a learner has the network as its part")
    return network


def _scores(network: torch.nn.Module, example: Example) -> FloatArray:
    image = torch.from_numpy(example["image"].astype(np.float32))[None]
    logits = network(image)[0].float()
    return np.asarray((logits.amax(dim=0) if logits.ndim == 2 else logits).numpy())


def trained(recipe: Recipe, card: Card, folder: Path) -> Outcome:
    """Train the network of ``card``; what was begun in ``folder`` goes on."""
    if card.runtime.network is None:
        raise ValueError(f"{card.id} says no runtime.network")
    torch.manual_seed(recipe.settings.seed)
    network = build(card.runtime.network.name, card.runtime.network.arguments)
    cases = folder / "cases"
    return train(
        recipe.learner(network), examples(cases, recipe, card), recipe.loss_of, recipe.settings,
        folder, validate=validate_on(cases, recipe, card), trackers=[Terminal()],
        collate=recipe.collate,
    )


def write_weights(network: torch.nn.Module, path: Path) -> str:
    """As safetensors; returns their SHA-256."""
    from safetensors.torch import save_file

    save_file({name: one.contiguous() for name, one in network.state_dict().items()}, str(path))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def written_card(text: str, sha256: str, validated_on: str, metrics: Sequence[Mapping[str, Any]]
                 ) -> str:
    """The card of another training: its digest, and what was measured."""
    lines = [
        "  metrics:" if metrics else "  metrics: []",
        *(f"    - {{name: {json.dumps(one['name'])}, value: {one['value']}, "
          f"measured_on: {json.dumps(one['measured_on'])}}}" for one in metrics),
    ]
    evidence = f"evidence:\n  validated_on: >-\n    {validated_on}\n" + "\n".join(lines) + "\n"
    text = re.sub(r"(?ms)^evidence:\n.*?(?=^\w)", lambda _: evidence, text)
    return re.sub(r'(?m)^(  sha256: )"[0-9a-f]{64}"', lambda found: f'{found[1]}"{sha256}"', text)


@dataclass(frozen=True)
class Row:
    """What the model said of one held-back case."""

    seed: int
    scores: Mapping[str, float]
    truth: Mapping[str, float]
    about: Mapping[str, str]
    by_slice: tuple[tuple[float, float], ...] = ()


def measured(card: Card, cases: Iterable[tuple[int, Case]]) -> list[Row]:
    """What the model says of these cases, by the way every input goes."""
    predictor = Predictor(card)
    predictor.load()
    rows = []
    try:
        for seed, case in cases:
            answer = predictor.predict(case.source)
            if not isinstance(answer, ClassificationPrediction):
                raise TypeError(f"{card.id} is a {card.task}")
            slices: list[tuple[float, float]] = []
            if case.slices is not None:
                said = answer.by_slice[card.output_names[0]]
                slices = [
                    (float(truth), round(float(score), 4))
                    for truth, score in zip(case.slices, said, strict=True) if truth >= 0
                ]
            scores = {name: round(score, 5) for name, score in answer.scores.items()}
            rows.append(Row(seed, scores, case.truth, case.about, tuple(slices)))
    finally:
        predictor.close()
    return rows


def figures_of(rows: Sequence[Row], name: str) -> dict[str, Any]:
    """AUC, sensitivity at 90 % specificity, both at 0.5, with intervals; by subgroup the AUC."""

    def area(some: Sequence[Row]) -> float:
        return auc([one.truth[name] for one in some], [one.scores[name] for one in some])

    def at_specificity(some: Sequence[Row]) -> float:
        return sensitivity_at_specificity(
            [one.truth[name] for one in some], [one.scores[name] for one in some]
        )

    def called(part: int) -> Callable[[Sequence[Row]], float]:
        return lambda some: sensitivity_specificity(
            [one.truth[name] for one in some], [one.scores[name] for one in some]
        )[part]

    return {
        "cases": len(rows),
        "positive": int(sum(one.truth[name] for one in rows)),
        "auc": rounded(bootstrap_interval(rows, area)),
        "sensitivity_at_90_percent_specificity": rounded(bootstrap_interval(rows, at_specificity)),
        "sensitivity_at_0.5": rounded(bootstrap_interval(rows, called(0))),
        "specificity_at_0.5": rounded(bootstrap_interval(rows, called(1))),
        "auc_by": by_subgroup(rows, [one.about for one in rows], area),
    }


def run_as_asked(
    recipe: Recipe, description: str | None, arguments: Sequence[str] | None
) -> tuple[Card, dict[str, Any]]:
    """`run` by the command line that every recipe has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--card", type=Path, default=ZOO, help="folder with the folder of the card")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=recipe.settings.steps)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    asked = replace(recipe, settings=replace(recipe.settings, steps=options.steps))
    return run(asked, options.output, options.card)


def run(recipe: Recipe, output: Path, zoo: Path) -> tuple[Card, dict[str, Any]]:
    """Train, write the folder of the model without its figures, and open its card."""
    before = load_card(zoo / recipe.model_id)
    started, spent = time.perf_counter(), time.process_time()
    outcome = trained(recipe, before, output / "run")
    folder = output / recipe.model_id
    folder.mkdir(parents=True, exist_ok=True)
    network = inner(outcome.network)
    sha256 = write_weights(network, folder / "weights.safetensors")
    text = (zoo / recipe.model_id / "model.yaml").read_text()
    (folder / "model.yaml").write_text(written_card(text, sha256, "not measured yet", []))
    every = max(1, len(outcome.losses) // 60)
    record = {
        "model": recipe.model_id,
        "command": recipe.command,
        "data": recipe.data,
        "phantoms": {
            "trained_on": recipe.cases, "chosen_by": recipe.validated,
            "held_back": recipe.held_back,
        },
        "settings": dict(vars(recipe.settings)),
        "parameters": sum(one.numel() for one in network.parameters()),
        "weights_sha256": sha256,
        "seconds": round(time.perf_counter() - started, 1),
        "processor_seconds": round(time.process_time() - spent, 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "best_step": outcome.best_step,
        "losses": {
            str(i): round(float(np.mean(outcome.losses[max(0, i - every + 1) : i + 1])), 4)
            for i in range(every - 1, len(outcome.losses), every)
        },
        "validations": outcome.validations,
    }
    return load_card(folder), record


def finish(
    card: Card, record: Mapping[str, Any], validated_on: str, metrics: Sequence[Mapping[str, Any]]
) -> None:
    """Write what was measured into the card and into ``training.json`` beside it."""
    path = card.folder / "model.yaml"
    text = written_card(path.read_text(), str(record["weights_sha256"]), validated_on, metrics)
    path.write_text(text)
    (card.folder / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    load_card(card.folder)


def metric(name: str, figure: Mapping[str, float | None], measured_on: str) -> dict[str, Any]:
    """One line of a card from a figure with its interval."""
    low, high = figure["low"], figure["high"]
    known = low is not None and high is not None
    interval = f"95 % interval {low:.3f} to {high:.3f}" if known else "too few for an interval"
    where = f"{measured_on}; {interval}"
    return {"name": name, "value": round(float(figure["value"] or 0.0), 3), "measured_on": where}
