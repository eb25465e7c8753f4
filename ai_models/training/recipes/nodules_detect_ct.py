"""Train nodules-detect-ct: ``python -m ai_models.training.recipes.nodules_detect_ct --output DIR``.

A small RetinaNet learns to box the nodules that `nodules_ct` learns to outline, in the same chests.
With ``--encoder checkpoint.pt`` of that run its residual units begin where those are, and need far
fewer steps; with ``--mistakes mistakes.npz`` of it (of each round) every other crop shows what
`nodules_ct` made up. The result is ``weights.safetensors`` and ``training.json``; a run that was
stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from scipy import ndimage
from torch import nn
from torch.nn import functional

from ai_models.networks.retina import Detector
from ai_models.training.checkpoints import read_checkpoint
from ai_models.training.loop import Batch, Example
from ai_models.training.recipes.nodule_crops import NoduleCrops
from ai_models.training.recipes.nodule_mistakes import with_mistakes_of
from ai_models.training.recipes.nodules_ct import (
    COARSE_SHARE,
    MISTAKE_SHARE,
    backgrounds,
    fit,
    parsed,
    record_of,
)
from ai_models.training.settings import Settings

# Edges in voxels of 1.5 mm: 4.5 to 21 mm over both levels.
NETWORK: dict[str, Any] = {
    "in_channels": 1,
    "num_classes": 1,
    "backbone": "small",
    "widths": [8, 16, 32],
    "levels": 2,
    "features": 24,
    "anchors": [[3, 3, 3], [4.5, 4.5, 4.5], [7, 7, 7]],
    "scales": [1, 2],
}
CROP = (40, 40, 40)
# A nodule that the edge of a crop cuts to less is not asked for.
_FEWEST_VOXELS = 8
_NEGATIVE_WEIGHT = 0.5
EMPTY_SHARE = 0.1


@dataclass(frozen=True)
class BoxedCrops:
    """As `NoduleCrops`, with the boxes of the nodules in place of their masks."""

    crops: NoduleCrops

    def __call__(self, number: int) -> Example:
        """``image`` float32 ``(1, *crop)``, ``boxes`` float32 ``(n, 6)``, ``labels`` ``(n,)``."""
        example = self.crops(number)
        boxes = boxes_of(example["target"][0].numpy())
        return {
            "image": example["image"],
            "boxes": torch.from_numpy(boxes),
            "labels": torch.zeros(len(boxes), dtype=torch.int64),
        }


def boxes_of(numbers: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float32]:
    """Two corners of the box of each number above 0, ``(n, 6)``; the second corner is its end."""
    counted = np.maximum(numbers, 0)
    boxes = []
    for number, place in enumerate(ndimage.find_objects(counted), start=1):
        if place is not None and int((counted[place] == number).sum()) >= _FEWEST_VOXELS:
            boxes.append([*(side.start for side in place), *(side.stop for side in place)])
    return np.array(boxes, dtype=np.float32).reshape(-1, 6)


def collated(examples: list[Example]) -> Batch:
    """Images in one tensor, boxes in a list: there are as many as there are."""
    return {
        "image": torch.stack([one["image"] for one in examples]),
        "targets": [{"boxes": one["boxes"], "labels": one["labels"]} for one in examples],
    }


class FocalLoss(nn.Module):
    """Of all anchors together, for each anchor that holds a nodule (Lin et al., ICCV 2017).

    Of a few hard negatives, as `Detector` would have it, too little is learned in so few steps.
    """

    def forward(self, logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Logits and 0 or 1, both ``(anchors, classes)``."""
        entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        surprise = torch.where(wanted > 0.5, 1.0 - logits.sigmoid(), logits.sigmoid())
        weight = torch.where(wanted > 0.5, 1.0 - _NEGATIVE_WEIGHT, _NEGATIVE_WEIGHT)
        total: torch.Tensor = (weight * surprise**2 * entropy).sum() / wanted.sum().clamp_min(1.0)
        return total


def loss_of(network: nn.Module, batch: Batch) -> torch.Tensor:
    """Of classes and of places of boxes, as MONAI's detector says."""
    losses = network(list(batch["image"]), batch["targets"])
    total: torch.Tensor = losses["classification"].float() + losses["box_regression"].float()
    return total


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, save, and write ``training.json``."""
    options = parsed(arguments, __doc__, encoder=True)
    torch.set_num_threads(options.threads)
    drawn, real = backgrounds(options.output, options.chests, options.real_data)
    settings = Settings(
        options.steps, batch=2, rate=1e-3, warm_up=10, average=0.98, checkpoint_every=50,
        workers=1,
    )
    for path in options.mistakes:
        seen = with_mistakes_of(path, [*drawn, *real])
        drawn, real = seen[: len(drawn)], seen[len(drawn) :]
    crops = NoduleCrops(
        drawn, real, CROP, settings.seed, most=2, empty_share=EMPTY_SHARE, erase_unsure=True,
        mistake_share=MISTAKE_SHARE if options.mistakes else 0.0,
        coarse_share=COARSE_SHARE if options.mistakes else 0.0,
    )
    torch.manual_seed(settings.seed)
    network = Detector(**NETWORK)
    network.set_cls_loss(FocalLoss())
    network.fg_bg_sampler = None
    if options.encoder is not None:
        begin_with(network, options.encoder)
    outcome, seconds = fit(
        network, BoxedCrops(crops), loss_of, settings, options.output, collate=collated
    )
    record = record_of(outcome, settings, crops, network, seconds)
    record["network_arguments"] = NETWORK
    record["encoder_from_nodules_ct"] = options.encoder is not None
    record["weights"] = _saved(network, options.output / "weights.safetensors")
    (options.output / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    return 0


def begin_with(network: nn.Module, checkpoint: Path) -> None:
    """Take the residual units of a run of `nodules_ct`: both networks have the same."""
    theirs = read_checkpoint(checkpoint)["average"]
    ours = network.state_dict()
    taken = {
        f"network.feature_extractor.body.{name.removeprefix('down.')}": value
        for name, value in theirs.items() if name.startswith("down.")
    }
    network.load_state_dict({**ours, **{name: taken[name] for name in taken if name in ours}})


def _saved(network: nn.Module, path: Path) -> dict[str, Any]:
    state = {name: one.contiguous() for name, one in network.float().state_dict().items()}
    save_file(state, str(path))
    content = path.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}


if __name__ == "__main__":
    sys.exit(main())
