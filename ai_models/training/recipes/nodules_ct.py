"""Train nodules-ct: ``python -m ai_models.training.recipes.nodules_ct --output DIR``.

A residual U-Net with attention gates learns to mark nodules that were put into drawn chests and,
with ``--real-data DIR``, into the chest CT of the RIDER Pilot below DIR. The result is
``weights.onnx`` and ``training.json``; a run that was stopped goes on. What the model then does on
chests that were held back is measured by `ai_models.training.recipes.nodule_evaluation`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import default_collate

from ai_models.networks.res_att_unet import ResAttUNet
from ai_models.training.export import export_onnx
from ai_models.training.loop import Batch, Example, Examples, LossOf, Outcome, train
from ai_models.training.lungs_data import REAL_CTS
from ai_models.training.recipes.nodule_crops import (
    HIGH_HU,
    IGNORED,
    LOW_HU,
    SPACING_MM,
    Background,
    NoduleCrops,
    drawn_background,
    real_background,
)
from ai_models.training.settings import Settings
from ai_models.training.tracking import LogFile, Terminal

CHANNELS = (8, 16, 32, 64)
ROI = (48, 48, 48)
# Put into CTs of other patients, so that these are held back: ai_models.training.recipes says how.
REAL_TRAINING = "rider-pilot"
_SMOOTH_VOXELS = 500.0
_NODULE_WEIGHT = 8.0


def loss_of(network: nn.Module, batch: Batch) -> torch.Tensor:
    """Cross-entropy and the Dice of the whole batch; voxels that are `IGNORED` count for nothing.

    A crop has hundred times more lung than nodule. So a voxel of a nodule weighs more in the
    entropy, and Dice is smoothed: of crops that show next to nothing it would ask, above all, to
    answer nothing ever.
    """
    logits = network(batch["image"]).float()
    target = batch["target"][:, 0]
    known = target != IGNORED
    wanted = torch.where(known, (target > 0).long(), torch.full_like(target, IGNORED))
    weights = torch.tensor([1.0, _NODULE_WEIGHT], device=logits.device)
    entropy = functional.cross_entropy(logits, wanted, weights, ignore_index=IGNORED)
    found = logits.softmax(dim=1)[:, 1] * known
    truth = (wanted == 1).float()
    both = (found * truth).sum()
    dice = (2.0 * both + _SMOOTH_VOXELS) / (found.sum() + truth.sum() + _SMOOTH_VOXELS)
    loss: torch.Tensor = entropy + 1.0 - dice
    return loss


def unweigh(network: ResAttUNet) -> None:
    """Take off what the weight of nodules in the loss adds to the odds of every voxel."""
    bias = network.head.bias
    if bias is None:
        raise TypeError("the last layer has no bias")
    with torch.no_grad():
        bias[1] -= math.log(_NODULE_WEIGHT)


def backgrounds(
    output: Path, chests: int, real_data: Path | None
) -> tuple[list[Background], list[Background]]:
    """Drawn chests, kept in ``output/chests``, and the real CT for training if it is there."""
    drawn = [drawn_background(output / "chests", seed) for seed in range(chests)]
    chosen = [ct for ct in REAL_CTS if ct.name == REAL_TRAINING and real_data is not None]
    real = [real_background(real_data, ct) for ct in chosen if real_data is not None]
    return drawn, [one for one in real if one is not None]


def parsed(
    arguments: Sequence[str] | None, description: str | None, *, encoder: bool = False
) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--real-data", type=Path)
    parser.add_argument("--steps", type=int, default=650)
    parser.add_argument("--chests", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    if encoder:
        parser.add_argument("--encoder", type=Path, help="checkpoint.pt of nodules_ct")
    return parser.parse_args(arguments)


def fit(
    network: nn.Module, examples: Examples, loss: LossOf, settings: Settings, output: Path,
    collate: Callable[[list[Example]], Batch] = default_collate,
) -> tuple[Outcome, float]:
    """Train with a log in ``output``; returns what came of it and the seconds of this part."""
    started = time.perf_counter()
    trackers = (Terminal(every_s=20.0), LogFile(output / "log.jsonl"))
    outcome = train(
        network, examples, loss, settings, output, trackers=trackers, collate=collate
    )
    for tracker in trackers:
        tracker.close()
    return outcome, round(time.perf_counter() - started, 1)


def record_of(
    outcome: Outcome, settings: Settings, crops: NoduleCrops, network: nn.Module, seconds: float
) -> dict[str, Any]:
    """What ``training.json`` says of the training itself."""
    means = [
        round(sum(outcome.losses[start : start + 25]) / len(outcome.losses[start : start + 25]), 4)
        for start in range(0, len(outcome.losses), 25)
    ]
    return {
        "settings": asdict(settings),
        "network": type(network).__name__,
        "parameters": sum(one.numel() for one in network.parameters()),
        "spacing_mm": SPACING_MM,
        "crop": crops.crop,
        "hu_range": [LOW_HU, HIGH_HU],
        "drawn_chests": len(crops.drawn),
        "real_cts": [REAL_TRAINING] if crops.real else [],
        "real_share": crops.real_share if crops.real else 0.0,
        "torch": torch.__version__,
        "seconds": seconds,
        "mean_loss_of_25_steps": means,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, export, and write ``training.json``."""
    options = parsed(arguments, __doc__)
    torch.set_num_threads(options.threads)
    drawn, real = backgrounds(options.output, options.chests, options.real_data)
    settings = Settings(
        options.steps, batch=2, rate=2e-3, warm_up=20, average=0.98, precision="bf16",
        checkpoint_every=50, workers=1,
    )
    crops = NoduleCrops(drawn, real, ROI, settings.seed, most=3, empty_share=0.1)
    torch.manual_seed(settings.seed)
    network = ResAttUNet(1, 2, CHANNELS)
    outcome, seconds = fit(network, crops, loss_of, settings, options.output)
    record = record_of(outcome, settings, crops, network, seconds)
    unweigh(network)
    record["onnx"] = export_onnx(network, ROI, options.output / "weights.onnx")
    (options.output / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
