"""Outline lung tumours in small pieces of CT slices, and say how well; no model for the node.

    python -m ai_models.training.recipes.lung_tumour_patch --data val_patches.h5 --output DIR

``val_patches.h5`` has 130 pieces of 48 x 48 pixels of 2 mm from 13 patients of the Medical
Segmentation Decathlon (task 6, lung; CC BY-SA 4.0). A small 2D U-Net learns from eight of the
patients with two of them choosing, and is measured on five others: ``DIR/evaluation.json``.

``--evaluate`` measures weights that are here once more: ``cards/lung-tumour-patch/weights.onnx``.

There is no model card. A piece was cut about a tumour whose place was known; of a patient nobody
knows it, and in whole slices the network marks vessels, the diaphragm and the heart as well
(docs/radiograph-models.md has what it did to a CT). Nodules in whole CTs:
``ai_models/zoo/nodules-ct``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import nn

from ai_models.training.export import INPUT_NAME, OUTPUT_NAME, export_onnx
from ai_models.training.loop import Batch, Example, generator_of, train
from ai_models.training.metrics import bootstrap_interval, dice, iou, rounded
from ai_models.training.settings import Settings, TrainingError
from ai_models.training.tracking import Terminal
from ai_models.types import FloatArray

KEPT = Path(__file__).parent / "cards" / "lung-tumour-patch"
"""The weights that were measured, and what was found."""
PATIENTS, PIECES, EDGE = 13, 10, 48
"""The file does not say whose a piece is: its page names 13 patients, and every ten pieces show
another chest."""
PARTS: Mapping[str, range] = {
    "train": range(6), "validation": range(6, 8), "held_back": range(8, 13),
}
# Of pixels of 0 to 1, and in pixels of 2 mm.
_DENSE, _REACH = 0.7, 9.0
SETTINGS = Settings(
    steps=600, batch=16, rate=2e-3, warm_up=30, weight_decay=1e-3, average=0.99,
    validate_every=100, checkpoint_every=100, watch="dice", seed=20,
)


@dataclass(frozen=True)
class Pieces:
    """``images`` float32 0 to 1 and ``masks`` ``(pieces, rows, columns)``; whose each is."""

    images: FloatArray
    masks: npt.NDArray[np.bool_]
    patients: tuple[int, ...]

    def of(self, part: str) -> Pieces:
        """Those of a part's patients."""
        chosen = [i for i, one in enumerate(self.patients) if one in PARTS[part]]
        return Pieces(self.images[chosen], self.masks[chosen],
                      tuple(self.patients[i] for i in chosen))


def read_pieces(path: Path) -> Pieces:
    """The pieces of a file.

    Raises
    ------
    TrainingError
        The file is not what it should be.
    """
    import h5py

    try:
        with h5py.File(path, "r") as content:
            images, masks = np.asarray(content["images"]), np.asarray(content["labels"])
    except (OSError, KeyError) as error:
        raise TrainingError(f"{path} is no file of pieces: {error}") from error
    expected = (PATIENTS * PIECES, 1)
    if images.shape[:2] != expected or images.shape != masks.shape or images.ndim != 4:
        raise TrainingError(f"{path}: {images.shape} and {masks.shape}; {expected} first expected")
    patients = tuple(i // PIECES for i in range(len(images)))
    return Pieces(images[:, 0].astype(np.float32), masks[:, 0] > 0.5, patients)


def network() -> nn.Module:
    """A small U-Net: ``(batch, 1, rows, columns)`` to logits of the same shape."""
    from monai.networks.nets import UNet

    made: nn.Module = UNet(2, 1, 1, channels=(16, 32, 64, 96), strides=(2, 2, 2), num_res_units=1)
    return made


def example_of(found: Pieces, number: int) -> Example:
    """A piece turned, mirrored, moved and exposed otherwise, with its mask."""
    rng = generator_of(SETTINGS.seed, number)
    i = int(rng.integers(len(found.images)))
    image, mask = found.images[i], found.masks[i].astype(np.float32)
    angle, zoom = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.85, 1.2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
    if rng.random() < 0.5:
        turn[:, 1] *= -1.0
    middle = (np.array(image.shape) - 1.0) / 2.0
    offset = middle - turn @ (middle + rng.uniform(-5.0, 5.0, 2))
    image = ndimage.affine_transform(image, turn, offset, order=1, mode="nearest")
    mask = ndimage.affine_transform(mask, turn, offset, order=0)
    image = np.clip(image * rng.uniform(0.85, 1.15) + rng.uniform(-0.06, 0.06), 0.0, 1.0)
    image = image + rng.uniform(0.0, 0.04) * rng.standard_normal(image.shape)
    return {"image": image[None].astype(np.float32), "mask": mask[None].astype(np.float32)}


def loss_of(learner: nn.Module, batch: Batch) -> torch.Tensor:
    """Cross entropy, and the Dice of the whole batch: many pieces have few pixels of tumour."""
    logits, mask = learner(batch["image"]).float(), batch["mask"]
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, mask)
    likely = torch.sigmoid(logits)
    overlap = (2.0 * (likely * mask).sum() + 1.0) / (likely.sum() + mask.sum() + 1.0)
    loss: torch.Tensor = entropy + 1.0 - overlap
    return loss


Run = Callable[[FloatArray], npt.NDArray[np.float32]]
"""``(pieces, 1, rows, columns)`` to logits of the same shape."""


def by_torch(learner: nn.Module) -> Run:
    """A network in evaluation mode."""
    learner.eval()

    def run(images: FloatArray) -> npt.NDArray[np.float32]:
        with torch.no_grad():
            return np.asarray(learner(torch.from_numpy(images)).numpy())

    return run


def by_onnx(path: Path, sha256: str) -> Run:
    """The network of a file.

    Raises
    ------
    TrainingError
        It is not the file that is meant.
    """
    import onnxruntime

    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise TrainingError(f"{path} is not the file that {sha256[:12]}... is of")
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run([OUTPUT_NAME], {INPUT_NAME: images})[0])


def found_in(run: Run, pieces: Pieces) -> npt.NDArray[np.bool_]:
    """Where the network says tumour."""
    # As many at once as a file takes at most.
    parts = [run(pieces.images[i : i + 50, None]) for i in range(0, len(pieces.images), 50)]
    return np.asarray(np.concatenate(parts)[:, 0] > 0.0)


def bright_middle(pieces: Pieces) -> npt.NDArray[np.bool_]:
    """What is found without learning: all of some density within 18 mm of the middle of a piece.

    Pieces were cut about tumours, so this is not nothing; the reach is what fits the training part
    best.
    """
    rows, columns = np.indices(pieces.images.shape[1:]) - (EDGE - 1) / 2.0
    return np.asarray((pieces.images > _DENSE) & (rows**2 + columns**2 < _REACH**2))


def figures_of(masks: npt.NDArray[np.bool_], pieces: Pieces) -> dict[str, Any]:
    """Mean Dice and IoU of pieces with a tumour, share of its pixels, and empty ones left empty."""
    rows = list(zip(masks, pieces.masks, strict=True))
    with_tumour = [i for i, (_, truth) in enumerate(rows) if truth.any()]
    without = [i for i, (_, truth) in enumerate(rows) if not truth.any()]

    def told(chosen: Sequence[int], one: Any) -> dict[str, float | None]:
        return rounded(bootstrap_interval(
            [float(one(*rows[i])) for i in chosen], lambda some: float(np.mean(some)),
            patients=[str(pieces.patients[i]) for i in chosen],
        ))

    return {
        "pieces": len(rows), "with_tumour": len(with_tumour),
        "patients": len(set(pieces.patients)),
        "dice": told(with_tumour, dice), "iou": told(with_tumour, iou),
        "share_of_tumour_found": told(
            with_tumour, lambda found, truth: float((found & truth).sum() / truth.sum())),
        "empty_left_empty": told(without, lambda found, _: float(not found.any())),
    }


def evaluated(data: Path, folder: Path = KEPT) -> dict[str, Any]:
    """Figures of the patients held back, by the weights and the record in ``folder``.

    Raises
    ------
    TrainingError
        The data or the weights are not what they should be.
    """
    kept = json.loads((folder / "evaluation.json").read_text())
    held_back = read_pieces(data).of("held_back")
    run = by_onnx(folder / "weights.onnx", kept["weights"]["sha256"])
    return {**kept, **_figures(run, held_back)}


def _figures(run: Run, held_back: Pieces) -> dict[str, Any]:
    return {
        "held_back": figures_of(found_in(run, held_back), held_back),
        "without_learning": figures_of(bright_middle(held_back), held_back),
    }


def trained(data: Path, output: Path) -> dict[str, Any]:
    """Train, write ``output/weights.onnx``, and measure it on patients held back."""
    pieces = read_pieces(data)
    learned, chooses = pieces.of("train"), pieces.of("validation")

    def validate(one: nn.Module) -> dict[str, float]:
        found = found_in(by_torch(one), chooses)
        return {"dice": float(figures_of(found, chooses)["dice"]["value"])}

    torch.manual_seed(SETTINGS.seed)
    outcome = train(
        network(), lambda number: example_of(learned, number), loss_of, SETTINGS,
        output / "run", validate=validate, trackers=[Terminal()],
    )
    path = output / "weights.onnx"
    weights = export_onnx(outcome.network, (EDGE, EDGE), path)
    held_back = pieces.of("held_back")
    run = by_onnx(path, str(weights["sha256"]))
    return {
        "command": "python -m ai_models.training.recipes.lung_tumour_patch --data FILE "
                   "--output DIR",
        "data": "130 pieces of CT slices, 13 patients of the Medical Segmentation Decathlon, "
                "task 6 (CC BY-SA 4.0)",
        "shortcomings": "pieces cut about a known tumour; whose each is follows from their order",
        "parts": {part: len(pieces.of(part).images) for part in PARTS},
        "settings": dict(vars(SETTINGS)), "best_step": outcome.best_step,
        "parameters": sum(one.numel() for one in outcome.network.parameters()),
        "weights": {**weights, "licence": "CC-BY-SA-4.0"},
        "torch": torch.__version__,
        **_figures(run, held_back),
    }


def main(arguments: list[str] | None = None) -> int:
    """Train and measure, or only measure; write ``evaluation.json``. Goes on where it was."""
    parser = argparse.ArgumentParser(description="Outline lung tumours in pieces of CT slices.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--evaluate", action="store_true", help=(
        "train nothing: measure the weights that are with this recipe"
    ))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    told = evaluated(options.data) if options.evaluate else trained(options.data, options.output)
    (options.output / "evaluation.json").write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told["held_back"], indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
