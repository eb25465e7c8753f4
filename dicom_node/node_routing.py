"""Routes a complete series: its headers against the rules, the rules to jobs, all in the ledger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ai_models.card import Card
from ai_models.catalog import Catalog
from ai_models.trust import why_refused
from ai_models.types import ModelError
from dicom_node.config import Config, Rule
from dicom_node.errors import NodeError, NotUnderstood, UnknownName, UnsuitableInput
from dicom_node.events import Events, about_study
from dicom_node.imaging.reading import read_header
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.states import IllegalTransition
from dicom_node.node_models import site_of
from dicom_node.node_versions import ModelVersions
from dicom_node.records import Instance, Job, JobState, Priority, Series, SeriesState
from dicom_node.routing import rules, urgency
from dicom_node.spool import Spool

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


class Router:
    """Turns complete series into jobs by the configured rules."""

    def __init__(
        self, config: Config, ledger: Ledger, spool: Spool, catalog: Catalog, events: Events,
        versions: ModelVersions | None = None,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._spool = spool
        self._events = events
        site = site_of(config)
        self._versions = versions or ModelVersions(
            catalog, ledger, events, lambda card: why_refused(card, site)
        )

    def route_complete(self) -> int:
        """Route or decline every complete series; returns how many."""
        complete = self._ledger.receipts.series_in(SeriesState.COMPLETE)
        routed = 0
        for series in complete:
            with about_study(series.study_instance_uid):
                routed += self._route(series)
        return routed

    def _route(self, series: Series) -> bool:
        instances = self._ledger.receipts.instances(series.series_instance_uid)
        try:
            matching = self._matching(instances)
        except NodeError as error:
            return self._decline(series, f"{error.reason}: {error}")
        # A boundary: headers that break a rule must end this series, not the node.
        except Exception as error:  # noqa: BLE001
            self._events.unexpected("routing")
            return self._decline(series, f"unexpected.{type(error).__name__}")
        if not matching:
            return self._decline(series, "no_rule_matched")
        jobs = [
            job for rule, urgent in matching for job in self._jobs(series, rule, instances, *urgent)
        ]
        reason = "rules: " + ", ".join(rule.name for rule, _ in matching)
        routed = self._ledger.jobs.route(
            series.series_instance_uid, jobs, reason, seen=series.last_received_at
        )
        if routed:
            self._events.series_changed(series.series_instance_uid, "routed", reason)
        return routed

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
        jobs = self._jobs(series, rule, instances, rule.priority, "by hand")
        try:
            is_new = self._ledger.jobs.route_by_hand(
                series_instance_uid, jobs, f"by hand: {rule.name}"
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
        self._events.series_changed(series_instance_uid, "routed", "by hand")
        return jobs[0]

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
        why: str,
    ) -> list[Job]:
        """The job of a rule, and that of the shadow beside it.

        Of a rule without its model there is a job as well: it waits for the model, and somebody
        is answered for it.
        """
        reason = f"routed, {why}" if why else "routed"
        try:
            choice = self._versions.choose(rule.model, series.series_instance_uid)
        except ModelError as error:
            version = self._versions.live_name(rule.model)
            name = job_id_without_card(rule, version, instances)
            return [self._job(series, rule, version, name, priority, f"{reason}: {error.reason}")]
        name = job_id(rule.name, choice.card, instances)
        job = self._job(series, rule, choice.card.version, name, priority, reason)
        if choice.shadow is None or choice.shadow.version == choice.card.version:
            return [job]
        beside = self._job(
            series, rule, choice.shadow.version,
            job_id(rule.name, choice.shadow, instances, beside=name),
            Priority.BACKGROUND, f"routed, as a shadow of version {choice.card.version}",
        )
        return [job, replace(beside, destinations=(), shadow=True)]

    def _job(
        self, series: Series, rule: Rule, version: str, name: str, priority: Priority, reason: str
    ) -> Job:
        now = datetime.now(UTC)
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


def representative(spool: Spool, instances: Sequence[Instance]) -> Dataset:
    """The header that the rules see: the middle instance's, for a localizer is at an end.

    A file that cannot be read is passed over for the next one towards the ends.

    Raises
    ------
    NotUnderstood
        No file of the series can be read.
    """
    ordered = sorted(instances, key=lambda one: (one.instance_number or 0, one.path))
    middle = len(ordered) // 2
    nearest = sorted(range(len(ordered)), key=lambda index: abs(index - middle))
    failure = NotUnderstood("the series has no instances", reason="input.no_instances")
    for index in nearest:
        try:
            return read_header(spool.resolve(ordered[index].path)).dataset
        except NotUnderstood as error:
            failure = error
    raise failure


def job_id(rule: str, card: Card, instances: Sequence[Instance], *, beside: str = "") -> str:
    """The same rule and model on the same bytes are the same job: 16 hexadecimal digits.

    A shadow is another job than that of the same version made live: ``beside`` which job it runs.
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
    return hashlib.sha256(json.dumps(basis).encode()).hexdigest()[:16]


def job_id_without_card(rule: Rule, version: str, instances: Sequence[Instance]) -> str:
    """As `job_id`, while nothing is known of the model but its id and the version that was live."""
    files = sorted((one.sop_instance_uid, one.fingerprint) for one in instances)
    basis = ["without its model", rule.name, rule.model, version, files]
    return hashlib.sha256(json.dumps(basis).encode()).hexdigest()[:16]
