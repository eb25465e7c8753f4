"""One attempt to send what a job made to one destination, and what the ledger then says."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dicom_node.config import SENDER, Config, PeerSettings
from dicom_node.delivery.backoff import delay_s
from dicom_node.delivery.sender import Sender
from dicom_node.errors import LedgerUnavailable, NodeError, UnknownName
from dicom_node.events import Events
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import Delivery, SendOutcome
from dicom_node.spool import Spool


class Shipping:
    """Sends open deliveries; nothing is recorded as sent that the peer did not store."""

    def __init__(self, config: Config, ledger: Ledger, spool: Spool, events: Events) -> None:
        self._config = config
        self._ledger = ledger
        self._spool = spool
        self._events = events
        self._sender = Sender(config.node.ae_title)

    def run_attempt(self, key: str, attempt: int) -> None:
        """Send what is open of one job to one destination (``job:destination``).

        Raises
        ------
        LedgerUnavailable
            What was sent is not recorded and will be sent again under the same UIDs, which a
            peer answers without keeping a second object.
        """
        job_id, destination = key.split(":", 1)
        pending = self._ledger.deliveries.pending(job_id, destination)
        if not pending or max(delivery.attempt for delivery in pending) != attempt:
            return
        outcomes = self._send(job_id, destination, pending)
        retry_at = self._retry_at(pending, attempt)
        for delivery, outcome in zip(pending, outcomes, strict=True):
            state = self._ledger.deliveries.record(
                delivery.delivery_id, outcome, retry_at=retry_at
            )
            self._events.delivery_changed(
                delivery.delivery_id, destination, str(state), outcome.reason
            )

    def _send(
        self, job_id: str, destination: str, pending: Sequence[Delivery]
    ) -> list[SendOutcome]:
        try:
            peer = self._peer(job_id, destination)
            paths = [self._path(delivery) for delivery in pending]
            return self._sender.send(peer, paths)
        except LedgerUnavailable:
            raise
        except NodeError as error:
            return [_failed(delivery, error.transient, error.reason) for delivery in pending]
        # A boundary: an object that breaks the sender must not stop what else waits.
        except Exception as error:  # noqa: BLE001
            self._events.unexpected(f"delivery of job {job_id} to {destination}")
            reason = f"unexpected.{type(error).__name__}"
            return [_failed(delivery, True, reason) for delivery in pending]

    def _peer(self, job_id: str, destination: str) -> PeerSettings:
        if destination != SENDER:
            return self._config.peer(destination)
        job = self._ledger.jobs.find(job_id)
        series = self._ledger.receipts.find_series(job.series_instance_uid) if job else None
        title = series.calling_ae_title if series else ""
        for peer in self._config.peers.values():
            if peer.ae_title == title:
                return peer
        raise UnknownName(
            "the images came from an AE title that is no configured peer", key_path="peers",
            reason="peer.sender_unknown",
        )

    def _path(self, delivery: Delivery) -> Path:
        result = self._ledger.jobs.find_result(delivery.sop_instance_uid)
        if result is None:
            raise UnknownName("a delivery without its result", reason="delivery.no_result")
        return self._spool.resolve(result.path)

    def _retry_at(self, pending: Sequence[Delivery], attempt: int) -> datetime | None:
        now = datetime.now(UTC)
        asked_at = self._ledger.deliveries.started_at(pending)
        if now - asked_at > timedelta(hours=self._config.delivery.retry_for_h):
            return None
        return now + timedelta(seconds=delay_s(attempt, random.random()))


def _failed(delivery: Delivery, transient: bool, reason: str) -> SendOutcome:
    return SendOutcome(delivery.sop_instance_uid, None, False, transient, reason)
