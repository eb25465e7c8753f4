"""Jobs that wait for nothing but their draft: they hold no device, and no job waits behind them.

    infer   files -> model -> objects;  a draft is wanted: left here, and the device is free
    draft   taken up on the same host -> writer -> outbox -> ledger

What is left lies in memory, so only a few may: a job that finds no room keeps its place until
another's draft is done, or a STAT job wants that place. A host that ended takes what it had left
with it: then the job is queued again.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from dicom_node.errors import LedgerUnavailable, WorkerLost
from dicom_node.ledger.engine import JobEngine
from dicom_node.ledger.ledger import Ledger
from dicom_node.pipeline.retry import LONGEST_DELAY_S
from dicom_node.records import Priority

if TYPE_CHECKING:
    from dicom_node.pipeline.process import Computed

KIND = "draft"
_ASK_EVERY_S = 0.5


class Drafts:
    """Thread-safe; of one process.

    Parameters
    ----------
    at_once
        How many jobs may be left here at a time.
    engine
        Begins the rest of an attempt.
    ledger
        Says whether a STAT job waits.
    """

    def __init__(self, at_once: int, engine: JobEngine, ledger: Ledger) -> None:
        self._at_once = at_once
        self._engine = engine
        self._ledger = ledger
        self._left: dict[tuple[str, int], Computed] = {}
        self._changed = threading.Condition()
        self._closed = False

    def leave(self, computed: Computed) -> None:
        """Leave a job to its draft, once there is room; STAT leaves at once.

        Until then it holds its place, and the ledger says so: no host takes another for it.

        Raises
        ------
        WorkerLost
            ``worker.stopping``
        Overtaken
            No draft is wanted any more.
        LedgerUnavailable
            The engine began nothing.
        """
        job = computed.job
        name = job.job_id, job.attempt
        is_urgent = job.priority is Priority.STAT
        while True:
            with self._changed:
                if self._closed:
                    raise WorkerLost("the node is stopping", reason="worker.stopping")
                if is_urgent or len(self._left) < self._at_once:
                    self._left[name] = computed
                    break
                self._changed.wait(_ASK_EVERY_S)
            # Asks the ledger, and must not hold up whose draft is done.
            is_urgent = is_urgent or self._urgent_waits()
        try:
            self._ledger.drafts.begin(*name)
            self._engine.start_here(KIND, *name)
        except BaseException:
            # Whatever it was, nobody goes on with it here.
            self.done(*name)
            raise

    def take(self, job_id: str, attempt: int) -> Computed | None:
        """What was left of an attempt; ``None``: nothing was, in this process."""
        with self._changed:
            return self._left.get((job_id, attempt))

    def done(self, job_id: str, attempt: int) -> None:
        """Let the next one have the room."""
        with self._changed:
            self._left.pop((job_id, attempt), None)
            self._changed.notify_all()

    @property
    def is_closed(self) -> bool:
        """Whether the node stops."""
        return self._closed

    def close(self) -> None:
        """Take nothing any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _urgent_waits(self) -> bool:
        """Whether a STAT job is queued and due; a ledger that does not answer says no."""
        try:
            waiting = self._ledger.jobs.waiting(longest_delay_s=2 * LONGEST_DELAY_S, limit=1)
        except LedgerUnavailable:
            return False
        return any(job.priority is Priority.STAT for job in waiting)
