"""What pretraining is worth on little data: ``python -m ai_models.training.recipes.transfer``.

    python -m ai_models.training.recipes.transfer --output DIR --fractions 5 --seeds 5

After the experiments of RadiologyNET (Napravnik et al., Scientific Reports 15:21622, 2025): the
same backbone begins from a file of pretrained weights, from one of ImageNet, or from random numbers
(*arms*); each learns from a part of the data, at the rate of a grid that is best on validation,
until validation no longer improves; over several seeds. ``DIR/transfer.json`` and ``transfer.md``
have means and intervals of AUC on what was held back.

Without ``--pretrained`` one arm is a backbone that this command pretrains itself on drawn wrists of
another question: how old the hand is (`ai_models.training.phantoms.hands`). That is **not**
RadiologyNET, and says nothing of it. What is learned then is whether drawn wrists lack mineral. A
run that was stopped goes on with the next that is not there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn

from ai_models.networks.backbones import build_backbone, family_of
from ai_models.training.loop import Batch, Outcome, train
from ai_models.training.metrics import auc
from ai_models.training.phantoms.bones import random_unit
from ai_models.training.phantoms.hands import hand_radiograph, random_hand
from ai_models.training.phantoms.wrists import random_wrist, wrist_radiograph
from ai_models.training.pretrained import Origin, load_pretrained
from ai_models.training.recipes.changed_pictures import Changes
from ai_models.training.recipes.scored_images import (
    Pictures,
    answered,
    drawn_examples,
    with_quick_statistics,
)
from ai_models.training.settings import Settings
from ai_models.training.torchvision_operators import declare_missing_operators

EDGES = (64, 48)
SCRATCH = "scratch"
FRACTIONS = (5, 25, 50, 100)
RATES = (1e-2, 1e-3, 1e-4, 1e-5)
FIRST_SEED = {"train": 200_000, "validation": 250_000, "held_back": 290_000, "other": 300_000}
CHANGES = Changes(turn_degrees=6.0, shift=0.03, scale=0.05, mirror=True, noise=0.01)


@dataclass(frozen=True)
class Experiment:
    """What is compared.

    Attributes
    ----------
    whole
        Cases of the training part; a fraction is of these.
    steps, patience
        At most so many changes of the weights; validations without a better one until it ends.
    pretraining, pretraining_steps
        Hands that the own pretraining sees, and its changes of the weights.
    """

    backbone: str = "mobilenet_v3_small"
    fractions: tuple[int, ...] = FRACTIONS
    rates: tuple[float, ...] = RATES
    seeds: int = 5
    whole: int = 800
    validated: int = 100
    held_back: int = 300
    steps: int = 120
    patience: int = 4
    batch: int = 16
    pretraining: int = 600
    pretraining_steps: int = 300


def resized(picture: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A picture of 0 to 1 in the network's edges, each pixel the mean of what it covers."""
    shown = torch.from_numpy(np.ascontiguousarray(picture))[None, None]
    small = torch.nn.functional.interpolate(shown, EDGES, mode="area")[0]
    return np.asarray(small.numpy().astype(np.float16))


def wrists(part: str, count: int) -> Pictures:
    """The question: wrists that lack mineral (1) or not (0)."""
    images, truth = [], []
    for number in range(count):
        seed = FIRST_SEED[part] + number
        rng = np.random.default_rng((seed, 7))
        low = number % 2 == 1
        images.append(resized(wrist_radiograph(
            seed, random_wrist(rng, low=low), random_unit(rng), 1.0)))
        truth.append(float(low))
    return Pictures(np.stack(images), np.array(truth, np.float32))


def hands(count: int) -> Pictures:
    """What is learned before: the age of hands, about 0 and of deviation 1."""
    images, truth = [], []
    for number in range(count):
        seed = FIRST_SEED["other"] + number
        rng = np.random.default_rng((seed, 8))
        variation = random_hand(rng)
        images.append(resized(hand_radiograph(seed, variation, random_unit(rng), 2.0)))
        truth.append((variation.maturity_y - 11.0) / 5.0)
    return Pictures(np.stack(images), np.array(truth, np.float32))


class Shown(nn.Module):
    """A backbone of three channels that is given grey pictures, as its weights know them."""

    def __init__(self, network: nn.Module, *, as_imagenet: bool) -> None:
        super().__init__()
        self.network, self.as_imagenet = network, as_imagenet

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """``(batch, 1, rows, columns)`` of 0 to 1 to logits ``(batch, 1)``."""
        colours = image.repeat(1, 3, 1, 1)
        if self.as_imagenet:
            mean, std = (torch.tensor(one).reshape(1, 3, 1, 1) for one in (
                (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
            colours = (colours - mean) / std
        answer: torch.Tensor = self.network(colours)
        return answer


def pretrained(experiment: Experiment, folder: Path) -> Path:
    """A file of a backbone that knows the age of hands; made where it is not there."""
    path = folder / "pretrained on drawn hands.pth"
    if path.exists():
        return path

    def loss_of(learner: nn.Module, batch: Batch) -> torch.Tensor:
        return nn.functional.smooth_l1_loss(learner(batch["image"])[:, 0], batch["truth"])

    torch.manual_seed(1)
    settings = Settings(
        steps=experiment.pretraining_steps, batch=32, rate=2e-3, warm_up=20, average=0.98, seed=1)
    examples = drawn_examples(hands(experiment.pretraining), settings, CHANGES, balanced=False)
    network = Shown(build_backbone(experiment.backbone, 1), as_imagenet=False)
    with_quick_statistics(network)
    train(network, examples, loss_of, settings, folder / "pretraining")
    torch.save(network.network.state_dict(), path)
    return path


Sources = Mapping[str, tuple[Path, Origin | None]]
"""Files of weights by the name of their arm, and who trained them where the file does not tell."""


def begun(arm: str, sources: Sources, experiment: Experiment, seed: int) -> nn.Module:
    """The network of an arm as it begins, with a head of random numbers of the seed.

    Raises
    ------
    TrainingError, ModelError
        A file is of another network (`ai_models.training.pretrained`).
    """
    torch.manual_seed(seed)
    network = build_backbone(experiment.backbone, 1)
    as_imagenet = False
    if arm != SCRATCH:
        head = network.get_submodule(family_of(experiment.backbone).head)
        fresh = {name: one.clone() for name, one in head.state_dict().items()}
        path, origin = sources[arm]
        found = load_pretrained(network, experiment.backbone, path, origin=origin)
        # What was answered before is another question, even where it has as many answers.
        head.load_state_dict(fresh)
        as_imagenet = found.normalisation == "imagenet"
    return with_quick_statistics(Shown(network, as_imagenet=as_imagenet))


def learned(
    network: nn.Module, part: Pictures, chooses: Pictures, experiment: Experiment, rate: float,
    seed: int, folder: Path,
) -> Outcome:
    """Train until validation no longer improves; validations have the AUC there."""
    settings = Settings(
        steps=experiment.steps, batch=experiment.batch, rate=rate, weight_decay=1e-3,
        schedule="constant", validate_every=max(1, experiment.steps // 10), watch="auc",
        patience=experiment.patience, seed=seed, checkpoint_every=0,
    )

    def validate(one: nn.Module) -> dict[str, float]:
        return {"auc": auc(chooses.truth.tolist(), answered(one, chooses.images)[:, 0].tolist())}

    def loss_of(learner: nn.Module, batch: Batch) -> torch.Tensor:
        logits = learner(batch["image"])[:, 0]
        return nn.functional.binary_cross_entropy_with_logits(logits, batch["truth"])

    examples = drawn_examples(part, settings, CHANGES, balanced=True)
    return train(network, examples, loss_of, settings, folder, validate=validate, resume=False)


def best_rate(
    arm: str, fraction: int, parts: dict[str, Pictures], sources: Sources,
    experiment: Experiment, folder: Path,
) -> float:
    """Of the grid, with one seed that no figure is of: what validation likes best."""
    if len(experiment.rates) == 1:
        return experiment.rates[0]
    found = {}
    for rate in experiment.rates:
        network = begun(arm, sources, experiment, 999)
        part = some_of(parts["train"], fraction, 999)
        tried = learned(
            network, part, parts["validation"], experiment, rate, 999, folder / "trial")
        found[rate] = max(one["auc"] for one in tried.validations)
    return max(found, key=lambda rate: found[rate])


def some_of(whole: Pictures, fraction: int, seed: int) -> Pictures:
    """A share in percent, both kinds alike; another one with each seed."""
    chosen: list[int] = []
    for kind in np.unique(whole.truth):
        places = np.random.default_rng(seed).permutation(np.flatnonzero(whole.truth == kind))
        chosen += places[: max(2, round(len(places) * fraction / 100))].tolist()
    return Pictures(whole.images[chosen], whole.truth[chosen])


def measured(
    experiment: Experiment, sources: Sources, folder: Path
) -> list[dict[str, Any]]:
    """One row for each arm and fraction; those that ``folder`` has are not computed again."""
    parts = {
        "train": wrists("train", experiment.whole),
        "validation": wrists("validation", experiment.validated),
        "held_back": wrists("held_back", experiment.held_back),
    }
    rows = []
    for fraction in experiment.fractions:
        for arm in (*sources, SCRATCH):
            path = folder / "rows" / f"{arm}-{fraction}.json"
            if not path.exists():
                row = row_of(arm, fraction, parts, sources, experiment, folder)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(row))
            rows.append(json.loads(path.read_text()))
            print(f"{fraction} % {arm}: {rows[-1]['mean']:.3f}", flush=True)
    return rows


def row_of(
    arm: str, fraction: int, parts: dict[str, Pictures], sources: Sources,
    experiment: Experiment, folder: Path,
) -> dict[str, Any]:
    """AUC of every seed, their mean and its interval by Student's t; and when each was best."""
    rate = best_rate(arm, fraction, parts, sources, experiment, folder)
    held_back, values, best_steps, cut_off = parts["held_back"], [], [], 0
    for seed in range(experiment.seeds):
        outcome = learned(
            begun(arm, sources, experiment, seed), some_of(parts["train"], fraction, seed),
            parts["validation"], experiment, rate, seed, folder / "trial",
        )
        said = answered(outcome.network, held_back.images)[:, 0].tolist()
        values.append(round(auc(held_back.truth.tolist(), said), 4))
        best_steps.append(outcome.best_step)
        cut_off += not outcome.stopped_early
    low, high = interval(values)
    return {
        "arm": arm, "fraction": fraction, "rate": rate, "auc": values,
        "best_steps": best_steps, "cut_off": cut_off,
        "cases": len(some_of(parts["train"], fraction, 0).truth),
        "mean": round(float(np.mean(values)), 4), "low": low, "high": high,
    }


def interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """95 % interval of a mean (Student, Biometrika 1908); none of fewer than two."""
    if len(values) < 2:
        return None, None
    wide = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    middle = float(np.mean(values))
    return round(middle - wide, 4), round(min(middle + wide, 1.0), 4)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """As Markdown."""
    lines = ["| part of the data | begins from | rate | AUC held back, mean (95 % interval) |",
             "|---|---|---|---|"]
    for row in rows:
        bounds = "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
        lines.append(f"| {row['fraction']} % ({row['cases']} cases) | {row['arm']} | "
                     f"{row['rate']:g} | {row['mean']:.3f}{bounds} |")
    return "\n".join(lines) + "\n"


def compared(experiment: Experiment, sources: Sources, folder: Path) -> str:
    """Measure every arm and write ``transfer.json`` and ``transfer.md``; the table."""
    rows = measured(experiment, sources, folder)
    told = {"experiment": dict(vars(experiment)), "torch": torch.__version__, "rows": rows}
    (folder / "transfer.json").write_text(json.dumps(told, indent=1) + "\n")
    (folder / "transfer.md").write_text(table(rows))
    return table(rows)


def main(arguments: list[str] | None = None) -> int:
    """Compare, and write the table."""
    parser = argparse.ArgumentParser(description=(
        "Compare beginnings on parts of the data: drawn wrists, every second one lacks mineral."
    ))
    parser.add_argument("--output", type=Path, required=True, metavar="DIR",
                        help="for transfer.md and transfer.json; a run that stopped goes on there")
    parser.add_argument("--pretrained", type=Path, metavar="FILE",
                        help="weights of the backbone, such as RadiologyNET's (default: some are "
                             "made first, on drawn hands)")
    parser.add_argument("--imagenet", type=Path, metavar="FILE",
                        help="one more arm: torchvision's weights of ImageNet")
    parser.add_argument("--backbone", default=Experiment.backbone, metavar="NAME",
                        help="of the files, docs/backbones.md (default: %(default)s)")
    parser.add_argument("--fractions", type=int, nargs="+", default=list(FRACTIONS), metavar="F",
                        help=f"percent of the {Experiment.whole} cases (default: 5 25 50 100)")
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES), metavar="R",
                        help="learning rates, of which validation chooses (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=Experiment.seeds, metavar="N",
                        help="runs of each arm and fraction (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=Experiment.steps, metavar="N",
                        help="changes of the weights at most (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    declare_missing_operators()
    experiment = replace(
        Experiment(), backbone=options.backbone, fractions=tuple(options.fractions),
        rates=tuple(options.rates), seeds=options.seeds, steps=options.steps,
    )
    if not 0 < min(experiment.fractions) <= max(experiment.fractions) <= 100:
        parser.error("--fractions: percent, from 1 to 100")
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.pretrained or pretrained(experiment, options.output)
    sources: dict[str, tuple[Path, Origin | None]] = {
        path.stem: (path, None if options.pretrained else "other")
    }
    if options.imagenet:
        sources["ImageNet"] = (options.imagenet, "imagenet")
    print(compared(experiment, sources, options.output))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
