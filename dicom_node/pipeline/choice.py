"""Which of the waiting jobs come next: a pure choice, made anew a few times a second.

1.  STAT before routine before background, and within a class the order of arrival.
2.  A job counts as one class more urgent for each ``promote_after_s`` that it has waited, so
    that routine work does not hold up background work for ever.
3.  A job that counts as STAT by its age stands behind every true STAT: however much old work
    there is, an emergency does not wait for it.
4.  So that a flood of STAT holds up nothing for ever either, one such aged job goes first whenever
    only STAT was begun for ``promote_after_s``.
5.  No model gets more places than ``per_model`` allows.

The first `Limits.places` of that order are what the engine is given. Whoever looks at the same
ledger makes the same choice, so several processes need not agree on anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from dicom_node.records import Job, Priority

_CLASSES = {Priority.STAT: 0, Priority.ROUTINE: 1, Priority.BACKGROUND: 2}


@dataclass(frozen=True)
class Limits:
    """How many jobs are given to the engine beyond those that run, and what bounds them.

    ``per_model`` counts running jobs as well; a model that is not in it is not bounded.
    """

    places: int
    promote_after_s: float
    per_model: Mapping[str, int] = field(default_factory=dict)


def urgency(job: Job, now: datetime, promote_after_s: float) -> int:
    """0 is STAT, 1 routine, 2 background; one less for each ``promote_after_s`` of waiting.

    The waiting counts from when the job was asked for, so a retry keeps its age. A clock that
    was set back makes a job young, never less urgent than its own class.
    """
    waited_s = max(0.0, (now - job.created_at).total_seconds())
    return max(0, _CLASSES[job.priority] - int(waited_s // promote_after_s))


def in_order(waiting: Iterable[Job], now: datetime, promote_after_s: float) -> list[Job]:
    """Waiting jobs, the next one first, by rules 1 to 3 of the module."""

    def place(job: Job) -> tuple[int, bool, datetime, str]:
        by_age = job.priority is not Priority.STAT
        return urgency(job, now, promote_after_s), by_age, job.created_at, job.job_id

    return sorted(waiting, key=place)


def choose(
    waiting: Iterable[Job],
    running: Iterable[Job],
    limits: Limits,
    now: datetime,
    others_last_began: datetime,
) -> list[Job]:
    """The waiting jobs that the engine is to have now, the next one first.

    Parameters
    ----------
    waiting
        Jobs that are queued and due, whether the engine has them already or not.
    running
        Jobs that run, here or in another process.
    limits
        See `Limits`.
    now
        The present.
    others_last_began
        When a job that is not STAT last began (or the node did): rule 4.
    """
    ordered = in_order(waiting, now, limits.promote_after_s)
    passed_over_s = (now - others_last_began).total_seconds()
    if passed_over_s >= limits.promote_after_s:
        ordered = _let_one_go_first(ordered, now, limits.promote_after_s)
    taken = Counter(job.model_id for job in running)
    chosen: list[Job] = []
    for job in ordered:
        if len(chosen) >= limits.places:
            break
        if taken[job.model_id] < limits.per_model.get(job.model_id, taken[job.model_id] + 1):
            taken[job.model_id] += 1
            chosen.append(job)
    return chosen


def _let_one_go_first(ordered: Sequence[Job], now: datetime, promote_after_s: float) -> list[Job]:
    aged = [
        job for job in ordered
        if job.priority is not Priority.STAT and urgency(job, now, promote_after_s) == 0
    ]
    first = aged[:1]
    return first + [job for job in ordered if job not in first]
