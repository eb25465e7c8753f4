"""Train a small backbone on pictures, or on the slices of volumes, and write its model folder.

Pictures go to training by the very steps that the card asks for when the model is run
(`ai_models.prediction.preparing`). Three parts are kept apart: ``train`` is learned from;
``validation`` chooses weights, temperature and thresholds; ``held_back`` is looked at once, by
`ai_models.training.recipes.image_figures`. A run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from ai_models.card import Card, ClassificationCard, RegressionCard, load_card
from ai_models.catalog import ZOO
from ai_models.networks.backbones import build_backbone
from ai_models.prediction.preparing import prepare
from ai_models.training.export import export_onnx
from ai_models.training.loop import Batch, Example, Examples, Outcome, Validate, generator_of, train
from ai_models.training.metrics import auc, mean_absolute_error
from ai_models.training.recipes.changed_pictures import Changes, changed
from ai_models.training.recipes.scored_cases import written_card
from ai_models.training.settings import Settings, TrainingError
from ai_models.training.torchvision_operators import declare_missing_operators
from ai_models.training.tracking import Terminal
from ai_models.types import FloatArray, Image, Volume

CARDS = Path(__file__).parent / "cards"
"""Of models that are not shipped: a recipe makes them, and their cards have no figures yet."""
Part = Literal["train", "validation", "held_back"]
PARTS: tuple[Part, ...] = ("train", "validation", "held_back")
# Of so many examples the network is told nothing of the patient.
_UNKNOWN = 0.15


@dataclass(frozen=True)
class ImageCase:
    """One picture or volume as the model takes it, and the truth.

    Attributes
    ----------
    truth
        The place of its class among the card's scores, of one score 0 or 1; of a regression the
        number in the card's unit.
    slices
        ``(slices,)`` of a volume: the class of each; -1: not learned from.
    about
        For figures by subgroup: ``scanner``, ``sex``, ...
    """

    source: Image | Volume
    truth: float
    slices: npt.NDArray[np.int8] | None = None
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageRecipe:
    """What a model of pictures is made of.

    Attributes
    ----------
    model_id
        Of the card below ``ai_models/zoo``.
    draw
        The case of a number in a part; of ``held_back`` as scanners of its own see it.
    counts
        How many cases each part has.
    backbone
        One of `ai_models.networks.backbones.BACKBONES`.
    data, shortcomings
        What it was trained on, and what that cannot show; in sentences.
    held_back
        What the held-back cases are, in a few words: ``drawn heads``.
    steps
        Probabilities between which the report says ``undetermined``, if it does.
    turns
        Of how many examples each class has its turn, in the order of the card: all as often if
        empty. What must be told apart by a small part of a class needs many of that class.
    network
        Made of the card in place of the bare backbone.
    also
        Ways to change what is held back, each measured as well, by what people call them.
    """

    model_id: str
    command: str
    draw: Callable[[Part, int], ImageCase]
    counts: Mapping[Part, int]
    settings: Settings
    data: str
    shortcomings: str
    held_back: str
    backbone: str = "mobilenet_v3_small"
    changes: Changes = field(default_factory=Changes)
    steps: tuple[float, float] | None = None
    turns: tuple[int, ...] = ()
    network: Callable[[Card], nn.Module] | None = None
    also: Mapping[str, Callable[[ImageCase], ImageCase]] = field(default_factory=dict)


@dataclass(frozen=True)
class Pictures:
    """A part as the network sees it.

    ``images`` is float16 ``(examples, channels, rows, columns)``, ``truth`` float32
    ``(examples,)``: a class, or what the network is to answer.
    """

    images: npt.NDArray[np.float16]
    truth: FloatArray


def pictures(recipe: ImageRecipe, card: Card, part: Part, folder: Path) -> Pictures:
    """All examples of a part; drawn once and kept in ``folder``."""
    path = folder / f"{part}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as kept:
            return Pictures(kept["images"], kept["truth"])
    images: list[npt.NDArray[np.float16]] = []
    truth: list[float] = []
    for number in range(recipe.counts[part]):
        for image, known in examples_of(recipe.draw(part, number), card):
            images.append(image)
            truth.append(known)
    found = Pictures(np.stack(images), np.array(truth, dtype=np.float32))
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(path, images=found.images, truth=found.truth)
    return found


def examples_of(case: ImageCase, card: Card) -> list[tuple[npt.NDArray[np.float16], float]]:
    """``(channels, rows, columns)`` as the card prepares it, with its truth; of a volume each
    slice whose class is known."""
    array = prepare(case.source, card).image.array.astype(np.float16)
    if case.slices is None:
        return [(array, _target(case.truth, card))]
    if array.shape[1] != len(case.slices):
        raise TrainingError("slices are learned from as they are: the card must not resample them")
    return [(array[:, i], float(known)) for i, known in enumerate(case.slices) if known >= 0]


def _target(truth: float, card: Card) -> float:
    if isinstance(card, RegressionCard):
        entry = card.output.quantities[0]
        return (truth - entry.offset) / entry.factor
    return truth


def drawn_examples(
    found: Pictures, settings: Settings, changes: Changes, *, balanced: bool, facts: int = 0,
    turns: Sequence[int] = (),
) -> Examples:
    """The endless row of examples: where ``balanced`` one of each class by turns, or as many as
    ``turns`` says of each.

    The last ``facts`` channels are what is known of the patient: at times nothing is.
    """
    groups = [np.arange(len(found.truth))]
    if balanced:
        groups = [np.flatnonzero(found.truth == one) for one in np.unique(found.truth)]
        if turns:
            groups = [group for group, often in zip(groups, turns, strict=True)
                      for _ in range(often)]

    def example(number: int) -> Example:
        rng = generator_of(settings.seed, number)
        chosen = int(rng.choice(groups[number % len(groups)]))
        image = found.images[chosen].astype(np.float32)
        shown = len(image) - facts
        image[:shown] = changed(image[:shown], changes, rng)
        if facts and rng.random() < _UNKNOWN:
            image[shown:] = 0.0
        return {"image": image, "truth": found.truth[chosen]}

    return example


def loss_for(card: Card) -> Callable[[nn.Module, Batch], torch.Tensor]:
    """Cross entropy of one or of several classes; of numbers the Huber loss."""
    is_number = isinstance(card, RegressionCard)
    is_binary = isinstance(card, ClassificationCard) and card.output.activation == "sigmoid"

    def loss_of(network: nn.Module, batch: Batch) -> torch.Tensor:
        answer = network(batch["image"]).float()
        if is_number:
            return functional.smooth_l1_loss(answer[:, 0], batch["truth"], beta=0.1)
        if is_binary:
            return functional.binary_cross_entropy_with_logits(answer[:, 0], batch["truth"])
        return functional.cross_entropy(answer, batch["truth"].long(), label_smoothing=0.02)

    if not is_number and getattr(card.output, "activation", "") == "none":
        raise TrainingError(f"{card.id}: logits are trained, and the card has probabilities")
    return loss_of


def validate_on(found: Pictures, card: Card) -> Validate:
    """Mean AUC of each class against the others, or the mean absolute error in the card's unit."""

    def validate(network: nn.Module) -> Mapping[str, float]:
        answers = answered(network, found.images)
        if isinstance(card, RegressionCard):
            factor = abs(card.output.quantities[0].factor)
            error = mean_absolute_error(found.truth.tolist(), answers[:, 0].tolist())
            return {"error": error * factor}
        if answers.shape[1] == 1:
            return {"auc": auc(found.truth.tolist(), answers[:, 0].tolist())}
        likely = torch.softmax(torch.from_numpy(answers), dim=1).numpy()
        areas = [
            auc((found.truth == one).astype(float).tolist(), likely[:, one].tolist())
            for one in range(answers.shape[1])
        ]
        return {"auc": float(np.mean(areas))}

    return validate


def answered(network: nn.Module, images: npt.NDArray[np.float16], batch: int = 64) -> FloatArray:
    """``(examples, channels out)`` of a network in evaluation mode."""
    network.eval()
    with torch.no_grad():
        parts = [
            network(torch.from_numpy(images[start : start + batch].astype(np.float32))).numpy()
            for start in range(0, len(images), batch)
        ]
    return np.asarray(np.concatenate(parts), dtype=np.float32)


def network_of(recipe: ImageRecipe, card: Card) -> nn.Module:
    """The backbone for as many channels as the card gives and asks for, with random weights."""
    declare_missing_operators()
    torch.manual_seed(recipe.settings.seed)
    if recipe.network is not None:
        return with_quick_statistics(recipe.network(card))
    channels = getattr(card.output, "channels", 1)
    bare = build_backbone(recipe.backbone, channels, card.input.channel_counts[1])
    return with_quick_statistics(bare)


def with_quick_statistics(network: nn.Module) -> nn.Module:
    """The same network, whose normalisation follows what it sees within tens of steps.

    Of MobileNet it takes hundreds, made for a million images: a run as short as these would be
    measured with means and deviations of its beginning.
    """
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = 0.1
    return network


def trained(recipe: ImageRecipe, card: Card, folder: Path) -> Outcome:
    """Train the backbone; what was begun in ``folder`` goes on."""
    learned = pictures(recipe, card, "train", folder)
    chosen_by = pictures(recipe, card, "validation", folder)
    examples = drawn_examples(
        learned, recipe.settings, recipe.changes, balanced=isinstance(card, ClassificationCard),
        facts=card.input.constant_channels, turns=recipe.turns,
    )
    return train(
        network_of(recipe, card), examples, loss_for(card), recipe.settings, folder,
        validate=validate_on(chosen_by, card), trackers=[Terminal()],
    )


def card_folder(model_id: str, asked: Path | None = None) -> Path:
    """Where the card of a recipe lies: below ``asked``, else of the shipped model, else here."""
    if asked is not None:
        return asked / model_id
    shipped = ZOO / model_id
    return shipped if shipped.exists() else CARDS / model_id


def with_temperature(text: str, temperature: float) -> str:
    """A card whose scores are all calibrated by one temperature."""
    return re.sub(
        r"(calibration: \{temperature: )[0-9.]+", lambda found: f"{found[1]}{temperature:.4f}", text
    )


def run(recipe: ImageRecipe, output: Path, card_at: Path) -> tuple[Card, dict[str, Any]]:
    """Train, write ``output/ID`` without its figures, and open its card; with the record.

    ``card_at`` is the folder of the card to begin with.
    """
    before = load_card(card_at)
    started, spent = time.perf_counter(), time.process_time()
    outcome = trained(recipe, before, output / "run")
    folder = output / recipe.model_id
    folder.mkdir(parents=True, exist_ok=True)
    size = before.input.size
    if size is None:
        raise TrainingError(f"{before.id}: input.size says how large the network's pictures are")
    told = export_onnx(
        outcome.network, size.edges, folder / "weights.onnx", before.input.channel_counts[1]
    )
    text = (card_at / "model.yaml").read_text()
    text = written_card(with_temperature(text, 1.0), str(told["sha256"]), "not measured yet", [])
    (folder / "model.yaml").write_text(text)
    every = max(1, len(outcome.losses) // 60)
    record = {
        "model": recipe.model_id,
        "command": recipe.command,
        "data": recipe.data,
        "shortcomings": recipe.shortcomings,
        "cases": dict(recipe.counts),
        "backbone": recipe.backbone,
        "changes": dict(vars(recipe.changes)),
        "settings": dict(vars(recipe.settings)),
        "parameters": sum(one.numel() for one in outcome.network.parameters()),
        "weights": told,
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
    (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    return load_card(folder), record


def run_as_asked(
    made: Callable[[Path | None], ImageRecipe], description: str | None,
    arguments: Sequence[str] | None, *, needs_data: bool = False,
) -> int:
    """Train and measure, or only measure a model folder that is there, as the command line asks.

    ``made`` gives the recipe; with ``needs_data`` it is told where the data lies.
    """
    from ai_models.training.recipes.image_figures import finish

    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--card", type=Path, help="folder with the folder of another card")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--evaluate", action="store_true", help=(
        "train nothing: write DIR/evaluation.json of the weights that are with the card"
    ))
    if needs_data:
        parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    recipe = made(options.data if needs_data else None)
    if options.steps is not None:
        recipe = replace(recipe, settings=replace(recipe.settings, steps=options.steps))
    if options.evaluate:
        card = load_card(card_folder(recipe.model_id, options.card))
        finish(recipe, card, options.output, only_measure=True)
        return 0
    card, _ = run(recipe, options.output, card_folder(recipe.model_id, options.card))
    finish(recipe, card, card.folder)
    return 0
