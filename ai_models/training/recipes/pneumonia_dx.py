"""Train pneumonia-dx:

    python -m ai_models.training.recipes.pneumonia_dx --data FILE --output DIR

``FILE`` is ``pneumoniamnist.npz`` of MedMNIST (Yang et al., Scientific Data 2023;10:41) or a part
of it: chest radiographs of children (Kermany et al., Cell 2018;172:1122) in 28 x 28 pixels. The
official training part is learned from and, a tenth of it, chosen by; the official validation part
is held back. ``--evaluate`` measures the weights of the card again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ai_models.training.recipes.changed_pictures import Changes
from ai_models.training.recipes.scored_images import (
    ImageCase,
    ImageRecipe,
    Part,
    run_as_asked,
)
from ai_models.training.settings import Settings, TrainingError
from ai_models.types import Image

PIXEL_MM = (12.0, 12.0)
"""Nothing says how large the children were: a chest of 336 mm, so that files have a spacing."""
ONE_IN = 10
"""Of the official training part so many chooses, and is not learned from."""


def read_pictures(path: Path) -> Mapping[str, npt.NDArray[np.uint8]]:
    """``train_images``, ``train_labels``, ``val_images``, ``val_labels`` of the file.

    Raises
    ------
    TrainingError
        The file is not what it should be.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            found = {name: np.asarray(content[name]) for name in (
                "train_images", "train_labels", "val_images", "val_labels")}
    except (OSError, KeyError, ValueError) as error:
        raise TrainingError(f"{path} is no part of pneumoniamnist.npz: {error}") from error
    for part in ("train", "val"):
        images, labels = found[f"{part}_images"], found[f"{part}_labels"]
        if images.ndim != 3 or images.dtype != np.uint8 or labels.shape != (len(images), 1):
            raise TrainingError(f"{path}: {part} has {images.dtype} {images.shape}, and labels "
                                f"{labels.shape}")
    return found


def parts_of(found: Mapping[str, Any]) -> dict[Part, tuple[npt.NDArray[np.uint8], Any]]:
    """Pictures ``(n, rows, columns)`` and labels ``(n,)`` of every part.

    Of the training part every tenth of either kind is for choosing.
    """
    images, labels = found["train_images"], found["train_labels"].ravel()
    chooses = np.zeros(len(labels), dtype=bool)
    for kind in np.unique(labels):
        places = np.flatnonzero(labels == kind)
        chooses[np.random.default_rng(20).permutation(places)[::ONE_IN]] = True
    return {
        "train": (images[~chooses], labels[~chooses]),
        "validation": (images[chooses], labels[chooses]),
        "held_back": (found["val_images"], found["val_labels"].ravel()),
    }


def picture(pixels: npt.NDArray[np.uint8]) -> Image:
    """As a radiograph of it is displayed."""
    return Image((pixels / np.float32(255.0)).astype(np.float32), PIXEL_MM)


def recipe_of(data: Path | None) -> ImageRecipe:
    """The recipe on the pictures of a file."""
    if data is None:
        raise TrainingError("--data: the file of pictures is needed")
    parts = parts_of(read_pictures(data))

    def draw(part: Part, number: int) -> ImageCase:
        images, labels = parts[part]
        return ImageCase(picture(images[number]), float(labels[number]))

    return ImageRecipe(
        model_id="pneumonia-dx",
        command="python -m ai_models.training.recipes.pneumonia_dx --data FILE --output DIR",
        draw=draw, counts={part: len(labels) for part, (_, labels) in parts.items()},
        settings=Settings(
            steps=1300, batch=32, rate=1.5e-3, warm_up=100, weight_decay=1e-3, average=0.995,
            validate_every=260, checkpoint_every=130, watch="auc", seed=20,
        ),
        changes=Changes(),
        data=(
            "PneumoniaMNIST (MedMNIST v2, CC BY 4.0): chest radiographs of children of one to five "
            "years in one hospital in Guangzhou, 28 x 28 pixels; of the official training part "
            "3882 of 4708 pictures, of which those that lack are all normal"
        ),
        shortcomings=(
            "Pictures of 28 x 28 pixels of children of one hospital; nobody says which are of the "
            "same child, so children may be both in what was learned from and in what was held "
            "back, and figures are too good by an unknown amount. Nothing is known of adults, of "
            "other hospitals and of radiographs of full size."
        ),
        held_back="pictures of the official validation part of PneumoniaMNIST",
        steps=(0.3, 0.7),
    )


def main(arguments: list[str] | None = None) -> int:
    """Train, measure on the official validation part, write the folder of the model."""
    return run_as_asked(recipe_of, __doc__, arguments, needs_data=True)


if __name__ == "__main__":
    raise SystemExit(main())
