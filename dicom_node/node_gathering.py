"""Brings together the series that one job takes: at routing, and as long as something may change.

    series routed or declined -> look(study) -> a job that waits  : what fits now fills its roles
                                             -> one that has begun: another job in its place

The job belongs to the series that its rule matches. Whatever order the series come in, the first
job of it has the same name, and in the end its roles hold the same series.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from dicom_node.config import Config, Rule
from dicom_node.config_rules import PRIOR
from dicom_node.errors import LedgerUnavailable, NotUnderstood
from dicom_node.events import Events, about_study
from dicom_node.input_roles import BEYOND, in_words
from dicom_node.ledger import clock
from dicom_node.ledger.job_inputs import waiting_until
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.overtaking import SUPERSEDED
from dicom_node.node_headers import representative
from dicom_node.node_outlook import duration
from dicom_node.records import Job, JobInput, JobState, Series, SeriesState
from dicom_node.routing.rules import compare
from dicom_node.routing.selection import ARRIVING, NOT_THERE, Candidate, Selected, roles_of, select
from dicom_node.spool import Spool

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dicom_node.intake.priors import PriorSearch

_SETTLED = (SeriesState.ROUTED, SeriesState.DECLINED)
_WAITING = (JobState.QUEUED, JobState.HELD)
_BEGUN = (JobState.RUNNING, JobState.SUCCEEDED, JobState.DEAD)
_NOT_ASKED_FOR = "not asked for by the rule any more"
# How long one round may look at studies; what waits is looked at again so often.
_TURN_S, _EVERY_S, _AGAIN_S = 0.1, 1.0, 15.0
_HEADERS_KEPT = 200
# Of a study with more series those with most images are looked at: a header is read of each.
MOST_SERIES = 500
# A clock that is corrected by seconds was not set back.
_CLOCK_S = 5.0

Again = Callable[[Series, Rule, Job, Sequence[JobInput]], bool]
"""Queue a job in the place of another that began without what there is now."""


@dataclass(frozen=True)
class _Study:
    """The series of one study as they are now, by their UID.

    ``fitting`` are those that any role of a rule can take, by its name, once it was asked for.
    """

    series: dict[str, Series]
    candidates: list[Candidate]
    fitting: dict[str, list[Candidate]] = field(default_factory=dict)


class StudyReader:
    """The series of studies with a header of each; headers are read once."""

    def __init__(self, ledger: Ledger, spool: Spool) -> None:
        self._ledger = ledger
        self._spool = spool
        self._headers: dict[tuple[str, datetime], Dataset | None] = {}
        # The page routes by hand in a thread of its own.
        self._lock = threading.Lock()

    def read(self, study_instance_uid: str) -> _Study:
        """What is here of a study now."""
        there = [
            one for one in self._ledger.receipts.series_of_study(study_instance_uid)
            if one.state is not SeriesState.REMOVED
        ]
        looked_at = there
        if len(there) > MOST_SERIES:
            # In whatever order they came, these are the same.
            looked_at = sorted(there, key=lambda s: (-s.instance_count, s.series_instance_uid))
        return _Study(
            {one.series_instance_uid: one for one in there},
            [self.candidate(one) for one in looked_at[:MOST_SERIES]],
        )

    def candidate(self, series: Series) -> Candidate:
        """A series as it is now."""
        return Candidate(
            series.series_instance_uid, series.study_instance_uid, series.instance_count,
            series.state in _SETTLED, self._header(series),
        )

    def _header(self, series: Series) -> Dataset | None:
        name = (series.series_instance_uid, series.last_received_at)
        with self._lock:
            if name in self._headers:
                return self._headers[name]
        instances = self._ledger.receipts.instances(series.series_instance_uid)
        try:
            header = representative(self._spool, instances)
        except NotUnderstood:
            header = None
        with self._lock:
            while len(self._headers) >= max(_HEADERS_KEPT, 2 * MOST_SERIES):
                del self._headers[next(iter(self._headers))]
            self._headers[name] = header
        return header


class Gathering:
    """The further inputs of the jobs of one node.

    Parameters
    ----------
    config, ledger, spool, events
        The rules, what is known, the images, and who is told.
    again
        See `Again`.
    priors
        Who looks for earlier examinations; without it there are none.
    """

    def __init__(
        self, config: Config, ledger: Ledger, spool: Spool, events: Events, again: Again,
        priors: PriorSearch | None = None,
    ) -> None:
        self._rules = {rule.name: rule for rule in config.rules}
        self._ledger = ledger
        self._reader = StudyReader(ledger, spool)
        self._events = events
        self._again = again
        self._priors = priors
        # With the jobs that had their turn already in the present look at each.
        self._studies: dict[str, set[str]] = {}
        self._has_begun = not any(rule.inputs for rule in config.rules)
        self._look_at_s = self._all_at_s = 0.0

    def inputs_of(self, series: Series, rule: Rule) -> list[JobInput]:
        """What a job of this series gets for the roles of its rule now."""
        if not rule.inputs:
            return []
        study = self._reader.read(series.study_instance_uid)
        selected = self._selected(rule, series, study)
        return [
            _as_input(selected[role], rule) if role in selected
            else JobInput(role, "", "", _none(NOT_THERE, rule), waits=True)
            for role in roles_of(rule.inputs)
        ]

    def _selected(self, rule: Rule, series: Series, study: _Study) -> dict[str, Selected]:
        if rule.name not in study.fitting:
            wanted = [one.when for role, one in rule.inputs.items() if role != PRIOR]
            study.fitting[rule.name] = [
                one for one in study.candidates
                if one.header is not None and any(not compare(w, one.header) for w in wanted)
            ]
        return select(rule.inputs, self._reader.candidate(series), study.fitting[rule.name])

    def begin(self, jobs: Iterable[Job]) -> None:
        """Have what queued jobs wait for searched for where it is not in their study."""
        for job in jobs:
            rule = self._rules.get(job.rule)
            wanted = rule.inputs.get(PRIOR) if rule is not None else None
            if wanted is None or job.shadow:
                continue
            if self._priors is None:
                self._fill(job, JobInput(PRIOR, "", "", NOT_THERE))
            else:
                self._priors.want(
                    job, job.study_instance_uid, job.series_instance_uid, wanted
                )

    def look(self, series: Series) -> None:
        """Have everything looked at again for which a series may count that was just settled."""
        if not any(rule.inputs for rule in self._rules.values()):
            return
        self._studies[series.study_instance_uid] = set()
        for job in self._ledger.inputs.taking(series.series_instance_uid):
            self._studies[job.study_instance_uid] = set()

    def tick(self) -> int:
        """Look at what is to be looked at, for a tenth of a second; returns how much changed.

        Raises
        ------
        LedgerUnavailable
            The next round makes up for it.
        """
        now_s = time.monotonic()
        if not self._has_begun:
            # Whatever happened between the end of a series and this look: the node was ended.
            for study in self._ledger.inputs.studies():
                self._studies.setdefault(study, set())
            self._has_begun = True
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + _EVERY_S
            self._watch(now_s)
        changed = 0
        # However late it is, one study has its turn.
        is_first = True
        while self._studies and (is_first or time.monotonic() < now_s + _TURN_S):
            is_first = False
            study = next(iter(self._studies))
            had_turn = self._studies[study]
            with about_study(study):
                found, is_through = self._guarded(study, had_turn)
            changed += found
            self._studies.pop(study, None)
            if not is_through:
                # Behind the others: its rest has its turn when they had theirs.
                self._studies[study] = had_turn
        return changed

    def _guarded(self, study_instance_uid: str, had_turn: set[str]) -> tuple[int, bool]:
        before = len(had_turn)
        try:
            return self._gather(study_instance_uid, had_turn)
        except LedgerUnavailable:
            raise
        # A boundary: headers that break a rule must not keep other studies from being looked at.
        except Exception:  # noqa: BLE001
            self._events.unexpected("gathering")
            return 0, len(had_turn) == before

    def _watch(self, now_s: float) -> None:
        is_time = now_s >= self._all_at_s
        self._all_at_s = now_s + _AGAIN_S if is_time else self._all_at_s
        for job in self._ledger.inputs.waiting():
            self._keep_time(job)
            if is_time:
                self._studies.setdefault(job.study_instance_uid, set())
        for job in self._ledger.inputs.overtaken():
            self._studies.setdefault(job.study_instance_uid, set())

    def _keep_time(self, job: Job) -> None:
        """No job waits for longer than its rule says from now on, whatever the clock did."""
        rule = self._rules.get(job.rule)
        latest = waiting_until(clock.now(), rule.wait_s if rule is not None else 0.0)
        if job.not_before > latest + timedelta(seconds=_CLOCK_S):
            self._ledger.inputs.limit_wait(job.job_id, latest)

    def _gather(self, study_instance_uid: str, had_turn: set[str]) -> tuple[int, bool]:
        """Tend the jobs of a study for a while; how much changed, and whether that were all."""
        jobs = self._ledger.inputs.of_study(study_instance_uid)
        if not jobs:
            return 0, True
        # The latest of each: what came before has been replaced.
        latest = {(one.series_instance_uid, one.rule, one.shadow): one for one in jobs}
        study = self._reader.read(study_instance_uid)
        inputs = self._ledger.inputs.of_jobs([one.job_id for one in jobs])
        for job in jobs:
            newer = latest[job.series_instance_uid, job.rule, job.shadow]
            if newer is not job:
                self._pass_on(job, inputs.get(job.job_id, []), newer)
        changed, until_s = 0, time.monotonic() + _TURN_S
        for job in latest.values():
            if job.job_id in had_turn:
                continue
            had_turn.add(job.job_id)
            changed += self._tend(job, study, inputs.get(job.job_id, []))
            if time.monotonic() > until_s:
                return changed, False
        return changed, True

    def _pass_on(self, job: Job, inputs: Sequence[JobInput], newer: Job | None = None) -> None:
        """What was found for a job that had begun is for the one in its place, if there is one."""
        late = [one for one in inputs if one.waits and one.series_instance_uid]
        if newer is not None:
            for one in late:
                self._ledger.inputs.fill(newer.job_id, one)
        if late and job.state not in _WAITING:
            self._ledger.inputs.settle(job.job_id)

    def _tend(self, job: Job, study: _Study, inputs: Sequence[JobInput]) -> int:
        series = study.series.get(job.series_instance_uid)
        rule = self._rules.get(job.rule)
        if series is None or rule is None or not rule.inputs:
            self._pass_on(job, inputs)
        if series is None or series.state not in _SETTLED:
            return 0
        if rule is None or not rule.inputs:
            return sum(
                self._fill(job, JobInput(one.role, "", "", _NOT_ASKED_FOR))
                for one in inputs if one.waits and job.state in _WAITING
            )
        selected = self._selected(rule, series, study)
        if job.state in _WAITING:
            return sum(self._refresh(job, rule, study, one, selected) for one in inputs)
        is_superseded = job.state is JobState.CANCELLED and job.reason == SUPERSEDED
        if job.shadow or not (job.state in _BEGUN or is_superseded):
            return 0
        if any(self._is_arriving(one, study) for one in inputs):
            return 0
        now = [self._now(one, rule, selected) for one in inputs]
        if not is_superseded and not any(map(_differs, inputs, now)):
            return 0
        queued = self._again(series, rule, job, now)
        if queued:
            self._ledger.inputs.settle(job.job_id)
        return int(queued)

    def _refresh(
        self, job: Job, rule: Rule, study: _Study, one: JobInput, selected: dict[str, Selected]
    ) -> int:
        """Bring one role of a job that has not begun up to what is here."""
        if one.role not in roles_of(rule.inputs):
            return self._fill(job, JobInput(one.role, "", "", _NOT_ASKED_FOR)) if one.waits else 0
        if self._is_arriving(one, study):
            return 0
        if one.role == PRIOR:
            if one.series_instance_uid:
                return self._fill(job, one) if _differs(one, self._as_it_is(one)) else 0
            if one.waits:
                self.begin([job])
            return 0
        found = selected[one.role]
        if found.series is not None:
            now = self._as_it_is(_as_input(found, rule))
            return self._fill(job, now) if _differs(one, now) else 0
        reason = _none(found.reason, rule)
        if one.series_instance_uid and one.role == BEYOND:
            return self._fill(job, JobInput(BEYOND, "", "", reason))
        if one.series_instance_uid:
            return int(self._ledger.inputs.wait_for(job.job_id, one.role, reason))
        self._ledger.inputs.explain(job.job_id, one.role, reason)
        return 0

    def _now(self, one: JobInput, rule: Rule, selected: dict[str, Selected]) -> JobInput:
        """What a job gets for a role in place of one that began with, or without, ``one``."""
        found = selected.get(one.role)
        if found is None or found.series is None:
            return replace(self._as_it_is(one), waits=False)
        return self._as_it_is(_as_input(found, rule))

    def _as_it_is(self, one: JobInput) -> JobInput:
        return replace(one, content=self._ledger.inputs.content(one.series_instance_uid))

    def _is_arriving(self, one: JobInput, study: _Study) -> bool:
        if not one.series_instance_uid:
            return False
        series = study.series.get(one.series_instance_uid)
        series = series or self._ledger.receipts.find_series(one.series_instance_uid)
        return series is not None and series.state in (
            SeriesState.RECEIVING, SeriesState.COMPLETE
        )

    def _fill(self, job: Job, found: JobInput) -> int:
        filled = self._ledger.inputs.fill(job.job_id, found)
        if filled:
            word = "has" if found.series_instance_uid else "goes without"
            self._events.job_changed(
                job.job_id, str(job.state), f"{word} {found.role}", job.attempt
            )
        return int(filled)


def waits_for(inputs: Sequence[JobInput]) -> str:
    """The roles that are waited for, as in ``waits for pt, t2``; empty when none is."""
    roles = [one.role for one in inputs if one.waits and not one.series_instance_uid]
    return f"waits for {', '.join(in_words(roles))}" if roles else ""


def _differs(before: JobInput, now: JobInput) -> bool:
    """Whether there is a series now that the job was not done with, or has other images now."""
    if not now.series_instance_uid or not now.content:
        return False
    is_late = before.waits and bool(before.series_instance_uid)
    there = (before.series_instance_uid, before.content)
    return is_late or there != (now.series_instance_uid, now.content)


def _as_input(found: Selected, rule: Rule) -> JobInput:
    if found.series is None:
        waits = found.role != BEYOND
        return JobInput(found.role, "", "", _none(found.reason, rule), waits=waits)
    return JobInput(
        found.role, found.series.series_instance_uid, found.series.study_instance_uid, found.reason
    )


def _none(reason: str, rule: Rule) -> str:
    """Why there is no series for a role, as it will be once the time is over.

    It may be over earlier: someone lets the job wait no longer, or the clock is set on.
    """
    word = {NOT_THERE: "within at most", ARRIVING: "after at most"}.get(reason)
    return f"{reason} {word} {duration(rule.wait_s)}" if word and rule.wait_s else reason
