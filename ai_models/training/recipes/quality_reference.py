"""Write what the quality gate of a model of pictures compares with: ``input.quality.likeness``.

    python -m ai_models.training.recipes.quality_reference MODEL [--data FILE]

``MODEL`` is the folder of a model that a recipe of pictures made; its card has ``input.quality``.
The space is that of the part ``train``, limits are chosen on ``validation`` so that each refuses
one in 200 of its cases at most, and ``held_back`` is only measured. Writes ``quality.npy`` beside
the card and its digest and limits into it, and the share refused into ``evaluation.json``. The
recipes do this themselves.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ai_models.card import CARD_NAME, Card, load_card
from ai_models.monitoring.exposure import chosen_ranges, exposure_of, told_limits
from ai_models.monitoring.likeness import (
    LearnedSpace,
    chosen_limits,
    learned_space,
    small_picture,
    write_space,
)
from ai_models.prediction.cropping import Cropper
from ai_models.prediction.preparing import Prepared, prepare
from ai_models.prediction.quality import QualityGate
from ai_models.training.recipes.scored_images import ImageRecipe, Part
from ai_models.training.settings import TrainingError
from ai_models.types import FloatArray, ModelError, ModelInput

REFERENCE = "quality.npy"
_MOST_CASES = 4000
Limits = dict[str, float | tuple[float, float]]
_LIKENESS = re.compile(r"^( +likeness:) .*$", re.MULTILINE)


class Shown:
    """What the network of a card is shown: with ``input.crop`` the part that is looked at.

    Raises
    ------
    ModelError
        As `Cropper.load`.
    """

    def __init__(self, card: Card) -> None:
        self._card = card
        self._cropper = Cropper(card)
        self._cropper.load()

    def prepared(self, source: ModelInput) -> Prepared:
        """As the node prepares it. ModelError as `Cropper.find` and `prepare`."""
        return prepare(source, self._card, self._cropper.find(source).window)

    def slices_of(self, source: ModelInput) -> FloatArray:
        """``(slices, rows, columns)`` of the first channel; one of an image."""
        first: FloatArray = self.prepared(source).image.array[0]
        return first[None] if first.ndim == 2 else first


def learned(recipe: ImageRecipe, shown: Shown) -> LearnedSpace:
    """The space of what the model learned from; mirrored, too, where it was."""
    smalls: list[npt.NDArray[np.float64]] = []
    for number in range(min(recipe.counts["train"], _MOST_CASES)):
        slices = shown.slices_of(recipe.draw("train", number).source)
        smalls += [one for one in map(small_picture, slices) if one is not None]
    if recipe.changes.mirror:
        smalls += [one[:, ::-1] for one in smalls]
    return learned_space(np.stack(smalls))


def with_likeness(text: str, sha256: str, limits: Limits) -> str:
    """The text of a card whose ``input.quality.likeness`` is this.

    Raises
    ------
    TrainingError
        The card has no such line.
    """
    line = f'{{reference: {REFERENCE}, sha256: "{sha256}", {told_limits(limits)}}}'
    changed, count = _LIKENESS.subn(lambda found: f"{found[1]} {line}", text)
    if count != 1:
        raise TrainingError("one line `likeness: {...}` below input.quality expected in the card")
    return changed


def write_quality(recipe: ImageRecipe, card: Card) -> Card:
    """Write ``quality.npy`` and what belongs to it into the card; the card as it is then.

    A card without ``input.quality.likeness`` stays as it is.
    """
    if card.input.quality is None or card.input.quality.likeness is None:
        return card
    shown = Shown(card)
    space = learned(recipe, shown)
    sha256 = write_space(card.folder / REFERENCE, space)
    choosing = [
        shown.slices_of(recipe.draw("validation", number).source)
        for number in range(recipe.counts["validation"])
    ]
    limits: Limits = chosen_limits(
        [space.distances(one) for one in choosing], mirrored=not recipe.changes.mirror
    ) | chosen_ranges([one for one in map(exposure_of, choosing) if one is not None])
    path = card.folder / CARD_NAME
    path.write_text(with_likeness(path.read_text("utf-8"), sha256, limits), encoding="utf-8")
    return load_card(card.folder)


def refused_share(recipe: ImageRecipe, card: Card, part: Part = "held_back") -> dict[str, Any]:
    """How many cases of a part the pictures' gate refuses, with a 95 % interval, and why.

    Headers are not among it: drawn cases have none.
    """
    gate = QualityGate(card)
    gate.load()
    shown = Shown(card)
    reasons: dict[str, int] = {}
    count = recipe.counts[part]
    for number in range(count):
        source = recipe.draw(part, number).source
        try:
            gate.check(source, shown.prepared(source))
        except ModelError as error:
            reasons[error.reason] = reasons.get(error.reason, 0) + 1
    refused = sum(reasons.values())
    low, high = exact_interval(refused, count)
    return {"cases": count, "refused": refused, "share": round(refused / count, 4),
            "low": round(low, 4), "high": round(high, 4), "reasons": reasons}


def exact_interval(count: int, of: int) -> tuple[float, float]:
    """95 % interval of a share (Clopper and Pearson, Biometrika 26, 1934): exact where none of the
    cases is, which a bootstrap would call certain."""
    from scipy.stats import beta

    low = float(beta.ppf(0.025, count, of - count + 1)) if count else 0.0
    high = float(beta.ppf(0.975, count + 1, of - count)) if count < of else 1.0
    return low, high


def recipe_for(model_id: str, data: Path | None) -> ImageRecipe:
    """The recipe of a model by its id.

    Raises
    ------
    TrainingError
        None of these recipes makes it.
    """
    name = f"ai_models.training.recipes.{model_id.replace('-', '_')}"
    try:
        recipe: ImageRecipe = importlib.import_module(name).recipe_of(data)
    except (ImportError, AttributeError) as error:
        raise TrainingError(f"no recipe of pictures makes {model_id}") from error
    return recipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Learn, choose, measure, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="folder of a model")
    parser.add_argument("--data", type=Path, help="where its recipe needs a file")
    options = parser.parse_args(arguments)
    card = load_card(options.model)
    recipe = recipe_for(card.id, options.data)
    card = write_quality(recipe, card)
    told = refused_share(recipe, card)
    path = options.model / "evaluation.json"
    measured = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(measured | {"quality_gate": told}, indent=1) + "\n")
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
