"""Free-response ROC of things found in scans: which were hit, and how many were made up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
LabelMap = npt.NDArray[np.integer[Any]]

LUNA_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per scan at which LUNA16 reads the sensitivity (Setio et al., Med Image Anal
2017)."""


@dataclass(frozen=True)
class ScanFindings:
    """What was found in one scan, held against what is there.

    ``hits`` has the highest score of a finding on each thing that is there, ``-inf`` where none
    hit it; ``false_scores`` the scores of findings that hit nothing. A second finding on a thing
    that was hit already counts as neither (as in LUNA16).
    """

    hits: tuple[float, ...]
    false_scores: tuple[float, ...]


@dataclass(frozen=True)
class Froc:
    """``sensitivity[i]`` at ``false_per_scan[i]`` false positives per scan, findings scored
    ``thresholds[i]`` or more; thresholds fall."""

    thresholds: Numbers
    sensitivity: Numbers
    false_per_scan: Numbers

    def at(self, false_per_scan: float) -> float:
        """The sensitivity with at most so many false positives per scan."""
        if not self.sensitivity.size:
            return math.nan
        allowed = self.false_per_scan <= false_per_scan + 1e-9
        return float(self.sensitivity[allowed].max(initial=0.0))

    def score(self, rates: Sequence[float] = LUNA_RATES) -> float:
        """The mean sensitivity at these rates: LUNA16's competition performance metric."""
        return float(np.mean([self.at(rate) for rate in rates]))


def froc(scans: Sequence[ScanFindings]) -> Froc:
    """The curve of all scans together; empty where nothing is there to be found."""
    hits = np.array([score for scan in scans for score in scan.hits], dtype=np.float64)
    false = np.array([score for scan in scans for score in scan.false_scores], dtype=np.float64)
    if not hits.size:
        return Froc(*(np.zeros(0) for _ in range(3)))
    found = hits[np.isfinite(hits)]
    thresholds = np.unique(np.concatenate([found, false]))[::-1]
    if not thresholds.size:
        # Nothing was found of what is there: a sensitivity of 0, not an unknown one.
        thresholds = np.array([np.inf])
    sensitivity = _at_least(found, thresholds) / hits.size
    return Froc(thresholds, sensitivity, _at_least(false, thresholds) / len(scans))


def _at_least(scores: Numbers, thresholds: Numbers) -> Numbers:
    ordered = np.sort(scores)
    return np.asarray(ordered.size - np.searchsorted(ordered, thresholds, side="left"), np.float64)


def match_centers(
    found_mm: npt.ArrayLike,
    scores: Sequence[float],
    truth_mm: npt.ArrayLike,
    radius_mm: float | Sequence[float],
) -> ScanFindings:
    """A finding hits the nearest thing whose centre is within ``radius_mm`` of its own.

    Points are ``(n, 3)`` in mm in one frame; the radius is one, or one for each thing (LUNA16
    takes that of the nodule).
    """
    truth = np.asarray(truth_mm, dtype=np.float64).reshape(-1, 3)
    radii = np.broadcast_to(np.asarray(radius_mm, dtype=np.float64), (len(truth),))
    best = np.full(len(truth), -np.inf)
    false = []
    for point, score in zip(np.asarray(found_mm, np.float64).reshape(-1, 3), scores, strict=True):
        distances = np.linalg.norm(truth - point, axis=1)
        within = np.flatnonzero(distances <= radii)
        if within.size:
            nearest = within[np.argmin(distances[within])]
            best[nearest] = max(best[nearest], score)
        else:
            false.append(float(score))
    return ScanFindings(tuple(float(one) for one in best), tuple(false))


def match_parts(
    found: LabelMap, scores: Sequence[float], truth: LabelMap
) -> ScanFindings:
    """A found part hits every true part that it shares voxels with.

    ``found`` and ``truth`` number parts from 1, 0 is background, on one grid; ``scores[k - 1]``
    is the score of part ``k``.
    """
    count = int(truth.max(initial=0))
    best = np.full(count, -np.inf)
    false = []
    for number, score in enumerate(scores, start=1):
        touched = np.unique(truth[found == number])
        touched = touched[touched > 0]
        if touched.size:
            best[touched - 1] = np.maximum(best[touched - 1], score)
        else:
            false.append(float(score))
    return ScanFindings(tuple(float(one) for one in best), tuple(false))
