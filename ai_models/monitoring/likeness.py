"""How like the pictures that a model learned from a picture is, by a space that those span.

A picture is averaged to 28 x 28 and divided by its deviation, so that window and exposure count for
little. In each of 4 x 4 fields it is counted which way its grey values grow, and how steeply
(histograms of oriented gradients: Dalal and Triggs, CVPR 2005): edges of a heart and of bones
differ where averages of a wrist and a chest do not. Of the pictures learned from principal
components of these 128 numbers are kept, with the mean variance of what they leave (Tipping and
Bishop, Probabilistic principal component analysis, J R Stat Soc B 61, 1999). The distance is
Mahalanobis', over the square root of 128: about 1 for a picture as learned from. Nothing of a
single picture is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ai_models.monitoring.reference import read_rows, write_rows
from ai_models.types import FloatArray, ModelError

EDGE = 28
"""Rows and columns to which a picture is averaged."""
FIELDS, WAYS = 4, 8
FEATURES = FIELDS * FIELDS * WAYS
COMPONENTS = 60
LEAST_PICTURES = 60
"""Fewer say too little about what is usual."""
SHARE = 0.995
"""Of the cases that choose, so many pass each limit."""
LEAST_NOTICED = 0.25
"""A change that is noticed in fewer pictures is not looked for: it would only refuse good ones."""
_FLAT = 1e-4
_Small = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Distances:
    """How far a picture is, and how far it would be if it were shown otherwise.

    ``own`` as it is, ``inverted`` with black and white changed, ``turned`` the least of it turned
    by 90, 180 and 270 degrees and of upside down, ``mirrored`` with left and right changed.
    """

    own: float
    inverted: float
    turned: float
    mirrored: float


@dataclass(frozen=True)
class LearnedSpace:
    """``mean`` ``(128,)``, ``directions`` ``(components, 128)`` of length 1, ``deviations``
    ``(components,)`` along them, and ``rest``, that of every direction that is left."""

    mean: _Small
    directions: _Small
    deviations: _Small
    rest: float

    def distance(self, small: _Small) -> float:
        """Of a picture ``(28, 28)`` of `small_picture`."""
        apart = gradients_of(small) - self.mean
        along = self.directions @ apart
        left = max(0.0, float(apart @ apart - along @ along))
        total = float(((along / self.deviations) ** 2).sum()) + left / self.rest**2
        return float(np.sqrt(total / apart.size))

    def distances(self, pictures: FloatArray) -> Distances:
        """Of ``(slices, rows, columns)``; the median over the slices that show anything.

        Raises
        ------
        ModelError
            ``input.blank``: none shows anything.
        """
        shown = [small for small in map(small_picture, pictures) if small is not None]
        if not shown:
            raise ModelError("what the network would get is of one value", reason="input.blank")
        turned = [[np.rot90(one, times) for one in shown] for times in (1, 2, 3)]
        turned.append([one[::-1] for one in shown])
        return Distances(
            self._usual(shown), self._usual([-one for one in shown]),
            min(map(self._usual, turned)), self._usual([one[:, ::-1] for one in shown]),
        )

    def _usual(self, smalls: Sequence[_Small]) -> float:
        return float(np.median([self.distance(one) for one in smalls]))


def small_picture(picture: npt.NDArray[np.floating]) -> _Small | None:
    """``(rows, columns)`` as ``(28, 28)`` of mean 0 and deviation 1; ``None`` of one value."""
    small = averaged(picture)
    deviation = float(small.std())
    if deviation < _FLAT * max(1.0, float(np.abs(small).max())):
        return None
    answer: _Small = (small - small.mean()) / deviation
    return answer


def averaged(picture: npt.NDArray[np.floating]) -> _Small:
    """``(rows, columns)`` as the means of 28 x 28 fields of it."""
    rows, columns = picture.shape
    small: _Small = _averaging(rows) @ np.asarray(picture, np.float64) @ _averaging(columns).T
    return small


def _averaging(count: int) -> _Small:
    """``(28, count)``: what of each of ``count`` samples lies in each 28th part of their row."""
    ends = np.linspace(0.0, count, EDGE + 1)
    place = np.arange(count)[None, :]
    shares = np.minimum(ends[1:, None], place + 1.0) - np.maximum(ends[:-1, None], place)
    weights = np.clip(shares, 0.0, None)
    answer: _Small = weights / weights.sum(axis=1, keepdims=True)
    return answer


def gradients_of(small: _Small) -> _Small:
    """``(128,)``: of 4 x 4 fields of ``(28, 28)`` the square roots of how steep it is each way.

    Eight ways, from the one in which columns grow towards the one in which rows do; a gradient
    between two of them counts for both.
    """
    down, across = np.gradient(small)
    steep = np.hypot(down, across)
    way = np.arctan2(down, across) / (2 * np.pi) * WAYS
    first = np.floor(way).astype(int)
    second_share = way - first
    field = np.arange(EDGE) // (EDGE // FIELDS)
    place = (field[:, None] * FIELDS + field[None, :]) * WAYS
    total = np.zeros(FEATURES)
    for ways, share in ((first, 1.0 - second_share), (first + 1, second_share)):
        total += np.bincount(
            (place + ways % WAYS).ravel(), weights=(steep * share).ravel(), minlength=FEATURES
        )
    answer: _Small = np.sqrt(total / (EDGE // FIELDS) ** 2)
    return answer


def learned_space(smalls: Sequence[_Small] | _Small) -> LearnedSpace:
    """The space of pictures ``(pictures, 28, 28)`` of `small_picture`.

    Raises
    ------
    ModelError
        ``model.quality``: fewer than `LEAST_PICTURES`, or all alike.
    """
    if len(smalls) < LEAST_PICTURES:
        raise ModelError(
            f"{len(smalls)} pictures are too few to say what is usual: {LEAST_PICTURES} at least",
            reason=REASON,
        )
    rows = np.stack([gradients_of(np.asarray(one, np.float64)) for one in smalls])
    mean = rows.mean(axis=0)
    _, lengths, directions = np.linalg.svd(rows - mean, full_matrices=False)
    variances = lengths**2 / (len(rows) - 1)
    count = min(COMPONENTS, len(rows) // 4)
    rest = float(variances[count:].sum()) / (FEATURES - count)
    if rest <= 0:
        raise ModelError("the pictures are all alike", reason=REASON)
    # What varies less along a component than elsewhere must not count for more.
    deviations = np.sqrt(np.maximum(variances[:count], rest))
    return LearnedSpace(mean, directions[:count], deviations, float(np.sqrt(rest)))


def chosen_limits(found: Sequence[Distances], *, mirrored: bool = True) -> dict[str, float]:
    """``limit``, and of each change that is noticed often enough the ratio that it needs.

    Without ``mirrored`` that is not looked for.
    """
    own = np.array([one.own for one in found])
    limits = {"limit": _ceiling(float(np.quantile(own, SHARE, method="higher")))}
    for name in ("inverted", "turned", "mirrored") if mirrored else ("inverted", "turned"):
        other = np.array([getattr(one, name) for one in found])
        ratio = max(1.0, _ceiling(float(np.quantile(own / other, SHARE, method="higher"))))
        # A picture that is changed has its distances the other way round.
        if float(np.mean(other / own > ratio)) >= LEAST_NOTICED:
            limits[name] = ratio
    return limits


def _ceiling(value: float) -> float:
    return float(np.ceil(value * 100) / 100)


def write_space(path: Path, space: LearnedSpace) -> str:
    """Write it as rows of float32: mean, deviations and rest, directions; its SHA-256."""
    told = np.zeros(FEATURES)
    told[: len(space.deviations)] = space.deviations
    told[len(space.deviations)] = space.rest
    rows = np.vstack([space.mean, told, space.directions])
    return write_rows(path, rows.astype(np.float32))


def read_space(path: Path, sha256: str) -> LearnedSpace:
    """Read what `write_space` wrote, compared with its SHA-256.

    Raises
    ------
    ModelError
        As `ai_models.monitoring.reference.read_rows`; ``model.quality``: it is something else.
    """
    rows = np.asarray(read_rows(path, sha256, "input.quality"), np.float64)
    count = len(rows) - 2
    if rows.shape[1] != FEATURES or not 1 <= count < FEATURES - 1:
        raise ModelError(f"{path} has the shape {rows.shape}", reason=REASON)
    deviations, rest = rows[1, :count], float(rows[1, count])
    if not np.isfinite(rows).all() or rest <= 0 or deviations.min() <= 0:
        raise ModelError(f"{path} holds no deviations", reason=REASON)
    if not np.allclose(rows[2:] @ rows[2:].T, np.eye(count), atol=1e-3):
        raise ModelError(f"{path} holds directions that are not of length 1", reason=REASON)
    return LearnedSpace(rows[0], rows[2:], deviations, rest)


REASON = "model.quality"
