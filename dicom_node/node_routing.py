"""Routes a complete series: its headers against the rules, the rules to jobs, all in the ledger."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ai_models.card import Card
from ai_models.catalog import Catalog
from ai_models.trust import why_refused
from ai_models.types import ModelError
from dicom_node.config import Config, Rule
from dicom_node.config_rules import PRIOR
from dicom_node.errors import (
    LedgerUnavailable,
    NodeError,
    NotUnderstood,
    UnknownName,
    UnsuitableInput,
)
from dicom_node.events import Events, about_study
from dicom_node.ledger import clock
from dicom_node.ledger.job_inputs import waiting_until
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.states import IllegalTransition
from dicom_node.node_gathering import Gathering, waits_for
from dicom_node.node_headers import representative
from dicom_node.node_models import site_of
from dicom_node.node_versions import ModelVersions
from dicom_node.records import (
    FETCHED_AS_PRIOR,
    Instance,
    Job,
    JobInput,
    JobState,
    Priority,
    Series,
    SeriesState,
)
from dicom_node.routing import rules, urgency
from dicom_node.spool import Spool

if TYPE_CHECKING:
    from dicom_node.intake.priors import PriorSearch


# After so long a round of the main loop has other things to do: systemd waits for it.
_ROUND_S = 5.0

Companions = Sequence[tuple[str, str, str]]


class Router:
    """Turns complete series into jobs by the configured rules."""

    def __init__(
        self, config: Config, ledger: Ledger, spool: Spool, catalog: Catalog, events: Events,
        versions: ModelVersions | None = None, priors: PriorSearch | None = None,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._spool = spool
        self._events = events
        site = site_of(config)
        self._versions = versions or ModelVersions(
            catalog, ledger, events, lambda card: why_refused(card, site)
        )
        self._priors = priors
        self._gathering = self._gathered_anew()

    def begin_anew(self) -> None:
        """Look at all that waits again: others have routed meanwhile, or a former node did."""
        self._gathering = self._gathered_anew()

    def _gathered_anew(self) -> Gathering:
        return Gathering(
            self._config, self._ledger, self._spool, self._events, self._again, self._priors
        )

    def route_complete(self) -> int:
        """Route or decline complete series, and give jobs what they wait for.

        However many there are, the caller has its turn again after a few seconds, and what is left
        goes on in the next round. Returns how many series and jobs have changed.
        """
        complete = self._ledger.receipts.series_in(SeriesState.COMPLETE)
        routed, until_s = 0, time.monotonic() + _ROUND_S
        for series in complete:
            with about_study(series.study_instance_uid):
                done = self._route(series)
            routed += done
            if done:
                self._gathering.look(series)
            if time.monotonic() > until_s:
                break
        return routed + self._gathering.tick()

    def _route(self, series: Series) -> bool:
        if self._priors is not None and self._priors.is_prior(series):
            return self._decline(series, FETCHED_AS_PRIOR)
        instances = self._ledger.receipts.instances(series.series_instance_uid)
        try:
            matching = self._matching(instances)
            queue = self._queue(series, instances, matching)
        except LedgerUnavailable:
            raise
        except NodeError as error:
            return self._decline(series, f"{error.reason}: {error}")
        # A boundary: headers that break a rule must end this series, not the node.
        except Exception as error:  # noqa: BLE001
            self._events.unexpected("routing")
            return self._decline(series, f"unexpected.{type(error).__name__}")
        if not matching:
            return self._decline(series, "no_rule_matched")
        reason = "rules: " + ", ".join(rule.name for rule, _ in matching)
        routed = self._ledger.jobs.route(
            series.series_instance_uid, queue.jobs, reason, seen=series.last_received_at,
            inputs=queue.inputs,
        )
        if routed:
            self._gathering.begin(queue.waiting())
            self._events.series_changed(series.series_instance_uid, "routed", reason)
        return routed

    def _queue(
        self, series: Series, instances: Sequence[Instance],
        matching: Sequence[tuple[Rule, tuple[Priority, str]]],
    ) -> _Queue:
        """The jobs of the rules that match, with what each of them takes beside the series."""
        queue = _Queue()
        for rule, urgent in matching:
            inputs = self._gathering.inputs_of(series, rule)
            queue.add(self._jobs(series, rule, instances, *urgent, inputs=inputs), inputs, rule)
        return queue

    def _matching(self, instances: Sequence[Instance]) -> list[tuple[Rule, tuple[Priority, str]]]:
        """The rules that match, each with the priority of its job and why that was raised."""
        dataset = representative(self._spool, instances)
        matching = rules.match(self._config.rules, dataset, mode=self._config.routing.match)
        honoured = self._config.routing.honour_requested_priority
        return [
            (rule, urgency.raised(rule.priority, dataset) if honoured else (rule.priority, ""))
            for rule in matching
        ]

    def card_expected(self, series: Series, instances: Sequence[Instance]) -> Card | None:
        """The first model that takes a volume, of those that a series gets by what is there of it.

        Changes nothing; when the series is complete, another choice may be made.

        Raises
        ------
        NodeError
            It cannot be told, or not now.
        """
        try:
            for rule, _ in self._matching(instances):
                card = self._versions.choose(rule.model, series.series_instance_uid).card
                if card.input.kind == "volume":
                    return card
        except ModelError as error:
            raise UnknownName(str(error), reason=error.reason) from error
        return None

    def route_by_hand(self, series_instance_uid: str, rule_name: str) -> Job:
        """Have a rule's model run on a series that is routed or declined, whatever it asks for.

        Raises
        ------
        UnknownName
            There is no such series or rule.
        UnsuitableInput
            ``routing.arriving``: the series is not complete. ``routing.done``: this very job is
            there already.
        """
        series = self._ledger.receipts.find_series(series_instance_uid)
        rule = next((one for one in self._config.rules if one.name == rule_name), None)
        if series is None or rule is None:
            raise UnknownName("there is no such series or rule")
        instances = self._ledger.receipts.instances(series_instance_uid)
        if not instances:
            raise NotUnderstood("the images are not kept any more", reason="input.no_instances")
        queue = _Queue()
        inputs = self._gathering.inputs_of(series, rule)
        queue.add(
            self._jobs(series, rule, instances, rule.priority, "by hand", inputs=inputs),
            inputs, rule,
        )
        jobs = queue.jobs
        try:
            is_new = self._ledger.jobs.route_by_hand(
                series_instance_uid, jobs, f"by hand: {rule.name}", queue.inputs
            )
        except IllegalTransition as error:
            raise UnsuitableInput(
                "the series is still arriving, or about to be looked at by the rules",
                reason="routing.arriving",
            ) from error
        if not is_new:
            raise UnsuitableInput(
                f"job {jobs[0].job_id} has done or is to do exactly this", reason="routing.done"
            )
        self._gathering.begin(queue.waiting())
        self._events.series_changed(series_instance_uid, "routed", "by hand")
        return jobs[0]

    def _again(
        self, series: Series, rule: Rule, before: Job, inputs: Sequence[JobInput]
    ) -> bool:
        """Queue a job in the place of one that began without what there is now."""
        instances = self._ledger.receipts.instances(series.series_instance_uid)
        companions = sorted((one.role, one.series_instance_uid, one.content) for one in inputs)
        queue = _Queue()
        queue.add(
            self._jobs(
                series, rule, instances, before.priority, f"in place of {before.job_id}",
                inputs=inputs, companions=companions,
            ), inputs, rule,
        )
        reason = f"again: {rule.name}"
        try:
            queued = self._ledger.jobs.route_by_hand(
                series.series_instance_uid, queue.jobs, reason, queue.inputs
            )
        except IllegalTransition:
            # Its own images are arriving again: routing them makes the job.
            return False
        if queued:
            self._events.job_changed(queue.jobs[0].job_id, "queued", queue.jobs[0].reason, 1)
        return queued

    def _decline(self, series: Series, reason: str) -> bool:
        declined = self._ledger.receipts.change(
            series.series_instance_uid, SeriesState.DECLINED, reason,
            unless_received_after=series.last_received_at, only_from=SeriesState.COMPLETE,
        )
        if declined:
            self._events.series_changed(
                series.series_instance_uid, "declined", reason.partition(":")[0]
            )
        return declined

    def _jobs(
        self, series: Series, rule: Rule, instances: Sequence[Instance], priority: Priority,
        why: str, *, inputs: Sequence[JobInput] = (), companions: Companions = (),
    ) -> list[Job]:
        """The job of a rule, and that of the shadow beside it.

        It waits as the rule says while some of its ``inputs`` are not there. ``companions`` are in
        its name when it takes the place of another job: those of the first one are not, which has
        the same name whatever came first.

        Of a rule without its model there is a job as well: it waits for the model, and somebody
        is answered for it.
        """
        reason = ", ".join(filter(None, ("routed", why, waits_for(inputs))))
        try:
            choice = self._versions.choose(rule.model, series.series_instance_uid)
        except ModelError as error:
            version = self._versions.live_name(rule.model)
            name = job_id_without_card(rule, version, instances, companions)
            return [self._job(series, rule, version, name, priority, f"{reason}: {error.reason}")]
        name = job_id(rule.name, choice.card, instances, companions=companions)
        job = self._job(series, rule, choice.card.version, name, priority, reason)
        if choice.shadow is None or choice.shadow.version == choice.card.version:
            return [job]
        beside = self._job(
            series, rule, choice.shadow.version,
            job_id(rule.name, choice.shadow, instances, beside=name, companions=companions),
            Priority.BACKGROUND, f"routed, as a shadow of version {choice.card.version}",
        )
        return [job, replace(beside, destinations=(), shadow=True)]

    def _job(
        self, series: Series, rule: Rule, version: str, name: str, priority: Priority, reason: str
    ) -> Job:
        now = clock.now()
        return Job(
            job_id=name,
            series_instance_uid=series.series_instance_uid,
            study_instance_uid=series.study_instance_uid,
            rule=rule.name,
            model_id=rule.model,
            model_version=version,
            destinations=tuple(rule.send_to),
            priority=priority,
            state=JobState.QUEUED,
            reason=reason,
            attempt=1,
            not_before=now,
            created_at=now,
            changed_at=now,
        )


class _Queue:
    """Jobs that are to be queued, with their further inputs."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.inputs: dict[str, list[JobInput]] = {}

    def add(self, jobs: Sequence[Job], inputs: Sequence[JobInput], rule: Rule) -> None:
        """The jobs of one rule; a shadow is compared on one examination, without the earlier."""
        for job in jobs:
            own = [one for one in inputs if not job.shadow or one.role != PRIOR]
            if waits_for(own):
                job = replace(job, not_before=waiting_until(job.not_before, rule.wait_s))
            self.jobs.append(job)
            self.inputs[job.job_id] = own

    def waiting(self) -> list[Job]:
        """Those that wait for a series."""
        return [job for job in self.jobs if waits_for(self.inputs[job.job_id])]


def job_id(
    rule: str, card: Card, instances: Sequence[Instance], *, beside: str = "",
    companions: Companions = (),
) -> str:
    """The same rule and model on the same bytes are the same job: 16 hexadecimal digits.

    A shadow is another job than that of the same version made live: ``beside`` which job it runs.
    ``companions``: of each further input of a job in the place of another the role, the series,
    and what stands for its images.
    """
    basis = [
        rule,
        card.id,
        card.version,
        card.weights_sha256,
        card.fingerprint,
        sorted((one.sop_instance_uid, one.fingerprint) for one in instances),
    ]
    if beside:
        basis.append(beside)
    if companions:
        basis.append(list(companions))
    return hashlib.sha256(json.dumps(basis).encode()).hexdigest()[:16]


def job_id_without_card(
    rule: Rule, version: str, instances: Sequence[Instance], companions: Companions = ()
) -> str:
    """As `job_id`, while nothing is known of the model but its id and the version that was live."""
    files = sorted((one.sop_instance_uid, one.fingerprint) for one in instances)
    basis = ["without its model", rule.name, rule.model, version, files, *companions]
    return hashlib.sha256(json.dumps(basis).encode()).hexdigest()[:16]
