"""One study: why there is a result or none, what was found, where it went, and when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from dicom_node.errors import NodeError
from dicom_node.events import hash_uid
from dicom_node.input_roles import is_told
from dicom_node.ledger.overview import StudyRow
from dicom_node.operations.keeping import NOTHING_HERE, decide, rules_of
from dicom_node.operations.web import standing
from dicom_node.operations.web.actions import possible_actions
from dicom_node.operations.web.desk import Desk
from dicom_node.operations.web.next_tries import NextTries
from dicom_node.operations.web.ports import RuleAnswer
from dicom_node.operations.web.standing import Verdict
from dicom_node.records import (
    Delivery,
    DeliveryState,
    Job,
    JobInput,
    JobState,
    Result,
    Series,
    Transition,
)

NextTry = Callable[[Delivery], datetime | None]
_WAITING = (DeliveryState.PENDING, DeliveryState.FAILED)


@dataclass(frozen=True)
class SentAlike:
    """Objects of one job that stand alike at one destination."""

    destination: str
    what: str
    state: str
    reason: str
    attempt: int
    status: int | None
    commitment: str
    next_try: datetime | None
    changed_at: datetime


@dataclass(frozen=True)
class Event:
    """One line of the timeline; ``number`` above 1 where several objects changed alike."""

    at: datetime
    of: str
    change: str
    reason: str
    attempt: int
    number: int


@dataclass(frozen=True)
class Download:
    """One object that the node has made."""

    name: str
    title: str
    is_kept: bool


@dataclass(frozen=True)
class JobView:
    """One job with all that the page says of it."""

    job: Job
    verdict: Verdict
    said: dict[str, Any]
    sent: tuple[SentAlike, ...]
    downloads: tuple[Download, ...]
    seconds: dict[str, float]
    actions: tuple[str, ...]
    inputs: tuple[str, ...] = ()

    @property
    def has_pictures(self) -> bool:
        """Whether there is something to be shown."""
        return self.job.state is JobState.SUCCEEDED


@dataclass(frozen=True)
class SeriesView:
    """One series with its jobs; ``verdict`` where it has none, or is not that far."""

    series: Series
    name: str
    verdict: Verdict | None
    jobs: tuple[JobView, ...]
    may_be_routed: bool


class StudyPage:
    """``/studies/{study}`` and what belongs to it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def show(self, request: Request) -> Response:
        """All of one study; with ``fragment`` in the query only what changes of it."""
        uid = self._desk.study(request.path_params["study"])
        found = self._desk.ports.ledger.overview.studies([uid])
        if not found:
            raise HTTPException(404, "Nothing is known of this study any more.")
        ports, caller = self._desk.ports, self._desk.caller(request)
        tries = NextTries(ports.config, ports.ledger.circuits.all())
        study = tries.in_study(found[0])
        is_fragment = "fragment" in request.query_params
        if caller.user is not None and not is_fragment:
            self._desk.ports.events.web_action(
                caller.user.name, "view study", hash_uid(uid), study_instance_uid=uid
            )
        return self._desk.page(
            request, "study_parts.html" if is_fragment else "study.html",
            name=hash_uid(uid), study=study, series=self._series(request, study, tries),
            patient=self._desk.patient(request, study.series[0].series_instance_uid),
            timeline=self._timeline(study),
            keeping=decide(ports.ledger.removals.holding(uid), rules_of(ports.config)),
            removals=ports.ledger.removals.of_study(uid), nothing_here=NOTHING_HERE,
        )

    def download(self, request: Request) -> Response:
        """One result as a Part 10 file, under a name that says nothing of the patient."""
        caller = self._desk.see_patients(request)
        uid = self._desk.study(request.path_params["study"])
        wanted = request.path_params["result"]
        for study in self._desk.ports.ledger.overview.studies([uid]):
            for job in study.jobs:
                for result in self._results(job):
                    if hash_uid(result.sop_instance_uid) == wanted:
                        return self._file(caller.user.name if caller.user else "", job, result)
        raise HTTPException(404, "There is no such object.")

    def _file(self, user: str, job: Job, result: Result) -> Response:
        if not self._desk.ports.spool.has(result.path):
            raise HTTPException(410, "This object is not kept any more.")
        path = self._desk.ports.spool.resolve(result.path)
        self._desk.ports.events.web_action(
            user, f"download {result.kind}", hash_uid(result.sop_instance_uid),
            study_instance_uid=result.study_instance_uid,
        )
        name = f"{job.job_id}-{_title(result)}".replace(" ", "-")
        safe = "".join(one if one.isalnum() or one in "-_" else "_" for one in name)
        return FileResponse(
            path, media_type="application/dicom", filename=f"{safe}.dcm",
            content_disposition_type="attachment",
        )

    def _series(
        self, request: Request, study: StudyRow, tries: NextTries
    ) -> list[SeriesView]:
        asked = [(job, ()) for job in study.jobs if job.state in standing.MAY_WAIT]
        waits = self._desk.ports.waits_for(asked) if asked else {}
        words = {name: text for name, (text, _) in waits.items()}
        return [self._one_series(request, one, study, words, tries) for one in study.series]

    def _one_series(
        self, request: Request, series: Series, study: StudyRow, waits: dict[str, str],
        tries: NextTries,
    ) -> SeriesView:
        caller = self._desk.caller(request)
        jobs = [one for one in study.jobs if one.series_instance_uid == series.series_instance_uid]
        verdicts = standing.of_series(
            series, jobs, study.sendings, waits, self._answers(series, jobs),
            may_see_patients=caller.may_see_patients,
        )
        is_of_jobs = bool(jobs) and len(verdicts) == len(jobs)
        by_job = verdicts if is_of_jobs else standing.of_jobs(jobs, study.sendings, waits)
        return SeriesView(
            series, hash_uid(series.series_instance_uid),
            verdicts[0] if not is_of_jobs else None,
            tuple(
                self._job(
                    job, verdict, partial(self._next_try, tries, series.calling_ae_title),
                    may_act=caller.may_act,
                )
                for job, verdict in zip(jobs, by_job, strict=True)
            ),
            caller.may_act and str(series.state) in ("routed", "declined"),
        )

    def _answers(self, series: Series, jobs: Sequence[Job]) -> Sequence[RuleAnswer] | None:
        """What the rules say of a series that none of them took."""
        if jobs or series.reason != "no_rule_matched":
            return None
        try:
            return self._desk.ports.why_not(series.series_instance_uid)
        except NodeError:
            return None

    @staticmethod
    def _next_try(tries: NextTries, sender: str, one: Delivery) -> datetime | None:
        if one.state not in _WAITING:
            return None
        return tries.of(one.destination, sender, one.not_before)

    def _job(
        self, job: Job, verdict: Verdict, next_try: NextTry, *, may_act: bool
    ) -> JobView:
        ledger = self._desk.ports.ledger
        deliveries = ledger.deliveries.of_job(job.job_id)
        results = self._results(job, deliveries)
        kept = {one.sop_instance_uid: one for one in results}
        return JobView(
            job, verdict, ledger.predictions.of(job.job_id) or {},
            tuple(_sent_alike(deliveries, kept, next_try)),
            tuple(
                Download(hash_uid(one.sop_instance_uid), _title(one),
                         self._desk.ports.spool.has(one.path))
                for one in results
            ),
            ledger.jobs.seconds_by_stage(job.job_id),
            possible_actions(job, deliveries) if may_act else (),
            tuple(
                _input_text(one) for one in ledger.inputs.of(job.job_id)
                if is_told(one.role, one.series_instance_uid)
            ),
        )

    def _results(self, job: Job, deliveries: Sequence[Delivery] | None = None) -> list[Result]:
        """What a job made, or sends of what an earlier one made."""
        ledger = self._desk.ports.ledger
        found = {one.sop_instance_uid: one for one in ledger.jobs.results(job.job_id)}
        if deliveries is None:
            deliveries = ledger.deliveries.of_job(job.job_id)
        for delivery in deliveries:
            if delivery.sop_instance_uid not in found:
                result = ledger.jobs.find_result(delivery.sop_instance_uid)
                if result is not None:
                    found[result.sop_instance_uid] = result
        return list(found.values())

    def _timeline(self, study: StudyRow) -> list[Event]:
        """Every change of everything, the latest first; what changed alike in one second is one."""
        ledger = self._desk.ports.ledger
        of_series = {
            one.series_instance_uid: f"series {hash_uid(one.series_instance_uid)}"
            for one in study.series
        }
        of_job = {job.job_id: f"{job.model_id} (job {job.job_id})" for job in study.jobs}
        of_delivery = {
            one.delivery_id: f"delivery to {one.destination}"
            for job in study.jobs for one in ledger.deliveries.of_job(job.job_id)
        }
        found: dict[tuple[Any, ...], list[Transition]] = {}
        for kind, names in (
            ("series", of_series), ("job", of_job), ("delivery", of_delivery)
        ):
            for one in ledger.overview.histories(kind, names):
                _add(found, names[one.key], one)
        events = [_event(key[0], alike) for key, alike in found.items()]
        # Of two at one moment the later is the one that was written later, so it goes first.
        return sorted(events, key=lambda one: one.at)[::-1]


def _input_text(one: JobInput) -> str:
    """A further series of a job, or why there is none."""
    if one.series_instance_uid:
        text = f"{one.role}: series {hash_uid(one.series_instance_uid)}, {one.reason}"
        return text + (", for another job in place of this one" if one.waits else "")
    return f"{one.role}: none so far" if one.waits else f"{one.role}: none, {one.reason}"


def _add(found: dict[tuple[Any, ...], list[Transition]], of: str, one: Transition) -> None:
    key = (of, one.from_state, one.to_state, one.reason, one.attempt, int(one.at.timestamp()))
    found.setdefault(key, []).append(one)


def _event(of: str, alike: Sequence[Transition]) -> Event:
    one = alike[0]
    # Nothing but the reason changes when a job that waits gets one of its series.
    is_move = one.from_state not in ("", one.to_state)
    change = f"{one.from_state} → {one.to_state}" if is_move else one.to_state
    return Event(one.at, of, change, one.reason, one.attempt, len(alike))


def _sent_alike(
    deliveries: Sequence[Delivery], results: dict[str, Result], next_try: NextTry
) -> list[SentAlike]:
    groups: dict[tuple[Any, ...], list[Delivery]] = {}
    for one in deliveries:
        result = results.get(one.sop_instance_uid)
        what = _title(result) if result is not None else "object"
        key = (one.destination, what, one.state, one.reason, one.attempt, one.status,
               one.commitment)
        groups.setdefault(key, []).append(one)
    return [
        SentAlike(
            one.destination, f"{len(alike)} × {what}" if len(alike) > 1 else what, str(one.state),
            one.reason, one.attempt, one.status, one.commitment,
            min(filter(None, map(next_try, alike)), default=None),
            max(each.changed_at for each in alike),
        )
        for (_, what, *_), alike in groups.items() for one in alike[:1]
    ]


def _title(result: Result) -> str:
    """An object by its kind, and its form where it is not what the node keeps."""
    form = result.form.replace("_", " ").replace("+", " with ")
    return f"{result.kind} as {form}" if form not in ("", result.kind) else result.kind
