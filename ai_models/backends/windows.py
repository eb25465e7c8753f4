"""Where windows lie in an input, what each of their voxels counts, and how they are put together.

To the last bit as MONAI does it (``monai.inferers.sliding_window_inference``, Gaussian), of which a
worker that starts would import all: four seconds of a processor, twice what torch takes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch.nn.functional import pad

_SIGMA = 0.125  # of the edge of a window
_LEAST_WEIGHT = 1e-3


def places(
    edges: Sequence[int], roi: Sequence[int], overlap: float
) -> list[tuple[slice, ...]]:
    """Windows ``roi`` that cover an input of at least their size, the last axis going fastest.

    Neighbours overlap by the fraction ``overlap`` or more: the last of each axis ends where the
    input ends.
    """
    starts: list[list[int]] = []
    for edge, window in zip(edges, roi, strict=True):
        step, last = max(1, int(window * (1 - overlap))), max(edge - window, 0)
        starts.append([*range(0, last, step), last])
    return [
        tuple(slice(start, start + window) for start, window in zip(origin, roi, strict=True))
        for origin in itertools.product(*starts)
    ]


@lru_cache(maxsize=8)
def gaussian(roi: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Weights ``(1, 1, *roi)`` of a window: the middle counts most."""
    weights = torch.ones((), device=device)
    for edge in roi:
        middle = (edge - 1) / 2.0
        at = torch.arange(-middle, middle + 1, dtype=torch.float, device=device)
        weights = weights.unsqueeze(-1) * torch.exp(at**2 / (-2 * (edge * _SIGMA) ** 2))
    return weights.clamp(min=max(float(weights.min()), _LEAST_WEIGHT))[None, None]


def blended(
    image: torch.Tensor,
    predict: Callable[[torch.Tensor], torch.Tensor],
    *,
    roi: tuple[int, ...],
    overlap: float,
    batch: int,
    padding: float,
    windows_on: torch.device,
    sums_on: torch.device,
) -> torch.Tensor:
    """What ``predict`` says of the windows of ``image``, put together on ``sums_on``.

    Both are ``(inputs, channels, *spatial)``. ``predict`` answers a window with as many voxels and
    any number of channels, the same each time; its answer is written over.
    """
    edges = image.shape[2:]
    missing = [max(window - edge, 0) for window, edge in zip(roi, edges, strict=True)]
    before = [one // 2 for one in missing]
    if any(missing):
        both = zip(reversed(before), reversed(missing), strict=True)
        image = pad(image, [n for low, all_ in both for n in (low, all_ - low)], value=padding)
    everywhere = places(image.shape[2:], roi, overlap)
    weights = gaussian(roi, windows_on).to(image.dtype)
    sums: torch.Tensor | None = None
    wanted = list(itertools.product(range(len(image)), everywhere))
    for begin in range(0, len(wanted), batch):
        some = wanted[begin : begin + batch]
        windows = [image[(slice(one, one + 1), slice(None), *place)] for one, place in some]
        answer = predict((torch.cat(windows) if batch > 1 else windows[0]).to(windows_on))
        if sums is None:
            sums = torch.zeros(
                (len(image), answer.shape[1], *image.shape[2:]), dtype=image.dtype, device=sums_on
            )
        answer *= weights
        for (one, place), part in zip(some, answer.to(sums_on), strict=True):
            sums[(one, slice(None), *place)] += part
    if sums is None:
        raise ValueError("an input without windows")
    counted = torch.zeros((1, 1, *image.shape[2:]), dtype=image.dtype, device=sums_on)
    weights = weights.to(sums_on)
    for place in everywhere:
        counted[(slice(None), slice(None), *place)] += weights
    sums /= counted
    inner = (slice(low, low + edge) for low, edge in zip(before, edges, strict=True))
    return sums[(slice(None), slice(None), *inner)]
