"""Closes series that are complete: gathers the evidence, decides, records the reason."""

from __future__ import annotations

from datetime import UTC, datetime

from dicom_node.config import CompletenessSettings
from dicom_node.events import Events
from dicom_node.intake.completeness import Evidence, decide, find_missing
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import Series, SeriesState


class SeriesCloser:
    """Looks at every series that is being received, each as seldom as its evidence allows."""

    def __init__(self, ledger: Ledger, settings: CompletenessSettings, events: Events) -> None:
        self._ledger = ledger
        self._settings = settings
        self._events = events

    def close_complete(self) -> int:
        """Close what is complete now; returns how many series that were.

        Raises
        ------
        LedgerUnavailable
            Nothing is lost: the next call looks again.
        """
        receiving = self._ledger.receipts.series_in(SeriesState.RECEIVING)
        return sum(self._close(series) for series in receiving)

    def _close(self, series: Series) -> bool:
        now = datetime.now(UTC)
        evidence = self._evidence(series, missing="")
        # Instances are read only when all cheaper evidence says that the series is complete.
        decision = decide(evidence, self._settings, now)
        if not decision.complete:
            return False
        instances = self._ledger.receipts.instances(series.series_instance_uid)
        missing = find_missing(instances)
        if missing:
            decision = decide(self._evidence(series, missing), self._settings, now)
        if not decision.complete:
            return False
        reason = f"{decision.reason}, {len(instances)} instances"
        closed = self._ledger.receipts.change(
            series.series_instance_uid, SeriesState.COMPLETE, reason,
            unless_received_after=series.last_received_at,
        )
        if closed:
            self._events.series_changed(series.series_instance_uid, "complete", reason)
        return closed

    def _evidence(self, series: Series, missing: str) -> Evidence:
        associations = self._ledger.receipts.associations_of(series.series_instance_uid)
        return Evidence(
            last_received_at=series.last_received_at,
            open_associations=associations.open,
            aborted_associations=associations.aborted,
            last_closed_at=associations.last_closed_at,
            missing=missing,
        )
