"""Sentences of a report, filled from numbers; the same inputs give the same words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ai_models.types import Algorithm, Label
from sr_templates.template import MeasurementTemplate, ReportTemplate

_UT_LIMIT = 1024


def written(value: float, decimals: int) -> str:
    """``value`` as a report shows it, without a negative zero."""
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text


def finding_sentence(
    sentence: str,
    name: str,
    rows: Sequence[MeasurementTemplate],
    measurements: Mapping[str, float],
) -> str:
    """One finding's numbers in words."""
    values = {row.measurement: written(measurements[row.measurement], row.decimals) for row in rows}
    return sentence.format(label=name, **values)


def opening(template: ReportTemplate, algorithm: Algorithm) -> list[str]:
    """Who computed the report, and first of all whether it may be used."""
    words = template.narrative
    sentences = [words.demonstration] if algorithm.demonstration else []
    return [*sentences, words.computed.format(algorithm=algorithm.name, version=algorithm.version)]


def closing(
    template: ReportTemplate, not_found: Sequence[Label], input_notes: Sequence[str]
) -> list[str]:
    """What was looked for and not found, and what was done to the input."""
    words = template.narrative
    return [
        *(words.not_found.format(label=label.name) for label in not_found),
        *(words.input_note.format(note=note.rstrip("."))[:_UT_LIMIT] for note in input_notes),
    ]


def nothing_found(template: ReportTemplate, labels: Sequence[Label]) -> str:
    """The sentence of an explicit negative report."""
    names = ", ".join(label.name for label in labels)
    return template.narrative.nothing_found.format(labels=names)
