"""Maps between 0 and 1, and what each slice counts."""

from __future__ import annotations

import numpy as np

from ai_models.backends import Answer
from ai_models.card import ClassificationCard
from ai_models.types import FloatArray


def scaled(found: FloatArray) -> FloatArray:
    """Not below zero, highest value 1; zero everywhere where nothing is above zero."""
    positive = np.maximum(np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0), 0.0)
    highest = float(positive.max(initial=0.0))
    return np.asarray(positive / highest if highest > 0 else positive, dtype=np.float32)


def worth_of_slices(
    card: ClassificationCard, answer: Answer, channel: int, most: int
) -> FloatArray:
    """How much each of the network's slices counts: its score, or zero where it is left out.

    ``most`` of the highest are kept, of those that reach the card's ``from_score`` (and the
    highest of all, where a score of the series is made of many low ones).
    """
    if answer.scores is None or card.explanation is None:
        return np.zeros(0, dtype=np.float32)
    scores = np.clip(answer.scores[:, channel], 0.0, 1.0).astype(np.float32)
    left_out = scores < min(card.explanation.from_score, float(scores.max()))
    left_out[np.argsort(-scores, kind="stable")[most:]] = True
    return np.where(left_out, np.float32(0.0), scores)
