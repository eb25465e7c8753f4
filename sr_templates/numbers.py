"""Which numbers a measurement group reports, and which coded terms they amount to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ai_models.types import Code
from sr_templates.report_template import (
    Group,
    ImageGroup,
    LargestOf,
    Quantity,
    ReportTemplate,
    Scale,
    Step,
    Term,
)

# PS3.16 CID 240
UNDETERMINED = ("373068000", "SCT")
# Of a volume in ml: a thousandth of a cubic millimetre.
_MOST_DECIMALS = 6


class NumberRefused(ValueError):
    """A number cannot be reported; ``kind`` says why."""

    def __init__(
        self, name: str, kind: Literal["not_finite", "out_of_range", "missing_number"], message: str
    ) -> None:
        super().__init__(f"{name}: {message}")
        self.kind = kind


@dataclass(frozen=True)
class Measured:
    """One NUM: ``value`` is rounded as it is written."""

    quantity: Quantity
    value: float

    @property
    def written(self) -> str:
        """The number as a report shows it, without a negative zero."""
        return written(self.value, decimals_of(self.value, self.quantity))


@dataclass(frozen=True)
class Evaluated:
    """One qualitative evaluation: the term, how it was chosen, and by the number of which name."""

    concept: Code
    term: Term
    rule: str
    number: str = ""


def decimals_of(value: float, quantity: Quantity) -> int:
    """How many decimals a report shows of a number.

    As its quantity says; of a volume below one millilitre at least three significant digits, or
    one of a few cubic millimetres would be told as 0.
    """
    if quantity.unit.value != "ml" or not 0 < abs(value) < 1:
        return quantity.decimals
    return max(quantity.decimals, min(_MOST_DECIMALS, 2 - math.floor(math.log10(abs(value)))))


def written(value: float, decimals: int) -> str:
    """``value`` as a report shows it, without a negative zero."""
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text


def measured(
    template: ReportTemplate, group: Group, numbers: Mapping[str, float]
) -> tuple[Measured, ...]:
    """What ``group`` measures of ``numbers``.

    Raises
    ------
    NumberRefused
        A number is missing and not optional, not finite, or out of the range of its quantity.
    """
    found = []
    for name, key in group.measurements.items():
        quantity = template.quantities[key]
        if name in numbers:
            value = _checked(name, numbers[name], quantity)
            decimals = decimals_of(value, quantity)
            found.append(Measured(quantity, float(written(value, decimals))))
        elif not quantity.optional:
            raise NumberRefused(name, "missing_number", "the template asks for it")
    return tuple(found)


def evaluated(
    template: ReportTemplate, group: Group, numbers: Mapping[str, float]
) -> tuple[Evaluated, ...]:
    """The coded terms that ``numbers`` amount to; a number that is absent has none.

    Thresholds are applied to the numbers as the model gave them, before rounding.

    Raises
    ------
    NumberRefused
        A number is not finite, or one of ``largest_of`` is missing.
    """
    found = [
        _on_scale(template.scales[key], name, _finite(name, numbers[name]))
        for name, key in group.evaluations.items()
        if name in numbers
    ]
    if isinstance(group, ImageGroup) and group.largest_of is not None:
        found.append(_largest(group.largest_of, numbers))
    return tuple(found)


def undetermined(
    template: ReportTemplate, group: Group, without: Mapping[str, Sequence[str]]
) -> tuple[Evaluated, ...]:
    """The term "Undetermined" of each number of ``group`` that is not told.

    ``without`` maps its name to the roles of the series for want of which it is not.

    Raises
    ------
    NumberRefused
        The scale of one has no such term, or there is no scale.
    """
    found = []
    for name, roles in without.items():
        scale = template.scales.get(group.evaluations.get(name, ""))
        step = undetermined_step(scale)
        if scale is None or step is None:
            raise NumberRefused(name, "missing_number", "nothing says that it is undetermined")
        rule = f"{name}: {step.value.meaning} without {', '.join(roles)}"
        found.append(Evaluated(scale.concept, step, rule))
    return tuple(found)


def undetermined_step(scale: Scale | None) -> Step | None:
    """The step of ``scale`` that says that it cannot be said."""
    steps = () if scale is None else scale.steps
    return next(
        (one for one in steps if (one.value.value, one.value.scheme) == UNDETERMINED), None
    )


def _checked(name: str, value: float, quantity: Quantity) -> float:
    number = _finite(name, value)
    low, high = quantity.minimum, quantity.maximum
    if (low is not None and number < low) or (high is not None and number > high):
        raise NumberRefused(name, "out_of_range", f"the number is not within {low} and {high}")
    return number


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise NumberRefused(name, "not_finite", "not a finite number")
    return float(value)


def _on_scale(scale: Scale, name: str, value: float) -> Evaluated:
    step = next(one for one in scale.steps if one.at_least is None or value >= one.at_least)
    bounds = ", ".join(
        f"{one.value.meaning} from {one.at_least:g}"
        for one in scale.steps
        if one.at_least is not None
    )
    rule = f"{name}: {bounds}, else {scale.steps[-1].value.meaning}"
    return Evaluated(scale.concept, step, rule, name)


def _largest(largest_of: LargestOf, numbers: Mapping[str, float]) -> Evaluated:
    for name in largest_of.terms:
        if name not in numbers:
            raise NumberRefused(name, "missing_number", "the largest is sought of all")
    values = {name: _finite(name, numbers[name]) for name in largest_of.terms}
    name = max(values, key=lambda one: values[one])
    term, rule = largest_of.terms[name], f"largest of {', '.join(largest_of.terms)}"
    bound, otherwise = largest_of.negative_from, largest_of.otherwise
    if bound is not None and otherwise is not None:
        negative = ", ".join(one for one, at in largest_of.terms.items() if at.negative)
        rule += f"; {negative}: from {bound:g}, else {otherwise.value.meaning}"
        if term.negative and values[name] < bound:
            term = otherwise
    return Evaluated(largest_of.concept, term, rule, name)
