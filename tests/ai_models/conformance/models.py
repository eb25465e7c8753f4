"""Models that are functions of an input: good ones, and ones that break a promise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ai_models.card import Card, load_card
from ai_models.types import (
    ClassificationPrediction,
    Detection,
    DetectionPrediction,
    ModelError,
    ModelInput,
    Prediction,
    SegmentationPrediction,
    TextPrediction,
    Volume,
)
from tests.ai_models.tiny_models import fitting, write_model

BRIGHT_HU = 100


def card_of(folder: Path, **changes: Any) -> Card:
    return load_card(write_model(folder / "model", b"no network", **fitting(**changes)))


def labelled(card: Card, label_map: np.ndarray) -> SegmentationPrediction:
    return SegmentationPrediction(label_map.astype(np.uint8), card.labels, card.algorithm())


def scored(card: Card, **scores: float) -> ClassificationPrediction:
    return ClassificationPrediction(scores, card.algorithm())


def bright(card: Card) -> Callable[[ModelInput], Prediction]:
    """Whatever is bright, where it lies."""
    return lambda source: labelled(card, source.array > BRIGHT_HU)


def boxed(card: Card, *boxes: tuple[float, float, float], score: float = 0.9) -> Prediction:
    """Boxes of 10 mm about these places."""
    found = []
    for centre in boxes:
        place = np.diag([10.0, 10.0, 10.0, 1.0])
        place[:3, 3] = np.array(centre) - 5.0
        found.append(Detection(1, score, place))
    return DetectionPrediction(tuple(found), card.labels, card.algorithm())


def text(card: Card, words: str) -> TextPrediction:
    return TextPrediction(words, card.algorithm())


def refusing(reason: str) -> Callable[[ModelInput], Prediction]:
    def predict(source: ModelInput) -> Prediction:
        raise ModelError("it will not", reason=reason)

    return predict


def volume(array: np.ndarray, step: float = 2.0) -> Volume:
    affine = np.zeros((4, 4))
    affine[2, 0] = affine[1, 1] = affine[0, 2] = step
    affine[3, 3] = 1.0
    return Volume(array.astype(np.int16), affine)
