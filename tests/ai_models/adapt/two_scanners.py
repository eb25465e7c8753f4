"""A model of bright balls that learned on one scanner, and another scanner that it never saw."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from ai_models.backends.architectures import build
from ai_models.card import Card, load_card
from ai_models.training.augmentation import NONE
from ai_models.training.cases import nifti_cases
from ai_models.training.examples import CaseExamples, together
from ai_models.training.loop import train
from ai_models.training.losses import loss_for
from ai_models.training.prepared import CaseStore
from ai_models.training.settings import Settings
from tests.ai_models.tiny_models import LUNG, STRUCTURE, write_model

EDGE = 16
LAYER = "model.1.submodule"
NETWORK: dict[str, Any] = {
    "name": "monai.UNet", "arguments": {
        "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [8, 16],
        "strides": [2], "norm": "batch", "act": "relu",
    },
}


def scan(seed: int, scanner: str) -> tuple[np.ndarray, np.ndarray]:
    """HU and labels ``(slices, rows, columns)`` of two balls in tissue, as scanner A or B sees it.

    B has another scale and offset of its numbers, and a little more noise.
    """
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(EDGE)] * 3, indexing="ij"), axis=-1)
    truth = np.zeros((EDGE, EDGE, EDGE), np.uint8)
    for _ in range(2):
        middle, radius = random.uniform(4, EDGE - 4, 3), random.uniform(2.2, 3.6)
        truth[np.linalg.norm(grid - middle, axis=-1) <= radius] = 1
    tissue = -100.0 + 200.0 * truth + random.normal(0, 30, truth.shape)
    if scanner == "B":
        tissue = 0.5 * tissue + 350.0 + random.normal(0, 10, truth.shape)
    return tissue.astype(np.float32), truth


def write_cases(folder: Path, scanner: str, seeds: range, *, shuffled: bool = False) -> Path:
    """NIfTI images and labels; with ``shuffled`` each image has the labels of another."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    # (slices, rows, columns) at 2 mm in LPS, as NIfTI's (columns, rows, slices) in RAS.
    affine = np.diag([-2.0, -2.0, 2.0, 1.0])
    for seed in seeds:
        hu, truth = scan(seed, scanner)
        if shuffled:
            truth = scan(seed + 7000, scanner)[1]
        for kind, array in (("images", hu), ("labels", truth)):
            image = nibabel.Nifti1Image(array.transpose(2, 1, 0), affine)
            nibabel.save(image, folder / kind / f"case{seed}.nii.gz")
    return folder


def write_card(folder: Path, weights: bytes, **changes: object) -> Card:
    told: dict[str, object] = {
        "id": "balls", "weights__path": "weights.safetensors", "runtime__backend": "state_dict",
        "runtime__network": NETWORK, "runtime__roi": [EDGE] * 3, "monitor__layer": LAYER,
        "output__labels": [{"value": 1, "name": "Ball", "category": STRUCTURE, "type": LUNG,
                            "color_rgb": [255, 0, 0]}],
    }
    return load_card(write_model(folder, weights, **{**told, **changes}))


def trained_on_a(folder: Path, scratch: Path, cases: Path, steps: int = 100) -> Card:
    """A model that learned on scanner A."""
    torch.manual_seed(5)
    network: nn.Module = build(NETWORK["name"], NETWORK["arguments"])
    card = write_card(folder, weights_of(network))
    store = CaseStore(card, scratch / "kept", None)
    examples = CaseExamples(nifti_cases(cases), card, store, NONE, window=None, seed=3)
    train(
        network, examples, loss_for(card), Settings(steps=steps, batch=4, rate=5e-3, seed=3),
        scratch / "run", collate=together,
    )
    return write_card(folder, weights_of(network))


def weights_of(network: nn.Module) -> bytes:
    content: bytes = save({name: one.contiguous() for name, one in network.state_dict().items()})
    return content


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*")) if path.is_file()
    }
