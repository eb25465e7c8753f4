"""Measure the models of real images once more, by the weights that are here.

    python -m ai_models.training.accuracy --data FOLDER

``FOLDER`` has, anywhere below it, ``pneumoniamnist.npz`` (or ``pneumoniamnist_trainval.npz``) and
``val_patches.h5``. A table of what was held back is printed; the exit code is 1 where a figure is
not the one that ``evaluation.json`` of the model or its card has.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ai_models.card import load_card
from ai_models.catalog import ZOO
from ai_models.training.settings import TrainingError

PNEUMONIA, LUNG_TUMOUR = "pneumonia-dx", "lung-tumour-patch"
_FILES: Mapping[str, tuple[str, ...]] = {
    PNEUMONIA: ("pneumoniamnist.npz", "pneumoniamnist_trainval.npz"),
    LUNG_TUMOUR: ("val_patches.h5",),
}
# Figures have three digits behind the point where people read them.
_ROUNDING = 0.001
_NAMES = {
    "auc": "AUC", "sensitivity": "sensitivity", "specificity": "specificity",
    "calibration_error": "calibration error", "dice": "Dice", "iou": "IoU",
    "share_of_tumour_found": "share of the tumour found",
    "empty_left_empty": "pieces without a tumour left empty",
}
Figure = Mapping[str, float | None]


@dataclass(frozen=True)
class Row:
    """One figure, as it is measured now, as the record has it, and as the card has it."""

    model: str
    cases: int
    name: str
    now: Figure
    recorded: Figure
    card: float | None = None

    @property
    def differs(self) -> bool:
        """Whether more than rounding lies between them."""
        pairs = [(self.now[one], self.recorded.get(one)) for one in ("value", "low", "high")]
        if self.card is not None:
            pairs.append((self.now["value"], self.card))
        return any(not _alike(one, other) for one, other in pairs)


def _alike(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= _ROUNDING


def file_below(folder: Path, names: Sequence[str]) -> Path:
    """The first file of one of these names.

    Raises
    ------
    TrainingError
        There is none.
    """
    for name in names:
        if found := sorted(folder.rglob(name)):
            return found[0]
    raise TrainingError(f"no {' or '.join(names)} below {folder}")


def pneumonia(path: Path) -> list[Row]:
    """Of pneumonia-dx, by the predictor that the node has."""
    from ai_models.training.recipes.image_figures import evaluated
    from ai_models.training.recipes.pneumonia_dx import recipe_of

    card = load_card(ZOO / PNEUMONIA)
    now = evaluated(recipe_of(path), card)["held_back"]
    record = json.loads((card.folder / "evaluation.json").read_text())
    _check_weights(record["weights_sha256"], card.weights.sha256)
    told = {one.name: one.value for one in card.evidence.metrics}
    return [
        Row(PNEUMONIA, now["cases"], _NAMES[key], now["scores"][score][key],
            record["held_back"]["scores"][score][key],
            told.get(f"{_NAMES[key][0].upper()}{_NAMES[key][1:]} of {score}"))
        for score in now["scores"]
        for key in ("auc", "sensitivity", "specificity", "calibration_error")
    ]


def lung_tumour(path: Path) -> list[Row]:
    """Of the network of pieces of CT slices, which has no card."""
    from ai_models.training.recipes.lung_tumour_patch import KEPT, evaluated

    now = evaluated(path)
    record = json.loads((KEPT / "evaluation.json").read_text())
    return [
        Row(f"{LUNG_TUMOUR}{told}", now[part]["pieces"], _NAMES[key], now[part][key],
            record[part][key])
        for part, told in (("held_back", ""), ("without_learning", ", nothing learned"))
        for key in ("dice", "iou", "share_of_tumour_found", "empty_left_empty")
    ]


def _check_weights(measured: str, shipped: str | None) -> None:
    if measured != shipped:
        raise TrainingError("evaluation.json is of other weights than the card")


def table(rows: Sequence[Row]) -> str:
    """As Markdown."""
    lines = ["| model | held back | figure | measured now (95 % interval) | recorded | card |",
             "|---|---|---|---|---|---|"]
    for row in rows:
        card = "" if row.card is None else f"{row.card:.3f}"
        lines.append(f"| {row.model} | {row.cases} | {row.name} | {_text(row.now)} | "
                     f"{_text(row.recorded)}{' **differs**' if row.differs else ''} | {card} |")
    return "\n".join(lines)


def _text(figure: Figure) -> str:
    value, low, high = (figure.get(one) for one in ("value", "low", "high"))
    if value is None:
        return "none"
    bounds = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return f"{value:.3f}{bounds}"


def main(arguments: list[str] | None = None) -> int:
    """Measure and compare; 1: a figure differs, 2: it could not be measured."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True,
                        help="a folder with pneumoniamnist.npz and val_patches.h5 below it")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        # Both are looked for before either is measured.
        pictures, patches = (
            file_below(options.data, _FILES[one]) for one in (PNEUMONIA, LUNG_TUMOUR)
        )
        rows = [*pneumonia(pictures), *lung_tumour(patches)]
    except TrainingError as error:
        print(f"accuracy: {error}", file=sys.stderr)
        return 2
    print(table(rows))
    differing = sum(row.differs for row in rows)
    print(f"\n{differing} of {len(rows)} figures differ from what is recorded")
    return int(differing > 0)


if __name__ == "__main__":
    raise SystemExit(main())
