"""Sentences are passed on as they were written, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ai_models.backends import Answer
from ai_models.types import Image, ModelError
from tests.ai_models.prediction.cards import IMAGE, answered, card_for

RADIOGRAPH = Image(np.zeros((8, 8), np.float32), None)


def test_text_is_told_with_its_language(tmp_path: Path) -> None:
    card = card_for(tmp_path, "text", input=IMAGE)
    prediction = answered(card, RADIOGRAPH, Answer(text="\n Kein Befund.\nPleura\u00a0frei. "))
    assert prediction.text == "Kein Befund.\nPleura\u00a0frei."
    assert prediction.language == "de"


@pytest.mark.parametrize("text", [None, "", " \n", "Kein\x00 Befund", "\x1b[2J"])
def test_nothing_and_control_characters_are_refused(tmp_path: Path, text: str | None) -> None:
    with pytest.raises(ModelError) as caught:
        answered(card_for(tmp_path, "text", input=IMAGE), RADIOGRAPH, Answer(text=text))
    assert caught.value.reason == "model.wrong_output"
