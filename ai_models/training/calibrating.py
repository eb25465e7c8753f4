"""How far probabilities may be believed: a temperature, its error, and from where on to say yes.

Temperature and threshold are chosen on cases that neither trained the network nor measure it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import optimize
from scipy.special import log_softmax

Numbers = npt.NDArray[np.float64]
LOWEST, HIGHEST = 0.05, 20.0


def class_logits(logits: npt.ArrayLike) -> Numbers:
    """``(cases, classes)``; of one logit for each case those of no (0) and yes."""
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim == 2 and values.shape[1] > 1:
        return values
    yes = values.reshape(-1)
    return np.stack([np.zeros_like(yes), yes], axis=1)


def balancing_weights(classes: Sequence[int]) -> Numbers:
    """A weight for each case, of mean 1, with which every class there is counts alike."""
    found = np.asarray(classes, dtype=np.int64)
    counts = np.bincount(found)
    return np.asarray(len(found) / (np.count_nonzero(counts) * counts[found]))


def temperature_of(logits: npt.ArrayLike, classes: Sequence[int]) -> float:
    """The temperature by which the classes are least surprising (Guo et al., ICML 2017).

    ``logits`` as `class_logits` takes them. Every class counts alike: a network that was trained
    on as many of each answers for a place where each is as common. 1 where there is only one class.
    """
    values, found = class_logits(logits), np.asarray(classes, dtype=np.int64)
    if len(np.unique(found)) < 2:
        return 1.0
    weights = balancing_weights(classes)

    def surprise(log_temperature: float) -> float:
        likely = log_softmax(values / np.exp(log_temperature), axis=1)
        return float(-(weights * likely[np.arange(len(found)), found]).mean())

    best = optimize.minimize_scalar(
        surprise, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded"
    )
    return float(np.exp(best.x))


def calibration_error(
    truth: Sequence[float], scores: Sequence[float], bins: int = 10, *,
    weights: Sequence[float] | None = None,
) -> float:
    """Expected calibration error of a probability: mean gap between what it says and what is true.

    ``bins`` of equal width (Naeini et al., AAAI 2015), each counted by its cases. ``nan`` without
    cases.
    """
    said = np.asarray(scores, dtype=np.float64)
    true = np.asarray(truth, dtype=np.float64)
    if not said.size:
        return float("nan")
    share = np.ones_like(said) if weights is None else np.asarray(weights, dtype=np.float64)
    place = np.minimum((said * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, share * (said - true), bins)
    return float(np.abs(gap).sum() / share.sum())


def threshold_of(truth: Sequence[float], scores: Sequence[float]) -> float:
    """Where sensitivity and specificity together are highest (Youden, Cancer 1950;3:32-35).

    Midway between two scores that occur; a score of the threshold or more is called positive. 0.5
    where there is only one kind.
    """
    positive = np.asarray(truth, dtype=np.float64) > 0.5
    said = np.asarray(scores, dtype=np.float64)
    if positive.all() or not positive.any():
        return 0.5
    order = np.unique(said)
    cuts = np.concatenate([[order[0]], (order[1:] + order[:-1]) / 2])
    called = said[None, :] >= cuts[:, None]
    gain = called[:, positive].mean(axis=1) - called[:, ~positive].mean(axis=1)
    # Of cuts that are as good the one in the middle.
    best = np.flatnonzero(gain >= gain.max() - 1e-12)
    return float(cuts[best[len(best) // 2]])
