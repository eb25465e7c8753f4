"""Does what the node owes beyond a job's first results: answers, and results in another form.

A duty lies in the ledger from the moment it arises until it is done, so a restart goes on with
it. One that cannot be done now is put off, later each time; `dicom-node status` tells of it.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta

from dicom_node.backoff import delay_s
from dicom_node.errors import LedgerUnavailable, NodeError, TransientError
from dicom_node.events import Events, about_study
from dicom_node.ledger import clock, duties
from dicom_node.pipeline.answers import answer
from dicom_node.pipeline.reforming import reform
from dicom_node.pipeline.workshop import Workshop
from dicom_node.records import Duty

_ROUND_S = 0.5
_STOPPED_WITHIN_S = 30.0
_DONE_BY: Mapping[str, Callable[[Duty, Workshop], None]] = {
    duties.ANSWER: answer,
    duties.FORMS: reform,
}


class DutyKeeper:
    """Looks for duties that are due, and does them one after another in a thread of its own.

    ``leads``: whether this process, of several on one ledger, is to do them now. Another one may
    have begun the same duty a moment ago: what it made is the same, and is recorded once.
    """

    def __init__(
        self, workshop: Workshop, events: Events, leads: Callable[[], bool] = lambda: True
    ) -> None:
        self._workshop = workshop
        self._events = events
        self._leads = leads
        self._has_looked = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="duties", daemon=True)

    def start(self) -> None:
        """Begin; also with what a ledger that was rebuilt no longer knows to be owed.

        Raises
        ------
        LedgerUnavailable
        """
        self._look_for_missing()
        self._thread.start()

    def _look_for_missing(self) -> None:
        if not self._has_looked and self._leads():
            self._workshop.ledger.answers.owe_missing()
            self._has_looked = True

    def stop(self) -> None:
        """Begin no further duty, and wait for the one that is being done."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOPPED_WITHIN_S)

    def _run(self) -> None:
        while not self._stopping.wait(_ROUND_S):
            try:
                self.tend()
            except TransientError as error:
                self._events.node_changed("waiting", reason=error.reason)
                self._stopping.wait(1.0)
            # A boundary: what one round meets must not end the rounds after it.
            except Exception:  # noqa: BLE001
                self._events.unexpected("duties")
                self._stopping.wait(5.0)

    def tend(self) -> int:
        """Do what is due now; returns how many duties were taken up."""
        if not self._leads():
            return 0
        self._look_for_missing()
        due = self._workshop.ledger.duties.due(clock.now())
        for count, duty in enumerate(due):
            if self._stopping.is_set() or not self._leads():
                return count
            self._do(duty)
        return len(due)

    def _do(self, duty: Duty) -> None:
        with about_study(self._workshop.ledger.jobs.study_of(duty.key)):
            self._do_it(duty)

    def _do_it(self, duty: Duty) -> None:
        try:
            _DONE_BY[duty.kind](duty, self._workshop)
        except LedgerUnavailable:
            raise
        except NodeError as error:
            self._put_off(duty, f"{error.reason}: {error}")
        # A boundary: what one job's data provoke in a library must not keep others waiting.
        except Exception as error:  # noqa: BLE001
            self._events.unexpected(f"duty {duty.kind} {duty.key}")
            self._put_off(duty, f"unexpected.{type(error).__name__}")
        else:
            self._events.duty_changed(duty.kind, duty.key, "done", duty.reason)

    def _put_off(self, duty: Duty, reason: str) -> None:
        wait_s = delay_s(duty.attempt + 1, random.random())
        until = clock.now() + timedelta(seconds=wait_s)
        self._workshop.ledger.duties.put_off(duty, until, reason)
        self._events.duty_changed(duty.kind, duty.key, "put off", reason.partition(":")[0])
