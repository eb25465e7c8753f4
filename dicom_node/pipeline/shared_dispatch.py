"""Takes the jobs that come next, where several hosts work on one list, and looks for lost ones.

Every host takes for itself, and only what it has a free place for: so no job waits at one host
while another is idle, and a STAT job is the next one wherever a place comes free. Who claims an
attempt in the ledger first has it (`dicom_node.ledger.claims`), so the hosts need not agree on
anything. One that lacks a model leaves its jobs to those that have it; what no host has a model
for is anybody's, for whoever asked for it is to get an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from dicom_node.ledger import clock
from dicom_node.ledger.engine import JobEngine, Standing
from dicom_node.ledger.ledger import Ledger
from dicom_node.pipeline import drafting
from dicom_node.pipeline.choice import Limits, choose, urgency
from dicom_node.pipeline.dispatch import KIND
from dicom_node.pipeline.retry import LONGEST_DELAY_S
from dicom_node.records import DRAFTING, Job, JobState, Priority

_SILENT_AFTER = timedelta(seconds=60)
_STAT, _BY_AGE = 2, 3
# A job that was lost here, or whose images could not be had here, may be done elsewhere; after that
# long here again.
_ELSEWHERE_FOR = timedelta(seconds=30)
_LOST_HERE = ("retry: worker.", "retry: storage.", "retry: store.")
_MOST_LOST = 1000


class Colleague(Protocol):
    """Another process that works on the same list."""

    @property
    def devices(self) -> tuple[str, ...]:
        """What it computes on."""

    @property
    def models(self) -> tuple[str, ...]:
        """Of which models it has a card."""


class Office(Protocol):
    """Where the colleagues are."""

    process_id: str

    def others(self, role: str) -> Sequence[Colleague]:
        """The other living processes with a role."""


class SharedDispatch:
    """A `dicom_node.pipeline.dispatch.JobDispatch` for one of several hosts.

    Parameters
    ----------
    ledger, engine
        Where jobs wait, and what runs them.
    office
        Who else works.
    models
        Of which models this host has a card, now.
    promote_after_s, per_model
        See `dicom_node.pipeline.choice`.

    Attributes
    ----------
    places
        How many jobs this process computes at once.
    """

    def __init__(
        self, ledger: Ledger, engine: JobEngine, office: Office,
        models: Callable[[], Collection[str]], promote_after_s: float = 1800.0,
        per_model: Mapping[str, int] | None = None,
    ) -> None:
        self.places = 1
        self._ledger = ledger
        self._engine = engine
        self._office = office
        self._models = models
        self._promote_after_s = promote_after_s
        self._per_model = dict(per_model or {})
        self._submitted: set[tuple[str, int]] = set()
        self._lost_here: dict[str, int] = {}
        self._others_last_began = clock.now()

    def has(self, job_id: str, attempt: int) -> bool:
        """Whether an attempt is this process's, now that it is to begin."""
        return self._ledger.claims.has(job_id, attempt, self._office.process_id)

    def submit_open(self) -> None:
        """Claim what comes next for every place that is free, and hand it to the engine.

        Raises
        ------
        LedgerUnavailable
        """
        now = clock.now()
        running = [one for one in self._ledger.jobs.running() if one.reason != DRAFTING]
        if any(job.priority is not Priority.STAT for job in running):
            self._others_last_began = now
        colleagues = self._office.others("work")
        waiting = self._ledger.jobs.waiting(
            longest_delay_s=2 * LONGEST_DELAY_S,
            without_models=self._not_here(running, colleagues),
        )
        # Of these alone: however much waits, the question stays small.
        claims = self._ledger.claims.of([one.job_id for one in (*running, *waiting)])
        claimed = [job for job in waiting if _name(job) in claims]
        own = self._office.process_id
        mine = [job for job in claimed if claims[_name(job)] == own]
        for job in mine:
            self._submit(job, now)
        running_here = sum(claims.get(_name(job)) == own for job in running)
        free = self.places - running_here - len(mine)
        if free > 0:
            unclaimed = [job for job in waiting if _name(job) not in claims]
            self._take(free, unclaimed, [*running, *claimed], colleagues, now)

    def _take(
        self, free: int, waiting: list[Job], taken: list[Job], colleagues: Sequence[Colleague],
        now: datetime,
    ) -> None:
        # Others claim at the same time: behind what they may take there has to be some for us.
        places = free + sum(max(1, len(one.devices)) for one in colleagues)
        if colleagues:
            waiting = [job for job in waiting if not self._was_lost_here(job, now)]
        limits = Limits(places, self._promote_after_s, self._per_model)
        for job in choose(waiting, taken, limits, now, self._others_last_began):
            if free <= 0:
                return
            if self._ledger.claims.claim(*_name(job), self._office.process_id):
                free -= 1
                self._submit(job, now)

    def _not_here(self, running: list[Job], colleagues: Sequence[Colleague]) -> list[str]:
        """Models of which no further job is to be taken: too many run, or others have it."""
        in_use = [job.model_id for job in running]
        full = {model for model, most in self._per_model.items() if in_use.count(model) >= most}
        theirs = {model for one in colleagues for model in one.models}
        return sorted(full | (theirs - set(self._models())))

    def _was_lost_here(self, job: Job, now: datetime) -> bool:
        """Whether the attempt before this one lost its device or its images here a moment ago."""
        lost = self._lost_here.get(job.job_id) == job.attempt - 1
        return (
            lost and job.reason.startswith(_LOST_HERE) and now - job.not_before < _ELSEWHERE_FOR
        )

    def _submit(self, job: Job, now: datetime) -> None:
        name = _name(job)
        if name in self._submitted:
            return
        if self._engine.standing(KIND, *name) is Standing.ELSEWHERE:
            # An engine of a former version, or of a host that is gone, has this attempt.
            self._ledger.jobs.bump(*name, "engine_elsewhere", if_running=False)
            return
        is_stat = job.priority is Priority.STAT
        priority = _STAT if is_stat else _BY_AGE + urgency(job, now, self._promote_after_s)
        self._engine.submit(KIND, *name, priority=priority)
        self._submitted.add(name)
        self._lost_here[job.job_id] = job.attempt
        if len(self._lost_here) > _MOST_LOST:
            del self._lost_here[next(iter(self._lost_here))]

    def reconcile(self) -> None:
        """Give a new attempt to every job of ours whose attempt the engine has finished with.

        As `JobDispatch.reconcile`; what other processes have is theirs to look after, and what a
        process had that is gone is released by who leads.

        Raises
        ------
        LedgerUnavailable
        """
        now = clock.now()
        own = self._office.process_id
        claims = self._ledger.claims.of()
        mine = {name for name, process in claims.items() if process == own}
        for job_id, attempt in mine:
            job = self._ledger.jobs.find(job_id)
            if job is None or job.attempt != attempt:
                continue
            if job.state not in (JobState.QUEUED, JobState.RUNNING):
                continue
            is_old = abs(now - job.changed_at) > _SILENT_AFTER
            if is_old and self._standing(job) is Standing.FINISHED:
                self._ledger.jobs.bump(job_id, attempt, "engine_lost_it")
        self._submitted &= mine

    def _standing(self, job: Job) -> Standing:
        standing = self._engine.standing(KIND, job.job_id, job.attempt)
        if standing is Standing.FINISHED and job.reason == DRAFTING:
            draft = self._engine.standing(drafting.KIND, job.job_id, job.attempt)
            return Standing.OPEN if draft is Standing.OPEN else standing
        return standing


def _name(job: Job) -> tuple[str, int]:
    return job.job_id, job.attempt
