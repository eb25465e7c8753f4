"""How good a network is on cases: what the node would answer, held against what is true."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

from ai_models.array.labels import mask_of
from ai_models.card import Card, ClassificationCard, RegressionCard, SegmentationCard
from ai_models.prediction.checking import check_source
from ai_models.prediction.instances import of_kinds
from ai_models.predictor import Predictor
from ai_models.training.cases import Case, DicomReader
from ai_models.training.froc import LUNA_RATES, ScanFindings, froc, match_parts
from ai_models.training.metrics import (
    auc,
    bootstrap_interval,
    by_subgroup,
    determination,
    dice,
    hd95,
    iou,
    mean_absolute_error,
    root_mean_square_error,
    rounded,
    sensitivity_at_specificity,
    sensitivity_specificity,
)
from ai_models.training.prepared import read_input, read_truth, truth_labels, volume_of
from ai_models.types import (
    ClassificationPrediction,
    DetectionPrediction,
    LabelMap,
    ModelInput,
    RegressionPrediction,
    SegmentationPrediction,
)

SPECIFICITY = 0.9


@dataclass(frozen=True)
class CaseResult:
    """What was found in one case: figures by name, pairs of truth and answer, findings.

    ``is_refused``: the node would not report this answer, for the card says that it cannot be.
    """

    case: Case
    figures: Mapping[str, float] = field(default_factory=dict)
    pairs: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    findings: ScanFindings | None = None
    is_refused: bool = False


Figure = Callable[[Sequence[CaseResult]], float]


def measured(
    cases: Iterable[Case], card: Card, predictor: Predictor, reader: DicomReader | None,
    *, quick: bool = False,
) -> list[CaseResult]:
    """Each case answered and compared on its own grid; ``quick`` leaves out distances.

    Raises
    ------
    TrainingError, ModelError
        A case cannot be read, or the network answers off its card.
    """
    results = []
    for case in cases:
        source = read_input(case, card, reader)
        check_source(source, card)
        prediction = predictor.predict(source)
        truth = read_truth(case, card, source)
        if isinstance(prediction, SegmentationPrediction) and truth is not None:
            results.append(_segmentation(case, card, source, prediction, truth, quick=quick))
        elif isinstance(prediction, DetectionPrediction) and truth is not None:
            many = len(prediction.detections) > getattr(card.output, "max_findings", math.inf)
            results.append(CaseResult(case, findings=_detection(source, prediction, truth),
                                      is_refused=many))
        elif isinstance(prediction, ClassificationPrediction):
            results.append(CaseResult(case, pairs=_pairs(case, card, prediction.scores, truth)))
        elif isinstance(prediction, RegressionPrediction):
            results.append(CaseResult(case, pairs=_pairs(case, card, prediction.values, None),
                                      is_refused=_is_out_of_bounds(card, prediction.values)))
    return results


def _is_out_of_bounds(card: Card, values: Mapping[str, float]) -> bool:
    return isinstance(card, RegressionCard) and any(
        not one.minimum <= values[one.name] <= one.maximum for one in card.output.quantities
    )


def _pairs(
    case: Case, card: Card, answers: Mapping[str, float], truth: LabelMap | None
) -> dict[str, tuple[float, float]]:
    marked = {} if truth is None else {
        one.name: float(mask_of(truth, one.value).any()) for one in truth_labels(card)
    }
    known = {**marked, **case.values}
    return {name: (known[name], value) for name, value in answers.items() if name in known}


def _segmentation(
    case: Case, card: Card, source: ModelInput, prediction: SegmentationPrediction,
    truth: LabelMap, *, quick: bool,
) -> CaseResult:
    volume = volume_of(source)
    spacing = volume.spacing_mm if volume is not None else (1.0, 1.0, 1.0)
    figures: dict[str, float] = {}
    label_map = of_kinds(prediction.label_map, prediction.labels, card.labels)
    for label in card.labels:
        found, there = mask_of(label_map, label.value), mask_of(truth, label.value)
        figures[f"Dice of {label.name}"] = dice(found, there)
        if not quick:
            figures[f"IoU of {label.name}"] = iou(found, there)
            figures[f"HD95 of {label.name} in mm"] = hd95(found, there, spacing)
    findings = None
    if isinstance(card, SegmentationCard) and card.output.instances:
        findings = _parts(card, prediction, truth)
    return CaseResult(case, figures, findings=findings)


def _parts(
    card: SegmentationCard, prediction: SegmentationPrediction, truth: LabelMap
) -> ScanFindings:
    """Connected parts of all labels, each scored with its highest probability."""
    hits: list[float] = []
    false: list[float] = []
    label_map = of_kinds(prediction.label_map, prediction.labels, card.labels)
    for label in card.labels:
        found, count = _numbered(mask_of(label_map, label.value))
        there, _ = _numbered(mask_of(truth, label.value))
        numbers = range(1, count + 1)
        likely = prediction.probabilities.get(label.value)
        scores = [1.0] * count
        if likely is not None and count:
            scores = [float(one) for one in ndimage.maximum(likely, found, numbers)]
        one = match_parts(found, scores, there)
        hits += one.hits
        false += one.false_scores
    return ScanFindings(tuple(hits), tuple(false))


def _numbered(mask: Any) -> tuple[Any, int]:
    parts, count = ndimage.label(mask, np.ones((3, 3, 3)))
    return parts, int(count)


def _detection(
    source: ModelInput, prediction: DetectionPrediction, truth: LabelMap
) -> ScanFindings:
    """A box hits a thing of its class whose centre lies in it; each thing once."""
    volume = volume_of(source)
    if volume is None:
        return ScanFindings((), ())
    hits: list[float] = []
    false: list[float] = []
    for label in prediction.labels:
        there, count = _numbered(mask_of(truth, label.value))
        centres = np.array(ndimage.center_of_mass(there > 0, there, range(1, count + 1)))
        points = np.column_stack([centres.reshape(-1, 3), np.ones(count)])
        placed = points @ volume.affine_lps.T
        best = np.full(count, -np.inf)
        for one in prediction.detections:
            if one.label_value != label.value:
                continue
            inside = placed @ np.linalg.inv(one.box_lps).T
            hit = np.flatnonzero(((inside[:, :3] >= 0) & (inside[:, :3] <= 1)).all(axis=1))
            best[hit] = np.maximum(best[hit], one.score)
            if not hit.size:
                false.append(one.score)
        hits += [float(score) for score in best]
    return ScanFindings(tuple(hits), tuple(false))


def figures_of(card: Card, results: Sequence[CaseResult]) -> dict[str, Figure]:
    """Every figure of a task by its name; the first is the one that says which weights are best.

    Each is a function of cases, so that it serves resamples and subgroups as well.
    """
    figures: dict[str, Figure] = {}
    if card.task == "segmentation":
        figures["Dice"] = _mean_of_all("Dice of ")
        names = {name: None for one in results for name in one.figures}
        figures |= {name: _mean_of(name) for name in names}
    if any(one.findings is not None for one in results):
        figures["FROC score"] = lambda some: _froc(some).score()
        figures |= {
            f"sensitivity at {rate:g} false positives per scan": _froc_at(rate)
            for rate in LUNA_RATES
        }
    for name in _named(card):
        if isinstance(card, ClassificationCard):
            figures[f"AUC of {name}"] = _paired(name, auc)
            figures[f"sensitivity of {name} at specificity {SPECIFICITY:g}"] = _paired(
                name, lambda truth, answer: sensitivity_at_specificity(truth, answer, SPECIFICITY)
            )
            figures[f"sensitivity of {name} at 0.5"] = _paired(
                name, lambda truth, answer: sensitivity_specificity(truth, answer)[0])
            figures[f"specificity of {name} at 0.5"] = _paired(
                name, lambda truth, answer: sensitivity_specificity(truth, answer)[1])
        else:
            figures[f"mean absolute error of {name}"] = _paired(name, mean_absolute_error)
            figures[f"root mean square error of {name}"] = _paired(name, root_mean_square_error)
            figures[f"R2 of {name}"] = _paired(name, determination)
    return figures


def _named(card: Card) -> tuple[str, ...]:
    return card.output_names


def _mean_of(name: str) -> Figure:
    def figure(results: Sequence[CaseResult]) -> float:
        values = [one.figures[name] for one in results if name in one.figures]
        # A distance to what was missed is infinite: the median of all stands for them.
        if name.startswith("HD95"):
            return float(np.median(values)) if values else math.nan
        return float(np.mean(values)) if values else math.nan
    return figure


def _mean_of_all(prefix: str) -> Figure:
    def figure(results: Sequence[CaseResult]) -> float:
        values = [value for one in results for name, value in one.figures.items()
                  if name.startswith(prefix)]
        return float(np.mean(values)) if values else math.nan
    return figure


def _paired(
    name: str, of: Callable[[Sequence[float], Sequence[float]], float]
) -> Figure:
    def figure(results: Sequence[CaseResult]) -> float:
        pairs = [one.pairs[name] for one in results if name in one.pairs]
        return of([one for one, _ in pairs], [one for _, one in pairs])
    return figure


def _froc(results: Sequence[CaseResult]) -> Any:
    return froc([one.findings for one in results if one.findings is not None])


def _froc_at(rate: float) -> Figure:
    return lambda results: _froc(results).at(rate)


def _why_none(figure: str, value: float, results: Sequence[CaseResult]) -> str:
    """Why a figure is no number, in words for a person."""
    if math.isinf(value):
        return "infinite: in half of the cases or more all of it was missed, or there was none"
    truths = next((
        [one.pairs[name][0] for one in results if name in one.pairs]
        for name in sorted({name for one in results for name in one.pairs}, key=len, reverse=True)
        if f" of {name}" in figure
    ), None)
    if truths is None:
        return "nothing that is to be found, or no value of it, is in these cases"
    if len(truths) == 1:
        return "one case alone: another is needed to tell it from"
    if len(set(truths)) == 1:
        return f"all {len(truths)} cases are alike: of each the truth is {truths[0]:g}"
    return "too few cases"


def summary(
    card: Card, results: Sequence[CaseResult], *, resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Every figure with its interval, and the leading one by subgroup, as a record keeps them."""
    figures = figures_of(card, results)
    patients = [one.case.patient for one in results]
    told: dict[str, dict[str, Any]] = {}
    for name, figure in figures.items():
        interval = bootstrap_interval(results, figure, patients=patients,
                                      resamples=resamples, seed=seed)
        told[name] = rounded(interval)
        if not math.isfinite(interval.value):
            told[name]["why"] = _why_none(name, interval.value, results)
    groups: dict[str, Any] = {}
    attributes = [one.case.attributes for one in results]
    if figures and any(attributes):
        name, figure = next(iter(figures.items()))
        groups = {"figure": name, "by": by_subgroup(
            results, attributes, figure, patients=patients, resamples=resamples, seed=seed)}
    return {"cases": len(results), "patients": len(set(patients)),
            "refused": sum(one.is_refused for one in results), "figures": told,
            "subgroups": groups}
