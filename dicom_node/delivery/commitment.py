"""Asks destinations to commit to what they stored (PS3.4 annex J), in threads of its own.

    delivery  sent -> asked -> committed
                            -> failed -> pending   the destination says that it does not have it
                            -> asked again         no report in time, or one that leaves it out
              sent, for good under `auto`: `not_offered`, or `unanswered` after several asks
              dead under `required`: not committed within `delivery.retry_for_h`

One request lists what one destination owes for all jobs, and a destination has one request at a
time, so that one which does not answer holds up no other. What a request asks for is in the ledger
before it goes out; the report may come on the same association, on a new one to the listener, or
after a restart of the node.
"""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from dicom_node.backoff import delay_s, is_due
from dicom_node.config import SENDER, Config, PeerSettings
from dicom_node.delivery.association import Timeouts
from dicom_node.delivery.n_action import CONTEXTS, CommitmentAssociation, Report
from dicom_node.delivery.open_sockets import OpenSockets
from dicom_node.errors import SUCCESS, PeerUnavailable, TransientError
from dicom_node.events import Events, about_study
from dicom_node.ledger import clock
from dicom_node.ledger.commitments import MOST_ITEMS, NO_REPORT, NOT_OFFERED, Left, Wanting
from dicom_node.ledger.ledger import Ledger

_ROUND_S = 1.0
_LEAST_ASKS = 3
_NOT_OFFERED_FOR = timedelta(hours=6)
_PATIENCE_S = 2.0
_STOPPED_WITHIN_S = 10.0
# No such SOP class, no such action, SOP class not supported, unrecognised operation.
_MEANS_NOT_OFFERED = frozenset({0x0118, 0x0122, 0x0123, 0x0211})


@dataclass
class _Pause:
    """How long a destination that took no request is left alone."""

    failures: int
    until: datetime
    reason: str


class CommitmentAsker:
    """Storage Commitment SCU of the node.

    Parameters
    ----------
    config
        ``delivery.storage_commitment`` and what each peer says instead.
    ledger
        Says what is sent and not committed.
    events
        Log and metrics.
    timeouts
        How long to wait for a peer.
    leads
        Whether this process, of several on one ledger, is to ask now.
    """

    def __init__(
        self, config: Config, ledger: Ledger, events: Events, timeouts: Timeouts | None = None,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._leads = leads
        self._config = config
        self._ledger = ledger
        self._commitments = ledger.commitments
        self._events = events
        self._timeouts = timeouts or Timeouts()
        self._pauses: dict[str, _Pause] = {}
        self._busy: dict[str, threading.Thread] = {}
        self._sockets = OpenSockets()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commitment", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; a request under way is cut off after a while and asked for again later."""
        self._stopping.set()
        self._sockets.wait_until_none(_PATIENCE_S)
        self._sockets.cut_all()
        for thread in (self._thread, *self._busy.values()):
            if thread.is_alive():
                thread.join(_STOPPED_WITHIN_S)

    def _run(self) -> None:
        while not self._stopping.wait(_ROUND_S):
            try:
                self.tick()
            except TransientError as error:
                self._events.node_changed("waiting to ask for commitment", reason=error.reason)
            # A thread boundary: what one round meets must not end the asking.
            except Exception:  # noqa: BLE001
                self._events.unexpected("commitment")

    def tick(self) -> None:
        """One round: give up what is overdue, and ask every destination that owes an answer.

        Raises
        ------
        LedgerUnavailable
            The next round makes up for it.
        """
        now = clock.now()
        if not self._leads():
            return
        for transaction_uid, asks in self._commitments.overdue(now):
            again_at = now + timedelta(seconds=delay_s(asks, random.random()))
            self._commitments.end(transaction_uid, NO_REPORT, now=now, again_at=again_at)
        for destination in self._commitments.destinations():
            if not self._is_left_alone(destination, now):
                self._look_after(destination, now)

    def _look_after(self, destination: str, now: datetime) -> None:
        owing: dict[str, list[Wanting]] = defaultdict(list)
        for one in self._commitments.wanting(destination, now):
            owing[self._ae_title_of(one)].append(one)
        for ae_title, wanting in owing.items():
            peer = self._peer(destination, ae_title)
            if peer is None:
                self._leave(wanting, "unanswered")
            else:
                self._take_up(destination, peer, wanting, now)

    def _is_left_alone(self, name: str, now: datetime) -> bool:
        """Whether a peer is being asked, or took no request a short while ago."""
        pause, busy = self._pauses.get(name), self._busy.get(name)
        if busy is not None and busy.is_alive():
            return True
        return pause is not None and not is_due(pause.until, now)

    def _ae_title_of(self, wanting: Wanting) -> str:
        """Whose AE title `sender` means for this job; "" for a destination with a name."""
        if wanting.destination != SENDER:
            return ""
        job = self._ledger.jobs.find(wanting.job_id)
        series = self._ledger.receipts.find_series(job.series_instance_uid) if job else None
        return series.calling_ae_title if series else ""

    def _peer(self, destination: str, ae_title: str) -> PeerSettings | None:
        if destination != SENDER:
            return self._config.peers.get(destination)
        peers = self._config.peers.values()
        return next((p for p in peers if ae_title and p.ae_title == ae_title), None)

    def _take_up(
        self, destination: str, peer: PeerSettings, wanting: Sequence[Wanting], now: datetime
    ) -> None:
        policy = peer.storage_commitment or self._config.delivery.storage_commitment
        if policy == "off":
            self._leave(wanting, "off")
            return
        if not peer.speaks_dimse:
            self._leave(wanting, "not_offered")
            return
        required = policy == "required"
        retry_for = timedelta(hours=self._config.delivery.retry_for_h)
        late = [one for one in wanting if now - one.asked_for_at > retry_for]
        if required:
            self._bury(late, peer.name, now)
        else:
            late = [one for one in wanting if one in late or self._has_waited(one, now)]
            self._leave(late, "unanswered")
            if self._is_known_not_to_offer(destination, now):
                self._leave(wanting, "not_offered")
                return
        rest = [one.delivery_id for one in wanting if one not in late]
        if rest:
            self._ask_apart(destination, peer, rest, required=required, now=now)

    def _has_waited(self, wanting: Wanting, now: datetime) -> bool:
        within = timedelta(seconds=self._config.delivery.commitment_within_s)
        return wanting.asks >= _LEAST_ASKS and now - wanting.asked_for_at >= within

    def _is_known_not_to_offer(self, destination: str, now: datetime) -> bool:
        since = self._commitments.not_offered_since(destination)
        return since is not None and timedelta(0) <= now - since < _NOT_OFFERED_FOR

    def _leave(self, wanting: Sequence[Wanting], left: Left) -> None:
        if wanting:
            self._commitments.leave([one.delivery_id for one in wanting], left)
            self._events.commitment_changed(wanting[0].destination, left, "", len(wanting))

    def _bury(self, late: Sequence[Wanting], name: str, now: datetime) -> None:
        if not late:
            return
        pause = self._pauses.get(name)
        reason = pause.reason if pause else NO_REPORT
        for change in self._commitments.bury([one.delivery_id for one in late], reason, now):
            with about_study(self._ledger.jobs.study_of(change.delivery_id)):
                self._events.delivery_changed(
                    change.delivery_id, change.destination, str(change.state), change.reason
                )

    def _ask_apart(
        self, destination: str, peer: PeerSettings, delivery_ids: Sequence[str],
        *, required: bool, now: datetime,
    ) -> None:  # fmt: skip
        """Ask in a thread, unless that peer is being asked or is left alone for a while."""
        if self._is_left_alone(peer.name, now):
            return
        thread = threading.Thread(
            target=self._ask_guarded,
            args=(destination, peer, delivery_ids[:MOST_ITEMS], required),
            name=f"commitment-{peer.name}",
            daemon=True,
        )
        self._busy[peer.name] = thread
        thread.start()

    def _ask_guarded(
        self, destination: str, peer: PeerSettings, delivery_ids: Sequence[str], required: bool
    ) -> None:
        try:
            self.ask(destination, peer, delivery_ids, required=required)
        except TransientError as error:
            self._pause(peer, error.reason)
        # A thread boundary: the next round asks again, after a while.
        except Exception:  # noqa: BLE001
            self._events.unexpected(f"commitment of {peer.name}")
            self._pause(peer, "unexpected")

    def ask(
        self, destination: str, peer: PeerSettings, delivery_ids: Sequence[str], *, required: bool
    ) -> None:
        """Ask a peer once, and stay a while for its report.

        Raises
        ------
        PeerUnavailable
            There is no association; nothing was asked.
        LedgerUnavailable
        """
        with CommitmentAssociation(
            peer, self._config.node.ae_title, CONTEXTS, self._timeouts, self._sockets
        ) as association:
            context = association.context
            if context is None:
                self._note_not_offered(destination, peer, delivery_ids, required)
                return
            transaction_uid = new_uid()
            instances = self._begin(transaction_uid, destination, peer, delivery_ids)
            if not instances:
                return

            def keep(report: Report) -> int:
                return self._keep(peer, report)

            try:
                status = association.ask(context, transaction_uid, instances, keep)
            except PeerUnavailable as error:
                # It may have come through: the report still counts if it comes.
                self._end(transaction_uid, error.reason)
                raise
            if status in _MEANS_NOT_OFFERED:
                left: Left = "wanted" if required else "not_offered"
                self._end(transaction_uid, NOT_OFFERED, left)
            elif status != SUCCESS:
                self._end(transaction_uid, f"commitment.refused.{status:04x}")
            else:
                self._pauses.pop(peer.name, None)
                self._events.commitment_changed(destination, "asked", "", len(instances))
                self._wait_for_report(association, transaction_uid)

    def _begin(
        self, transaction_uid: str, destination: str, peer: PeerSettings,
        delivery_ids: Sequence[str],
    ) -> list[tuple[str, str]]:  # fmt: skip
        now = clock.now()
        delivery = self._config.delivery
        return self._commitments.begin(
            transaction_uid, destination, peer.ae_title, delivery_ids, asked_at=now,
            answer_by=now + timedelta(seconds=delivery.commitment_within_s),
            retry_for_s=delivery.retry_for_h * 3600,
        )  # fmt: skip

    def _wait_for_report(self, association: CommitmentAssociation, transaction_uid: str) -> None:
        def is_awaited() -> bool:
            return not self._stopping.is_set() and self._commitments.is_open(transaction_uid)

        try:
            association.reports(self._config.delivery.commitment_wait_s, is_awaited)
        except PeerUnavailable as error:
            # The request was taken, so the report is due, on another association then.
            self._events.node_changed("commitment association ended", reason=error.reason)

    def _keep(self, peer: PeerSettings, report: Report) -> int:
        received = self._commitments.receive(
            peer.ae_title, report.event_type_id, report.data_set,
            explicit_vr=report.explicit_vr, now=clock.now(),
        )  # fmt: skip
        self._events.commitment_reported(peer.ae_title, received.status, received.reason)
        for change in received.changes:
            with about_study(self._ledger.jobs.study_of(change.delivery_id)):
                self._events.delivery_changed(
                    change.delivery_id, change.destination, str(change.state), change.reason
                )
        return received.status

    def _note_not_offered(
        self, destination: str, peer: PeerSettings, delivery_ids: Sequence[str], required: bool
    ) -> None:
        self._events.commitment_changed(destination, "not_offered", "", len(delivery_ids))
        if required:
            self._pause(peer, NOT_OFFERED)
            return
        transaction_uid = new_uid()
        if self._begin(transaction_uid, destination, peer, delivery_ids):
            self._end(transaction_uid, NOT_OFFERED, "not_offered")

    def _end(self, transaction_uid: str, reason: str, left: Left = "wanted") -> None:
        now = clock.now()
        asks = self._commitments.asks(transaction_uid)
        again_at = now + timedelta(seconds=delay_s(asks, random.random()))
        self._commitments.end(transaction_uid, reason, now=now, again_at=again_at, left=left)

    def _pause(self, peer: PeerSettings, reason: str) -> None:
        former = self._pauses.get(peer.name)
        failures = former.failures + 1 if former else 1
        until = clock.now() + timedelta(seconds=delay_s(failures, random.random()))
        self._pauses[peer.name] = _Pause(failures, until, reason)


def new_uid() -> str:
    """A UID from a random UUID (PS3.5 annex B.2)."""
    return f"2.25.{uuid4().int}"
