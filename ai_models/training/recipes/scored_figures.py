"""What is measured of a model that scores examinations, and how its scores become probabilities.

Every figure counts examinations, one of each patient, and has an interval by drawing patients anew.
Calibration is as if as many examinations had what is looked for as had it not: how common it is
among phantoms says nothing of any hospital.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize

from ai_models.card_outputs import Calibration
from ai_models.training.calibrating import balancing_weights, calibration_error
from ai_models.training.metrics import (
    auc,
    bootstrap_interval,
    by_subgroup,
    rounded,
    sensitivity_at_specificity,
    sensitivity_specificity,
)

PRESENT_FROM, ABSENT_BELOW = 0.7, 0.3
"""From where on the reports of these models say present, and below what absent."""
# A probability of float32 that is 0 or 1 says no more than this.
_FURTHEST_LOGIT = 14.0
_BINS = 5
# So many cases that are half and half keep a perfect separation from asking for no temperature.
_SOFTENING = 1.0


@dataclass(frozen=True)
class Row:
    """What the model said of one case that it was not trained on."""

    seed: int
    scores: Mapping[str, float]
    truth: Mapping[str, float]
    about: Mapping[str, str]
    by_slice: tuple[tuple[float, float], ...] = ()


Figure = Callable[[Sequence[Row]], float]


def figures_of(rows: Sequence[Row], name: str) -> dict[str, Any]:
    """AUC; sensitivity at 90 % specificity; both at 0.5, of "present" and of "absent", with
    intervals; the calibration error; by subgroup the AUC."""

    def paired(of: Callable[[list[float], list[float]], float]) -> Figure:
        return lambda some: of(
            [one.truth[name] for one in some], [one.scores[name] for one in some]
        )

    def both(threshold: float, part: int) -> Figure:
        return paired(lambda truth, said: sensitivity_specificity(truth, said, threshold)[part])

    area = paired(auc)
    figures: dict[str, Figure] = {
        "auc": area,
        "sensitivity_at_90_percent_specificity": paired(sensitivity_at_specificity),
        "sensitivity_at_0.5": both(0.5, 0),
        "specificity_at_0.5": both(0.5, 1),
        "sensitivity_of_present": both(PRESENT_FROM, 0),
        "specificity_of_present": both(PRESENT_FROM, 1),
        "positives_called_absent": lambda some: 1.0 - both(ABSENT_BELOW, 0)(some),
        "negatives_called_absent": both(ABSENT_BELOW, 1),
        "calibration_error": paired(balanced_error),
    }
    return {
        "cases": len(rows),
        "positive": int(sum(one.truth[name] for one in rows)),
        **{what: rounded(bootstrap_interval(rows, figure)) for what, figure in figures.items()},
        "said": said(rows, name),
        "auc_by": by_subgroup(rows, [one.about for one in rows], area),
    }


def said(rows: Sequence[Row], name: str) -> dict[str, dict[str, int]]:
    """How many with and without what is looked for the report calls what."""
    table = {truth: dict.fromkeys(("present", "undetermined", "absent"), 0)
             for truth in ("with", "without")}
    for one in rows:
        score = one.scores.get(name)
        word = (
            "undetermined" if score is None or ABSENT_BELOW <= score < PRESENT_FROM
            else "present" if score >= PRESENT_FROM else "absent"
        )
        table["with" if one.truth[name] > 0.5 else "without"][word] += 1
    return table


def balanced_error(truth: Sequence[float], scores: Sequence[float]) -> float:
    """Expected calibration error in five bins, with and without counting alike."""
    weights = balancing_weights([int(one) for one in truth])
    return calibration_error(truth, scores, _BINS, weights=weights.tolist())


def calibration_of(truth: Sequence[float], scores: Sequence[float]) -> Calibration:
    """Bias and temperature by which scores of no calibration are least surprising.

    With and without count alike (`ai_models.training.calibrating`). Where all scores are on their
    right side the temperature goes on falling: one further case that is half each holds it.

    Raises
    ------
    ValueError
        There are not both kinds of cases.
    """
    classes = np.asarray(truth, dtype=np.float64) > 0.5
    if classes.all() or not classes.any():
        raise ValueError("cases with and without are needed to calibrate by")
    sharp = np.clip(np.asarray(scores, dtype=np.float64), 1e-9, 1.0 - 1e-9)
    logits = np.clip(np.log(sharp / (1.0 - sharp)), -_FURTHEST_LOGIT, _FURTHEST_LOGIT)
    weights = balancing_weights(classes.astype(int).tolist())
    high, low = (_softened(int(kind.sum())) for kind in (classes, ~classes))
    target = np.where(classes, high, 1.0 - low)

    def surprise(found: np.ndarray) -> float:
        own = (logits - found[0]) / np.exp(found[1])
        each = np.logaddexp(0.0, own) - target * own
        return float((weights * each).mean())

    bias, log_temperature = optimize.minimize(
        surprise, np.zeros(2), method="L-BFGS-B",
        bounds=[(-_FURTHEST_LOGIT, _FURTHEST_LOGIT), (np.log(0.05), np.log(20.0))],
    ).x
    return Calibration(
        temperature=round(float(np.exp(log_temperature)), 4), bias=round(float(bias), 4)
    )


def _softened(count: int) -> float:
    """What is aimed at in the place of 1 (Platt, Advances in Large Margin Classifiers, 1999)."""
    return (count + _SOFTENING) / (count + 2.0 * _SOFTENING)


def with_calibrations(text: str, found: Mapping[str, Calibration]) -> str:
    """The text of a card whose scores, a line each, are calibrated so; 1 and 0 are left out.

    Raises
    ------
    ValueError
        A score has no line ``- {name: NAME, ...}``.
    """
    for name, one in found.items():
        line = re.compile(rf"(?m)^(\s+- \{{name: {re.escape(name)}\b.*?)"
                          r"(, calibration: \{[^}]*\})?\}$")
        added = "" if one == Calibration() else (
            f", calibration: {{temperature: {one.temperature:g}, bias: {one.bias:g}}}"
        )
        text, count = line.subn(rf"\g<1>{added}}}", text)
        if count != 1:
            raise ValueError(f"{count} lines of the card are of the score {name}")
    return text
