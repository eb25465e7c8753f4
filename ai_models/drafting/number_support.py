"""Whether evidence has a number that a statement tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ai_models.drafting import english
from ai_models.drafting.clauses import Unclear
from ai_models.drafting.evidence import EvidenceItem
from ai_models.drafting.numbers_said import NumberSaid
from ai_models.drafting.reading import Entity, stems_of
from ai_models.drafting.statements import Statement

# A number may be written with fewer decimals, and by that never become another by more than this.
MOST_ROUNDING = 0.1
_UCUM = {
    "mm": ("mm", 1.0), "cm": ("mm", 10.0), "mm2": ("mm2", 1.0), "cm2": ("mm2", 100.0),
    "ml": ("ml", 1.0), "mm3": ("ml", 0.001), "[hnsf'U]": ("hu", 1.0), "%": ("%", 1.0),
    "d": ("d", 1.0), "mo": ("d", 30.4375), "a": ("d", 365.25), "1": ("1", 1.0),
}
# What a number without a word for it is, by its dimension: of several lengths the long axis.
_PLAIN_QUANTITIES = {
    "mm": ("long axis",), "hu": ("mean attenuation",), "ml": ("volume",), "mm2": ("area",),
}
_SYNONYMS = {
    "mean attenuation coefficient": "mean attenuation",
    "attenuation coefficient": "mean attenuation",
    "mean attenuation": "mean attenuation", "fraction of volume that is solid": "solid part",
    "standard deviation attenuation coefficient": "standard deviation of attenuation",
}


@dataclass(frozen=True)
class Known:
    """What cited evidence says of one entity, and all that there is on it."""

    entity: Entity
    cited: tuple[EvidenceItem, ...]

    def of(self, *kinds: str) -> list[EvidenceItem]:
        """Cited items of these kinds."""
        return [one for one in self.cited if one.kind in kinds]


def quantity_of(item: EvidenceItem) -> str:
    """What an item is a number of, in the words of the guard."""
    words = " ".join(stems_of(item.quantity))
    return _SYNONYMS.get(words, words)


def check_number(number: NumberSaid, statement: Statement, known: Known) -> None:
    """Refuse a number that no cited item of the entity has.

    Raises
    ------
    Unclear
        ``number``.
    """
    unit = number.unit
    if number.quantity == "threshold":
        _check_threshold(number, statement, known)
        return
    if not any(test(number, statement, known) for test in _SOURCES):
        what = " ".join(one for one in (f"{number.value:g}", unit, number.quantity) if one)
        name = " ".join(statement.base)
        raise Unclear("number", f"{what} is not in the cited evidence of {name}")


def _check_threshold(number: NumberSaid, statement: Statement, known: Known) -> None:
    factor = 0.01 if number.unit == "%" else 1.0
    for item in known.of("score"):
        for bound in item.bounds:
            if abs(number.value * factor - bound) > 1e-9:
                continue
            value = item.value
            if not statement.relation or value is None:
                return
            if (value >= bound) == (statement.relation == "above"):
                return
    raise Unclear("number", f"{number.value:g} is no threshold of it, or the score lies elsewhere")


def _from_measurements(number: NumberSaid, statement: Statement, known: Known) -> bool:
    if number.role in ("before", "after", "percent", "across3", "bound"):
        return False
    for item in known.of("measurement", "score"):
        if item.value is None or not _is_meant(number, item, known, statement):
            continue
        dimension, factor = _UCUM.get(item.unit, ("", 1.0))
        if agrees(number, item.value, dimension, factor):
            return True
    return False


def _is_meant(
    number: NumberSaid, item: EvidenceItem, known: Known, statement: Statement
) -> bool:
    """Whether a number is said to be of this quantity."""
    quantity = quantity_of(item) or "probability"
    if number.role == "across":
        return quantity == "short axis"
    if number.quantity:
        return quantity == {"size": "long axis"}.get(number.quantity, number.quantity)
    if item.unit in ("1", "%") and not number.in_brackets:
        # "Present in 22 %" of what?
        return False
    if stems_of(item.quantity)[:2] == statement.base[:2]:
        return True
    dimension = _UCUM.get(item.unit, ("", 1.0))[0]
    others = {
        quantity_of(one) for one in known.entity.items
        if one.kind == "measurement" and _UCUM.get(one.unit, ("", 1.0))[0] == dimension
    }
    plain = [one for one in _PLAIN_QUANTITIES.get(dimension, ()) if one in others]
    if plain:
        return quantity in plain
    if quantity in ("short axis", "standard deviation of attenuation", "volume doubling time"):
        return False
    return len(others) <= 1 or item.kind == "score"


def _from_comparison(number: NumberSaid, statement: Statement, known: Known) -> bool:
    if number.quantity not in ("", "volume", "size"):
        return False
    for item in known.of("comparison"):
        sources: list[tuple[float | None, str]] = []
        if number.role == "before":
            sources.append((item.before_ml, "ml"))
        if number.role in ("", "after", "now"):
            sources.append((item.after_ml, "ml"))
        if item.status in ("gone", "beyond_present") and number.role == "":
            sources.append((item.before_ml, "ml"))
        # A change in size may be one of a length.
        is_of_now = number.role in ("", "percent", "now")
        if is_of_now and statement.changes and number.quantity != "size":
            sources.append((item.percent, "%"))
        if number.role in ("", "before", "after"):
            sources.append((None if item.days is None else float(item.days), "d"))
        if any(value is not None and agrees(number, value, dimension, 1.0)
               for value, dimension in sources):
            return True
    return False


_SOURCES: tuple[Callable[[NumberSaid, Statement, Known], bool], ...] = (
    _from_measurements, _from_comparison,
)


def agrees(number: NumberSaid, value: float, dimension: str, factor: float) -> bool:
    """Whether a number as it is written is ``value`` rounded, in the same or another unit.

    By rounding it may change by a tenth of itself at most: 8.4 mm is 8 mm, 1.4 mm is not 1 mm.
    """
    said_dimension, said_factor = english.UNIT_WORDS.get(number.unit, ("1", 1.0))
    exact = value * factor
    if dimension == "1" and number.unit == "%":
        said_factor = 0.01
    elif said_dimension != dimension:
        return False
    said = number.value * said_factor
    if dimension == "1" and said != exact and not 0 < said < 1 and 0 <= exact <= 1:
        # What is likely is not certain, however it is rounded.
        return False
    half = 0.5 * said_factor * 10.0**-number.decimals
    away = abs(said - exact)
    return away <= half * (1 + 1e-9) + 1e-12 and away <= MOST_ROUNDING * abs(exact) + 1e-12
