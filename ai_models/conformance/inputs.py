"""What is answered without anything in it, and what must be refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ai_models.card import Card
from ai_models.conformance.check import (
    Check,
    Predict,
    failed,
    judged,
    not_applicable,
    passed,
    refused,
)
from ai_models.conformance.scene import Scene
from ai_models.conformance.scene_joint import changed, with_reference
from ai_models.types import (
    ClassificationPrediction,
    DetectionPrediction,
    Image,
    JointInput,
    ModelInput,
    Prediction,
    RegressionPrediction,
    SegmentationPrediction,
    TextPrediction,
    Volume,
)

EMPTY, NOT_FINITE, SLICES, UNIT, KIND = (
    "empty input", "NaN", "too few slices", "wrong unit", "wrong kind",
)


def check_empty(card: Card, predict: Predict, scene: Scene) -> Check:
    """Air only: an answer in which every number is one, or a reason why not."""
    source = scene.empty()

    def look() -> Check:
        prediction = predict(source)
        wrong = not_valid(prediction, source)
        return failed(EMPTY, wrong) if wrong else passed(EMPTY, _in_words(prediction))

    found = judged(EMPTY, look)
    if found.outcome == "failed" and found.sentence.startswith("input."):
        return passed(EMPTY, f"refused with {found.sentence}")
    return found


def check_not_finite(card: Card, predict: Predict, scene: Scene) -> Check:
    """One NaN among the values."""
    array = np.array(scene.reference.array, dtype=np.float32)
    array[tuple(edge // 2 for edge in array.shape)] = np.nan
    return refused(
        NOT_FINITE, lambda: predict(_with_array(scene.reference, array)), ("input.not_finite",)
    )


def check_slices(card: Card, predict: Predict, scene: Scene) -> Check:
    """One slice less than the card asks for."""
    source, least = scene.reference, card.input.min_slices
    if isinstance(source, Image) or least < 2:
        return not_applicable(SLICES, "the card asks for no number of slices")
    array = np.resize(source.array, (least - 1, *source.array.shape[1:]))
    return refused(
        SLICES, lambda: predict(_with_array(source, array)), ("input.too_few_slices",)
    )


def check_unit(card: Card, predict: Predict, scene: Scene) -> Check:
    """Hounsfield units for what takes none, and the other way round."""
    source = scene.reference
    if isinstance(source, Image):
        wrong: ModelInput = replace(source, array=source.array * 255.0)
    else:
        other = "arbitrary" if source.unit == "HU" else "HU"
        wrong = changed(source, lambda volume: replace(volume, unit=other))
    return refused(UNIT, lambda: predict(wrong), ("input.wrong_unit",))


def check_kind(card: Card, predict: Predict, scene: Scene) -> Check:
    """An image for what takes volumes, and the other way round."""
    source = scene.reference
    if isinstance(source, Image):
        stack = np.repeat(source.array[None], 3, axis=0)
        wrong: ModelInput = Volume(stack, np.eye(4), "arbitrary")
    else:
        wrong = Image(np.zeros(source.array.shape[1:], dtype=np.float32), (1.0, 1.0))
    return refused(KIND, lambda: predict(wrong), ("input.not_a_volume", "input.not_an_image"))


def _with_array(source: ModelInput, array: np.ndarray) -> ModelInput:
    if isinstance(source, Image):
        return replace(source, array=array)
    volume = Volume(array, source.affine_lps, source.unit)
    return with_reference(source, volume) if isinstance(source, JointInput) else volume


def not_valid(prediction: Prediction, source: ModelInput) -> str:
    """What is wrong about an answer; empty when nothing is."""
    if isinstance(prediction, SegmentationPrediction):
        wanted = (1, *source.array.shape)[-3:]
        if prediction.label_map.shape != wanted:
            return f"labels {prediction.label_map.shape} for an input {wanted}"
        finite = all(np.isfinite(one).all() for one in prediction.probabilities.values())
        return "" if finite else "a probability is NaN or infinite"
    if isinstance(prediction, ClassificationPrediction):
        wrong = [name for name, score in prediction.scores.items() if not 0 <= score <= 1]
        return f"{wrong[0]} is no probability" if wrong else ""
    if isinstance(prediction, RegressionPrediction):
        wrong = [name for name, value in prediction.values.items() if not math.isfinite(value)]
        return f"{wrong[0]} is no number" if wrong else ""
    if isinstance(prediction, DetectionPrediction):
        finite = all(np.isfinite(one.box_lps).all() for one in prediction.detections)
        return "" if finite else "a box is nowhere"
    return "" if prediction.text.strip() else "the text is empty"


def _in_words(prediction: Prediction) -> str:
    if isinstance(prediction, SegmentationPrediction):
        share = np.count_nonzero(prediction.label_map) / prediction.label_map.size
        return "nothing is marked" if share == 0 else f"{100 * share:.1f} % of the air is marked"
    if isinstance(prediction, DetectionPrediction):
        count = len(prediction.detections)
        return f"{count} boxes in air" if count else "nothing is found"
    if isinstance(prediction, TextPrediction):
        return f"a text of {len(prediction.text)} characters"
    numbers = (
        prediction.scores if isinstance(prediction, ClassificationPrediction)
        else prediction.values
    )
    return ", ".join(f"{name} {value:.3f}" for name, value in list(numbers.items())[:4])
