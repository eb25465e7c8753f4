"""What in a card cannot go together, though every key for itself is right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ai_models.card_checks_input import input_problems
from ai_models.card_checks_output import output_problems
from ai_models.card_checks_runtime import runtime_problems, weights_problems
from ai_models.card_compression import compression_problems
from ai_models.card_crop import crop_problems
from ai_models.card_monitoring import monitor_problems
from ai_models.card_quality import quality_problems

if TYPE_CHECKING:
    from ai_models.card import Card


def contradictions(card: Card, folder: Path) -> Iterator[tuple[str, str]]:
    """Key path and what was expected there, of everything that does not go together.

    The first is what the others may follow from: a back-end that does not do the task.
    """
    yield from runtime_problems(card)
    yield from input_problems(card)
    yield from quality_problems(card, folder)
    yield from crop_problems(card, folder)
    yield from output_problems(card)
    yield from weights_problems(card, folder)
    yield from monitor_problems(card, folder)
    yield from compression_problems(card, folder)
