"""Where a series or study stands, and why there is no result, in one sentence: pure functions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dicom_node.events import hash_uid
from dicom_node.ledger.overview import Sending, StudyRow
from dicom_node.operations.keeping import ASKED, DECLINED, DELIVERED, ROOM
from dicom_node.operations.web.ports import RuleAnswer
from dicom_node.records import DRAFTING, DeliveryState, Job, JobState, Series, SeriesState

_UID = re.compile(r"(?<![\w.])\d+(?:\.\d+){4,}(?!\w)")
# As `input.missing_slices` or `files_missing`; a single word is one of plain English.
_CODE = re.compile(r"[a-z][a-z0-9]*([._][A-Za-z0-9_]+)+")
_WORDS = {
    ASKED: "an operator asked for it",
    DELIVERED: "its results are delivered",
    ROOM: "its results are delivered, and room was needed",
    DECLINED: "no rule took it",
    "cancelled_by_operator": "cancelled by an operator",
    "held_by_operator": "held by an operator",
    "released_by_operator": "released by an operator",
    "retried_by_operator": "asked for again by an operator",
    "superseded_by_late_instances": "more images of the series arrived, which start it anew",
    "no_rule_matched": "no rule takes it",
    "first_instance": "its first image arrived",
    "started": "begun",
    "result": "there is a result",
    "no_finding": "nothing was found, and the report says so",
    "peer.unavailable": "it does not answer",
    "peer.busy": "it is busy",
}


MAY_WAIT = (JobState.QUEUED, JobState.RUNNING)
"""Of jobs in these states it is asked what they wait for: who ran one may be gone."""

_BEGINNINGS = {
    "quiet_period after_release": "nothing more came after its sender had ended",
    "quiet_period after_abort": "nothing more came after its association broke off",
    "quiet_period with_open_association": "nothing more came, though its association is open",
    "rules: ": "taken by ",
    "by hand: ": "an operator chose the rule ",
    "produced: ": "",
    "files_missing: ": "images that are gone from the disk: ",
}


class Stage(StrEnum):
    """What a study is doing, the most pressing first; the words are shown as they are."""

    ATTENTION = "needs attention"
    HELD = "held"
    RECEIVING = "receiving"
    ANALYSING = "analysing"
    WAITING = "waiting"
    SENDING = "sending"
    DONE = "delivered"
    KEPT = "kept here"
    NOT_ANALYSED = "not analysed"
    CANCELLED = "cancelled"
    NO_RULE = "no rule"
    REMOVED = "removed"


_ORDER = {stage: number for number, stage in enumerate(Stage)}
# A sign beside the words: nobody need tell colours apart.
SIGNS = {
    Stage.ATTENTION: "!", Stage.HELD: "‖", Stage.RECEIVING: "↓", Stage.ANALYSING: "▶",
    Stage.WAITING: "…", Stage.SENDING: "↑", Stage.DONE: "✓", Stage.KEPT: "✓",
    Stage.NOT_ANALYSED: "✕", Stage.CANCELLED: "✕", Stage.NO_RULE: "–", Stage.REMOVED: "–",
}


@dataclass(frozen=True)
class Verdict:
    """Where something stands, and why in one sentence."""

    stage: Stage
    sentence: str


def plain(text: str) -> str:
    """``text`` with every UID in it as its hash: a UID names a patient's examination."""
    return _UID.sub(lambda found: hash_uid(found[0]), text)


def in_words(reason: str) -> str:
    """A reason of the ledger (``code: message``) for a person."""
    if reason in _WORDS:
        return _WORDS[reason]
    known = next((one for one in _BEGINNINGS if reason.startswith(one)), "")
    code, _, message = reason.partition(": ")
    if known or _CODE.fullmatch(code) is None:
        return plain(_BEGINNINGS.get(known, "") + reason[len(known):])
    if message:
        return f"{plain(message).rstrip('.')} ({code})"
    return code.replace("_", " ").replace(".", ": ")


def nearest(answers: Sequence[RuleAnswer]) -> RuleAnswer | None:
    """The rule that fails on least."""
    return min(answers, key=lambda one: len(one.mismatches), default=None)


def of_series(
    series: Series,
    jobs: Sequence[Job],
    sendings: Sequence[Sending],
    waits_for: Mapping[str, str],
    answers: Sequence[RuleAnswer] | None = None,
    *,
    may_see_patients: bool = False,
) -> list[Verdict]:
    """What there is to say of one series: one verdict, or one for each of its jobs.

    Parameters
    ----------
    waits_for
        Job id to what it waits for.
    answers
        What the rules say of it, where that was looked up.
    may_see_patients
        Whether what was found in a header may be told.
    """
    if str(series.state) == "removed":
        return [Verdict(Stage.REMOVED, _removed(series.reason, jobs, sendings))]
    if series.state is SeriesState.RECEIVING:
        return [Verdict(Stage.RECEIVING, f"Images are still arriving: {series.instance_count} so "
                        "far. The rules look at it when nothing more has come for a while.")]
    if series.state is SeriesState.COMPLETE:
        return [Verdict(Stage.WAITING, "The series is complete and is about to be looked at by "
                        "the rules.")]
    if not jobs:
        return [_without_jobs(series, answers, may_see_patients)]
    return of_jobs(jobs, sendings, waits_for)


def of_jobs(
    jobs: Sequence[Job], sendings: Sequence[Sending], waits_for: Mapping[str, str]
) -> list[Verdict]:
    """What there is to say of each job; parameters as of `of_series`."""
    return [
        _of_job(job, [one for one in sendings if one.job_id == job.job_id],
                waits_for.get(job.job_id, ""))
        for job in jobs
    ]


def of_study(study: StudyRow, waits_for: Mapping[str, str]) -> Verdict:
    """The most pressing of all that is to be said of a study's series, with the numbers of others.
    """
    verdicts = [
        verdict for series in study.series
        for verdict in of_series(
            series,
            [job for job in study.jobs if job.series_instance_uid == series.series_instance_uid],
            study.sendings, waits_for,
        )
    ]
    worst = min(verdicts, key=lambda one: _ORDER[one.stage])
    others = Counter(one.stage for one in verdicts if one.stage is not worst.stage)
    if not others:
        return worst
    listed = ", ".join(f"{number} {stage}" for stage, number in sorted(others.items()))
    return Verdict(worst.stage, f"{worst.sentence} Besides: {listed}.")


def _removed(reason: str, jobs: Sequence[Job], sendings: Sequence[Sending]) -> str:
    """Why images were removed, as it was recorded; what was delivered, as the deliveries say."""
    names = {job.job_id for job in jobs}
    has_gone_out = any(
        one.job_id in names and one.state in (DeliveryState.SENT, DeliveryState.COMMITTED)
        for one in sendings
    )
    if reason == ASKED:
        return "An operator had its images and results removed."
    if reason == DECLINED:
        return "Its images were removed when their time was over: no rule took it."
    if reason in (DELIVERED, ROOM):
        room = " to make room" if reason == ROOM else ""
        if has_gone_out:
            return f"Images and results were removed{room} after the results were delivered."
        return f"Its images were removed{room or ' when their time was over'}; nothing was sent."
    return f"Images and results were removed: {in_words(reason)}."


def _without_jobs(
    series: Series, answers: Sequence[RuleAnswer] | None, may_see_patients: bool
) -> Verdict:
    if series.reason != "no_rule_matched":
        return Verdict(Stage.NOT_ANALYSED, f"Not analysed: {in_words(series.reason)}.")
    closest = nearest(answers or ())
    if closest is None:
        why = "No rules are configured" if answers is not None and not answers else (
            "No rule takes this series"
        )
        return Verdict(Stage.NO_RULE, f"{why}, so nothing is done with it.")
    if not closest.mismatches:
        return Verdict(Stage.NO_RULE, "No rule took this series when it arrived; the rule "
                       f"“{closest.rule}” would take it now.")
    on = "; ".join(
        f"{one.keyword} is to be {one.expected}"
        + (f" and is {one.found}" if may_see_patients else "")
        for one in closest.mismatches
    )
    return Verdict(Stage.NO_RULE, f"No rule takes this series. The nearest is “{closest.rule}”: "
                   f"{on}.")


def _of_job(job: Job, sendings: Sequence[Sending], waits_for: str) -> Verdict:
    why = in_words(job.reason)
    if job.state is JobState.QUEUED:
        waits = f"It waits for {plain(waits_for)}" if waits_for else "It waits for its turn"
        retried = job.reason.startswith("retry: ")
        before = f" The last attempt failed: {in_words(job.reason[7:])}." if retried else ""
        return Verdict(Stage.WAITING, f"{waits}.{before}")
    if job.state is JobState.RUNNING and waits_for:
        return Verdict(Stage.WAITING, f"It was begun, and waits for {plain(waits_for)}.")
    if job.state is JobState.RUNNING and job.reason == DRAFTING:
        return Verdict(Stage.ANALYSING, f"{job.model_id} has answered; its impression is drafted.")
    if job.state is JobState.RUNNING:
        return Verdict(Stage.ANALYSING, f"{job.model_id} is at work on it.")
    if job.state is JobState.HELD:
        return Verdict(Stage.HELD, "An operator holds it: nothing happens until it is released.")
    if job.state is JobState.CANCELLED:
        return Verdict(Stage.CANCELLED, f"There is no result: {why}.")
    if job.state is JobState.FAILED:
        return Verdict(Stage.WAITING, f"The last attempt failed: {why}.")
    if job.state is JobState.DEAD:
        if job.reason.startswith("input."):
            return Verdict(Stage.NOT_ANALYSED, f"Not analysed, and another attempt would not "
                           f"change that: {why}.")
        return Verdict(Stage.ATTENTION, f"There is no result after {job.attempt} "
                       f"attempt{'s' if job.attempt > 1 else ''}: {why}. “Retry” tries again.")
    return _of_result(sendings, why)


def _of_result(sendings: Sequence[Sending], why: str) -> Verdict:
    """Of a job that succeeded: what became of its objects."""
    meant = [one for one in sendings if one.state is not DeliveryState.REPLACED]
    dead = [one for one in meant if one.state is DeliveryState.DEAD]
    if dead:
        first = dead[0]
        number = sum(one.number for one in dead)
        return Verdict(Stage.ATTENTION, f"The result is there, but {first.destination} did not "
                       f"get {number} object{'s' if number > 1 else ''} of it: "
                       f"{in_words(first.reason)}. “Retry” sends again.")
    waiting = [one for one in meant if one.state in (DeliveryState.PENDING, DeliveryState.FAILED)]
    if waiting:
        first = min(waiting, key=lambda one: one.not_before)
        because = ""
        if first.attempt > 1:
            because = f": {in_words(first.reason)}, next try at {_clock(first.not_before)}"
        return Verdict(Stage.SENDING, f"The result is there and is on its way to "
                       f"{first.destination}{because}.")
    if not meant:
        return Verdict(Stage.KEPT, f"The result is kept here and goes nowhere: {why}.")
    where = ", ".join(sorted({one.destination for one in meant}))
    committed = all(one.state is DeliveryState.COMMITTED for one in meant)
    also = ", which has committed to keeping it" if committed else ""
    said = "Nothing was found, and the report says so; it" if why == _WORDS["no_finding"] else (
        "The result"
    )
    return Verdict(Stage.DONE, f"{said} was delivered to {where}{also}.")


def _clock(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
