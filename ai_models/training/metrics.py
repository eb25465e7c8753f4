"""Figures that say how good a model is, and how sure one may be of them.

Every figure is of one list of cases, so that the same function serves the whole set, a resample of
it (`bootstrap_interval`) and a subgroup (`by_subgroup`). A figure that cannot be had, such as the
AUC of cases of one kind, is ``nan``: never 0 and never 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ai_models.training.froc import Froc, ScanFindings, froc, match_centers, match_parts

__all__ = [
    "Froc", "Interval", "ScanFindings", "age_band", "auc", "bootstrap_interval", "by_subgroup",
    "determination", "dice", "froc", "hd95", "iou", "match_centers", "match_parts",
    "mean_absolute_error", "root_mean_square_error", "rounded", "sensitivity_at_specificity",
    "sensitivity_specificity", "threshold_at_specificity",
]

Case = TypeVar("Case")
Mask = npt.NDArray[np.bool_]

FEWEST_OF_A_GROUP = 5


@dataclass(frozen=True)
class Interval:
    """A figure with the bounds of its confidence interval; all ``nan`` where it cannot be had."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def dice(found: Mask, truth: Mask) -> float:
    """Dice coefficient of two masks of one shape; 1 where both are empty."""
    both = int(found.sum()) + int(truth.sum())
    return 1.0 if both == 0 else 2.0 * int((found & truth).sum()) / both


def iou(found: Mask, truth: Mask) -> float:
    """Intersection over union of two masks of one shape; 1 where both are empty."""
    union = int((found | truth).sum())
    return 1.0 if union == 0 else int((found & truth).sum()) / union


def hd95(found: Mask, truth: Mask, spacing_mm: Sequence[float]) -> float:
    """95th percentile of the distances between two surfaces in mm, the larger of both directions.

    Masks are ``(slices, rows, columns)``, ``spacing_mm`` is in that order. 0 where both are empty,
    ``inf`` where one is: no distance is large enough for what was missed altogether.
    """
    if not found.any() or not truth.any():
        return 0.0 if found.any() == truth.any() else math.inf
    import torch
    from monai.metrics import compute_hausdorff_distance

    # Both masks lie in this part; what is outside of it has no surface.
    where = np.nonzero(found | truth)
    box = tuple(slice(max(int(i.min()) - 1, 0), int(i.max()) + 2) for i in where)
    first, second = (
        torch.from_numpy(np.ascontiguousarray(one[box]))[None, None] for one in (found, truth)
    )
    distance = compute_hausdorff_distance(
        first, second, include_background=True, percentile=95,
        spacing=[float(mm) for mm in spacing_mm],
    )
    return float(distance[0, 0])


def auc(truth: Sequence[float], scores: Sequence[float]) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, ties half.

    ``truth`` is 1 for a positive, 0 for a negative (Hanley and McNeil, Radiology 1982).
    """
    from scipy.stats import rankdata

    positive = np.asarray(truth, dtype=np.float64) > 0.5
    n, m = int(positive.sum()), int((~positive).sum())
    if n == 0 or m == 0:
        return math.nan
    ranks = rankdata(np.asarray(scores, dtype=np.float64))
    return float((ranks[positive].sum() - n * (n + 1) / 2.0) / (n * m))


def threshold_at_specificity(
    truth: Sequence[float], scores: Sequence[float], specificity: float
) -> float:
    """The lowest threshold at which at least so many negatives score below it; ``nan`` without
    negatives. A score of the threshold or more is called positive."""
    positive = np.asarray(truth, dtype=np.float64) > 0.5
    values = np.asarray(scores, dtype=np.float64)
    negatives = np.sort(values[~positive])
    if not negatives.size:
        return math.nan
    needed = math.ceil(specificity * negatives.size - 1e-9)
    if needed <= 0:
        return float(values.min())
    return float(np.nextafter(negatives[needed - 1], np.inf))


def sensitivity_at_specificity(
    truth: Sequence[float], scores: Sequence[float], specificity: float = 0.9
) -> float:
    """Share of positives found at the lowest threshold that keeps ``specificity``."""
    threshold = threshold_at_specificity(truth, scores, specificity)
    positive = np.asarray(truth, dtype=np.float64) > 0.5
    if math.isnan(threshold) or not positive.any():
        return math.nan
    return float((np.asarray(scores, dtype=np.float64)[positive] >= threshold).mean())


def sensitivity_specificity(
    truth: Sequence[float], scores: Sequence[float], threshold: float = 0.5
) -> tuple[float, float]:
    """Sensitivity and specificity where a score of ``threshold`` or more is called positive."""
    positive = np.asarray(truth, dtype=np.float64) > 0.5
    called = np.asarray(scores, dtype=np.float64) >= threshold
    sensitivity = float(called[positive].mean()) if positive.any() else math.nan
    specificity = float((~called[~positive]).mean()) if (~positive).any() else math.nan
    return sensitivity, specificity


def mean_absolute_error(truth: Sequence[float], values: Sequence[float]) -> float:
    """In the unit of the values; ``nan`` without any."""
    errors = np.abs(np.asarray(truth, dtype=np.float64) - np.asarray(values, dtype=np.float64))
    return float(errors.mean()) if errors.size else math.nan


def root_mean_square_error(truth: Sequence[float], values: Sequence[float]) -> float:
    """In the unit of the values; ``nan`` without any."""
    errors = np.asarray(truth, dtype=np.float64) - np.asarray(values, dtype=np.float64)
    return float(np.sqrt((errors**2).mean())) if errors.size else math.nan


def determination(truth: Sequence[float], values: Sequence[float]) -> float:
    """R squared; ``nan`` where the truth does not vary."""
    wanted = np.asarray(truth, dtype=np.float64)
    total = float(((wanted - wanted.mean()) ** 2).sum()) if wanted.size else 0.0
    if total == 0.0:
        return math.nan
    left = float(((wanted - np.asarray(values, dtype=np.float64)) ** 2).sum())
    return 1.0 - left / total


def bootstrap_interval(
    cases: Sequence[Case],
    figure: Callable[[Sequence[Case]], float],
    *,
    patients: Sequence[str] | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """``figure`` of the cases with its percentile bootstrap interval (Efron, Ann Stat 1979).

    Patients are drawn with replacement, each with all of its cases: two scans of one patient are
    not two independent observations. Without ``patients`` every case is one. Resamples without a
    figure (such as an AUC of positives only) are left out; where these are half or more, or there
    are fewer than five patients, the bounds are ``nan``. Bounds that are both the figure itself
    (nothing was missed) say only that no resample differs, not that the next patient will not.
    """
    value = float(figure(cases)) if cases else math.nan
    by_patient: dict[str, list[Case]] = {}
    names = patients if patients is not None else [str(i) for i in range(len(cases))]
    for name, case in zip(names, cases, strict=True):
        by_patient.setdefault(name, []).append(case)
    groups = list(by_patient.values())
    if len(groups) < FEWEST_OF_A_GROUP:
        return Interval(value, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        drawn = rng.integers(0, len(groups), len(groups))
        values.append(float(figure([case for i in drawn for case in groups[i]])))
    finite = [one for one in values if math.isfinite(one)]
    if len(finite) * 2 <= resamples:
        return Interval(value, math.nan, math.nan)
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(finite, [tail, 100.0 - tail])
    return Interval(value, float(low), float(high))


def by_subgroup(
    cases: Sequence[Case],
    attributes: Sequence[Mapping[str, str]],
    figure: Callable[[Sequence[Case]], float],
    *,
    patients: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, dict[str, Any]]]:
    """``figure`` by every value of every attribute: ``{"sex": {"F": {"cases": 12, ...}}}``.

    ``attributes`` has a mapping for each case; a case without an attribute is under ``unknown``.
    A group of fewer than five cases is counted, and has no figure: it would mislead, and could
    tell of a single patient.
    """
    names = sorted({name for one in attributes for name in one})
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for name in names:
        places: dict[str, list[int]] = {}
        for i, one in enumerate(attributes):
            places.setdefault(one.get(name, "") or "unknown", []).append(i)
        result[name] = {}
        for value, chosen in sorted(places.items()):
            row: dict[str, Any] = {"cases": len(chosen)}
            if len(chosen) >= FEWEST_OF_A_GROUP:
                interval = bootstrap_interval(
                    [cases[i] for i in chosen], figure, resamples=resamples, seed=seed,
                    patients=[patients[i] for i in chosen] if patients is not None else None,
                )
                row |= rounded(interval)
            result[name][value] = row
    return result


def rounded(interval: Interval) -> dict[str, float | None]:
    """As a record keeps it: JSON has neither ``nan`` nor ``inf``."""
    return {
        name: round(one, 4) if math.isfinite(one) else None
        for name, one in (("value", interval.value), ("low", interval.low),
                          ("high", interval.high))
    }


def age_band(years: float | None) -> str:
    """The decade of life as a subgroup: ``60-69``; from 90 on ``90+``, as privacy rules ask."""
    if years is None or not 0 <= years < 150:
        return "unknown"
    return "90+" if years >= 90 else f"{int(years) // 10 * 10}-{int(years) // 10 * 10 + 9}"
