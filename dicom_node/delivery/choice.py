"""Which of the waiting shipments go out now. Pure: no clock, no ledger, no engine.

A shipment is what one job has for one destination. They go out by these rules:

- to one destination at most so many at a time as its setting says, whatever the others do;
- of one study to one destination one at a time, in the order in which the results were made;
- one that was refused and waits for its next attempt lets the study's later ones wait with it for
  its first attempts (`PATIENCE_ATTEMPTS`), and no longer;
- nothing to a destination that is away;
- urgent ones first, then those that wait longest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dicom_node.backoff import is_due

# By then it has waited about half a minute; what comes behind it would wait up to 15 more.
PATIENCE_ATTEMPTS = 3
# Routine results are not held up for longer by urgent ones that never end.
_URGENT_AFTER = timedelta(minutes=30)


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
    """
    busy = Counter(turn.lane for turn in under_way.values())
    taken = set(under_way.values())
    candidates: list[Waiting] = []
    for one in sorted(waiting, key=lambda one: (one.made_at, one.key)):
        if one.turn in taken:
            continue
        if one.is_due(now):
            candidates.append(one)
        if one.is_due(now) or one.attempt <= PATIENCE_ATTEMPTS:
            taken.add(one.turn)
    chosen = []
    for one in sorted(candidates, key=lambda one: (not _is_urgent(one, now), one.made_at)):
        lane = one.turn.lane
        if lane not in away and busy[lane] < limits.get(lane, 1):
            busy[lane] += 1
            chosen.append(one)
    return chosen


def _is_urgent(one: Waiting, now: datetime) -> bool:
    return one.is_urgent or now - one.made_at > _URGENT_AFTER
