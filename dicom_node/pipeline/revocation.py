"""Asks the ledger, while a job computes, whether it is still wanted."""

from __future__ import annotations

import time

from dicom_node.errors import LedgerUnavailable
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import Job

ASK_EVERY_S = 1.0


class Revocation:
    """True when called after an operator cancelled or held the job, or another attempt has it.

    Called several times a second by who waits for a model; the ledger is asked once in
    `ASK_EVERY_S`. A ledger that does not answer revokes nothing: that the results of an attempt
    are not wanted any more is found out again when they are to be recorded.
    """

    def __init__(self, job: Job, ledger: Ledger) -> None:
        self._job = job
        self._ledger = ledger
        self._next = 0.0
        self._revoked = False

    def __call__(self) -> bool:
        """Whether the attempt is to end."""
        now = time.monotonic()
        if not self._revoked and now >= self._next:
            self._next = now + ASK_EVERY_S
            try:
                self._revoked = not self._ledger.jobs.runs(self._job.job_id, self._job.attempt)
            except LedgerUnavailable:
                return False
        return self._revoked
