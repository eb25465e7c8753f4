"""What a model of pictures says of pictures that it never saw, with intervals.

Answers come from `ai_models.predictor`, as those to patients do. The temperature of the card and
every threshold are chosen on the part ``validation``; ``held_back`` is only measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ai_models.card import Card, ClassificationCard, RegressionCard, load_card
from ai_models.prediction.quality import without_quality
from ai_models.predictor import Predictor
from ai_models.training.calibrating import (
    balancing_weights,
    calibration_error,
    temperature_of,
    threshold_of,
)
from ai_models.training.metrics import (
    auc,
    bootstrap_interval,
    by_subgroup,
    determination,
    mean_absolute_error,
    root_mean_square_error,
    rounded,
    sensitivity_specificity,
)
from ai_models.training.recipes.quality_reference import refused_share, write_quality
from ai_models.training.recipes.scored_cases import metric, written_card
from ai_models.training.recipes.scored_images import (
    ImageCase,
    ImageRecipe,
    Part,
    with_temperature,
)
from ai_models.types import ClassificationPrediction, RegressionPrediction

# A score of 0 or 1 has no logit; float32 knows nothing closer.
_CLOSEST = 1e-7


@dataclass(frozen=True)
class Answered:
    """What the model said of one case; ``truth`` as `ImageCase` has it."""

    truth: float
    scores: Mapping[str, float]
    about: Mapping[str, str]


Figure = Callable[[Sequence[Answered]], float]


def answers_of(
    recipe: ImageRecipe, card: Card, part: Part,
    change: Callable[[ImageCase], ImageCase] | None = None,
) -> list[Answered]:
    """The model's answers to all cases of a part, each ``change``d before."""
    # What it looked at is not measured, and takes far longer than the answer.
    # Figures are of all cases; how many the quality gate refuses is told apart.
    predictor = Predictor(without_quality(card).model_copy(update={"explanation": None}))
    predictor.load()
    found = []
    try:
        for number in range(recipe.counts[part]):
            case = recipe.draw(part, number)
            case = case if change is None else change(case)
            said = predictor.predict(case.source)
            if isinstance(said, ClassificationPrediction):
                scores = said.scores
            elif isinstance(said, RegressionPrediction):
                scores = said.values
            else:
                raise TypeError(f"{card.id} is a {card.task}")
            kept = {name: round(float(score), 6) for name, score in scores.items()}
            found.append(Answered(case.truth, kept, case.about))
    finally:
        predictor.close()
    return found


def logits_of(rows: Sequence[Answered], names: Sequence[str]) -> list[list[float]]:
    """Of a binary score its log odds; of classes the logarithms, which softmax takes as they are.
    """
    def close(score: float) -> float:
        return min(max(score, _CLOSEST), 1.0 - _CLOSEST)

    if len(names) == 1:
        return [[math.log(close(s) / (1 - close(s)))] for s in (r.scores[names[0]] for r in rows)]
    return [[math.log(close(row.scores[name])) for name in names] for row in rows]


def truth_of(row: Answered, names: Sequence[str], name: str) -> float:
    """1 where this score should be high."""
    return row.truth if len(names) == 1 else float(int(row.truth) == names.index(name))


def class_figures(
    rows: Sequence[Answered], names: Sequence[str], thresholds: Mapping[str, float]
) -> dict[str, Any]:
    """Of every score AUC, both rates at its threshold, and calibration error; of several the
    share that is called right, and who is called what."""
    figures: dict[str, Any] = {"cases": len(rows), "scores": {}}
    for name in names:
        figures["scores"][name] = _of_score(rows, names, name, thresholds[name])
    if len(names) > 1:
        def called_right(some: Sequence[Answered]) -> float:
            return float(np.mean([_called(row, names) == int(row.truth) for row in some]))

        figures["called_right"] = rounded(bootstrap_interval(rows, called_right))
        figures["called_right_by"] = by_subgroup(rows, [row.about for row in rows], called_right)
        table = np.zeros((len(names), len(names)), dtype=int)
        for row in rows:
            table[int(row.truth), _called(row, names)] += 1
        figures["truth_by_called"] = {
            name: dict(zip(names, map(int, line), strict=True))
            for name, line in zip(names, table, strict=True)
        }
    return figures


def _called(row: Answered, names: Sequence[str]) -> int:
    return int(np.argmax([row.scores[name] for name in names]))


def _of_score(
    rows: Sequence[Answered], names: Sequence[str], name: str, threshold: float
) -> dict[str, Any]:
    def paired(of: Callable[[list[float], list[float]], float]) -> Figure:
        return lambda some: of(
            [truth_of(row, names, name) for row in some], [row.scores[name] for row in some]
        )

    def balanced_error(truth: list[float], scores: list[float]) -> float:
        weights = balancing_weights([int(one) for one in truth])
        return calibration_error(truth, scores, weights=weights.tolist())

    figures: dict[str, Figure] = {
        "auc": paired(auc),
        "sensitivity": paired(lambda t, s: sensitivity_specificity(t, s, threshold)[0]),
        "specificity": paired(lambda t, s: sensitivity_specificity(t, s, threshold)[1]),
        "calibration_error": paired(calibration_error),
        "calibration_error_of_as_many_of_each": paired(balanced_error),
    }
    return {
        "positive": int(sum(truth_of(row, names, name) for row in rows)),
        "threshold": round(threshold, 4),
        **{what: rounded(bootstrap_interval(rows, figure)) for what, figure in figures.items()},
        "auc_by": by_subgroup(rows, [row.about for row in rows], figures["auc"]),
    }


def number_figures(rows: Sequence[Answered], name: str) -> dict[str, Any]:
    """Mean absolute and root mean square error in the card's unit, R2, mean of what is too much."""
    def paired(of: Callable[[Sequence[float], Sequence[float]], float]) -> Figure:
        return lambda some: of([row.truth for row in some], [row.scores[name] for row in some])

    error = paired(mean_absolute_error)
    figures = {
        "mean_absolute_error": error,
        "root_mean_square_error": paired(root_mean_square_error),
        "R2": paired(determination),
        "mean_difference": paired(lambda t, s: float(np.mean(np.subtract(s, t)))),
    }
    return {
        "cases": len(rows),
        **{what: rounded(bootstrap_interval(rows, one)) for what, one in figures.items()},
        "mean_absolute_error_by": by_subgroup(rows, [row.about for row in rows], error),
    }


def reported(
    rows: Sequence[Answered], name: str, steps: tuple[float, float]
) -> dict[str, dict[str, int]]:
    """How many cases with (1) and without (0) the finding the report calls what."""
    low, high = steps
    table = {truth: {"present": 0, "undetermined": 0, "absent": 0} for truth in ("1", "0")}
    for row in rows:
        score = row.scores[name]
        word = "present" if score >= high else "undetermined" if score >= low else "absent"
        table["1" if row.truth > 0.5 else "0"][word] += 1
    return table


def evaluated(recipe: ImageRecipe, card: Card) -> dict[str, Any]:
    """Figures of the part held back, and what was chosen on ``validation``."""
    told: dict[str, Any] = {
        "model": card.id,
        "weights_sha256": card.weights.sha256,
        "command": f"{recipe.command} --evaluate",
        "data": recipe.data,
        "shortcomings": recipe.shortcomings,
        "cases": dict(recipe.counts),
    }
    rows = answers_of(recipe, card, "held_back")
    names = list(card.output_names)
    if isinstance(card, RegressionCard):
        also = {
            how: number_figures(answers_of(recipe, card, "held_back", change), names[0])
            for how, change in recipe.also.items()
        }
        return {**told, "held_back": number_figures(rows, names[0]), **also}
    chosen = answers_of(recipe, card, "validation")
    thresholds = {
        name: threshold_of(
            [truth_of(row, names, name) for row in chosen], [row.scores[name] for row in chosen]
        )
        for name in names
    }
    told["thresholds"] = {name: round(one, 4) for name, one in thresholds.items()}
    if isinstance(card, ClassificationCard):
        told["temperature"] = card.output.scores[0].calibration.temperature
    told["validation"] = class_figures(chosen, names, thresholds)
    told["held_back"] = class_figures(rows, names, thresholds)
    if recipe.steps is not None:
        told["said_in_the_report"] = reported(rows, names[0], recipe.steps)
    return told


def calibrated(recipe: ImageRecipe, card: Card) -> Card:
    """The same card with the temperature that the part ``validation`` asks for."""
    if isinstance(card, RegressionCard):
        return card
    rows = answers_of(recipe, card, "validation")
    logits = logits_of(rows, card.output_names)
    temperature = temperature_of(logits, [int(row.truth) for row in rows])
    path = card.folder / "model.yaml"
    path.write_text(with_temperature(path.read_text(), temperature))
    return load_card(card.folder)


def card_metrics(
    told: Mapping[str, Any], what: str, also: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """The lines of the card from what `evaluated` told; ``what`` says what was held back, ``also``
    how it was changed and measured again."""
    figures = told["held_back"]
    where = f"{figures['cases']} {what}"
    if "scores" not in figures:
        return [
            metric("Mean absolute error, months", figures["mean_absolute_error"], where),
            metric("Root mean square error, months", figures["root_mean_square_error"], where),
            *(
                metric(f"Mean absolute error, {how}, months", told[how]["mean_absolute_error"],
                       where)
                for how in also
            ),
        ]
    lines = []
    if "called_right" in figures:
        lines.append(metric("Share called by the right class", figures["called_right"], where))
    for name, one in figures["scores"].items():
        of = f"{where}, {one['positive']} of them {name.replace('_', ' ')}"
        at = f"{of}; threshold {one['threshold']:.3f} chosen on other ones"
        lines += [
            metric(f"AUC of {name}", one["auc"], of),
            metric(f"Sensitivity of {name}", one["sensitivity"], at),
            metric(f"Specificity of {name}", one["specificity"], at),
            metric(f"Calibration error of {name}", one["calibration_error"], of),
        ]
    return lines


def finish(recipe: ImageRecipe, card: Card, output: Path, *, only_measure: bool = False) -> None:
    """Calibrate, measure, write ``evaluation.json`` into ``output`` and the figures into the card.

    With ``only_measure`` the card stays as it is.
    """
    if not only_measure:
        card = write_quality(recipe, calibrated(recipe, card))
    told = evaluated(recipe, card)
    if card.input.quality is not None:
        told["quality_gate"] = refused_share(recipe, card)
    output.mkdir(parents=True, exist_ok=True)
    (output / "evaluation.json").write_text(json.dumps(told, indent=1) + "\n")
    if only_measure:
        return
    path = card.folder / "model.yaml"
    path.write_text(written_card(
        path.read_text(), card.weights.sha256 or "",
        f"not validated for use on patients. {recipe.shortcomings}",
        card_metrics(told, recipe.held_back, recipe.also),
    ))
    load_card(card.folder)
