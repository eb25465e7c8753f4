"""The table of measurements: turns, failures of peers, and what budgets say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from bench.quote import quoted
from bench.rows import (
    LIMIT,
    NODE,
    PEER,
    AgainstWay,
    AtMost,
    Case,
    FigureOf,
    Row,
    Sample,
    TimesPlus,
    Way,
    as_json,
    from_json,
    measure,
)
from bench.soak_report import line_through
from bench.table import report


class Steady:
    """A way that always takes the same, and notes when it was its turn."""

    def __init__(
        self, name: str, role: str, value: float, turns: list[str], cpu_s: float = 1.0
    ) -> None:
        self.name, self.role = name, role
        self._sample, self._turns = Sample(value, cpu_s, 10.0), turns

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._turns.append(f"{self.name} left")

    def once(self) -> Sample:
        self._turns.append(self.name)
        return self._sample


class Broken(Steady):
    """A peer that does not start, or not a second time."""

    def __init__(self, name: str, *, starts: bool) -> None:
        super().__init__(name, PEER, 1.0, [])
        self._starts = starts

    def __enter__(self) -> Self:
        if not self._starts:
            raise SystemExit("it is not | installed")
        return self

    def once(self) -> Sample:
        raise OSError("it hung up")


def case(ways: Sequence[Way], *budgets: object, unit: str = "s") -> Case:
    return Case("stage", "case", unit, "GB", lambda: ways, budgets, 2)  # type: ignore[arg-type]


def row(way: str, role: str, value: float, unit: str = "s", **more: float) -> Row:
    return Row("stage", "case", way, role, unit, "GB", value, cpu_s=value, more=dict(more))


def test_ways_take_turns_and_no_way_always_begins() -> None:
    turns: list[str] = []
    ways = [Steady("node", NODE, 1.0, turns), Steady("peer", PEER, 2.0, turns)]
    rows = measure(case(ways), lambda _: None)
    assert turns == ["node", "peer", "peer", "node", "peer left", "node left"]
    assert [one.value for one in rows] == [1.0, 2.0]


def test_peer_that_fails_is_a_row_that_says_why_and_the_others_go_on() -> None:
    ways = [
        Broken("absent", starts=False), Steady("node", NODE, 1.0, []),
        Broken("rude", starts=True),
    ]  # fmt: skip
    absent, node, rude = measure(case(ways, AgainstWay(1, "absent")), lambda _: None)
    assert (absent.value, absent.reason) == (None, "it is not / installed")
    assert (rude.value, rude.reason) == (None, "it hung up")
    assert node.value == 1.0
    assert node.verdict == "not measured"


def test_of_rates_more_is_better_and_of_seconds_less() -> None:
    raw = {"raw": row("raw", LIMIT, 100.0, "MB/s")}
    assert AgainstWay(0.9, "raw").share(row("node", NODE, 90.0, "MB/s"), raw) == 1.0
    assert AgainstWay(0.9, "raw").share(row("node", NODE, 45.0, "MB/s"), raw) == 2.0
    seconds = {"raw": row("raw", LIMIT, 1.0)}
    assert AgainstWay(2, "raw").share(row("node", NODE, 3.0), seconds) == 1.5
    assert row("node", NODE, 2.0, "MB/s").times(row("peer", PEER, 1.0, "MB/s")) == 2.0
    assert row("node", NODE, 2.0).times(row("peer", PEER, 1.0)) == 0.5


def test_verdict_says_by_how_much_a_budget_is_missed() -> None:
    ways = [Steady("node", NODE, 3.0, [], cpu_s=1.2), Steady("model", LIMIT, 2.0, [])]
    budgets = (TimesPlus(1.0, "model", 0.5), AtMost(2.4, "cpu_s"), FigureOf(1, "model", "cpu_s"))
    node, _ = measure(case(ways, *budgets), lambda _: None)
    assert node.verdict == "missed by 20 %; kept (0.50 of it); missed by 20 %"


def test_table_of_rows_that_were_written_and_read_again_is_the_same() -> None:
    ways = [Steady("node", NODE, 3.0, []), Broken("rude", starts=True)]
    rows = measure(case(ways, AtMost(2.0)), lambda _: None)
    again = [from_json(as_json(one)) for one in rows]
    assert again == rows
    held = {
        "machine": "two cores, load 0.0 at the end",
        "cases": {"stage: case": {
            "rows": [as_json(one) for one in again], "at": "now", "commit": "abc", "load": 0.0,
            "rounds": 2,
        }},
    }  # fmt: skip
    told = report(held)
    assert "| rude | peer | not measured: it hung up | | | |" in told
    assert "| stage: case | value <= 2 | missed by 50 % |" in told
    assert "two cores" in quoted(held)


def test_line_through_what_grows_and_what_only_varies() -> None:
    grows = line_through([(60.0 * one, 100.0 + one) for one in range(30)])
    varies = line_through([(60.0 * one, 100.0 + one % 2) for one in range(30)])
    assert grows is not None and varies is not None
    assert not grows.is_flat
    assert round(grows.per_h) == 60
    assert varies.is_flat
