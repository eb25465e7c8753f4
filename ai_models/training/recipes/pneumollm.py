"""The published recipe of PneumoLLM (arXiv 2312.03490), for a site's own radiographs:
``python -m ai_models.training.recipes.pneumollm --clip DIR --llama DIR --cases 1500 --output DIR``.

It writes ``recipe.yaml``, which ``dicom-node train`` takes. What the published training does by an
error can be had: its token engine never learned (``--engine-as-published``), and it classifies the
mean of all tokens where the paper says those of the diagnosis (``--pool``). It logged a number of
steps to accumulate that it never applied: here ``training.at_once`` says how many examples are
computed together, and the step stays one of the whole batch.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import yaml

from ai_models.card import load_card
from ai_models.training.augmentation import NONE
from ai_models.training.settings import Settings, TrainingError
from ai_models.types import ModelError

EPOCHS, BATCH, WARM_UP_EPOCHS = 100, 16, 2
RATE, FIRST_RATE, LAST_RATE = 3e-4, 5e-7, 1e-7
SEED = 20


def published_settings(
    cases: int, *, epochs: float = EPOCHS, batch: int = BATCH, validate_every: int = 0
) -> Settings:
    """AdamW (0.9, 0.95) with a decay of 0.02, cosine for each step from 3e-4 to 1e-7 after two
    epochs of rising from 5e-7; ``cases`` are those that are learned from.

    Raises
    ------
    TrainingError
        There are no cases.
    """
    if cases < 1:
        raise TrainingError("there is no case to train on")
    per_epoch = math.ceil(cases / batch)
    warm_up = WARM_UP_EPOCHS * per_epoch if epochs >= EPOCHS / 2 else per_epoch
    return Settings(
        steps=max(round(epochs * per_epoch), 1), batch=batch, rate=RATE, schedule="cosine",
        warm_up=warm_up, first_rate=FIRST_RATE, last_rate=LAST_RATE, second_beta=0.95,
        weight_decay=0.02, clip_norm=0.0, seed=SEED, watch="",
        checkpoint_every=per_epoch, validate_every=validate_every or per_epoch,
    )


def recipe_values(
    clip: Path, llama: Path, cases: int, *, lungs: Path | None = None, pool: str = "all",
    train_engine: bool = True, frozen: str = "bf16", llama_licence: str = "",
) -> dict[str, Any]:
    """Card and training, as ``dicom-node train`` reads them; folders by their whole path.

    Parameters
    ----------
    cases
        How many are learned from: epochs become steps by it.
    lungs
        Folder of a model that outlines lungs in radiographs as labels 1 and 2.
    llama_licence
        Of the LLaMA; empty: none, which keeps the model from a clinical site.

    Raises
    ------
    TrainingError, ModelError
        No cases; a folder is not there, or is of another model.
    """
    from ai_models.backends.frozen_parts import image_edge
    from ai_models.training.import_pneumollm import card_values

    settings = published_settings(cases)
    arguments = {"pool": pool, "train_engine": train_engine, "frozen": frozen}
    card = card_values("0" * 64, arguments, llama_licence)
    card["input"]["size"]["edges"] = [image_edge(clip, llama)] * 2
    card |= {"manufacturer": "this site", "name": "PneumoLLM, trained here"}
    for key in ("evidence", "weights"):
        del card[key]
    network = card["runtime"]["network"]
    for name, folder in (("clip", clip), ("llama", llama)):
        network["folders"][name]["path"] = str(folder.absolute())
    if lungs is not None:
        load_card(lungs)
        card["input"]["crop"] = {"model": str(lungs.absolute()), "labels": [1, 2]}
    known = {
        name: getattr(settings, name) for name in (
            "steps", "batch", "rate", "schedule", "warm_up", "first_rate", "last_rate",
            "second_beta", "weight_decay", "clip_norm", "seed", "checkpoint_every",
            "validate_every",
        )
    }
    # The published training changes no picture.
    augmentation = NONE.model_dump(mode="json")
    return {"card": card, "training": {**known, "loss": "bce", "augmentation": augmentation}}


def main(arguments: list[str] | None = None) -> int:
    """Write the recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--llama", type=Path, required=True)
    parser.add_argument("--cases", type=int, required=True, help="how many are learned from")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--lungs", type=Path, help="folder of a model that outlines lungs")
    parser.add_argument("--pool", choices=("all", "diagnosis"), default="all")
    parser.add_argument("--engine-as-published", action="store_true",
                        help="the token engine stays at its random beginning")
    parser.add_argument("--frozen", choices=("fp32", "bf16", "fp16"), default="bf16")
    parser.add_argument("--llama-licence", default="")
    options = parser.parse_args(arguments)
    try:
        values = recipe_values(
            options.clip, options.llama, options.cases, lungs=options.lungs, pool=options.pool,
            train_engine=not options.engine_as_published, frozen=options.frozen,
            llama_licence=options.llama_licence,
        )
    except (TrainingError, ModelError) as error:
        print(error, file=sys.stderr)
        return 1
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "recipe.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    print(f"{path}: now dicom-node train {path} --data TABLE --output DIR")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
