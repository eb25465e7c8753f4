"""When memory does not suffice the answer still comes, and says what was done for it."""

from __future__ import annotations

from ai_models.backends.protocol import is_out_of_memory
from ai_models.card import Card
from ai_models.conformance.agreement import EQUAL, Answered, agreement
from ai_models.conformance.check import Check, failed, not_applicable, passed
from ai_models.predictor import Predictor
from ai_models.types import ModelInput

MEMORY = "memory"
_SAID = "memory did not suffice"


def check_memory(card: Card, predictor: Predictor, source: ModelInput) -> Check:
    """The network of a loaded ``predictor`` finds no memory at its first call.

    Raises
    ------
    ModelError
        The model cannot answer at all.
    """
    from ai_models.backends.short_of_memory import fail_once

    plain = predictor.predict(source)
    if not fail_once(predictor.backend):
        return not_applicable(
            MEMORY, f"{card.runtime.backend} brings its own inference, which is not reached into"
        )
    try:
        found = predictor.predict(source)
    except Exception as error:  # noqa: BLE001 - every library has its own type for it
        if not is_out_of_memory(error):
            return failed(MEMORY, f"a lack of memory became {type(error).__name__}: {error}")
        again = agreement(
            card, Answered(source, plain), Answered(source, predictor.predict(source)), EQUAL
        )
        if again.holds is False:
            return failed(MEMORY, f"after a lack of memory the answer is another: {again.figure}")
        return not_applicable(
            MEMORY, f"of runtime.fallbacks nothing can be tried on {predictor.device}: the job "
            "would be told that memory did not suffice, and the next one answered",
        )
    said = [note for note in found.notes if note.startswith(_SAID)]
    if not said:
        return failed(MEMORY, "an answer came in less memory, and no note says so")
    changed = found.algorithm.parameters.get("fall_back")
    if changed:
        return passed(MEMORY, f"{said[0]}; the result says that {changed} changed its numbers")
    same = agreement(card, Answered(source, plain), Answered(source, found), EQUAL)
    if same.holds is False:
        return failed(MEMORY, f"{said[0]}, which should change no number: {same.figure}")
    return passed(MEMORY, f"{said[0]}, the numbers unchanged")
