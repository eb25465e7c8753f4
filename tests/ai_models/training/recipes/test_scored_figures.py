"""Scores become probabilities by cases of their own, and what a report says is counted as it is."""

from __future__ import annotations

import numpy as np
import pytest

from ai_models.card import load_card
from ai_models.card_outputs import Calibration
from ai_models.catalog import ZOO
from ai_models.training.recipes.scored_figures import (
    ABSENT_BELOW,
    PRESENT_FROM,
    Row,
    balanced_error,
    calibration_of,
    figures_of,
    said,
    with_calibrations,
)
from sr_templates.template import load_template

MODELS = ("embolism-ct", "lesion-dce-mr", "fdg-pet-ct")


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.asarray(1.0 / (1.0 + np.exp(-logits)))


def test_what_is_too_sure_and_shifted_is_brought_back() -> None:
    rng = np.random.default_rng(3)
    true_logits = rng.normal(0.0, 1.5, 4000)
    truth = (rng.random(4000) < sigmoid(true_logits)).astype(float)
    scores = sigmoid(3.0 * true_logits + 2.0)
    found = calibration_of(truth.tolist(), scores.tolist())
    assert found.temperature == pytest.approx(3.0, rel=0.15)
    assert found.bias == pytest.approx(2.0, abs=0.3)
    better = sigmoid((3.0 * true_logits + 2.0 - found.bias) / found.temperature)
    known = truth.tolist()
    assert balanced_error(known, better.tolist()) < 0.04 < balanced_error(known, scores.tolist())


def test_how_common_a_finding_is_among_phantoms_does_not_move_the_scores() -> None:
    few = [0.0] * 30 + [1.0] * 10
    many = [0.0] * 30 + [1.0] * 30
    scores = [*np.linspace(0.01, 0.3, 30), *np.linspace(0.1, 0.6, 10)]
    more = [*np.linspace(0.01, 0.3, 30), *np.repeat(np.linspace(0.1, 0.6, 10), 3)]
    one, other = calibration_of(few, scores), calibration_of(many, more)
    assert one.bias == pytest.approx(other.bias, abs=0.2)
    assert sigmoid(np.array((np.log(0.35 / 0.65) - one.bias) / one.temperature)) > 0.5


def test_scores_that_are_all_right_ask_for_no_endless_certainty_and_one_kind_for_none() -> None:
    truth, scores = [0.0] * 20 + [1.0] * 20, [0.01] * 20 + [0.99] * 20
    found = calibration_of(truth, scores)
    assert 0.5 < found.temperature < 5.0
    assert calibration_of(truth, [0.0] * 20 + [1.0] * 20).temperature > 1.0
    with pytest.raises(ValueError, match="with and without"):
        calibration_of([1.0, 1.0], [0.5, 0.6])


def test_words_of_the_reports_are_counted_at_the_bounds_that_their_templates_have() -> None:
    for model_id in MODELS:
        for scale in load_template(load_card(ZOO / model_id).report).scales.values():
            assert [one.at_least for one in scale.steps] == [PRESENT_FROM, ABSENT_BELOW, None]
    rows = [
        Row(i, {} if score is None else {"x": score}, {"x": truth}, {"scanner": "a"})
        for i, (score, truth) in enumerate(
            [(0.7, 1.0), (0.69, 1.0), (0.29, 1.0), (0.3, 0.0), (0.2, 0.0), (None, 0.0)]
        )
    ]
    assert said(rows, "x") == {
        "with": {"present": 1, "undetermined": 1, "absent": 1},
        "without": {"present": 0, "undetermined": 2, "absent": 1},
    }
    figures = figures_of(rows[:5], "x")
    assert figures["sensitivity_of_present"]["value"] == pytest.approx(1 / 3, abs=1e-3)
    assert figures["positives_called_absent"]["value"] == pytest.approx(1 / 3, abs=1e-3)
    assert figures["negatives_called_absent"]["value"] == 0.5


def test_a_calibration_is_written_into_the_line_of_its_score_and_the_rest_stays() -> None:
    text = (ZOO / "fdg-pet-ct" / "model.yaml").read_text()
    first = with_calibrations(text, {"malignant_lesion": Calibration(temperature=2.5, bias=-0.25)})
    assert "needs: [pt], calibration: {temperature: 2.5, bias: -0.25}}" in first
    again = with_calibrations(first, {"malignant_lesion": Calibration(temperature=1.5)})
    assert again.count("calibration:") == 1 and "temperature: 1.5, bias: 0}" in again
    plain = with_calibrations(again, {"malignant_lesion": Calibration()})
    assert "calibration:" not in plain and plain.replace("\n", "").startswith(text[:40])
    with pytest.raises(ValueError, match="0 lines"):
        with_calibrations(text, {"nothing": Calibration()})
