"""What an operator decides on the page: each is asked for, confirmed, done and told as an event."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from dicom_node.errors import NodeError
from dicom_node.events import hash_uid
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.states import IllegalTransition
from dicom_node.operations.web.desk import Desk, Form, back_to
from dicom_node.operations.web.ports import RuleAnswer
from dicom_node.records import Delivery, DeliveryState, Job, JobState, Series

_OPEN = (JobState.QUEUED, JobState.RUNNING, JobState.HELD)
_RETRIED = (JobState.DEAD, JobState.CANCELLED)


@dataclass(frozen=True)
class Action:
    """One thing that can be done to a job: its word, what will happen, and how."""

    word: str
    consequence: str
    do: Callable[[Ledger, Job], bool]


def _retry(ledger: Ledger, job: Job) -> bool:
    # First: what is revived below does not count as what waited.
    done = int(ledger.decisions.hurry(job.job_id)) + ledger.deliveries.hurry(job.job_id)
    done += ledger.deliveries.retry_dead(job.job_id)
    if job.state in _RETRIED:
        # Somebody else may have queued it since it was looked at.
        with contextlib.suppress(IllegalTransition):
            ledger.jobs.retry(job.job_id)
            done += 1
    return bool(done)


def _cancel(ledger: Ledger, job: Job) -> bool:
    ledger.decisions.cancel(job.job_id)
    return True


def _hold(ledger: Ledger, job: Job) -> bool:
    ledger.decisions.hold(job.job_id)
    return True


def _release(ledger: Ledger, job: Job) -> bool:
    ledger.decisions.release(job.job_id)
    return True


def _stop(ledger: Ledger, job: Job) -> bool:
    return bool(ledger.decisions.stop_deliveries(job.job_id))


ACTIONS = {
    "retry": Action("Retry", "What ended without success is tried again, and what waits for a "
                    "later time is tried at once.", _retry),
    "hold": Action("Hold", "It is not run until somebody releases it; a run that has begun is "
                   "stopped.", _hold),
    "release": Action("Release", "It is run in the place that its age gives it.", _release),
    "cancel": Action("Cancel", "It ends without a result, and its destinations get a report that "
                     "says that the series was not analysed. “Retry” undoes it.", _cancel),
    "stop": Action("Stop sending", "What still waits to be sent is not sent. “Retry” undoes it.",
                   _stop),
}


def possible_actions(job: Job, deliveries: Sequence[Delivery]) -> tuple[str, ...]:
    """The actions that a job allows as it stands."""
    states = {one.state for one in deliveries}
    waits = bool(states & {DeliveryState.PENDING, DeliveryState.FAILED})
    is_put_off = job.state is JobState.QUEUED and job.not_before > datetime.now(UTC)
    allowed = {
        "retry": job.state in _RETRIED or DeliveryState.DEAD in states or waits or is_put_off,
        "hold": job.state in (JobState.QUEUED, JobState.RUNNING),
        "release": job.state is JobState.HELD,
        "cancel": job.state in _OPEN,
        "stop": waits and job.state not in _OPEN,
    }
    return tuple(name for name, is_allowed in allowed.items() if is_allowed)


class ActionPages:
    """``/studies/{study}/jobs/{job}/{action}`` and ``/studies/{study}/series/{series}/route``."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def ask(self, request: Request) -> Response:
        """What would happen, and a button."""
        self._desk.act(request)
        study, job, action = self._named(request)
        return self._desk.page(
            request, "confirm.html", study=study, job=job, action=action,
            name=request.path_params["action"],
        )

    def do(self, request: Request, form: Form) -> Response:
        """Do it, and go back to the study."""
        del form  # All of it stands in the address.
        user = self._desk.act(request)
        study, job, action = self._named(request)
        try:
            is_done = action.do(self._desk.ports.ledger, job)
        except IllegalTransition:
            is_done = False
        if not is_done:
            now = self._desk.ports.ledger.jobs.find(job.job_id) or job
            raise HTTPException(409, f"{action.word} is not possible: the job is {now.state} by "
                                "now. Go back and load the page again.")
        self._desk.ports.events.web_action(user, request.path_params["action"], job.job_id)
        return back_to(f"/studies/{study}")

    def ask_route(self, request: Request) -> Response:
        """What each rule says of a series, and a button for each."""
        self._desk.act(request)
        study, series = self._named_series(request)
        answers: Sequence[RuleAnswer] = ()
        problem = ""
        try:
            answers = self._desk.ports.why_not(series.series_instance_uid)
        except NodeError as error:
            problem = f"{error} ({error.reason})"
        return self._desk.page(
            request, "route.html", study=study, series=series,
            name=request.path_params["series"], answers=answers, problem=problem,
        )

    def route(self, request: Request, form: Form) -> Response:
        """Queue a rule's model on a series, whatever the rule asks for."""
        user = self._desk.act(request)
        study, series = self._named_series(request)
        try:
            job = self._desk.ports.reroute(series.series_instance_uid, form.get("rule", ""))
        except NodeError as error:
            raise HTTPException(409, f"That is not possible: {error} ({error.reason}).") from error
        self._desk.ports.events.web_action(user, "route by hand", job.job_id)
        return back_to(f"/studies/{study}")

    def _named(self, request: Request) -> tuple[str, Job, Action]:
        uid = self._desk.study(request.path_params["study"])
        job = self._desk.ports.ledger.jobs.find(request.path_params["job"])
        action = ACTIONS.get(request.path_params["action"])
        if job is None or job.study_instance_uid != uid or action is None:
            raise HTTPException(404, "There is no such job, or nothing like this to be done.")
        return hash_uid(uid), job, action

    def _named_series(self, request: Request) -> tuple[str, Series]:
        uid = self._desk.study(request.path_params["study"])
        for one in self._desk.ports.ledger.receipts.series_of_study(uid):
            if hash_uid(one.series_instance_uid) == request.path_params["series"]:
                return hash_uid(uid), one
        raise HTTPException(404, "There is no such series.")
