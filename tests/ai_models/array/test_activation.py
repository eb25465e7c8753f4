"""Logits become scores: calibrated first, and never without being finite."""

from __future__ import annotations

import numpy as np
import pytest

from ai_models.array.activation import activated, calibrated
from ai_models.types import ModelError

LOGITS = np.array([[0.0, 1.0, -2.0], [500.0, -500.0, 0.0]], dtype=np.float32)


def test_softmax_sums_to_one_whatever_the_logits() -> None:
    scores = activated(LOGITS, "softmax")
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(scores[0], [0.2594965, 0.7053845, 0.0351190], atol=1e-6)


def test_softmax_goes_along_the_axis_asked_for() -> None:
    np.testing.assert_allclose(activated(LOGITS, "softmax", axis=0).sum(axis=0), 1.0, atol=1e-6)


def test_sigmoid_neither_overflows_nor_warns() -> None:
    with np.errstate(over="raise", invalid="raise"):
        scores = activated(LOGITS, "sigmoid")
    np.testing.assert_allclose(scores[0], [0.5, 0.7310586, 0.1192029], atol=1e-6)
    np.testing.assert_allclose(scores[1], [1.0, 0.0, 0.5], atol=1e-6)


def test_answers_that_are_probabilities_already_stay() -> None:
    np.testing.assert_array_equal(activated(LOGITS, "none"), LOGITS)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_what_is_not_finite_is_an_error(bad: float, activation: str) -> None:
    with pytest.raises(ModelError) as caught:
        activated(np.array([[0.0, bad]], dtype=np.float32), activation)
    assert caught.value.reason == "model.not_finite"


def test_calibration_moves_only_the_channels_it_names() -> None:
    found = calibrated(LOGITS, {1: (2.0, 0.5)})
    np.testing.assert_allclose(found[:, 1], [0.25, -250.25])
    np.testing.assert_array_equal(found[:, [0, 2]], LOGITS[:, [0, 2]])
    assert LOGITS[0, 1] == 1.0
