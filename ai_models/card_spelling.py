"""The key of a card that somebody may have meant by one that no card has."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel


def meant(card: type[BaseModel], places: Sequence[str | int]) -> str:
    """What to append to "unknown key": the nearest key of that place, or nothing.

    ``places`` lead from the card to the unknown key: keys and positions in lists.
    """
    here = {card}
    for part in places[:-1]:
        if isinstance(part, str):
            here = {
                found for one in here if part in one.model_fields
                for found in _models_in(one.model_fields[part].annotation)
            }
    known = sorted({key for one in here for key in one.model_fields})
    near = difflib.get_close_matches(str(places[-1]), known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {found for one in get_args(annotation) for found in _models_in(one)}
