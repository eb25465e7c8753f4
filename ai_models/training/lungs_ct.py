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
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.losses import DiceCELoss
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
REAL_SHARE = 0.35
SMOOTH_VOXELS = 500.0
AVERAGING = 0.995

Pair = tuple[npt.NDArray[np.int16], LabelMap]


class Crops(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Random crops, each a function of its step number alone, so that a run can be resumed."""

    def __init__(self, folder: Path, phantoms: int, real: list[Pair], first: int, count: int) -> None:
        self.folder, self.phantoms, self.real = folder, phantoms, real
        self.first, self.count = first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if index >= self.count:
            raise IndexError(index)
        rng = np.random.default_rng((SEED, self.first + index))
        if self.real and rng.random() < REAL_SHARE:
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


def train(options: argparse.Namespace, real: list[Pair]) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Train, with a checkpoint every ``options.every`` steps; returns averaged weights and log."""
    torch.manual_seed(SEED)
    cache = options.output / "phantoms"
    network = LungUNet().to(memory_format=torch.channels_last_3d)
    average = LungUNet()
    average.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(network.parameters(), lr=options.rate, weight_decay=1e-4)
    log: list[dict[str, Any]] = []
    checkpoint = options.output / "checkpoint.pt"
    start = 0
    if options.resume and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        start, log = int(state["step"]), list(state["log"])
    left = (options.steps - start) * options.batch
    crops = Crops(cache, options.phantoms, real, start * options.batch, max(left, 0))
    loader = DataLoader(crops, batch_size=options.batch, num_workers=options.workers, prefetch_factor=4 if options.workers else None)
    loss_of = DiceCELoss(
        softmax=True, to_onehot_y=True, include_background=False, batch=True,
        smooth_nr=SMOOTH_VOXELS, smooth_dr=SMOOTH_VOXELS,
    )
    losses: list[float] = []
    started = time.perf_counter()
    for step, (image, target) in enumerate(loader, start=start):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, options.steps, options.rate)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(image.to(memory_format=torch.channels_last_3d))
        loss = loss_of(logits.float(), target)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        average_into(average, network, step)
        losses.append(float(loss.detach()))
        if (step + 1) % 25 == 0:
            line = {"step": step + 1, "loss": round(float(np.mean(losses[-25:])), 4)}
            line["seconds"] = round(time.perf_counter() - started, 1)
            log.append(line)
            print(json.dumps(line), flush=True)
        if (step + 1) % options.every == 0 or step + 1 == options.steps:
            log.append({"step": step + 1, "validation_dice": validate(average, cache)})
            print(json.dumps(log[-1]), flush=True)
            state = {"network": network.state_dict(), "average": average.state_dict(),
                     "optimiser": optimiser.state_dict(), "step": step + 1, "log": log}
            torch.save(state, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)
    return average, log


def onnx_predict(path: Path) -> Any:
    """The exported file as a function on numpy windows, on two threads."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(
        str(path), settings, providers=["CPUExecutionProvider"]
    )

    def predict(windows: FloatArray) -> FloatArray:
        feed = {"image": np.ascontiguousarray(windows, dtype=np.float32)}
        return np.asarray(session.run(["logits"], feed)[0])

    return predict


def evaluate(root: Path | None, predict: Any) -> list[dict[str, Any]]:
    """Dice against the classical reference on every real CT below ``root``, original grid."""
    results = []
    for ct in REAL_CTS if root is not None else ():
        found = read_ct(root, ct) if root is not None else None
        if found is None:
            continue
        labels, seconds = segment(*found, predict)
        reference = lungs_reference(*found)
        row = asdict(ct) | {"dice": dice_by_side(labels, reference), "seconds": round(seconds, 1)}
        results.append(row)
        print(json.dumps({k: row[k] for k in ("name", "use", "dice", "seconds")}), flush=True)
    return results


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, train, export, evaluate and write ``training.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--real-data", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--phantoms", type=int, default=160)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--every", type=int, default=250)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    real: list[Pair] = []
    for ct in REAL_CTS:
        found = read_ct(options.real_data, ct) if options.real_data and ct.use == "training" else None
        if found is not None:
            real.append(real_training_pair(*found))
    average, log = train(options, real)
    exported = export_onnx(average, ROI, options.output / "weights.onnx")
    record = {
        "seed": SEED, "steps": options.steps, "batch": options.batch, "rate": options.rate,
        "phantoms": options.phantoms, "real_share": REAL_SHARE if real else 0.0,
        "spacing_mm": SPACING_MM, "roi": ROI, "crop": CROP, "overlap": OVERLAP, "hu_range": [LOW_HU, HIGH_HU],
        "labels": {"1": "right lung", "2": "left lung"},
        "torch": torch.__version__, "precision": "bfloat16 autocast on CPU",
        "onnx": exported,
        "real_ct": evaluate(options.real_data, onnx_predict(options.output / "weights.onnx")),
        "log": log,
    }
    (options.output / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
