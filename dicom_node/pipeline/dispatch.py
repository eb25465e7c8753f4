"""Which jobs the engine gets, and which of them it has lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from dicom_node.ledger.engine import JobEngine, Standing
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import Job, JobState, Priority

KIND = "infer"
_PRIORITIES = {Priority.STAT: 1, Priority.ROUTINE: 10, Priority.BACKGROUND: 100}
_SILENT_AFTER = timedelta(seconds=60)


class JobDispatch:
    """Hands open jobs of the ledger to the engine."""

    def __init__(self, ledger: Ledger, engine: JobEngine) -> None:
        self._ledger = ledger
        self._engine = engine
        self._submitted: set[tuple[str, int]] = set()

    def submit_open(self) -> None:
        """Hand to the engine what this process has not handed to it yet."""
        for job in self._ledger.jobs.open():
            if job.state in (JobState.QUEUED, JobState.RUNNING):
                self._submit(job)

    def _submit(self, job: Job) -> None:
        name = (job.job_id, job.attempt)
        if name not in self._submitted:
            self._engine.submit(
                KIND, *name, priority=_PRIORITIES[job.priority], not_before=job.not_before
            )
            self._submitted.add(name)

    def reconcile(self) -> None:
        """Give a new attempt to every open job whose attempt the engine has finished with.

        The ledger is the truth: whatever the engine lost or gave up on is asked for again, and
        only that: what the engine still has costs one look.
        """
        before = datetime.now(UTC) - _SILENT_AFTER
        held: set[tuple[str, int]] = set()
        for job in self._ledger.jobs.open():
            name = (job.job_id, job.attempt)
            standing = self._engine.standing(KIND, *name)
            if standing is not Standing.UNKNOWN:
                held.add(name)
            if standing is Standing.FINISHED and job.changed_at < before:
                self._ledger.jobs.bump(job.job_id, job.attempt, "engine_lost_it")
        self._submitted = held
