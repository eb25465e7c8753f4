"""Train nodules-ct: ``python -m ai_models.training.recipes.nodules_ct --output DIR``.

A residual U-Net with attention gates learns to mark nodules that were put into drawn chests and,
with ``--real-data DIR``, into the chest CT of the RIDER Pilot below DIR. Then, in further rounds,
it learns from its mistakes: what it makes up in these chests is sought, and every other crop shows
it. The result is ``weights.onnx``, the same as ``weights.safetensors``, and ``training.json``; a
run that was stopped goes on. With ``--begin checkpoint.pt`` the first round is that of another run.
What the model then does on chests that were held back is measured by
`ai_models.training.recipes.nodule_evaluation`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from torch.utils.data import default_collate

from ai_models.networks.res_att_unet import ResAttUNet
from ai_models.training.augmentation import NONE, Augmenter
from ai_models.training.checkpoints import read_checkpoint
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
from ai_models.training.recipes.nodule_mistakes import with_mistakes
from ai_models.training.settings import Settings
from ai_models.training.tracking import LogFile, Terminal

CHANNELS = (8, 16, 32, 64)
ROI = (48, 48, 48)
# Put into CTs of other patients, so that these are held back: ai_models.training.recipes says how.
REAL_TRAINING = "rider-pilot"
_SMOOTH_VOXELS = 500.0
_NODULE_WEIGHT = 8.0
# Of the voxels of a batch those count that surprise most: the borders of all nodules, and what is
# made up.
_SURPRISING_SHARE = 0.02
MISTAKE_SHARE, COARSE_SHARE, EMPTY_SHARE = 0.5, 0.4, 0.35
CHANGES = NONE.model_copy(
    update={"elastic_probability": 0.1, "gamma_probability": 0.2, "gamma": (0.7, 1.4)}
)


def loss_of(network: nn.Module, batch: Batch) -> torch.Tensor:
    """Cross-entropy and the Dice of the whole batch; voxels that are `IGNORED` count for nothing.

    A crop has hundred times more lung than nodule. So a voxel of a nodule weighs more in the
    entropy, and Dice is smoothed: of crops that show next to nothing it would ask, above all, to
    answer nothing ever.
    """
    logits, wanted = _asked(network, batch)
    weights = torch.tensor([1.0, _NODULE_WEIGHT], device=logits.device)
    entropy = functional.cross_entropy(logits, wanted, weights, ignore_index=IGNORED)
    return entropy + 1.0 - _dice(logits, wanted)


def loss_of_mistakes(network: nn.Module, batch: Batch) -> torch.Tensor:
    """Cross-entropy of the voxels that surprise most, none weighing more, and Dice as before.

    Over all voxels, as `loss_of` takes it, a vessel that is taken for a nodule hardly counts.
    """
    logits, wanted = _asked(network, batch)
    entropy = functional.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="none")
    most = max(int(_SURPRISING_SHARE * entropy.numel()), 1)
    return entropy.flatten().topk(most).values.mean() + 1.0 - _dice(logits, wanted)


def _asked(network: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and 0, 1 or `IGNORED` of every voxel."""
    logits = network(batch["image"]).float()
    target = batch["target"][:, 0]
    known = target != IGNORED
    return logits, torch.where(known, (target > 0).long(), torch.full_like(target, IGNORED))


def _dice(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    found = logits.softmax(dim=1)[:, 1] * (wanted != IGNORED)
    truth = (wanted == 1).float()
    both = (found * truth).sum()
    return (2.0 * both + _SMOOTH_VOXELS) / (found.sum() + truth.sum() + _SMOOTH_VOXELS)


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
    parser.add_argument("--chests", type=int, default=20 if encoder else 30)
    parser.add_argument("--threads", type=int, default=1)
    if encoder:
        parser.add_argument("--steps", type=int, default=1500)
        parser.add_argument("--encoder", type=Path, help="checkpoint.pt of nodules_ct")
        parser.add_argument("--mistakes", type=Path, nargs="*", default=[],
                            help="mistakes.npz of nodules_ct, those of several rounds")
    else:
        parser.add_argument("--steps", type=int, nargs="+", default=[2000, 1300, 900],
                            help="of each round")
        parser.add_argument("--begin", type=Path, help="checkpoint.pt of a first round")
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
        "empty_share": crops.empty_share,
        "mistakes": sum(len(one.mistakes) for one in (*crops.drawn, *crops.real)),
        "mistake_share": crops.mistake_share,
        "coarse_share": crops.coarse_share,
        "changes": CHANGES.model_dump() if crops.augmenter is not None else {},
        "torch": torch.__version__,
        "seconds": seconds,
        "mean_loss_of_25_steps": _means(outcome.losses),
    }


def _means(losses: Sequence[float]) -> list[float]:
    several = [losses[start : start + 25] for start in range(0, len(losses), 25)]
    return [round(sum(some) / len(some), 4) for some in several]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, export, and write ``training.json``."""
    options = parsed(arguments, __doc__)
    torch.set_num_threads(options.threads)
    drawn, real = backgrounds(options.output, options.chests, options.real_data)
    torch.manual_seed(Settings(1).seed)
    network = ResAttUNet(1, 2, CHANNELS)
    rounds = [first_round(network, drawn, real, options)]
    unweigh(network)
    # Faster on a processor; the weights are the same.
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    for number, steps in enumerate(options.steps[1:], start=1):
        folder = options.output / f"round-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        seen = with_mistakes(network, [*drawn, *real], ROI, number, folder / "mistakes.npz")
        drawn, real = seen[: len(drawn)], seen[len(drawn) :]
        rounds.append(later_round(network, drawn, real, steps, folder, number))
    record: dict[str, Any] = {"rounds": rounds}
    state = {name: one.contiguous() for name, one in network.float().state_dict().items()}
    save_file(state, str(options.output / "weights.safetensors"))
    record["onnx"] = export_onnx(network, ROI, options.output / "weights.onnx")
    (options.output / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    return 0


def first_round(
    network: ResAttUNet, drawn: list[Background], real: list[Background],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Train ``network`` in place, or take what another run has trained; returns what was done."""
    if options.begin is not None:
        content = read_checkpoint(options.begin)
        network.load_state_dict(content["average"])
        return {
            "begun_from_sha256": hashlib.sha256(options.begin.read_bytes()).hexdigest(),
            "settings": json.loads(content["settings"]),
            "mean_loss_of_25_steps": _means(content["losses"].tolist()),
        }
    settings = Settings(
        options.steps[0], batch=2, rate=2e-3, warm_up=20, average=0.98, precision="bf16",
        checkpoint_every=50, workers=1,
    )
    crops = NoduleCrops(drawn, real, ROI, settings.seed, most=3, empty_share=EMPTY_SHARE)
    outcome, seconds = fit(network, crops, loss_of, settings, options.output)
    return record_of(outcome, settings, crops, network, seconds)


def later_round(
    network: ResAttUNet, drawn: list[Background], real: list[Background], steps: int,
    folder: Path, number: int,
) -> dict[str, Any]:
    """Train on from where ``network`` is, on what it made up; returns what was done."""
    settings = Settings(
        steps, batch=2, rate=1.5e-3, warm_up=20, average=0.99, precision="bf16",
        checkpoint_every=50, workers=1, seed=20 + number,
    )
    crops = NoduleCrops(
        drawn, real, ROI, settings.seed, most=3, empty_share=EMPTY_SHARE,
        mistake_share=MISTAKE_SHARE, coarse_share=COARSE_SHARE,
        augmenter=Augmenter(CHANGES, 3, 1),
    )
    outcome, seconds = fit(network, crops, loss_of_mistakes, settings, folder)
    return record_of(outcome, settings, crops, network, seconds)


if __name__ == "__main__":
    sys.exit(main())
