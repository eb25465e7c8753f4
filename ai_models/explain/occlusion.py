"""Occlusion: how much a score falls when a part of the input is covered.

Zeiler and Fergus, ECCV 2014. Covered parts overlap by half, and there are never more than
`MOST_WINDOWS` of them, so the map is coarse and the time is known: about that many predictions.
MONAI covers what torch runs here, some at a time; any other back-end is asked one by one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from math import ceil

import numpy as np
import torch
from monai.visualize.occlusion_sensitivity import OcclusionSensitivity

from ai_models.array.activation import activated, calibrated
from ai_models.backends import Answer, Backend
from ai_models.card import ClassificationCard
from ai_models.card_entries import ScoreEntry
from ai_models.explain.network import as_batch, at_rest, device_of, dtype_of, is_sequence, logits_of
from ai_models.explain.scaling import scaled, worth_of_slices
from ai_models.prediction.checking import checked_scores
from ai_models.prediction.preparing import Prepared
from ai_models.types import FloatArray

MOST_WINDOWS = 400
# Of a network that looks at slices: so many of the highest, each covered so often.
MOST_SLICES, MOST_WINDOWS_OF_SLICES = 16, 100
# A fall of the score by less than this is rounding.
_LEAST = 1e-5


def occlusion_maps(
    card: ClassificationCard, backend: Backend, module: torch.nn.Module | None,
    prepared: Prepared, answer: Answer, asked: list[ScoreEntry],
) -> dict[str, FloatArray]:
    """A map ``(slices, rows, columns)`` on the network's grid for each score, highest value 1.

    What is covered becomes the mean of the input. Of a network that looks at slices, the same
    place is covered in all that are explained (`MOST_SLICES` of those that reach the card's
    ``from_score``), and each counts as much as it was scored. Of one that answers every slice of a
    sequence, blocks are covered, and the scores of these slices count together.
    """
    if prepared.is_sliced(card):
        return {
            entry.name: _of_slices(card, backend, prepared, answer, entry) for entry in asked
        }
    channels = [entry.channel for entry in asked]
    alone = not card.output.mirror and not card.weights.ensemble
    if is_sequence(card):
        worth = np.stack([worth_of_slices(card, answer, one, MOST_SLICES) for one in channels])
        falls = _by_asking(
            backend, prepared, answer, lambda scores: (worth * scores[:, channels].T).sum(axis=1)
        )
    elif module is not None and alone and dtype_of(module) == torch.float32:
        falls = _by_monai(card, module, prepared, channels)
    else:
        falls = _by_asking(
            backend, prepared, answer, lambda scores: scores.reshape(-1)[channels]
        )
    return {
        entry.name: scaled(np.where(fall < _LEAST, 0, fall).reshape(prepared.shape))
        for entry, fall in zip(asked, falls, strict=True)
    }


def window_of(length: int, most: int) -> tuple[int, list[int]]:
    """Length and starts of at most ``most`` windows that overlap by half and cover an axis."""
    step = ceil(length / (most + 1))
    window = min(2 * step, length)
    starts = list(range(0, length - window, step))
    return window, [*starts, length - window]


def _by_monai(
    card: ClassificationCard, module: torch.nn.Module, prepared: Prepared, channels: list[int]
) -> FloatArray:
    """How much each score falls, ``(scores, *spatial)``."""
    calibration = {
        entry.channel: (entry.calibration.temperature, entry.calibration.bias)
        for entry in card.output.scores
    }

    def score(output: object) -> torch.Tensor:
        logits = logits_of(output)
        raw = logits.float().cpu().numpy()
        if card.output.activation != "none":
            raw = calibrated(raw, calibration)
        scores = activated(raw, card.output.activation)[:, channels]
        return torch.from_numpy(np.ascontiguousarray(scores)).to(logits.device)

    image = torch.from_numpy(as_batch(prepared, card)).to(device_of(module))
    edges = image.shape[2:]
    most = int(MOST_WINDOWS ** (1 / len(edges)) + 1e-9)
    occlusion = OcclusionSensitivity(
        nn_module=module, mask_size=[window_of(edge, most)[0] for edge in edges],
        n_batch=card.runtime.batch, verbose=False, mode=float(image.mean()), overlap=0.5,
        activate=score,
    )
    with torch.inference_mode(), at_rest(module), warnings.catch_warnings():
        # Of how MONAI indexes tensors, at every single window.
        warnings.filterwarnings("ignore", message="Using a non-tuple sequence")
        before = score(module(image))[0].cpu().numpy()
        covered, _ = occlusion(image)
    left = np.asarray(covered[0].cpu().numpy(), dtype=np.float32)
    return np.asarray(before.reshape(-1, *(1,) * len(edges)) - left, dtype=np.float32)


def _by_asking(
    backend: Backend, prepared: Prepared, answer: Answer,
    asked: Callable[[FloatArray], FloatArray],
) -> FloatArray:
    """How much falls what is ``asked`` of the scores ``(inputs or slices, channels)``."""
    before = asked(checked_scores(answer.scores, "probabilities"))
    array = prepared.image.array
    most = int(MOST_WINDOWS ** (1 / (array.ndim - 1)) + 1e-9)
    falls = np.zeros((len(before), *array.shape[1:]), dtype=np.float32)
    times = np.zeros(array.shape[1:], dtype=np.float32)
    fill = np.float32(array.mean())
    for place in _places(array.shape[1:], most):
        covered = array.copy()
        covered[(slice(None), *place)] = fill
        scores = backend.predict(replace(prepared.image, array=covered)).scores
        after = asked(checked_scores(scores, "probabilities"))
        falls[(slice(None), *place)] += (before - after).reshape(-1, *(1,) * len(place))
        times[place] += 1
    return np.asarray(falls / times, dtype=np.float32)


def _of_slices(
    card: ClassificationCard, backend: Backend, prepared: Prepared, answer: Answer,
    entry: ScoreEntry,
) -> FloatArray:
    """The map of one score of a network that answers each slice."""
    worth = worth_of_slices(card, answer, entry.channel, MOST_SLICES)
    chosen = np.flatnonzero(worth)
    array = np.ascontiguousarray(prepared.image.array[:, chosen])
    before = checked_scores(answer.scores, "probabilities")[chosen, entry.channel]
    most = int(MOST_WINDOWS_OF_SLICES**0.5 + 1e-9)
    falls = np.zeros(array.shape[1:], dtype=np.float32)
    times = np.zeros(array.shape[1:], dtype=np.float32)
    fill = np.float32(array.mean())
    for place in _places(array.shape[2:], most):
        covered = array.copy()
        covered[(slice(None), slice(None), *place)] = fill
        scores = backend.predict(replace(prepared.image, array=covered)).scores
        after = checked_scores(scores, "probabilities")[:, entry.channel]
        falls[(slice(None), *place)] += (before - after)[:, None, None]
        times[(slice(None), *place)] += 1
    falls /= times
    found = np.zeros(prepared.shape, dtype=np.float32)
    found[chosen] = np.where(falls < _LEAST, 0, falls) * worth[chosen, None, None]
    return scaled(found)


def _places(edges: tuple[int, ...], most: int) -> list[tuple[slice, ...]]:
    """Windows that overlap by half, ``most`` along every axis."""
    along = []
    for edge in edges:
        window, starts = window_of(edge, most)
        along.append([slice(start, start + window) for start in starts])
    return list(product(*along))
