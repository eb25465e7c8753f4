"""Train pneumoconiosis-dx: ``python -m ai_models.training.recipes.pneumoconiosis_dx --output DIR``.

Chests are drawn (`ai_models.training.phantoms.pneumoconiosis`), half of them with opacities of
category 1 to 3. First a model is made that outlines the lungs, then a tiny CLIP and LLaMA, which
are frozen; on these hangs PneumoLLM, trained by the published recipe but for the rate and the
number of epochs. ``--evaluate`` measures the shipped weights again.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ai_models.backends.architectures import build
from ai_models.card import Card, load_card
from ai_models.catalog import ZOO
from ai_models.prediction.cropping import Cropper
from ai_models.prediction.preparing import prepare
from ai_models.training.beside import put_folders
from ai_models.training.loop import Example, Examples, generator_of, train
from ai_models.training.losses import loss_for
from ai_models.training.metrics import auc, bootstrap_interval, rounded
from ai_models.training.phantoms.bones import XRAY_UNITS, random_unit
from ai_models.training.phantoms.pneumoconiosis import (
    SPACING_MM,
    ChestVariation,
    DrawnChest,
    chest_radiograph,
    random_chest,
)
from ai_models.training.recipes import lungs_dx
from ai_models.training.recipes.changed_pictures import Changes, changed
from ai_models.training.recipes.image_figures import Answered, answers_of, finish
from ai_models.training.recipes.pneumoconiosis_parts import SIDE, Dust, write_parts
from ai_models.training.recipes.pneumollm import published_settings
from ai_models.training.recipes.scored_cases import write_weights, written_card
from ai_models.training.recipes.scored_images import PARTS, ImageCase, ImageRecipe, Part
from ai_models.training.torchvision_operators import declare_missing_operators
from ai_models.training.tracking import Terminal
from ai_models.types import FloatArray, Image

MODEL_ID = "pneumoconiosis-dx"
SCORE = "pneumoconiosis"
CARDS = Path(__file__).parent / "cards"
COUNTS: dict[Part, int] = {"train": 800, "validation": 160, "held_back": 240}
FIRST_SEED: dict[Part, int] = {"train": 0, "validation": 50_000, "held_back": 90_000}
DUSTY, FIRST_DUSTY = 700, 300_000
EPOCHS, RATE = 8, 1e-3
# Where it lies varies from chest to chest as it is, and the rectangle takes most of that away.
CHANGES = Changes(turn_degrees=0.0, shift=0.0, scale=0.0, noise=0.003, mirror=True)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def category_of(number: int) -> int:
    """Every second chest has no opacities, the others each category in turn."""
    return 0 if number % 2 == 0 else 1 + (number // 2) % 3


def drawn(part: Part, number: int) -> tuple[DrawnChest, ChestVariation, str]:
    """A chest, what it is, and the X-ray unit; held back ones are seen by three of their own."""
    seed = FIRST_SEED[part] + number
    rng = np.random.default_rng((seed, 3))
    variation = random_chest(rng, category_of(number))
    is_own = part == "held_back"
    unit = XRAY_UNITS[(number // 6) % len(XRAY_UNITS)] if is_own else random_unit(rng)
    return chest_radiograph(seed, variation, unit), variation, unit.name


def draw(part: Part, number: int) -> ImageCase:
    """The same as the model takes it."""
    chest, variation, unit = drawn(part, number)
    return ImageCase(
        Image(chest.displayed, (SPACING_MM, SPACING_MM)), float(variation.is_sick),
        about={"unit": unit},
    )


def recipe_of(_data: Path | None = None) -> ImageRecipe:
    """What is measured, of drawn chests only; see `make` for how it is trained."""
    settings = published_settings(COUNTS["train"], epochs=EPOCHS)
    # Not told of CHANGES: it learns from mirrored chests, too, and its gate declines them all the
    # same, for one whose heart lies on the right is more often mirrored than born so.
    return ImageRecipe(
        model_id=MODEL_ID,
        command="python -m ai_models.training.recipes.pneumoconiosis_dx --output DIR",
        draw=draw, counts=COUNTS,
        settings=replace(settings, rate=RATE, watch="chosen_by"),
        data="drawn chest radiographs, half of them with small rounded opacities of ILO category "
             "1 to 3",
        shortcomings=(
            "Drawn chests: how opacities look and how many a category has is invented, no other "
            "disease is among them, and nobody graded them. Figures say nothing of patients, nor "
            "of PneumoLLM on a CLIP and a LLaMA that have learned something."
        ),
        held_back="drawn chests, seen by three X-ray units of their own", steps=(0.3, 0.7),
    )


def pictures(card: Card, part: Part, folder: Path) -> tuple[npt.NDArray[np.float16], FloatArray]:
    """``(chests, EDGE, EDGE)`` as the card crops and scales them, before colours, and the truth;
    drawn once and kept in ``folder``."""
    path = folder / f"{part}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as kept:
            return kept["images"], kept["truth"]
    cropper = Cropper(card)
    cropper.load()
    images, truth = [], []
    for number in range(COUNTS[part]):
        case = draw(part, number)
        images.append(_grey(case.source, card, cropper))
        truth.append(case.truth)
    cropper.close()
    found = np.stack(images), np.array(truth, dtype=np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(path, images=found[0], truth=found[1])
    return found


def dusty(card: Card) -> Dust:
    """Chests for the tiny CLIP, with what lies behind each of its patches."""
    cropper = Cropper(card)
    cropper.load()
    images, dust = [], []
    for number in range(DUSTY):
        rng = np.random.default_rng((FIRST_DUSTY + number, 3))
        chest = chest_radiograph(
            FIRST_DUSTY + number, random_chest(rng, number % 4), random_unit(rng)
        )
        source = Image(chest.displayed, (SPACING_MM, SPACING_MM))
        images.append(_grey(source, card, cropper))
        window = cropper.find(source).window or (slice(None), slice(None))
        inside = torch.from_numpy(chest.opacities[window].copy())[None, None]
        dust.append(nn.functional.adaptive_avg_pool2d(inside, SIDE)[0, 0].numpy())
    cropper.close()
    return Dust(np.stack(images), np.stack(dust))


def _grey(source: Any, card: Card, cropper: Cropper) -> npt.NDArray[np.float16]:
    plain = card.input.model_copy(update={"repeat": 1, "normalisation": "none"})
    asked = card.model_copy(update={"input": plain})
    found = prepare(source, asked, cropper.find(source).window).image.array[0]
    return np.asarray(found, dtype=np.float16)


def in_colours(images: FloatArray) -> FloatArray:
    """``(..., 1, EDGE, EDGE)`` three times, normalised as the card says (ImageNet)."""
    mean, std = (np.array(one, dtype=np.float32).reshape(3, 1, 1) for one in (_MEAN, _STD))
    return np.asarray((images - mean) / std, dtype=np.float32)


def examples_of(images: npt.NDArray[np.float16], truth: FloatArray, seed: int) -> Examples:
    """The endless row of examples, each exposed otherwise, every second one mirrored."""
    groups = [np.flatnonzero(truth == one) for one in (0.0, 1.0)]

    def example(number: int) -> Example:
        rng = generator_of(seed, number)
        chosen = int(rng.choice(groups[number % 2]))
        image = changed(images[chosen][None].astype(np.float32), CHANGES, rng)
        return {"image": in_colours(image), "values": truth[chosen : chosen + 1]}

    return example


def validated(images: npt.NDArray[np.float16], truth: FloatArray) -> Any:
    """The mean of accuracy, sensitivity, specificity and AUC, by which the publication chooses."""

    def validate(network: nn.Module) -> Mapping[str, float]:
        with torch.no_grad():
            parts = [
                network(torch.from_numpy(in_colours(images[start : start + 40, None].astype("f4"))))
                for start in range(0, len(images), 40)
            ]
        score = torch.softmax(torch.cat(parts), dim=1)[:, 0].numpy()
        said, sick = score >= 0.5, truth > 0.5
        sensitivity, specificity = float(said[sick].mean()), float((~said[~sick]).mean())
        area = auc(truth.tolist(), score.tolist())
        four = [float((said == sick).mean()), sensitivity, specificity, area]
        return {"chosen_by": float(np.mean(four)), "auc": area}

    return validate


def by_category(rows: Sequence[Answered]) -> dict[str, Any]:
    """AUC of each category against chests without opacities."""
    marked = [(row, category_of(number)) for number, row in enumerate(rows)]
    figures = {}
    for category in (1, 2, 3):
        some = [(row.truth, row.scores[SCORE]) for row, one in marked if one in (0, category)]

        def area(chosen: Sequence[tuple[float, float]]) -> float:
            return auc([one for one, _ in chosen], [score for _, score in chosen])

        figures[str(category)] = rounded(bootstrap_interval(some, area))
    return figures


def make(output: Path, lungs: Path | None = None) -> Card:
    """Everything from nothing; writes ``output/pneumoconiosis-dx``. What was begun goes on."""
    declare_missing_operators()
    lungs = lungs or output / lungs_dx.MODEL_ID
    if not (lungs / "evaluation.json").exists():
        lungs_dx.make(output)
    folder, run = output / MODEL_ID, output / "run"
    folder.mkdir(parents=True, exist_ok=True)
    text = (CARDS / MODEL_ID / "model.yaml").read_text()
    card = _with_folders(text, folder, {"crop": lungs})
    parts = output / "parts"
    if not (parts / "llama" / "config.json").exists():
        write_parts(parts, dusty(card), run / "clip")
    card = _with_folders(text, folder, {
        "crop": lungs, "clip": parts / "clip", "llama": parts / "llama",
    })
    recipe = recipe_of()
    network = card.runtime.network
    if network is None:
        raise TypeError(f"{card.id} has no network")
    torch.manual_seed(recipe.settings.seed)
    folders = {name: folder / name for name in network.folders}
    module = build(network.name, network.arguments, folders)
    outcome = train(
        module, examples_of(*pictures(card, "train", run), recipe.settings.seed),
        loss_for(card, "bce"), recipe.settings, run,
        validate=validated(*pictures(card, "validation", run)), trackers=[Terminal()],
    )
    sha256 = write_weights(outcome.network, folder / "weights.safetensors")
    path = folder / "model.yaml"
    path.write_text(written_card(path.read_text(), sha256, "not yet measured", []))
    _record(folder, outcome.losses, outcome.validations, outcome.best_step, outcome.network)
    finish(recipe, load_card(folder), folder)
    return _measured_by_category(folder, folder)


def _with_folders(text: str, folder: Path, folders: Mapping[str, Path]) -> Card:
    """Put them beside the card and their digests into it."""
    values: dict[str, Any] = {
        "input": {"crop": {"model": str(folders["crop"].absolute())}},
        "runtime": {"network": {"folders": {
            name: {"path": str(one.absolute())} for name, one in folders.items() if name != "crop"
        }}},
    }
    for one in folders.values():
        # What an earlier run left may be of other weights.
        shutil.rmtree(folder / one.name, ignore_errors=True)
    put_folders(values, folder, folder)
    digests = {"crop": values["input"]["crop"]["sha256"]} | {
        name: part["sha256"] for name, part in values["runtime"]["network"]["folders"].items()
    }
    for name, digest in digests.items():
        text = re.sub(rf'(\b{name}: {{[^}}]*sha256: )"[0-9a-f]{{64}}"', rf'\1"{digest}"', text)
    (folder / "model.yaml").write_text(text)
    return load_card(folder)


def _record(
    folder: Path, losses: Sequence[float], validations: Sequence[Mapping[str, float]], best: int,
    network: nn.Module,
) -> None:
    trained = sum(one.numel() for one in network.parameters() if one.requires_grad)
    (folder / "training.json").write_text(json.dumps({
        "model": MODEL_ID, "settings": asdict(recipe_of().settings),
        "torch": torch.__version__, "threads": torch.get_num_threads(),
        "parameters": {"trained": trained,
                       "frozen": sum(one.numel() for one in network.parameters()) - trained},
        "cases": {part: COUNTS[part] for part in PARTS}, "chests_that_clip_saw": DUSTY,
        "best_step": best, "losses": [round(one, 5) for one in losses],
        "validations": list(validations),
    }, indent=1) + "\n")


def _measured_by_category(folder: Path, output: Path) -> Card:
    card = load_card(folder)
    path = output / "evaluation.json"
    told = json.loads(path.read_text())
    told["held_back"]["auc_by_category"] = by_category(answers_of(recipe_of(), card, "held_back"))
    path.write_text(json.dumps(told, indent=1) + "\n")
    return card


def main(arguments: list[str] | None = None) -> int:
    """Train and measure, or measure what is shipped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--lungs", type=Path, help="a folder of lungs-dx that is there already")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--evaluate", action="store_true", help=(
        "train nothing: write DIR/evaluation.json of the shipped weights"
    ))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.evaluate:
        finish(recipe_of(), load_card(ZOO / MODEL_ID), options.output, only_measure=True)
        _measured_by_category(ZOO / MODEL_ID, options.output)
        return 0
    make(options.output, options.lungs)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
