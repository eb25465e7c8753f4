"""Train the lung network: ``python -m ai_models.training.lungs_ct --output DIR``.

Phantoms are drawn from seeds and cached in the output folder; ``--real-data DIR`` adds the CT
series listed in :data:`ai_models.training.lungs_data.REAL_CTS` that lie below DIR. The result is
``weights.onnx`` and ``training.json``. A run that was stopped goes on with ``--resume``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.losses.dice import DiceCELoss
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ai_models.array.lungs_reference import lungs_reference
from ai_models.networks.lung_unet import LungUNet
from ai_models.training.augment import random_crop
from ai_models.training.evaluation import OVERLAP, ROI, dice_by_side, segment, window_probabilities
from ai_models.training.export import export_onnx
from ai_models.training.lungs_data import (
    HIGH_HU,
    LOW_HU,
    REAL_CTS,
    SPACING_MM,
    FloatArray,
    LabelMap,
    cached_phantom,
    read_ct,
    real_training_pair,
    scaled,
)

SEED = 20
VALIDATION_SEEDS = range(90000, 90003)
CROP = (48, 96, 128)
SMOOTH_VOXELS = 500.0
AVERAGING = 0.995

Pair = tuple[npt.NDArray[np.int16], LabelMap]


class Crops(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Random crops, each a function of its step number alone, so that a run can be resumed."""

    def __init__(
        self,
        folder: Path,
        phantoms: int,
        real: list[Pair],
        real_share: float,
        first: int,
        count: int,
    ) -> None:
        self.folder, self.phantoms, self.real = folder, phantoms, real
        self.real_share = real_share if real else 0.0
        self.first, self.count = first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if index >= self.count:
            raise IndexError(index)
        rng = np.random.default_rng((SEED, self.first + index))
        if rng.random() < self.real_share:
            volume, labels = self.real[int(rng.integers(len(self.real)))]
        else:
            volume, labels = cached_phantom(self.folder, int(rng.integers(self.phantoms)))
        return random_crop(volume, labels, CROP, rng)


def torch_predict(network: nn.Module) -> Any:
    """The network as a function on numpy windows."""

    def predict(windows: FloatArray) -> FloatArray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            return np.asarray(network(torch.from_numpy(windows.copy())).float().numpy())

    return predict


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Short warm-up, then a cosine to a hundredth of ``peak``."""
    warm = min(1.0, (step + 1) / 50.0)
    return peak * warm * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * step / max(steps, 1))))


def average_into(average: nn.Module, network: nn.Module, step: int) -> None:
    """Moving average of the weights, faster at the beginning."""
    keep = min(AVERAGING, (step + 1.0) / (step + 10.0))
    with torch.no_grad():
        for kept, new in zip(average.parameters(), network.parameters(), strict=True):
            kept.lerp_(new, 1.0 - keep)


def validate(average: nn.Module, folder: Path) -> dict[str, float]:
    """Mean Dice on phantoms that training never sees, on the network's grid."""
    scores = []
    predict = torch_predict(average.eval())
    for seed in VALIDATION_SEEDS:
        volume, labels = cached_phantom(folder, seed)
        found = window_probabilities(scaled(volume), predict).argmax(axis=0).astype(np.uint8)
        scores.append(dice_by_side(found, labels))
    return {side: round(float(np.mean([s[side] for s in scores])), 4) for side in scores[0]}


@dataclass
class Progress:
    """State of a run: what a checkpoint holds."""

    network: nn.Module
    average: LungUNet
    optimiser: torch.optim.Optimizer
    step: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def begin(cls, rate: float) -> Progress:
        """Fresh weights, drawn from SEED."""
        torch.manual_seed(SEED)
        network = LungUNet()
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        average = LungUNet()
        average.load_state_dict(network.state_dict())
        optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4)
        return cls(network, average, optimiser)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.log = int(state["step"]), list(state["log"])

    def save(self, path: Path) -> None:
        """Write a checkpoint; an interrupted write leaves the one before."""
        parts = (
            ("network", self.network),
            ("average", self.average),
            ("optimiser", self.optimiser),
        )
        state: dict[str, Any] = {name: part.state_dict() for name, part in parts}
        torch.save(state | {"step": self.step, "log": self.log}, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def note(self, line: dict[str, Any]) -> None:
        """Keep a line of the training log and show it."""
        self.log.append({"step": self.step} | line)
        show(self.log[-1])


def show(line: dict[str, Any]) -> None:
    """One JSON line on standard output."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def descend(progress: Progress, image: torch.Tensor, target: torch.Tensor, rate: float) -> float:
    """One step of AdamW at learning rate ``rate``; returns the loss."""
    for group in progress.optimiser.param_groups:
        group["lr"] = rate
    with torch.autocast("cpu", torch.bfloat16):
        logits = progress.network(image.to(memory_format=torch.channels_last_3d))
    loss_of = DiceCELoss(
        softmax=True,
        to_onehot_y=True,
        include_background=False,
        batch=True,
        smooth_nr=SMOOTH_VOXELS,
        smooth_dr=SMOOTH_VOXELS,
    )
    loss = loss_of(logits.float(), target)
    progress.optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(progress.network.parameters(), 5.0)
    progress.optimiser.step()
    average_into(progress.average, progress.network, progress.step)
    return float(loss.detach())


def train(options: argparse.Namespace, real: list[Pair]) -> Progress:
    """Train, with a checkpoint every ``options.every`` steps."""
    cache, checkpoint = options.output / "phantoms", options.output / "checkpoint.pt"
    progress = Progress.begin(options.rate)
    if options.resume and checkpoint.exists():
        progress.restore(checkpoint)
    done = progress.step * options.batch
    left = max(options.steps * options.batch - done, 0)
    crops = Crops(cache, options.phantoms, real, options.real_share, done, left)
    loader = DataLoader(crops, batch_size=options.batch, num_workers=options.workers)
    losses: list[float] = []
    started = time.perf_counter()
    for image, target in loader:
        rate = learning_rate(progress.step, options.steps, options.rate)
        losses.append(descend(progress, image, target, rate))
        progress.step += 1
        if progress.step % 25 == 0:
            seconds = round(time.perf_counter() - started, 1)
            progress.note({"loss": round(float(np.mean(losses[-25:])), 4), "seconds": seconds})
        if progress.step % options.every == 0 or progress.step == options.steps:
            progress.note({"validation_dice": validate(progress.average, cache)})
            progress.save(checkpoint)
    return progress


def onnx_predict(path: Path) -> Any:
    """The exported file as a function on numpy windows, on two threads."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])

    def predict(windows: FloatArray) -> FloatArray:
        feed = {"image": np.ascontiguousarray(windows, dtype=np.float32)}
        return np.asarray(session.run(["logits"], feed)[0])

    return predict


def evaluate(root: Path, predict: Any) -> list[dict[str, Any]]:
    """Dice against the classical reference on every real CT below ``root``, original grid."""
    results = []
    for ct in REAL_CTS:
        found = read_ct(root, ct)
        if found is None:
            continue
        labels, seconds = segment(*found, predict)
        row = {"dice": dice_by_side(labels, lungs_reference(*found)), "seconds": round(seconds, 1)}
        show({"name": ct.name, "use": ct.use} | row)
        results.append(asdict(ct) | row)
    return results


def real_pairs(root: Path) -> list[Pair]:
    """The real CTs below ``root`` that are for training, with their classical reference."""
    volumes = [read_ct(root, ct) for ct in REAL_CTS if ct.use == "training"]
    return [real_training_pair(*found) for found in volumes if found is not None]


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--real-data", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--phantoms", type=int, default=120)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--real-share", type=float, default=0.5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--every", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Train, export, evaluate and write ``training.json``."""
    options = parsed(arguments)
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    real = real_pairs(options.real_data) if options.real_data else []
    progress = train(options, real)
    weights = options.output / "weights.onnx"
    record: dict[str, Any] = {
        "seed": SEED,
        **{key: getattr(options, key) for key in ("steps", "batch", "rate", "phantoms", "threads")},
        "real_share": options.real_share if real else 0.0,
        "spacing_mm": SPACING_MM,
        "roi": ROI,
        "crop": CROP,
        "overlap": OVERLAP,
        "hu_range": [LOW_HU, HIGH_HU],
        "labels": {"1": "right lung", "2": "left lung"},
        "torch": torch.__version__,
        "precision": "bfloat16 autocast on CPU",
        "onnx": export_onnx(progress.average, ROI, weights),
    }
    record["real_ct"] = evaluate(options.real_data, onnx_predict(weights)) if real else []
    record["log"] = progress.log
    (options.output / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
