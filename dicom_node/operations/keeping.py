"""Whether a study may be removed, and when: decided by what the ledger knows of it alone.

It goes when the node owes nothing of it any more: every series has been looked at by the rules,
every job came to an end that somebody was told of, every object is where it was to go. What did not
come to such an end stays until somebody looks at it. `decide` is pure: the same for the removal
itself and for `dicom-node show`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from dicom_node.config import SENDER, Config
from dicom_node.records import (
    FETCHED_AS_PRIOR,
    Delivery,
    DeliveryState,
    Job,
    JobState,
    Series,
    SeriesState,
)

if TYPE_CHECKING:
    from dicom_node.ledger.removals import Holding

DELIVERED, DECLINED, ASKED, ROOM = (
    "delivered", "declined", "removed_by_operator", "delivered, to make room",
)
NOTHING_HERE = "nothing of it is here"
_NOT_TAKEN = ("no_rule_matched", FETCHED_AS_PRIOR)
_INPUT, _SUPERSEDED = "input.", "superseded_by_late_instances"
# What a destination says of commitment when it will not say more.
_NO_MORE_TO_COME = frozenset({"unanswered", "not_offered", "off"})
_UNDER_WAY = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.FAILED, JobState.HELD})
_WORDS = {
    JobState.QUEUED: "waits", JobState.RUNNING: "runs", JobState.FAILED: "failed",
    JobState.HELD: "is held", JobState.DEAD: "failed for good",
}
# A slice that was forgotten comes within this many times the time after which a series is complete.
_LATELY = 3.0


@dataclass(frozen=True)
class Rules:
    """How long what stays.

    ``lately`` protects what has just arrived also where nothing else does, ``room_after`` where
    room is made. ``commitment`` is the policy (auto, required, off) for a destination, and for
    ``sender`` by the AE title that sent.
    """

    delivered: timedelta
    declined: timedelta
    committed: timedelta
    lately: timedelta
    room_after: timedelta
    commitment: Callable[[str, str], str]


@dataclass(frozen=True)
class Keeping:
    """How long a study stays.

    Attributes
    ----------
    because
        A sentence without a full stop.
    until
        When it goes; ``None`` when something has to change first.
    earliest
        When it may go at the earliest, if room is needed; ``None`` when it may not.
    removed_as
        Why it is removed, when it is.
    """

    because: str
    until: datetime | None = None
    earliest: datetime | None = None
    removed_as: str = ""


def rules_of(config: Config) -> Rules:
    """The rules that the settings make."""
    storage, completeness = config.storage, config.completeness
    by_title = {peer.ae_title: peer for peer in config.peers.values()}

    def commitment(destination: str, sender: str) -> str:
        is_sender = destination == SENDER
        peer = by_title.get(sender) if is_sender else config.peers.get(destination)
        if peer is not None and not peer.speaks_dimse:
            return "off"
        policy = peer.storage_commitment if peer is not None else None
        return policy or config.delivery.storage_commitment

    delivered = timedelta(hours=storage.keep_delivered_for_h)
    late = timedelta(seconds=completeness.give_up_after_s)
    return Rules(
        delivered=delivered,
        declined=timedelta(hours=storage.keep_declined_for_h),
        committed=timedelta(days=storage.keep_committed_for_d),
        lately=_LATELY * timedelta(
            seconds=max(completeness.quiet_period_s, completeness.after_release_s)
        ),
        room_after=min(delivered, late),
        commitment=commitment,
    )


def decide(holding: Holding, rules: Rules) -> Keeping:
    """How long a study stays, and why."""
    present = [one for one in holding.series if one.state is not SeriesState.REMOVED]
    if not present:
        return Keeping(NOTHING_HERE)
    waits = _under_way(holding, present, rules)
    if waits:
        return Keeping(waits)
    if holding.wanted_gone_at is not None:
        return Keeping("an operator asked for its removal", *_at(holding.wanted_gone_at), ASKED)
    failed = _failed(holding, present)
    if failed:
        return Keeping(failed)
    return _by_age(holding, present, rules)


def _under_way(holding: Holding, present: Sequence[Series], rules: Rules) -> str:
    """What is still to happen; empty when nothing is."""
    for one in present:
        if one.state in (SeriesState.RECEIVING, SeriesState.COMPLETE):
            return f"a series is {one.state}"
    for job in holding.jobs:
        if job.state in _UNDER_WAY:
            return f"job {job.job_id} {_WORDS[job.state]}"
    if holding.needed_by:
        return f"job {holding.needed_by} of another study takes one of its series"
    if holding.owes and holding.wanted_gone_at is None:
        return "an answer or another form of its results is owed"
    senders = {one.series_instance_uid: one.calling_ae_title for one in holding.series}
    series_of = {one.job_id: one.series_instance_uid for one in holding.jobs}
    for delivery in holding.deliveries:
        sender = senders.get(series_of.get(delivery.job_id, ""), "")
        policy = rules.commitment(delivery.destination, sender)
        if delivery.state in (DeliveryState.PENDING, DeliveryState.FAILED):
            return f"results wait to be sent to {delivery.destination}"
        if delivery.state is DeliveryState.SENT and not _is_settled(delivery, policy):
            return f"{delivery.destination} has not committed to its results yet"
    if holding.is_shared:
        # A series is remembered as one: of the other study's images nothing would be known.
        return "one of its series has images in another study too"
    if holding.is_asked_for:
        return "somebody asked for storage commitment of its images and has no report yet"
    return ""


def _is_settled(sent: Delivery, policy: str) -> bool:
    if policy == "required":
        return False
    return policy == "off" or sent.commitment in _NO_MORE_TO_COME


def _failed(holding: Holding, present: Sequence[Series]) -> str:
    """What needs somebody first; empty when nothing does."""
    for delivery in holding.deliveries:
        if delivery.state is DeliveryState.DEAD:
            return f"results could not be sent to {delivery.destination}"
    for series in present:
        jobs = [
            one for one in holding.jobs
            if one.series_instance_uid == series.series_instance_uid and not one.shadow
        ]
        failed = _failed_series(series, jobs, holding.deliveries)
        if failed:
            return failed
    return ""


def _failed_series(
    series: Series, jobs: Sequence[Job], deliveries: Sequence[Delivery]
) -> str:
    if series.state is SeriesState.DECLINED and series.reason not in _NOT_TAKEN:
        dead = [one for one in jobs if one.state is JobState.DEAD]
        if not series.reason.startswith(_INPUT) or not dead:
            return f"a series could not be routed ({series.reason.partition(':')[0]})"
    counted = [one for one in jobs if one.reason != _SUPERSEDED]
    if series.state is SeriesState.ROUTED and not counted:
        return "no job of a routed series is known"
    reached = {
        one.destination for one in deliveries
        if one.state in (DeliveryState.SENT, DeliveryState.COMMITTED)
        and any(one.job_id == job.job_id for job in jobs)
    }
    for job in counted:
        told = reached >= set(job.destinations)
        if job.state is JobState.DEAD and not job.reason.startswith(_INPUT):
            return f"job {job.job_id} {_WORDS[job.state]}"
        if job.state is not JobState.CANCELLED and not told:
            return f"nothing of job {job.job_id} was delivered to all of its destinations"
    return ""


def _by_age(holding: Holding, present: Sequence[Series], rules: Rules) -> Keeping:
    jobs = [one for one in holding.jobs if not one.shadow]
    received = max(one.last_received_at for one in present)
    since = max(
        received,
        *(one.changed_at for one in present),
        *(one.changed_at for one in jobs),
        *(one.changed_at for one in holding.deliveries),
    )
    wait, because, removed_as = (
        (rules.delivered, "its results are delivered", DELIVERED) if jobs
        else (rules.declined, "no rule took it", DECLINED)
    )
    until = max(since + wait, received + rules.lately)
    earliest = min(until, max(since, received + max(rules.lately, rules.room_after)))
    if holding.committed_at is not None:
        promised = holding.committed_at + rules.committed
        if promised > until:
            because = "the node has committed to its images"
        until, earliest = max(until, promised), max(earliest, promised)
    return Keeping(because, until, earliest, removed_as)


def _at(at: datetime) -> tuple[datetime, datetime]:
    return at, at
