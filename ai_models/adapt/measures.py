"""How well a model does on cases whose truth is known: figures of which more is better."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ai_models.array.labels import mask_of
from ai_models.prediction.instances import of_kinds
from ai_models.predictor import Predictor
from ai_models.training.cases import Case, DicomReader
from ai_models.training.froc import ScanFindings, froc, match_centers
from ai_models.training.metrics import auc, dice
from ai_models.training.prepared import read_input, read_truth
from ai_models.types import (
    Affine,
    ClassificationPrediction,
    DetectionPrediction,
    Image,
    LabelMap,
    ModelError,
    ModelInput,
    RegressionPrediction,
    SegmentationPrediction,
)

Mask = npt.NDArray[np.bool_]
_RADIUS_MM = 5.0
_FROC_RATES = (0.5, 1.0, 2.0)


def measured(
    predictor: Predictor, cases: Sequence[Case], reader: DicomReader | None
) -> dict[str, float]:
    """Figures by name, each 0 to 1 and better when higher.

    Of a segmentation the mean Dice of each label over the cases that have it, and the part of the
    cases without a label where none was found; of a classification the area under the curve, and
    1 - the Brier score, of each score; of a regression 1 - the mean absolute error by the spread of
    the truth; of a detection the mean sensitivity at `_FROC_RATES` false findings for each case.

    Raises
    ------
    ModelError
        ``model.gate``: the cases say nothing of what the model answers.
    """
    known: dict[str, list[tuple[float, float]]] = {}
    dices: dict[str, list[float]] = {}
    scans: list[ScanFindings] = []
    for case in cases:
        source = read_input(case, predictor.card, reader)
        answer = predictor.predict(source)
        if isinstance(answer, SegmentationPrediction):
            truth = _truth(case, predictor, source)
            labels = predictor.card.labels
            found = of_kinds(answer.label_map, answer.labels, labels)
            for label in labels:
                marked, there = mask_of(found, label.value), mask_of(truth, label.value)
                _add_dice(dices, label.name, marked, there)
        elif isinstance(answer, DetectionPrediction):
            truth = _truth(case, predictor, source)
            if not isinstance(source, Image):
                scans.append(_findings(answer, truth, source.affine_lps))
        elif isinstance(answer, ClassificationPrediction | RegressionPrediction):
            told = answer.scores if isinstance(answer, ClassificationPrediction) else answer.values
            for name, value in told.items():
                if name in case.values:
                    known.setdefault(name, []).append((case.values[name], value))
    figures = {name: float(np.mean(several)) for name, several in dices.items()}
    if scans:
        figures["sensitivity"] = froc(scans).score(_FROC_RATES)
    compare = _of_scores if predictor.card.task == "classification" else _of_values
    for name, pairs in known.items():
        figures |= compare(name, np.array(pairs, dtype=np.float64))
    figures = {name: value for name, value in figures.items() if np.isfinite(value)}
    if not figures:
        raise ModelError(
            f"the reference cases say nothing of what {predictor.card.id} answers",
            reason="model.gate",
        )
    return figures


def _truth(case: Case, predictor: Predictor, source: ModelInput) -> LabelMap:
    truth = read_truth(case, predictor.card, source)
    if truth is None:
        raise ModelError(f"{case.name} has no label", reason="model.gate")
    return truth


def _add_dice(
    dices: dict[str, list[float]], name: str, marked: Mask, there: Mask
) -> None:
    if there.any():
        dices.setdefault(f"Dice of {name}", []).append(dice(marked, there))
    else:
        dices.setdefault(f"no false {name}", []).append(float(not marked.any()))


def _of_scores(name: str, pairs: npt.NDArray[np.float64]) -> dict[str, float]:
    truth, scores = pairs[:, 0], pairs[:, 1]
    figures = {f"1 - Brier of {name}": 1.0 - float(((scores - truth) ** 2).mean())}
    if 0 < (truth > 0.5).sum() < len(truth):
        figures[f"AUC of {name}"] = auc(truth.tolist(), scores.tolist())
    return figures


def _of_values(name: str, pairs: npt.NDArray[np.float64]) -> dict[str, float]:
    spread = float(pairs[:, 0].std()) or max(1.0, float(np.abs(pairs[:, 0]).max()))
    error = float(np.abs(pairs[:, 1] - pairs[:, 0]).mean())
    return {f"1 - error of {name}": 1.0 - error / spread}


def _findings(
    answer: DetectionPrediction, truth: LabelMap, affine_lps: Affine
) -> ScanFindings:
    parts, count = ndimage.label(truth > 0, np.ones((3, 3, 3)))
    centers = ndimage.center_of_mass(parts > 0, parts, range(1, count + 1)) if count else []
    placed = [(affine_lps @ np.array([*one, 1.0]))[:3] for one in centers]
    voxel_mm3 = abs(float(np.linalg.det(affine_lps[:3, :3])))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:] * voxel_mm3
    radii = np.maximum((sizes * 3 / (4 * np.pi)) ** (1 / 3), _RADIUS_MM)
    return match_centers(
        np.array([one.center_lps_mm for one in answer.detections]).reshape(-1, 3),
        [one.score for one in answer.detections], np.array(placed).reshape(-1, 3), radii,
    )
