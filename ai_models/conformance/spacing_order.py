"""A card's spacing whose numbers may stand in another order than its axes: a word, no refusal."""

from __future__ import annotations

import numpy as np

from ai_models.card import Card
from ai_models.types import ModelInput, Volume, reference_of

# Steps that differ by less say nothing of an order.
_UNEVEN = 1.5
_AXIS_OF = {"L": 0, "R": 0, "P": 1, "A": 1, "S": 2, "I": 2, "H": 2, "F": 2}
_NAMES = ("left to right", "front to back", "foot to head")


def spacing_doubt(card: Card, source: ModelInput | None = None) -> str:
    """What to look at when the largest step of a card lies elsewhere than one would expect.

    With a series: than in that series. Without: than along the first of ``input.axes``, across
    the slices, where steps are largest as a rule. Empty when there is nothing to say.
    """
    steps = card.input.spacing_mm
    if card.input.kind != "volume" or steps is None or max(steps) < _UNEVEN * min(steps):
        return ""
    axes = [_AXIS_OF.get(letter, -1) for letter in card.input.axes]
    largest = int(np.argmax(steps))
    shown = None if source is None else reference_of(source)
    if isinstance(shown, Volume):
        found = shown.spacing_mm
        if max(found) < _UNEVEN * min(found):
            return ""
        across = int(np.argmax(np.abs(shown.affine_lps[:3, int(np.argmax(found))])))
        if across == axes[largest]:
            return ""
        beside = f"this series from {_NAMES[across]}"
    elif largest == 0:
        return ""
    else:
        beside = "most series across their slices, the first of input.axes"
    named = " x ".join(f"{step:g}" for step in steps)
    order = ", ".join(card.input.axes)
    return (
        f"input.spacing_mm is {named} in the order of input.axes ({order}): its largest step runs "
        f"from {_NAMES[axes[largest]]}, that of {beside}. Is the order right?"
    )
