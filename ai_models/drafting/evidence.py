"""What a drafted impression may say: facts of one result, each with an id to be cited by.

An item holds names of the model's card or of coded concepts, and numbers. There is nothing in it
that a header of an image says: no name, no date, no description, no UID but the Tracking UID of
its measurement group, which no writer is shown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

Kind = Literal[
    "measurement", "count", "score", "term", "comparison", "not_found", "not_analysed",
    "limitation",
]
Side = Literal["", "left", "right", "both"]
Presence = Literal["present", "absent", "undetermined"]
Change = Literal[
    "grown", "shrunk", "steady", "new", "gone", "beyond_earlier", "beyond_present"
]
PRESENCES: tuple[str, ...] = get_args(Presence)
CHANGES: tuple[str, ...] = get_args(Change)
# Months and years of UCUM: "mo" and "a" are those of the Julian year.
UNITS = ("mm", "cm", "mm2", "cm2", "ml", "mm3", "[hnsf'U]", "%", "d", "mo", "a", "1", "{SUVbw}g/ml")

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ,()/+-]{0,63}")
_MOST_ITEMS = 400
# What each kind must say besides its finding.
_NEEDS: dict[str, tuple[str, ...]] = {
    "measurement": ("quantity", "value", "unit"), "count": ("value",), "score": ("status",),
    "term": ("term",), "comparison": ("status",), "not_found": (), "not_analysed": (),
    "limitation": (),
}


@dataclass(frozen=True)
class EvidenceItem:
    """One fact.

    Attributes
    ----------
    id
        ``E1``, ``E2``: by which a sentence cites it.
    kind
        What sort of fact; it says which of the others are filled.
    finding
        What it is about, in English: ``Nodule 3``, ``Pneumothorax``. Of a ``limitation`` what is
        limited, in words that stand in this program.
    side, site
        Where that is: the laterality, and the meaning of the code of the site in English.
    quantity, value, decimals, unit
        Of a ``measurement``: what was measured, rounded as the report shows it, in a unit of UCUM.
        Of a ``score`` its probability, of a ``count`` how many.
    status
        Of a ``score``: ``present``, ``absent``, ``undetermined``. Of a ``comparison``: what became
        of the finding.
    bounds
        Of a ``score``: the probabilities at which its status changes, descending.
    term
        Of a ``term``: the coded term in English, as ``part-solid``.
    before_ml, after_ml, percent, days
        Of a ``comparison``: volumes then and now, the change between them in whole percent without
        a sign, and the days between both examinations.
    told
        The template's own sentence for it in the language of the report. Several items may share
        one.
    group
        Tracking UID of the measurement group that it is from; never shown to a writer.
    """

    id: str
    kind: Kind
    finding: str
    side: Side = ""
    site: str = ""
    quantity: str = ""
    value: float | None = None
    decimals: int = 0
    unit: str = ""
    status: str = ""
    bounds: tuple[float, ...] = ()
    term: str = ""
    before_ml: float | None = None
    after_ml: float | None = None
    percent: float | None = None
    days: int | None = None
    told: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        for name in ("finding", "site", "quantity", "term"):
            text = getattr(self, name)
            if (text or name == "finding") and not _PLAIN.fullmatch(text):
                raise ValueError(f"{self.id}: the {name} of evidence is letters, digits, blanks")
        for name in _NEEDS[self.kind]:
            if getattr(self, name) in ("", None):
                raise ValueError(f"{self.id}: a {self.kind} has its {name}")
        known = {"score": PRESENCES, "comparison": CHANGES}.get(self.kind, ("",))
        if self.status not in known:
            raise ValueError(f"{self.id}: no status {self.status!r} of a {self.kind}")
        numbers = (self.value, self.before_ml, self.after_ml, self.percent, *self.bounds)
        if any(one is not None and not math.isfinite(one) for one in numbers):
            raise ValueError(f"{self.id}: a number that is not finite")
        if self.unit and self.unit not in UNITS:
            raise ValueError(f"{self.id}: no unit {self.unit!r} in a draft")

    @property
    def entity(self) -> tuple[str, str]:
        """What it is about, as one thing with its own numbers: finding and side."""
        return self.finding, self.side

    def document(self) -> dict[str, Any]:
        """What a writer is shown, as JSON values: all but the sentence and the group."""
        shown = {
            "id": self.id, "kind": self.kind, "finding": self.finding, "side": self.side,
            "site": self.site, "quantity": self.quantity, "value": self.value, "unit": self.unit,
            "status": self.status, "thresholds": list(self.bounds), "term": self.term,
            "before_ml": self.before_ml, "after_ml": self.after_ml, "percent": self.percent,
            "days_between": self.days,
        }
        return {name: value for name, value in shown.items() if value not in ("", None, [])}


@dataclass(frozen=True)
class EvidenceList:
    """All facts of one result, in the order in which the report gives them.

    Raises
    ------
    ValueError
        Two have one id, or there are more than 400.
    """

    items: tuple[EvidenceItem, ...]

    def __post_init__(self) -> None:
        if len({one.id for one in self.items}) != len(self.items):
            raise ValueError("two items of evidence have one id")
        if len(self.items) > _MOST_ITEMS:
            raise ValueError(f"more than {_MOST_ITEMS} items of evidence")

    def __iter__(self) -> Iterator[EvidenceItem]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def by_id(self) -> dict[str, EvidenceItem]:
        """Items by their ids."""
        return {one.id: one for one in self.items}

    def cited(self, ids: Sequence[str]) -> tuple[EvidenceItem, ...]:
        """The items with these ids, in the order of the list; unknown ids are left out."""
        return tuple(one for one in self.items if one.id in set(ids))

    def document(self) -> list[dict[str, Any]]:
        """What a writer is shown: limitations are not, the node tells them itself."""
        return [one.document() for one in self.items if one.kind != "limitation"]
