"""One attempt to send what a job made to one destination, and what the ledger then says."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from dicom_node.backoff import delay_s
from dicom_node.config import SENDER, Config, PeerSettings
from dicom_node.delivery import circuit
from dicom_node.delivery.capabilities import Capabilities
from dicom_node.delivery.dicomweb import StowSender
from dicom_node.delivery.open_sockets import STOPPING
from dicom_node.delivery.outgoing import HELD_BACK
from dicom_node.delivery.recipients import lane_of, recipient_of
from dicom_node.delivery.sender import Sender
from dicom_node.errors import (
    LedgerUnavailable,
    NodeError,
    PeerRefused,
    PeerUnavailable,
    UnknownName,
)
from dicom_node.events import Events, about_study
from dicom_node.ledger import clock
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.replanning import Recipient
from dicom_node.ledger.states import OPEN_DELIVERIES
from dicom_node.records import CircuitState, Delivery, DeliveryState, SendOutcome
from dicom_node.spool import Spool

# Long enough for the next shipment that waits, short enough for peers that allow few associations.
_IDLE_S = 2.0


def local_clock() -> datetime:
    """The time, as the node's deliveries reckon it."""
    return clock.now()


class Shipping:
    """Sends open deliveries; nothing is recorded as sent that the peer did not store.

    Parameters
    ----------
    config, ledger, spool, events
        As everywhere in the node.
    sender
        The storage SCU; made from the settings where none is given.
    clock, draw
        The time, and a number in [0, 1) that spreads attempts.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        spool: Spool,
        events: Events,
        *,
        sender: Sender | None = None,
        clock: Callable[[], datetime] = local_clock,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._spool = spool
        self._events = events
        # Copies in another transfer syntax are as large as the results: they go where those are.
        scratch = spool.scratch
        self._sender = sender or Sender(config.node.ae_title, idle_s=_IDLE_S, scratch=scratch)
        self._stow_sender = StowSender(scratch=scratch)
        self._capabilities = Capabilities(config, ledger, events, self._sender.timeouts)
        self._clock = clock
        self._draw = draw

    def close(self, grace_s: float) -> None:
        """Send no further object; those under way have ``grace_s`` and are then cut off."""
        began = time.monotonic()
        self._sender.close(grace_s)
        self._stow_sender.close(max(0.0, grace_s - (time.monotonic() - began)))

    def run_attempt(self, key: str, attempt: int) -> None:
        """Send what is open of one job to one destination (``job:destination``).

        A destination that was never asked what it takes is asked first, so that nothing is sent
        in a form that it does not take.

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
        with about_study(self._ledger.jobs.study_of(job_id)):
            outcomes, wait_s = self._attempt(job_id, destination, pending)
            if outcomes:
                self._record(job_id, destination, pending, outcomes, wait_s)

    def _attempt(
        self, job_id: str, destination: str, pending: Sequence[Delivery]
    ) -> tuple[list[SendOutcome], float]:
        """What became of each delivery, and how long to wait before those that failed are tried.

        Empty where nothing was tried: the destination is away, or what it gets is to be chosen
        anew.
        """
        wait_s = delay_s(max(delivery.attempt for delivery in pending), self._draw())
        try:
            peer = self._peer(job_id, destination)
            if self._ledger.circuits.find(peer.name).state is CircuitState.OPEN:
                return [], 0.0
            try:
                self._capabilities.ask_first(peer)
                if not self._ledger.deliveries.pending(job_id, destination):
                    return [], 0.0
                return self._send(peer, pending), wait_s
            except PeerUnavailable as error:
                self._note_absence(peer.name, error)
                # Its circuit says when it is tried again: all of it, as soon as it answers.
                return [_failed(one, True, error.reason) for one in pending], 0.0
        except LedgerUnavailable:
            raise
        except NodeError as error:
            return [_failed(one, error.transient, error.reason) for one in pending], wait_s
        # A boundary: an object that breaks the sender must not stop what else waits.
        except Exception as error:  # noqa: BLE001
            self._events.unexpected(f"delivery of job {job_id} to {destination}")
            reason = f"unexpected.{type(error).__name__}"
            return [_failed(one, True, reason) for one in pending], wait_s

    def probe(self, name: str) -> None:
        """Ask a peer that is away whether it is back, and record what came of it.

        A peer that takes the association and offers no verification is back.
        """
        peer = self._config.peer(name)
        try:
            self._sender_for(peer).echo(peer)
        except PeerRefused:
            pass
        except PeerUnavailable as error:
            if error.reason != STOPPING:
                now = self._clock()
                decision = circuit.after_failed_probe(
                    error.reason, now, self._draw(), error.retry_after_s
                )
                self._change_circuit(name, decision)
            return
        self._change_circuit(name, circuit.after_answered_probe(self._clock()))

    def _send(self, peer: PeerSettings, pending: Sequence[Delivery]) -> list[SendOutcome]:
        there = self._got_by_name(peer, pending)
        wanted = [one for one in pending if one.sop_instance_uid not in there]
        sent: list[SendOutcome] = []
        if wanted:
            sent = self._send_wanted(peer, wanted)
        if any(outcome.status is not None for outcome in sent):
            self._change_circuit(peer.name, circuit.after_delivery(self._clock()))
        answers = iter(sent)
        return [
            there[one.sop_instance_uid] if one.sop_instance_uid in there else next(answers)
            for one in pending
        ]

    def _send_wanted(
        self, peer: PeerSettings, wanted: Sequence[Delivery]
    ) -> list[SendOutcome]:
        job_id, destination = wanted[0].job_id, wanted[0].destination
        uids = [one.sop_instance_uid for one in wanted]
        paths = [self._path(delivery) for delivery in wanted]
        stored: list[str] = []
        self._events.results_sending(job_id, destination, uids)
        try:
            sent = self._sender_for(peer).send(
                peer, paths, in_order=True, compression=peer.results.compression
            )
            stored = [one.sop_instance_uid for one in sent if one.stored]
            return sent
        finally:
            failed = [uid for uid in uids if uid not in stored]
            self._events.results_sent(job_id, destination, stored, failed)

    def _got_by_name(
        self, peer: PeerSettings, pending: Sequence[Delivery]
    ) -> dict[str, SendOutcome]:
        """What the sender of the images got, or is getting, as the peer that it is as well.

        A rule may send to an archive and to the sender, which is the archive: it gets one copy.
        """
        if pending[0].destination != SENDER:
            return {}
        there: dict[str, SendOutcome] = {}
        for twin in self._ledger.deliveries.of_job(pending[0].job_id):
            uid = twin.sop_instance_uid
            if twin.destination != peer.name:
                continue
            if twin.state in (DeliveryState.SENT, DeliveryState.COMMITTED):
                there[uid] = SendOutcome(uid, twin.status, True, False, f"sent_to.{peer.name}")
            elif twin.state in OPEN_DELIVERIES:
                there[uid] = SendOutcome(uid, None, False, True, HELD_BACK)
        return there

    def _sender_for(self, peer: PeerSettings) -> Sender | StowSender:
        return self._sender if peer.dicomweb is None else self._stow_sender

    def _note_absence(self, name: str, error: PeerUnavailable) -> None:
        if error.reason != STOPPING:
            decision = circuit.after_no_association(
                error.reason, self._clock(), self._draw(), error.retry_after_s
            )
            self._change_circuit(name, decision)

    def _change_circuit(self, name: str, decision: circuit.Decision) -> None:
        before, after = self._ledger.circuits.change(name, decision)
        if after.state is not before.state:
            self._events.circuit_changed(name, str(after.state), after.reason)

    def _record(
        self,
        job_id: str,
        destination: str,
        pending: Sequence[Delivery],
        outcomes: Sequence[SendOutcome],
        wait_s: float,
    ) -> None:
        now = self._clock()
        retry_at = now + timedelta(seconds=wait_s)
        asked_at = self._ledger.deliveries.started_at(pending)
        gives_up = now - asked_at > timedelta(hours=self._config.delivery.retry_for_h)
        recipient = self._recipient(job_id, destination)
        for delivery, outcome in zip(pending, outcomes, strict=True):
            if outcome.reason in (HELD_BACK, STOPPING):
                at_once = gives_up or outcome.reason == STOPPING
                self._ledger.deliveries.put_off(delivery.delivery_id, now if at_once else retry_at)
                continue
            state = self._ledger.deliveries.record(
                delivery.delivery_id, outcome, retry_at=None if gives_up else retry_at,
                recipient=recipient,
            )
            self._events.delivery_changed(
                delivery.delivery_id, destination, str(state), outcome.reason
            )

    def _peer(self, job_id: str, destination: str) -> PeerSettings:
        if destination != SENDER:
            return self._config.peer(destination)
        job = self._ledger.jobs.find(job_id)
        series = self._ledger.receipts.find_series(job.series_instance_uid) if job else None
        name = lane_of(self._config, destination, series.calling_ae_title if series else "")
        if name == SENDER:
            raise UnknownName(
                "the images came from an AE title that is no configured peer", key_path="peers",
                reason="peer.sender_unknown",
            )
        return self._config.peer(name)

    def _recipient(self, job_id: str, destination: str) -> Recipient | None:
        """Whose answers these are; ``None`` where nobody was asked."""
        try:
            return recipient_of(self._config, self._peer(job_id, destination))
        except UnknownName:
            return None

    def _path(self, delivery: Delivery) -> Path:
        result = self._ledger.jobs.find_result(delivery.sop_instance_uid)
        if result is None:
            raise UnknownName("a delivery without its result", reason="delivery.no_result")
        return self._spool.resolve(result.path)


def _failed(delivery: Delivery, transient: bool, reason: str) -> SendOutcome:
    return SendOutcome(delivery.sop_instance_uid, None, False, transient, reason)
