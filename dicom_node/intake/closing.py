"""Closes series that are complete: gathers the evidence, decides, records the reason."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from dicom_node.config import CompletenessSettings
from dicom_node.events import Events, about_study
from dicom_node.intake.completeness import (
    Count,
    Evidence,
    count_distinct,
    decide,
    find_doubt,
    find_missing,
    weigh,
    worth_asking_in_s,
)
from dicom_node.intake.enquiry import Asking
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import Series, SeriesState

# What waits longer than this for the ledger keeps every series open.
_WAITS_S = 1.0
WAITS_IN_VAIN_S = 600.0
"""What waits longer is not told at all: one process fails again and again, and must not stop the
others."""


@dataclass
class _Seen:
    """A series as this process saw it last, since when, and what it then lacked (if looked at).

    ``quiet_s`` is how long nothing had arrived when this state was first seen, by the clock of
    the day; from there on only the monotonic one counts.
    """

    state: tuple[datetime, int, datetime]
    since_s: float
    quiet_s: float = 0.0
    here: int | None = None
    missing: str = ""
    doubt: str = ""


class SeriesCloser:
    """Looks at every series that is being received.

    The instances of a series are read again only when something has arrived. A clock that is set
    back or forward while a series waits neither keeps it open nor closes it early: what counts is
    the time that passed since this process saw its last instance.

    While a listener holds instances for longer than a second that it cannot tell the ledger,
    nothing is closed: a series would pass for complete without them.

    Parameters
    ----------
    enquiry
        Who asks the senders how much they have (`Enquiry`); without one nobody is asked.
    monotonic
        Seconds that no clock setting changes.
    waiting_s
        How long the oldest stored instance waits for the ledger (`Listeners.oldest_waiting_s`).
    today
        The clock of the day.
    knows_the_time
        Whether the times of what came are by this process's clock. Where other hosts receive as
        well, a series is waited for anew when this process first sees it: their clocks may be
        wrong.
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: CompletenessSettings,
        events: Events,
        monotonic: Callable[[], float] = time.monotonic,
        enquiry: Asking | None = None,
        waiting_s: Callable[[], float] = lambda: 0.0,
        today: Callable[[], datetime] = lambda: datetime.now(UTC),
        knows_the_time: bool = True,
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._events = events
        self._monotonic = monotonic
        self._enquiry = enquiry
        self._waiting_s = waiting_s
        self._today = today
        self._knows_the_time = knows_the_time
        self._seen: dict[str, _Seen] = {}
        self._due_s = math.inf

    def next_due_in_s(self) -> float:
        """When the next look may close a series that the last one left open, if nothing arrives.

        Seconds from now; infinite where only something that arrives can change that.
        """
        return max(0.0, self._due_s - self._monotonic())

    def begin_anew(self) -> None:
        """Forget what was seen: others closed and opened series meanwhile."""
        self._seen.clear()

    def close_complete(self) -> int:
        """Close what is complete now; returns how many series that were.

        Raises
        ------
        LedgerUnavailable
            Nothing is lost: the next call looks again.
        """
        self._due_s = math.inf
        if self._something_waits():
            return 0
        receiving = self._ledger.receipts.series_in(SeriesState.RECEIVING)
        self._seen = {one.series_instance_uid: self._seen_of(one) for one in receiving}
        if self._enquiry is not None:
            self._enquiry.keep_only(self._seen)
        closed = 0
        for series in receiving:
            with about_study(series.study_instance_uid):
                closed += self._close(series)
        return closed

    def _something_waits(self) -> bool:
        return _WAITS_S < self._waiting_s() < WAITS_IN_VAIN_S

    def _seen_of(self, series: Series) -> _Seen:
        seen = self._seen.get(series.series_instance_uid)
        state = (series.last_received_at, series.instance_count, series.changed_at)
        if seen is None or seen.state != state:
            quiet_s = 0.0
            if self._knows_the_time:
                quiet_s = (self._today() - series.last_received_at).total_seconds()
            return _Seen(state, self._monotonic(), max(0.0, quiet_s))
        return seen

    def _close(self, series: Series) -> bool:
        seen = self._seen[series.series_instance_uid]
        quiet_s = seen.quiet_s + self._monotonic() - seen.since_s
        now = series.last_received_at + timedelta(seconds=quiet_s)
        evidence = self._evidence(series)
        if (too_early_s := worth_asking_in_s(evidence, self._settings, now)) > 0:
            self._look_again_in(too_early_s)
            return False
        # First the question whether an answer is under way, then what was answered: the other way
        # round an answer that comes between the two would be passed over.
        is_awaited = self._enquiry is not None and self._enquiry.awaits(series)
        decision = decide(self._with_counts(evidence, series, seen), self._settings, now)
        if is_awaited or not decision.complete:
            self._look_again_in(decision.wait_s)
            return False
        reason = f"{decision.reason}, {series.instance_count} instances"
        closed = self._ledger.receipts.change(
            series.series_instance_uid, SeriesState.COMPLETE, reason,
            unless_received_after=series.last_received_at, only_from=SeriesState.RECEIVING,
            unless=self._something_waits,
        )
        if closed:
            self._events.series_changed(series.series_instance_uid, "complete", reason)
        return closed

    def _look_again_in(self, wait_s: float) -> None:
        if wait_s > 0:
            self._due_s = min(self._due_s, self._monotonic() + wait_s)

    def _evidence(self, series: Series) -> Evidence:
        associations = self._ledger.receipts.associations_of(series.series_instance_uid)
        return Evidence(
            last_received_at=series.last_received_at,
            open_associations=associations.open,
            aborted_associations=associations.aborted,
            last_closed_at=associations.last_closed_at,
        )

    def _with_counts(self, evidence: Evidence, series: Series, seen: _Seen) -> Evidence:
        """The evidence with what the instances lack, and with what others counted."""
        if seen.here is None:
            instances = self._ledger.receipts.instances(series.series_instance_uid)
            seen.missing, seen.doubt = find_missing(instances), find_doubt(instances)
            seen.here = count_distinct(instances)
        counts = [
            Count(
                one.source, one.expected_instances,
                one.final or one.at >= series.last_received_at,
            )
            for one in self._ledger.announcements.of_series(series.series_instance_uid)
        ]
        missing, agreed = weigh(counts, seen.here)
        if agreed:
            # All there is to have is here; a hole is a reason to look twice and not for an hour.
            return replace(evidence, doubt=seen.missing, agreed=agreed)
        return replace(evidence, missing=missing or seen.missing, doubt=seen.doubt)
