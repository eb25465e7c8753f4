"""The Storage Commitment SCP on an association: N-ACTION, and the report on the same one.

    N-ACTION -> ledger -> 0000 -> the caller keeps the association open -> N-EVENT-REPORT
                                  it releases -> `commitment_reports`, on a new association

The report waits a moment, for callers that release at once and for the index to take in what has
just been stored.
"""

from __future__ import annotations

import time
from datetime import timedelta
from io import BytesIO
from typing import TYPE_CHECKING, Any

from pydicom.uid import UID
from pynetdicom.dimse_primitives import N_EVENT_REPORT

from dicom_node.errors import SUCCESS, LedgerUnavailable, NotUnderstood
from dicom_node.events import Events
from dicom_node.intake.commitment import (
    Verdict,
    asked_for,
    judge,
)
from dicom_node.ledger import clock
from dicom_node.references import PUSH_MODEL, PUSH_MODEL_INSTANCE, TooManyItems
from dicom_node.spool import Spool

if TYPE_CHECKING:
    from dicom_node.intake.association import IntakeAssociation
    from dicom_node.intake.normalised import Request
    from dicom_node.ledger.commitment_requests import CommitmentRequest
    from dicom_node.ledger.ledger import Ledger

NO_SUCH_INSTANCE, INVALID_ARGUMENT = 0x0112, 0x0115
NO_SUCH_ACTION, RESOURCE_LIMITATION = 0x0123, 0x0213
_REQUEST_STORAGE_COMMITMENT = 1
# The index is written in batches; what is not in it after this was not stored.
_INDEX_PATIENCE_S = 5.0
_ANSWER_WITHIN_S = 15.0
_LOOK_EVERY_S = 0.1
# How long the other way of reporting keeps off while this one may still succeed.
_KEEP_OFF = timedelta(seconds=60)


class CommitmentScp:
    """Takes requests for storage commitment and reports where the association still stands."""

    def __init__(self, ledger: Ledger, spool: Spool, events: Events) -> None:
        self._requests = ledger.commitment_requests
        self._spool = spool
        self._events = events

    def action(self, request: Request) -> int:
        """Keep an N-ACTION; its status.

        Raises
        ------
        LedgerUnavailable
            It is not kept.
        """
        if request.sop_instance_uid != PUSH_MODEL_INSTANCE:
            return NO_SUCH_INSTANCE
        if request.type_id != _REQUEST_STORAGE_COMMITMENT:
            return NO_SUCH_ACTION
        try:
            transaction_uid, items = asked_for(request.data_set, explicit_vr=request.explicit_vr)
        except TooManyItems:
            return RESOURCE_LIMITATION
        except NotUnderstood:
            return INVALID_ARGUMENT
        if not transaction_uid or not items or not all(map(all, items)):
            return INVALID_ARGUMENT
        now = clock.now()
        if not self._requests.record(
            transaction_uid, request.calling_ae_title, items, now=now, report_at=now + _KEEP_OFF
        ):
            return RESOURCE_LIMITATION
        request.association.unreported.append((request.context_id, transaction_uid))
        self._events.commitment_asked(request.calling_ae_title, len(items))
        return SUCCESS

    def report_here(self, association: IntakeAssociation) -> None:
        """Report what this association asked for, unless it ends or says something else first."""
        waiting = association.unreported
        while waiting:
            context_id, transaction_uid = waiting[0]
            title = str(association.requestor.ae_title)
            try:
                request = self._requests.find(transaction_uid, title)
                if request is not None and not self._report(association, context_id, request):
                    return
            except LedgerUnavailable:
                return
            waiting.popleft()

    def leave(self, association: IntakeAssociation) -> None:
        """The association is over: what it did not report is due elsewhere, now."""
        now = clock.now()
        for _, transaction_uid in association.unreported:
            try:
                request = self._requests.find(transaction_uid, str(association.requestor.ae_title))
                if request is not None:
                    self._requests.again(request, "association_ended", now, now)
            except LedgerUnavailable:
                # It becomes due by itself when the time to keep off is over.
                return

    def _report(
        self, association: IntakeAssociation, context_id: int, request: CommitmentRequest
    ) -> bool:
        """Whether that is settled; otherwise there is something else to do first, or no peer."""
        # Below nothing when the clock was set back.
        age_s = max(0.0, (clock.now() - request.received_at).total_seconds())
        report_after_s = association.settings.commitment_report_after_s
        if not _stays(association, report_after_s - age_s):
            return False
        verdict = judge(request, self._requests, self._spool)
        patience = time.monotonic() + _INDEX_PATIENCE_S - max(0.0, age_s - report_after_s)
        while verdict.is_missing and time.monotonic() < patience:
            if not _stays(association, _LOOK_EVERY_S):
                return False
            verdict = judge(request, self._requests, self._spool)
        status = _send(association, context_id, verdict)
        if status is None:
            return False
        now = clock.now()
        if status == SUCCESS:
            self._requests.end(request, "reported", "same_association", now)
        else:
            self._requests.again(request, f"peer.refused.{status:04x}", now, now + _KEEP_OFF)
        self._events.commitment_answered(
            request.calling_ae_title, len(verdict.committed), len(verdict.failed), f"{status:04x}"
        )
        return True


def _stays(association: IntakeAssociation, seconds: float) -> bool:
    """Wait; whether the association is as it was: not ending, and nothing else was asked."""
    deadline = time.monotonic() + seconds
    while association.is_idle:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return True
        time.sleep(min(left_s, _LOOK_EVERY_S))
    return False


def _send(association: IntakeAssociation, context_id: int, verdict: Verdict) -> int | None:
    """Send the report and wait for its answer; None when there is none."""
    context = association._accepted_cx[context_id]
    request = N_EVENT_REPORT()
    request.MessageID = association.next_message_id()
    request.AffectedSOPClassUID = UID(PUSH_MODEL)
    request.AffectedSOPInstanceUID = UID(PUSH_MODEL_INSTANCE)
    request.EventTypeID = verdict.event_type_id
    explicit_vr = not context.transfer_syntax[0].is_implicit_VR
    request.EventInformation = BytesIO(verdict.encode(explicit_vr=explicit_vr))
    association.dimse.send_msg(request, context_id)
    deadline = time.monotonic() + _ANSWER_WITHIN_S
    others: list[tuple[int, Any]] = []
    status: int | None = None
    while time.monotonic() < deadline and status is None and association.is_open:
        other_id, message = association.dimse.get_msg(block=False)
        if message is None or other_id is None:
            time.sleep(_LOOK_EVERY_S / 10)
        elif message.MessageIDBeingRespondedTo == request.MessageID:
            status = int(message.Status or 0)
        elif message.MessageIDBeingRespondedTo is None:
            others.append((other_id, message))
    for other in others:
        association.dimse.msg_queue.put(other)
    return status
