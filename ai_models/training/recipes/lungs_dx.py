"""Train lungs-dx, which outlines both lungs in a chest radiograph:
``python -m ai_models.training.recipes.lungs_dx --output DIR``.

Chests are drawn (`ai_models.training.phantoms.pneumoconiosis`). It is there so that another model
can look at the lungs alone (``input.crop`` of its card).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ai_models.backends.architectures import build
from ai_models.card import Card, load_card
from ai_models.prediction.preparing import prepare
from ai_models.predictor import Predictor
from ai_models.training.export import export_onnx
from ai_models.training.loop import Batch, Example, Examples, generator_of, train
from ai_models.training.metrics import bootstrap_interval, dice, rounded
from ai_models.training.phantoms.bones import XRAY_UNITS, random_unit
from ai_models.training.phantoms.pneumoconiosis import (
    LEFT_LUNG,
    RIGHT_LUNG,
    SPACING_MM,
    DrawnChest,
    chest_radiograph,
    random_chest,
)
from ai_models.training.recipes.changed_pictures import Changes, changed
from ai_models.training.recipes.scored_cases import metric, written_card
from ai_models.training.settings import Settings
from ai_models.training.tracking import Terminal
from ai_models.types import Image, SegmentationPrediction

CARDS = Path(__file__).parent / "cards"
MODEL_ID = "lungs-dx"
TRAIN, HELD_BACK = 400, 60
EDGES = (96, 96)
NETWORK: dict[str, Any] = {
    "spatial_dims": 2, "in_channels": 1, "out_channels": 3, "channels": [12, 24, 48, 64],
    "strides": [2, 2, 2], "num_res_units": 1,
}
SETTINGS = Settings(
    steps=500, batch=8, rate=3e-3, warm_up=40, weight_decay=1e-4, average=0.98,
    checkpoint_every=100, seed=20,
)
DATA = "drawn chest radiographs, PA, with and without small opacities"
SHORTCOMINGS = (
    "Drawn chests: nobody's lungs, never lying or turned to the side, without effusion, collapse, "
    "implants or anything on the skin. Figures say nothing of patients."
)
# Outlines would have to move with what moves.
_CHANGES = Changes(turn_degrees=0.0, shift=0.0, scale=0.0)


def drawn(number: int, *, held_back: bool) -> DrawnChest:
    """A chest of any profusion; held back ones as three units of their own see them."""
    seed = number + (900_000 if held_back else 700_000)
    rng = np.random.default_rng((seed, 7))
    unit = XRAY_UNITS[number % len(XRAY_UNITS)] if held_back else random_unit(rng)
    return chest_radiograph(seed, random_chest(rng, number % 4), unit)


def picture_of(chest: DrawnChest) -> Image:
    """As the node reads it."""
    return Image(chest.displayed, (SPACING_MM, SPACING_MM))


def _example_of(chest: DrawnChest, card: Card) -> tuple[npt.NDArray[np.float32], Any]:
    image = prepare(picture_of(chest), card).image.array
    at = [
        ((np.arange(edge) + 0.5) * length / edge).astype(int)
        for edge, length in zip(image.shape[1:], chest.lungs.shape, strict=True)
    ]
    return image, chest.lungs[np.ix_(at[0], at[1])].astype(np.int64)


def examples_of(card: Card, count: int) -> Examples:
    """The endless row of examples, each exposed otherwise."""
    kept = [_example_of(drawn(number, held_back=False), card) for number in range(count)]

    def example(number: int) -> Example:
        rng = generator_of(SETTINGS.seed, number)
        image, target = kept[int(rng.integers(len(kept)))]
        return {"image": changed(image, _CHANGES, rng), "target": target}

    return example


def _loss(network: nn.Module, batch: Batch) -> torch.Tensor:
    from monai.losses import DiceCELoss

    compare = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)
    loss: torch.Tensor = compare(network(batch["image"]), batch["target"][:, None])
    return loss


def measured(card: Card) -> dict[str, Any]:
    """Dice of both lungs in chests held back, and how often the rectangle about them has them."""
    predictor = Predictor(card)
    predictor.load()
    rows = []
    for number in range(HELD_BACK):
        chest = drawn(number, held_back=True)
        said = predictor.predict(picture_of(chest))
        if not isinstance(said, SegmentationPrediction):
            raise TypeError(f"{card.id} outlines nothing")
        outlines = said.label_map.reshape(chest.lungs.shape)
        rows.append([
            dice(outlines == value, chest.lungs == value) for value in (RIGHT_LUNG, LEFT_LUNG)
        ])
    predictor.close()
    return {
        "cases": len(rows),
        "dice_of_the_right_lung": rounded(
            bootstrap_interval(rows, lambda some: float(np.mean([row[0] for row in some])))),
        "dice_of_the_left_lung": rounded(
            bootstrap_interval(rows, lambda some: float(np.mean([row[1] for row in some])))),
    }


def make(output: Path, *, steps: int | None = None, count: int = TRAIN) -> Card:
    """Train, export and measure; writes ``output/lungs-dx`` and returns its card."""
    settings = SETTINGS if steps is None else replace(SETTINGS, steps=steps)
    before = load_card(CARDS / MODEL_ID)
    torch.manual_seed(settings.seed)
    network: nn.Module = build("monai.UNet", NETWORK)
    outcome = train(
        network, examples_of(before, count), _loss, settings, output / "run-lungs",
        trackers=[Terminal()],
    )
    folder = output / MODEL_ID
    folder.mkdir(parents=True, exist_ok=True)
    told = export_onnx(outcome.network, EDGES, folder / "weights.onnx")
    text = (CARDS / MODEL_ID / "model.yaml").read_text()
    path = folder / "model.yaml"
    path.write_text(written_card(text, str(told["sha256"]), "not yet measured", []))
    figures = measured(load_card(folder))
    (folder / "evaluation.json").write_text(json.dumps({
        "model": MODEL_ID, "weights_sha256": told["sha256"], "data": DATA,
        "shortcomings": SHORTCOMINGS, "held_back": figures,
    }, indent=1) + "\n")
    where = f"{figures['cases']} drawn chests"
    path.write_text(written_card(
        text, str(told["sha256"]), f"not validated for use on patients. {SHORTCOMINGS}",
        [metric(f"Dice of the {side} lung", figures[f"dice_of_the_{side}_lung"], where)
         for side in ("right", "left")],
    ))
    return load_card(folder)


def main(arguments: list[str] | None = None) -> int:
    """Train, measure on held-back chests, write the folder of the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    make(options.output, steps=options.steps)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
