"""One thing looked at: passed, failed or not applicable, and a sentence that says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ai_models.types import ModelError, ModelInput, Prediction

Outcome = Literal["passed", "failed", "not applicable"]
Predict = Callable[[ModelInput], Prediction]
"""The model: a prediction, or ModelError, whatever runs it."""


@dataclass(frozen=True)
class Check:
    """What was looked at, how it came out, and one sentence."""

    name: str
    outcome: Outcome
    sentence: str


def passed(name: str, sentence: str) -> Check:
    """It is as it must be."""
    return Check(name, "passed", sentence)


def failed(name: str, sentence: str) -> Check:
    """It is not."""
    return Check(name, "failed", sentence)


def not_applicable(name: str, sentence: str) -> Check:
    """Nothing can be said, or the card makes no such promise."""
    return Check(name, "not applicable", sentence)


def judged(name: str, look: Callable[[], Check]) -> Check:
    """What ``look`` finds; a ModelError of the model is a failure, with its reason."""
    try:
        return look()
    except ModelError as error:
        return failed(name, f"{error.reason}: {error}")


def refused(name: str, predict: Callable[[], object], reasons: tuple[str, ...]) -> Check:
    """Passed when ``predict`` raises a ModelError with one of these reasons."""
    wanted = " or ".join(reasons)
    try:
        predict()
    except ModelError as error:
        if error.reason in reasons:
            return passed(name, f"refused with {error.reason}: {error}")
        return failed(name, f"{wanted} expected, it was {error.reason}: {error}")
    return failed(name, f"{wanted} expected, and it was answered")
