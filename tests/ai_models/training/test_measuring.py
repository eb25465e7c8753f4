from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from ai_models.card import Card
from ai_models.training.cases import Case, nifti_cases, table_cases
from ai_models.training.froc import ScanFindings
from ai_models.training.measuring import CaseResult, figures_of, measured, summary
from ai_models.training.memory_network import predictor_of
from ai_models.training.recipe import read_recipe
from ai_models.training.release import built_network, evidence_of, write_model
from tests.ai_models.training.tiny_cases import nifti_folder, recipe, scored_table


class Bright(nn.Module):
    """Marks what is bright: right of a ball, whatever was learned."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(image), 40.0 * (image - 0.5)], dim=1)


class Says(nn.Module):
    """The same number of every input."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.full((len(image), 1), self.value)


class Everywhere(nn.Module):
    """A hundred boxes that share nothing, as a detector answers them."""

    def forward(self, image: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        corners = torch.cartesian_prod(*[torch.arange(0.0, 20.0, 4.0)] * 3)[:100]
        boxes = torch.cat([corners, corners + 3.0], dim=1)
        scores = torch.linspace(0.9, 0.5, len(boxes))
        return [{"boxes": boxes, "scores": scores, "labels": torch.zeros(len(boxes)).long()}]


def card_of(folder: Path, task: str, **output: Any) -> Card:
    path = recipe(folder / "recipe.yaml", task=task)
    values = yaml.safe_load(path.read_text())
    values["card"]["output"] |= output
    path.write_text(yaml.safe_dump(values))
    made = read_recipe(path)
    return write_model(made, built_network(made, folder), folder / "model", folder)


def test_a_network_in_memory_is_measured_as_it_would_be_served(tmp_path: Path) -> None:
    card = card_of(tmp_path, "segmentation", instances=True)
    cases = nifti_cases(nifti_folder(tmp_path, 6))
    results = measured(cases, card, predictor_of(Bright(), card), None)
    told = summary(card, results, resamples=50)
    assert told["figures"]["Dice of Ball"]["value"] > 0.95
    assert told["figures"]["HD95 of Ball in mm"]["value"] <= 2.9
    assert told["figures"]["FROC score"]["value"] == 1.0
    assert all(one.findings == ScanFindings(one.findings.hits, ()) for one in results
               if one.findings is not None)
    assert card.output.instances  # type: ignore[attr-defined]


def test_an_answer_that_the_node_would_refuse_does_not_end_a_training_and_is_counted(
    tmp_path: Path,
) -> None:
    quantity = {"name": "radius", "unit": "mm", "minimum": 0.0, "maximum": 100.0}
    card = card_of(tmp_path, "regression", quantities=[quantity])
    cases = table_cases(scored_table(tmp_path, 4), card, None)
    below = measured(cases, card, predictor_of(Says(-0.3), card), None)
    assert [one.is_refused for one in below] == [True] * 4
    assert summary(card, below, resamples=10)["refused"] == 4
    right = measured(cases, card, predictor_of(Says(10.0), card), None)
    assert not any(one.is_refused for one in right)


def test_a_detector_that_finds_things_everywhere_is_measured_and_no_good(
    tmp_path: Path,
) -> None:
    card = card_of(tmp_path, "detection")
    cases = nifti_cases(nifti_folder(tmp_path, 2))
    results = measured(cases, card, predictor_of(Everywhere(), card), None)
    assert all(one.is_refused for one in results)
    assert all(one.findings is not None and len(one.findings.false_scores) >= 99
               for one in results)
    assert figures_of(card, results)["FROC score"](results) < 0.5


def test_the_card_says_the_interval_and_owns_up_where_there_is_none(tmp_path: Path) -> None:
    card = card_of(tmp_path, "classification")

    def result(number: int, truth: float, score: float) -> CaseResult:
        return CaseResult(Case(str(number), str(number), {}), pairs={"there": (truth, score)})

    rng = np.random.default_rng(0)
    noisy = [result(i, i % 2, float(rng.normal(i % 2))) for i in range(40)]
    told = evidence_of(summary(card, noisy, resamples=100), card.id)
    assert "40 cases of 40 patients held back" in told["validated_on"]
    assert "95 % interval" in told["metrics"][0]["measured_on"]
    perfect = [result(i, i % 2, float(i % 2)) for i in range(40)]
    told = evidence_of(summary(card, perfect, resamples=100), card.id)
    assert "all alike, which is no interval" in told["metrics"][0]["measured_on"]
    few = evidence_of(summary(card, noisy[:4], resamples=10), card.id)
    assert "too few for an interval" in few["metrics"][0]["measured_on"]
    assert "not validated" in evidence_of(None, card.id)["validated_on"]


def test_a_figure_that_cannot_be_had_says_why(tmp_path: Path) -> None:
    card = card_of(tmp_path / "scores", "classification")

    def why(pairs: list[tuple[float, float]], figure: str) -> str:
        results = [CaseResult(Case(str(i), str(i), {}), pairs={"there": one})
                   for i, one in enumerate(pairs)]
        told = summary(card, results, resamples=10)["figures"][figure]
        assert told["value"] is None
        return str(told["why"])

    alike = "all 3 cases are alike: of each the truth is 1"
    assert why([(1.0, 0.2)] * 3, "AUC of there") == alike
    assert why([(1.0, 0.2)] * 3, "specificity of there at 0.5") == alike
    assert why([(0.0, 0.2)], "AUC of there").startswith("one case alone")
    assert why([], "AUC of there").startswith("nothing that is to be found, or no value")

    marked = card_of(tmp_path / "marks", "segmentation", instances=True)
    missed = [CaseResult(Case("a", "a", {}), {"HD95 of Ball in mm": np.inf},
                         findings=ScanFindings((), ()))]
    told = summary(marked, missed, resamples=10)["figures"]
    assert told["HD95 of Ball in mm"]["why"].startswith("infinite: in half of the cases")
    assert told["FROC score"]["why"].startswith("nothing that is to be found")


@pytest.mark.parametrize(("task", "leading"), [
    ("segmentation", "Dice"), ("classification", "AUC of there"),
    ("regression", "mean absolute error of radius"),
])
def test_the_first_figure_chooses_the_weights(tmp_path: Path, task: str, leading: str) -> None:
    assert next(iter(figures_of(card_of(tmp_path, task), []))) == leading
