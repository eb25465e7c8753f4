"""Reports on storage commitment for callers that released: N-EVENT-REPORT on a new association.

A thread of the node, from the ledger, with back-off for as long as results are delivered. The
address is that of the configured peer with the AE title that asked; a caller without one can only
be told on its own association.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from io import BytesIO

from pydicom.uid import UID
from pynetdicom import build_context, build_role
from pynetdicom.ae import ApplicationEntity
from pynetdicom.dsutils import decode
from pynetdicom.presentation import PresentationContext

from dicom_node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.backoff import delay_s
from dicom_node.config import Config, PeerSettings
from dicom_node.errors import SUCCESS, PeerUnavailable, TransientError
from dicom_node.events import Events
from dicom_node.intake.commitment import Verdict, judge
from dicom_node.intake.query import tls_args
from dicom_node.ledger import clock
from dicom_node.ledger.commitment_requests import CommitmentRequest
from dicom_node.ledger.ledger import Ledger
from dicom_node.references import PUSH_MODEL, PUSH_MODEL_INSTANCE
from dicom_node.spool import Spool

_ROUND_S = 1.0
_STOPPED_WITHIN_S = 10.0
_INDEX_PATIENCE, _LOOK_AGAIN_IN = timedelta(seconds=15), timedelta(seconds=1)
# Processing failure and resource limitation may pass; every other answer is final.
_TRANSIENT = frozenset({0x0110, 0x0213})


class CommitmentReports:
    """Sends the reports that are due, to one peer at a time each.

    Parameters
    ----------
    config
        Peers, and how long to try.
    ledger, spool
        What was asked for and what is there.
    events
        Log and metrics.
    leads
        Whether this process, of several on one ledger, is to report now.
    """

    def __init__(
        self, config: Config, ledger: Ledger, spool: Spool, events: Events,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._leads = leads
        self._config = config
        self._requests = ledger.commitment_requests
        self._spool = spool
        self._events = events
        self._busy: dict[str, threading.Thread] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commitment-reports", daemon=True)

    def start(self) -> None:
        """Begin to report."""
        self._thread.start()

    def stop(self) -> None:
        """Report no more; what is not delivered stays due."""
        self._stopping.set()
        for thread in (self._thread, *self._busy.values()):
            if thread.is_alive():
                thread.join(_STOPPED_WITHIN_S)

    def _run(self) -> None:
        while not self._stopping.wait(_ROUND_S):
            try:
                self.tick()
            except TransientError as error:
                self._events.node_changed("waiting to report commitment", reason=error.reason)
            # A thread boundary: what one round meets must not end the reporting.
            except Exception:  # noqa: BLE001
                self._events.unexpected("commitment reports")

    def tick(self) -> None:
        """One round: every peer with a report due gets it, in a thread of its own.

        Raises
        ------
        LedgerUnavailable
            The next round makes up for it.
        """
        now = clock.now()
        if not self._leads():
            return
        for title in self._requests.titles_due(now):
            busy = self._busy.get(title)
            if busy is not None and busy.is_alive():
                continue
            peer = self._peer(title)
            if peer is None:
                for request in self._requests.due(title, now):
                    self._requests.end(request, "dead", "peer.unknown", now)
                continue
            thread = threading.Thread(
                target=self._report_all, args=(title, peer), name=f"report-{peer.name}", daemon=True
            )
            self._busy[title] = thread
            thread.start()

    def _peer(self, title: str) -> PeerSettings | None:
        peers = self._config.peers.values()
        return next((p for p in peers if p.speaks_dimse and p.ae_title == title), None)

    def _report_all(self, title: str, peer: PeerSettings) -> None:
        try:
            for request in self._requests.due(title, clock.now()):
                if self._stopping.is_set() or not self._leads():
                    return
                if not self.report(request, peer):
                    return
        except TransientError as error:
            self._events.node_changed("waiting to report commitment", reason=error.reason)
        # A thread boundary: the next round tries again.
        except Exception:  # noqa: BLE001
            self._events.unexpected(f"commitment report to {peer.name}")

    def report(self, request: CommitmentRequest, peer: PeerSettings) -> bool:
        """Deliver one report, or put it off a little; whether the peer answers, as far as is known.

        Raises
        ------
        LedgerUnavailable
        """
        verdict = judge(request, self._requests, self._spool)
        began = clock.now()
        if verdict.is_missing and began - request.received_at < _INDEX_PATIENCE:
            # What was acknowledged a moment ago may still be on its way to the ledger.
            self._requests.again(request, "not_indexed", began, began + _LOOK_AGAIN_IN)
            return True
        status, reason = None, ""
        try:
            status = self._send(verdict, peer)
        except PeerUnavailable as error:
            reason = error.reason
        now = clock.now()
        if status == SUCCESS:
            self._requests.end(request, "reported", "new_association", now)
        elif status is not None and status not in _TRANSIENT:
            self._requests.end(request, "dead", f"peer.refused.{status:04x}", now)
        else:
            self._again(request, reason or f"peer.refused.{status:04x}", now)
        self._events.commitment_answered(
            request.calling_ae_title, len(verdict.committed), len(verdict.failed),
            reason or f"{status:04x}",
        )  # fmt: skip
        return status is not None

    def _again(self, request: CommitmentRequest, reason: str, now: datetime) -> None:
        if now - request.received_at > timedelta(hours=self._config.delivery.retry_for_h):
            self._requests.end(request, "dead", reason, now)
            return
        wait_s = delay_s(request.attempt, random.random())
        self._requests.again(request, reason, now, now + timedelta(seconds=wait_s))

    def _send(self, verdict: Verdict, peer: PeerSettings) -> int:
        """The status of the peer's answer.

        Raises
        ------
        PeerUnavailable
            No association, no context for storage commitment, or no answer.
        """
        entity = ApplicationEntity(self._config.node.ae_title)
        entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.connection_timeout = entity.acse_timeout = 30
        entity.dimse_timeout = entity.network_timeout = 60
        association = entity.associate(
            peer.host, peer.port, ae_title=peer.ae_title,
            contexts=[report_context()], ext_neg=[build_role(PUSH_MODEL, scp_role=True)],
            tls_args=tls_args(peer),
        )  # fmt: skip
        try:
            if not association.is_established:
                reason = "peer.rejected" if association.is_rejected else "peer.unreachable"
                raise PeerUnavailable("no association for a commitment report", reason=reason)
            if not association.accepted_contexts:
                raise PeerUnavailable("takes no reports", reason="peer.context_rejected")
            event_information = decode(BytesIO(verdict.encode(explicit_vr=False)), True, True)
            answer, _ = association.send_n_event_report(
                event_information, verdict.event_type_id, PUSH_MODEL, PUSH_MODEL_INSTANCE
            )
        finally:
            if association.is_established:
                association.release()
        if "Status" not in answer:
            raise PeerUnavailable("did not answer a commitment report", reason="peer.timeout")
        return int(answer.Status)


def report_context() -> PresentationContext:
    """What is proposed for a report; the node is its SCP."""
    return build_context(PUSH_MODEL)
