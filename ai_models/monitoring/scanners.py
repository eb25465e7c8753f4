"""How the inputs of each scanner look to a model, beside those that it was tried on.

The reference is the file of the card's ``monitor``, or, without one, the first inputs that the
version was given at this site. A scanner is told of when enough of its newer inputs lie apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ai_models.monitoring.shift import Shift, shift_between
from ai_models.types import FloatArray

REFERENCE = "reference"
_MOST_SHOWN = 1000


@dataclass(frozen=True)
class Terms:
    """When a scanner is told of.

    Attributes
    ----------
    at_least
        Inputs of a scanner, and of the reference, before they are compared.
    baseline
        First inputs of a site that are the reference where the card brings none.
    newest
        Inputs of a scanner that count: an old one must not hide what has changed since.
    level
        Part of all like scanners that the test would call unlike, `shift_between`.
    silhouette
        Least silhouette of an alarm.
    """

    at_least: int = 20
    baseline: int = 50
    newest: int = 100
    level: float = 0.01
    silhouette: float = 0.1


@dataclass(frozen=True)
class ScannerLook:
    """One scanner: how many inputs are kept, and how they differ; ``shift`` is ``None`` where they
    are too few, and ``why_not`` says so."""

    scanner: str
    inputs: int
    shift: Shift | None
    why_not: str = ""


@dataclass(frozen=True)
class Look:
    """All scanners of a version of a model, and the rows that they were judged by.

    ``rows`` are ``(inputs, features)`` and ``groups`` says of which scanner each is, or that it is
    of the `REFERENCE`; ``source`` is where that comes from: ``card``, ``site`` or empty while
    there is none.
    """

    scanners: tuple[ScannerLook, ...]
    source: str
    rows: npt.NDArray[np.float64]
    groups: tuple[str, ...]


def look_at(
    seen: Sequence[tuple[str, tuple[float, ...]]], reference: FloatArray | None,
    terms: Terms = Terms(),
) -> Look:
    """Judge ``(scanner, features)`` of a version's inputs, the oldest first.

    Features of another length than the reference, or than the newest input where there is none,
    are of another card and are left out.
    """
    width = reference.shape[1] if reference is not None else len(seen[-1][1]) if seen else 0
    seen = [one for one in seen if len(one[1]) == width]
    source = "card"
    if reference is None:
        first, seen = seen[: terms.baseline], seen[terms.baseline :]
        source = "site" if len(first) >= terms.baseline else ""
        base = _array([features for _, features in first], width)
    else:
        base = np.asarray(reference, dtype=np.float64)
    by_scanner: dict[str, list[tuple[float, ...]]] = {}
    for scanner, features in seen:
        by_scanner.setdefault(scanner, []).append(features)
    looks = []
    rows, groups = [base[-_MOST_SHOWN:]], [REFERENCE] * min(len(base), _MOST_SHOWN)
    for scanner in sorted(by_scanner):
        newest = _array(by_scanner[scanner][-terms.newest :], width)
        looks.append(_scanner(scanner, len(by_scanner[scanner]), newest, base, source, terms))
        rows.append(newest)
        groups += [scanner] * len(newest)
    return Look(tuple(looks), source, np.concatenate(rows), tuple(groups))


def _scanner(
    scanner: str, count: int, newest: npt.NDArray[np.float64], base: npt.NDArray[np.float64],
    source: str, terms: Terms,
) -> ScannerLook:
    if not source:
        return ScannerLook(scanner, count, None, "there is no reference yet")
    if len(base) < terms.at_least:
        return ScannerLook(
            scanner, count, None, f"the reference has {len(base)} of {terms.at_least} inputs"
        )
    if len(newest) < terms.at_least:
        return ScannerLook(scanner, count, None, f"{count} of {terms.at_least} inputs")
    shift = shift_between(
        base, newest, level=terms.level, least_silhouette=terms.silhouette
    )
    return ScannerLook(scanner, count, shift)


def _array(rows: Sequence[tuple[float, ...]], width: int) -> npt.NDArray[np.float64]:
    return np.asarray(rows, dtype=np.float64).reshape(len(rows), width)
