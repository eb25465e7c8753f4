"""Which of the waiting shipments go out now. Pure: no clock, no ledger, no engine.

A shipment is what one job has for one destination. They go out by these rules:

- to one destination at most so many at a time as its setting says, whatever the others do;
- of one study to one destination one at a time, in the order in which the results were made;
- one that was refused and waits for its next attempt lets the study's later ones wait with it for
  its first attempts (`PATIENCE_ATTEMPTS`), and no longer;
- nothing to a destination that is away;
- studies with an urgent one first, then those that wait longest: however much has gathered while
  a destination was away, an emergency does not wait for it;
- so that urgent ones that never end hold up nothing for ever, the one that waits longest goes first
  where for `PASSED_OVER` only urgent ones went.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dicom_node.backoff import is_due

# By then it has waited about half a minute; what comes behind it would wait up to 15 more.
PATIENCE_ATTEMPTS = 3
PASSED_OVER = timedelta(minutes=30)


@dataclass(frozen=True)
class Turn:
    """What is given to one shipment at a time: a study at a peer, in one of the peer's lanes."""

    lane: str
    study_instance_uid: str


@dataclass(frozen=True)
class Waiting:
    """An open shipment: ``key`` names it, ``made_at`` is when its first result was made."""

    key: str
    turn: Turn
    made_at: datetime
    attempt: int
    not_before: datetime
    is_urgent: bool = False

    def is_due(self, now: datetime) -> bool:
        """Whether it need not wait any longer."""
        return is_due(self.not_before, now)


def choose(
    waiting: Sequence[Waiting],
    under_way: Mapping[str, Turn],
    limits: Mapping[str, int],
    away: Collection[str],
    now: datetime,
    others_went_at: Mapping[str, datetime],
) -> list[Waiting]:
    """The shipments to hand out now, in order.

    Parameters
    ----------
    waiting
        Every open shipment, those under way among them.
    under_way
        Those that were handed out and have not come back, by key.
    limits
        How many may be under way at a time, by lane; one where nothing is said.
    away
        Lanes to which nothing goes.
    others_went_at
        When something that is not urgent last went out, by lane; where nothing is said, now.
    """
    busy = Counter(turn.lane for turn in under_way.values())
    candidates = _candidates(waiting, set(under_way.values()), now)
    urgent = {one.turn for one in waiting if one.is_urgent}
    passed_over: dict[str, str] = {}
    for one in candidates:
        since = max(one.made_at, others_went_at.get(one.turn.lane, now))
        if one.turn not in urgent and now - since > PASSED_OVER:
            passed_over.setdefault(one.turn.lane, one.key)

    def place(one: Waiting) -> tuple[bool, bool, datetime]:
        is_passed_over = passed_over.get(one.turn.lane) == one.key
        return not is_passed_over, one.turn not in urgent, one.made_at

    chosen = []
    for one in sorted(candidates, key=place):
        lane = one.turn.lane
        if lane not in away and busy[lane] < limits.get(lane, 1):
            busy[lane] += 1
            chosen.append(one)
    return chosen


def first_turns(waiting: Sequence[Waiting], most: int, now: datetime) -> list[Waiting]:
    """All that waits for one of the first ``most`` turns of each lane of which one may go now.

    Enough for `choose`, however many before them wait for their next attempt.
    """
    urgent = {one.turn for one in waiting if one.is_urgent}
    known: dict[str, set[Turn]] = {}
    candidates = _candidates(waiting, set(), now)
    for one in sorted(candidates, key=lambda one: (one.turn not in urgent, one.made_at)):
        turns = known.setdefault(one.turn.lane, set())
        if len(turns) < most:
            turns.add(one.turn)
    return [one for one in waiting if one.turn in known.get(one.turn.lane, ())]


def _candidates(
    waiting: Sequence[Waiting], taken: set[Turn], now: datetime
) -> list[Waiting]:
    """What may go of each turn that is not taken, in the order in which it was made."""
    candidates: list[Waiting] = []
    for one in sorted(waiting, key=lambda one: (one.made_at, one.key)):
        if one.turn in taken:
            continue
        if one.is_due(now):
            candidates.append(one)
        if one.is_due(now) or one.attempt <= PATIENCE_ATTEMPTS:
            taken.add(one.turn)
    return candidates
