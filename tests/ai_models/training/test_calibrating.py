"""Temperatures that make probabilities true, their error, and where to say yes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ai_models.training.calibrating import (
    balancing_weights,
    calibration_error,
    temperature_of,
    threshold_of,
)


def test_the_temperature_is_found_by_which_a_network_is_too_sure() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(0.0, 2.0, 4000)
    classes = (rng.random(4000) < 1 / (1 + np.exp(-honest))).astype(int)
    assert temperature_of(honest * 3.0, classes.tolist()) == pytest.approx(3.0, rel=0.1)
    both = np.stack([np.zeros(4000), honest * 3.0], axis=1)
    assert temperature_of(both, classes.tolist()) == pytest.approx(3.0, rel=0.1)
    assert temperature_of(honest, [1] * 4000) == 1.0


def test_a_rare_class_counts_as_much_as_the_others() -> None:
    weights = balancing_weights([0, 1, 1, 1])
    assert weights.tolist() == pytest.approx([2.0, 2 / 3, 2 / 3, 2 / 3])


def test_what_is_said_is_held_against_what_is_true() -> None:
    assert calibration_error([1, 0, 1, 0], [0.5, 0.5, 0.5, 0.5]) == pytest.approx(0.0)
    assert calibration_error([0, 0], [0.9, 0.9]) == pytest.approx(0.9)
    assert calibration_error([1, 0], [1.0, 0.0]) == pytest.approx(0.0)
    # Three of four that are true count as much as the one that is not.
    weights = balancing_weights([1, 1, 1, 0]).tolist()
    assert calibration_error([1, 1, 1, 0], [0.75] * 4) == pytest.approx(0.0)
    assert calibration_error([1, 1, 1, 0], [0.75] * 4, weights=weights) == pytest.approx(0.25)
    assert math.isnan(calibration_error([], []))


def test_the_threshold_lies_between_the_scores_that_it_parts() -> None:
    assert threshold_of([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9]) == pytest.approx(0.4)
    assert threshold_of([1, 1], [0.2, 0.3]) == 0.5
