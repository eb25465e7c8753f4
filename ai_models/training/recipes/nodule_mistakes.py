"""Where a network makes up nodules in the chests that it trains on, so that it sees these oftener.

Nothing was put into these chests. So all that is found in a drawn one is made up; in a real one
what may be a nodule already is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import nn

from ai_models.training.phantoms.scanners import random_scanner, seen_by
from ai_models.training.recipes.nodule_crops import (
    SPACING_MM,
    Background,
    Shape,
    scaled,
)

FROM_PROBABILITY = 0.3
FEWEST_VOXELS = 4
# Windows that hardly show the lungs are left out.
LEAST_LUNG = 0.02
_BEYOND_HU = -1000.0


def with_mistakes(
    network: nn.Module, chests: Sequence[Background], window: Shape, seed: int, keep: Path
) -> list[Background]:
    """``chests`` with what ``network`` makes up in them, beside what is known of them already.

    ``network`` answers logits of background and nodule in windows of ``window`` voxels. A drawn
    chest is seen by a scanner drawn from ``seed``. What was found is kept in the file ``keep`` and
    taken from there the next time.
    """
    if not keep.exists():
        found = [
            mistakes_in(network, chest, window, np.random.default_rng((seed, 11, index)))
            for index, chest in enumerate(chests)
        ]
        named: dict[str, Any] = {f"chest_{index}": one for index, one in enumerate(found)}
        np.savez(keep, **named)
    return with_mistakes_of(keep, chests)


def with_mistakes_of(kept: Path, chests: Sequence[Background]) -> list[Background]:
    """``chests``, the same as when ``kept`` was written, with what was made up in them."""
    with np.load(kept, allow_pickle=False) as stored:
        found = [stored[f"chest_{index}"] for index in range(len(chests))]
    return [
        replace(chest, mistakes=np.concatenate([chest.mistakes, more]))
        for chest, more in zip(chests, found, strict=True)
    ]


def mistakes_in(
    network: nn.Module, chest: Background, window: Shape, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """The middle voxel of each part that is made up in ``chest``, ``(n, 3)``."""
    hu = chest.hu.astype(np.float32)
    if not chest.is_real:
        hu = seen_by(random_scanner(rng, SPACING_MM), hu, SPACING_MM, rng)
    image = scaled(hu)
    above = np.zeros(image.shape, dtype=np.bool_)
    network.eval()
    for place in _windows(image.shape, window):
        if chest.lungs[place].mean() < LEAST_LUNG:
            continue
        seen = image[place]
        rest = [(0, edge - length) for edge, length in zip(window, seen.shape, strict=True)]
        padded = np.pad(seen, rest, constant_values=float(scaled(np.array([_BEYOND_HU]))[0]))
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(torch.from_numpy(padded)[None, None])
        probability = logits.float().softmax(1)[0, 1].numpy()
        above[place] |= (probability >= FROM_PROBABILITY)[tuple(slice(n) for n in seen.shape)]
    parts, count = ndimage.label(above & ~chest.unsure)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    large = [number for number in range(1, count + 1) if sizes[number] >= FEWEST_VOXELS]
    if not large:
        return np.zeros((0, 3), dtype=np.int64)
    middles = np.array(ndimage.center_of_mass(parts > 0, parts, large))
    return np.asarray(np.rint(middles), dtype=np.int64)


def _windows(shape: tuple[int, ...], window: Shape) -> list[tuple[slice, ...]]:
    """Windows that cover everything, overlapping by an eighth."""
    starts = []
    for length, edge in zip(shape, window, strict=True):
        last = max(length - edge, 0)
        starts.append(sorted({*range(0, last, edge - edge // 8), last}))
    return [
        tuple(slice(first, first + edge) for first, edge in zip(start, window, strict=True))
        for start in np.stack(np.meshgrid(*starts, indexing="ij"), -1).reshape(-1, 3).tolist()
    ]
