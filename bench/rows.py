"""One row of the table: what a way took, beside its peers and the limit of the same run.

A `Case` is measured in rounds in which its ways follow each other; a way that fails is a row that
says why, and the others go on.
"""

from __future__ import annotations

import contextlib
import statistics
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, Self

NODE, PEER, LIMIT = "node", "peer", "limit"
# Of these units more is better, of all others (seconds) less.
RATES = frozenset({"MB/s", "instances/s"})


@dataclass(frozen=True)
class Sample:
    """One round of one way: the value in the unit of its case, CPU, memory and what else it says.

    ``cpu_s`` is in seconds for what the case counts by (a GB, an instance, a series), ``peak_mb``
    the memory that the way's processes held at most.
    """

    value: float
    cpu_s: float
    peak_mb: float
    more: Mapping[str, float] = field(default_factory=dict)


class Way(Protocol):
    """One way to do what a case is about; entered before the first round, left after the last."""

    name: str
    role: str

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def once(self) -> Sample:
        """One round."""
        ...


@dataclass
class Row:
    """Medians of the rounds of one way, and for the node's own what the budgets say to them."""

    stage: str
    case: str
    way: str
    role: str
    unit: str
    per: str
    value: float | None = None
    low: float = 0.0
    high: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    rounds: int = 0
    more: dict[str, float] = field(default_factory=dict)
    budget: str = ""
    verdict: str = ""
    reason: str = ""

    @property
    def is_rate(self) -> bool:
        """Whether more is better."""
        return self.unit in RATES

    def times(self, other: Row) -> float | None:
        """How many times as good this way is as another one; None where one was not measured."""
        if not self.value or not other.value:
            return None
        return self.value / other.value if self.is_rate else other.value / self.value


Rows = Mapping[str, Row]


class Budget(Protocol):
    """What the node's row has to keep: its words, and how far it is from them."""

    words: str

    def share(self, node: Row, rows: Rows) -> float | None:
        """What was found in shares of what is allowed: 1.1 is 10 % over; None: not measured."""
        ...


@dataclass(frozen=True)
class AgainstWay:
    """At least (or, of seconds, at most) so many times the value of another way."""

    times: float
    way: str

    @property
    def words(self) -> str:
        """As the table says it."""
        return f"{self.times:g} x {self.way}"

    def share(self, node: Row, rows: Rows) -> float | None:
        """See `Budget`."""
        other = rows.get(self.way)
        if other is None or not other.value or not node.value:
            return None
        allowed = self.times * other.value
        return allowed / node.value if node.is_rate else node.value / allowed


@dataclass(frozen=True)
class AtMost:
    """At most so much of a figure: ``value``, ``cpu_s``, ``peak_mb`` or one of ``more``."""

    limit: float
    figure: str = "value"
    name: str = ""

    @property
    def words(self) -> str:
        """As the table says it."""
        return f"{self.name or self.figure} <= {self.limit:g}"

    def share(self, node: Row, rows: Rows) -> float | None:
        """See `Budget`."""
        found = node.more.get(self.figure, getattr(node, self.figure, None))
        return None if found is None else float(found) / self.limit


@dataclass(frozen=True)
class TimesPlus:
    """At most so many times another way and so many seconds."""

    times: float
    way: str
    plus: float

    @property
    def words(self) -> str:
        """As the table says it."""
        return f"<= {self.times:g} x {self.way} + {self.plus:g} s"

    def share(self, node: Row, rows: Rows) -> float | None:
        """See `Budget`."""
        other = rows.get(self.way)
        if other is None or not other.value or not node.value:
            return None
        return node.value / (self.times * other.value + self.plus)


@dataclass(frozen=True)
class FigureOf:
    """At most so many times a figure of another way (``cpu_s``, ``peak_mb`` or one of ``more``)."""

    times: float
    way: str
    figure: str
    name: str = ""

    @property
    def words(self) -> str:
        """As the table says it."""
        return f"{self.name or self.figure} <= {self.times:g} x {self.way}"

    def share(self, node: Row, rows: Rows) -> float | None:
        """See `Budget`."""
        other = rows.get(self.way)
        if other is None or other.value is None:
            return None
        found, theirs = (
            one.more.get(self.figure, getattr(one, self.figure, None)) for one in (node, other)
        )
        return None if found is None or not theirs else float(found) / (self.times * float(theirs))


@dataclass(frozen=True)
class Case:
    """What is measured together: its ways, and the budgets of the node's own."""

    stage: str
    name: str
    unit: str
    per: str
    ways: Callable[[], Sequence[Way]]
    budgets: Sequence[Budget] = ()
    rounds: int = 3
    budgets_of: str = ""

    @property
    def key(self) -> str:
        """By which it is named on the command line and found again."""
        return f"{self.stage}: {self.name}"


def measure(case: Case, say: Callable[[str], None]) -> list[Row]:
    """Every way of a case in turn, so many rounds; never raises for what a way does."""
    samples: dict[str, list[Sample]] = {}
    failed: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        ways: list[Way] = []
        known = case.ways()
        for way in known:
            samples[way.name] = []
            try:
                stack.enter_context(_leaving(way, say))
                ways.append(way)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a peer may fail as it likes
                failed[way.name] = _reason(error)
        for turn in range(case.rounds):
            # The one that begins a round has what the last one left in caches and on the disk.
            for way in [*ways[turn % len(ways):], *ways[: turn % len(ways)]] if ways else []:
                if way.name in failed:
                    continue
                try:
                    one = way.once()
                except (Exception, SystemExit) as error:  # noqa: BLE001 - a peer may fail as it likes
                    failed[way.name] = _reason(error)
                    continue
                samples[way.name].append(one)
                say(
                    f"  {turn} {case.key:38} {way.name:40} {one.value:9.3g} {case.unit:12}"
                    f" CPU {one.cpu_s:7.3g} s/{case.per}, {one.peak_mb:5.0f} MB"
                )
    rows = [_row(case, way, samples[way.name], failed.get(way.name, "")) for way in known]
    judge(rows, case)
    return rows


@contextlib.contextmanager
def _leaving(way: Way, say: Callable[[str], None]) -> Any:
    way.__enter__()
    try:
        yield
    finally:
        try:
            way.__exit__(None, None, None)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a peer may fail as it likes
            # Its figures are there; what did not end in order is said.
            say(f"  {way.name} did not end in order: {_reason(error)}")


def _reason(error: BaseException) -> str:
    traceback.print_exception(error)
    words = " ".join(str(error).split()) or type(error).__name__
    return words[:160].replace("|", "/")


def _row(case: Case, way: Way, samples: Sequence[Sample], reason: str) -> Row:
    row = Row(case.stage, case.name, way.name, way.role, case.unit, case.per)
    if reason or not samples:
        row.reason = reason or "no round of it"
        return row
    values = [one.value for one in samples]
    row.value, row.low, row.high = statistics.median(values), min(values), max(values)
    row.cpu_s = statistics.median(one.cpu_s for one in samples)
    row.peak_mb = max(one.peak_mb for one in samples)
    row.more = {
        key: statistics.median(one.more[key] for one in samples) for key in samples[0].more
    }
    row.rounds = len(samples)
    return row


def judge(rows: Sequence[Row], case: Case) -> None:
    """Hold the node's row against the budgets of its case."""
    by_way = {row.way: row for row in rows}
    name = case.budgets_of or next((row.way for row in rows if row.role == NODE), "")
    node = by_way.get(name)
    if node is None or not case.budgets:
        return
    node.budget = "; ".join(budget.words for budget in case.budgets)
    if node.value is None:
        node.verdict = "not measured"
        return
    node.verdict = "; ".join(_verdict(budget.share(node, by_way)) for budget in case.budgets)


def _verdict(share: float | None) -> str:
    if share is None:
        return "not measured"
    return f"kept ({share:.2f} of it)" if share <= 1 else f"missed by {100 * (share - 1):.0f} %"


def as_json(row: Row) -> dict[str, Any]:
    """A row as JSON takes it."""
    return asdict(row)


def from_json(values: Mapping[str, Any]) -> Row:
    """A row that was written before."""
    return Row(**values)
