"""Sentences of a language model."""

from __future__ import annotations

import unicodedata

from ai_models.backends import Answer
from ai_models.card import TextCard
from ai_models.prediction.checking import WRONG
from ai_models.prediction.preparing import Prepared
from ai_models.types import Algorithm, ModelError, TextPrediction


def text(
    card: TextCard, _prepared: Prepared, answer: Answer, algorithm: Algorithm,
    seconds: dict[str, float], notes: tuple[str, ...],
) -> TextPrediction:
    """What the model wrote, without the white space around it.

    Raises
    ------
    ModelError
        ``model.wrong_output``: it wrote nothing, or what is no text (control characters).
    """
    written = (answer.text or "").strip()
    if not written:
        raise ModelError("the model wrote nothing", reason=WRONG)
    if any(unicodedata.category(one) == "Cc" and one not in "\n\r\t" for one in written):
        raise ModelError("the model wrote control characters", reason=WRONG)
    return TextPrediction(written, algorithm, card.output.language, seconds, notes)
