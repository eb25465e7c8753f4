"""Gives the engine the jobs that come next, just in time, and looks for those it has lost.

What waits stays in the ledger, where it can be overtaken, held and cancelled. The engine has what
runs, and as many jobs beyond as there are devices, so that none of them ever idles: of a more
urgent job that comes later it is told at once, and begins it first.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from dicom_node.ledger.engine import JobEngine, Standing
from dicom_node.ledger.ledger import Ledger
from dicom_node.pipeline import drafting
from dicom_node.pipeline.choice import Limits, choose, urgency
from dicom_node.pipeline.retry import LONGEST_DELAY_S
from dicom_node.records import DRAFTING, Job, JobState, Priority

KIND = "infer"
_SILENT_AFTER = timedelta(seconds=60)
_FIRST, _STAT, _BY_AGE = 1, 2, 3


class JobDispatch:
    """Hands jobs of the ledger to the engine; several processes may do so on one ledger.

    Parameters
    ----------
    ledger, engine
        Where jobs wait, and what runs them.
    promote_after_s, per_model
        See `dicom_node.pipeline.choice`.

    Attributes
    ----------
    places
        How many jobs the engine gets beyond those that run: one for each device.
    """

    def __init__(
        self,
        ledger: Ledger,
        engine: JobEngine,
        promote_after_s: float = 1800.0,
        per_model: Mapping[str, int] | None = None,
    ) -> None:
        self.places = 1
        self._ledger = ledger
        self._engine = engine
        self._promote_after_s = promote_after_s
        self._per_model = dict(per_model or {})
        self._submitted: dict[tuple[str, int], int] = {}
        self._others_last_began = datetime.now(UTC)

    def submit_open(self) -> None:
        """Hand to the engine what runs and what comes next, as far as it does not have it."""
        now = datetime.now(UTC)
        running = self._ledger.jobs.running()
        if any(job.priority is not Priority.STAT for job in _computing(running)):
            self._others_last_began = now
        # What was running when the node ended goes on first; the engine knows what is running.
        for job in running:
            self._submit(job, _FIRST)
        chosen, stat_waits = self._chosen(running, now)
        for place, job in enumerate(chosen):
            if job.priority is Priority.STAT:
                self._submit(job, _STAT)
            elif place == 0 and stat_waits:
                self._let_go_first(job)
            else:
                self._submit(job, _BY_AGE + urgency(job, now, self._promote_after_s))

    def _let_go_first(self, job: Job) -> None:
        """An aged job before STAT; what the engine was told earlier of it is told anew."""
        if self._submitted.get((job.job_id, job.attempt), _FIRST) == _FIRST:
            self._submit(job, _FIRST)
        else:
            self._ledger.jobs.bump(job.job_id, job.attempt, "by_its_age", if_running=False)

    def _chosen(self, running: list[Job], now: datetime) -> tuple[list[Job], bool]:
        """What the engine is to have, the next one first, and whether any STAT waits."""
        running = _computing(running)
        in_use = [job.model_id for job in running]
        full = [model for model, most in self._per_model.items() if in_use.count(model) >= most]
        waiting = self._ledger.jobs.waiting(
            longest_delay_s=2 * LONGEST_DELAY_S, without_models=full
        )
        limits = Limits(self.places, self._promote_after_s, self._per_model)
        chosen = choose(waiting, running, limits, now, self._others_last_began)
        return chosen, any(job.priority is Priority.STAT for job in waiting)

    def _submit(self, job: Job, priority: int) -> None:
        name = (job.job_id, job.attempt)
        if name not in self._submitted:
            self._engine.submit(KIND, *name, priority=priority)
            self._submitted[name] = priority

    def reconcile(self) -> None:
        """Give a new attempt to every open job whose attempt the engine has finished with.

        The ledger is the truth: whatever the engine lost or gave up on is asked for again. Looked
        at is what runs, what this process handed in, and what comes next; not all that waits.
        """
        now = datetime.now(UTC)
        running = self._ledger.jobs.running()
        looked_at = {job.job_id: job for job in (*running, *self._chosen(running, now)[0])}
        for job_id in {job_id for job_id, _ in self._submitted} - set(looked_at):
            job = self._ledger.jobs.find(job_id)
            if job is not None and job.state is JobState.QUEUED:
                looked_at[job_id] = job
        held: set[tuple[str, int]] = set()
        for job in looked_at.values():
            name = (job.job_id, job.attempt)
            standing = self._standing(job)
            if standing is not Standing.UNKNOWN:
                held.add(name)
            # Either way: after a clock was set back the change lies in the future.
            if standing is Standing.FINISHED and abs(now - job.changed_at) > _SILENT_AFTER:
                self._ledger.jobs.bump(job.job_id, job.attempt, "engine_lost_it")
        self._submitted = {name: self._submitted.get(name, _FIRST) for name in held}

    def _standing(self, job: Job) -> Standing:
        """Of an attempt, or of its draft where only that is missing."""
        standing = self._engine.standing(KIND, job.job_id, job.attempt)
        if standing is Standing.FINISHED and job.reason == DRAFTING:
            draft = self._engine.standing(drafting.KIND, job.job_id, job.attempt)
            return Standing.OPEN if draft is Standing.OPEN else standing
        return standing


def _computing(running: list[Job]) -> list[Job]:
    """Those of the running jobs that still need their model."""
    return [job for job in running if job.reason != DRAFTING]
