"""DIMSE-N services of the listener, the same on both receive paths: every request gets a status.

    Storage Commitment Push Model           N-EVENT-REPORT: a destination reports what we asked it
                                            N-ACTION: a modality asks us
    Instance Availability Notification      N-CREATE: how many instances a series has
    Modality Performed Procedure Step       N-CREATE, N-SET: the same, from the modality

Roles that are negotiated or not make no difference (PS3.7 D.3.3.4): many archives report without
asking for the role of an SCP. What a service keeps is durable before its success goes out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pydicom.uid import UID
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import (
    N_ACTION,
    N_CREATE,
    N_DELETE,
    N_EVENT_REPORT,
    N_GET,
    N_SET,
)
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import PresentationContext

from dicom_node.errors import NodeError
from dicom_node.events import Events, about_study
from dicom_node.intake.commitment_scp import CommitmentScp
from dicom_node.intake.notifications import (
    INSTANCE_AVAILABILITY_NOTIFICATION,
    PROCEDURE_STEP,
    Notifications,
)
from dicom_node.ledger import clock
from dicom_node.references import PUSH_MODEL, PUSH_MODEL_INSTANCE
from dicom_node.spool import Spool

if TYPE_CHECKING:
    from dicom_node.intake.association import IntakeAssociation
    from dicom_node.ledger.ledger import Ledger

Message = N_ACTION | N_CREATE | N_DELETE | N_EVENT_REPORT | N_GET | N_SET
MESSAGES = (N_ACTION, N_CREATE, N_DELETE, N_EVENT_REPORT, N_GET, N_SET)
# PS3.7 annex C.
PROCESSING_FAILURE = 0x0110
NO_SUCH_INSTANCE = 0x0112
INVALID_ARGUMENT = 0x0115
NO_SUCH_CLASS = 0x0118
UNRECOGNISED_OPERATION = 0x0211

_EXPLICIT_VR = "1.2.840.10008.1.2.1"
_LONGEST_MESSAGE_BYTES = 16 << 20
_MOST_QUEUED = 16
# SOP class and request of every service.
SERVED: tuple[tuple[str, type[Message]], ...] = (
    (PUSH_MODEL, N_EVENT_REPORT),
    (PUSH_MODEL, N_ACTION),
    (INSTANCE_AVAILABILITY_NOTIFICATION, N_CREATE),
    (PROCEDURE_STEP, N_CREATE),
    (PROCEDURE_STEP, N_SET),
)
_DATA_SETS = {
    N_ACTION: "ActionInformation",
    N_CREATE: "AttributeList",
    N_EVENT_REPORT: "EventInformation",
    N_SET: "ModificationList",
}


@dataclass(frozen=True)
class Request:
    """One DIMSE-N request, free of pynetdicom.

    ``type_id`` is the Event Type ID or Action Type ID; ``data_set`` is still encoded.
    """

    association: IntakeAssociation
    context_id: int
    sop_class_uid: str
    sop_instance_uid: str
    type_id: int
    data_set: bytes
    explicit_vr: bool

    @property
    def calling_ae_title(self) -> str:
        """Who asks."""
        return str(self.association.requestor.ae_title).strip()


Service = Callable[[Request], int]


class NormalisedServices:
    """What the listener does with DIMSE-N requests.

    Parameters
    ----------
    ledger
        Where everything goes before it is answered with success.
    spool
        What the node holds.
    events
        Log and metrics.
    """

    def __init__(self, ledger: Ledger, spool: Spool, events: Events) -> None:
        self._ledger = ledger
        self._events = events
        self._commitment = CommitmentScp(ledger, spool, events)
        self._notifications = Notifications(ledger, events)
        services: tuple[Service, ...] = (
            self._take_report, self._commitment.action, self._notifications.availability,
            self._notifications.begin_step, self._notifications.change_step,
        )  # fmt: skip
        self._services = dict(zip(SERVED, services, strict=True))

    @property
    def sop_classes(self) -> frozenset[str]:
        """The abstract syntaxes to accept."""
        return frozenset(sop_class for sop_class, _ in SERVED)

    def serve(
        self, association: IntakeAssociation, message: Message, context: PresentationContext
    ) -> None:
        """Answer one request; a message that is no request is passed over."""
        if message.MessageID is None or message.MessageIDBeingRespondedTo is not None:
            return
        request = _request(association, message, context)
        status = self._status(request, type(message), str(context.abstract_syntax), message)
        association.dimse.send_msg(_response(message, request, status), request.context_id)

    def report(self, association: IntakeAssociation) -> None:
        """Send what the association asked for, while it has nothing else to say."""
        self._commitment.report_here(association)

    def leave(self, association: IntakeAssociation) -> None:
        """The association is over."""
        self._commitment.leave(association)

    def _status(
        self, request: Request, kind: type, abstract_syntax: str, message: Message
    ) -> int:
        service = self._services.get((abstract_syntax, kind))
        if service is None:
            return UNRECOGNISED_OPERATION
        if request.sop_class_uid != abstract_syntax:
            return NO_SUCH_CLASS
        if not message.is_valid_request:
            return INVALID_ARGUMENT
        try:
            return service(request)
        except NodeError as error:
            self._events.service_refused(request.calling_ae_title, abstract_syntax, error.reason)
            return PROCESSING_FAILURE
        # A boundary: a request that no service foresaw is answered, and the association goes on.
        except Exception:  # noqa: BLE001
            self._events.unexpected("intake.normalised")
            return PROCESSING_FAILURE

    def _take_report(self, request: Request) -> int:
        if request.sop_instance_uid != PUSH_MODEL_INSTANCE:
            return NO_SUCH_INSTANCE
        received = self._ledger.commitments.receive(
            request.calling_ae_title, request.type_id, request.data_set,
            explicit_vr=request.explicit_vr, now=clock.now(),
        )  # fmt: skip
        self._events.commitment_reported(
            request.calling_ae_title, received.status, received.reason
        )
        for change in received.changes:
            with about_study(self._ledger.jobs.study_of(change.delivery_id)):
                self._events.delivery_changed(
                    change.delivery_id, change.destination, str(change.state), change.reason
                )
        return received.status


class BoundedMessages(DIMSEServiceProvider):
    """pynetdicom's message assembly, with limits on what a peer may make it keep in memory."""

    def receive_primitive(self, primitive: P_DATA) -> None:
        """See `DIMSEServiceProvider.receive_primitive`; beyond the limits the peer is cut off."""
        super().receive_primitive(primitive)
        message = self.message
        data_set = message.data_set if message is not None else None
        size_bytes = data_set.tell() if data_set is not None else 0
        file = message._data_set_file if message is not None else None
        association = cast("IntakeAssociation", self.assoc)
        is_too_long = size_bytes > _LONGEST_MESSAGE_BYTES or (
            file is not None and file.file.tell() > association.settings.max_instance_bytes
        )
        if is_too_long or self.msg_queue.qsize() > _MOST_QUEUED:
            # No abort: an answer on its way would cross it, which pynetdicom does not outlive.
            association.close_hard()


def _request(
    association: IntakeAssociation, message: Message, context: PresentationContext
) -> Request:
    names = type(message)
    encoded: Any = getattr(message, _DATA_SETS.get(names, ""), None)
    return Request(
        association,
        int(context.context_id or 0),
        _first(message, "AffectedSOPClassUID", "RequestedSOPClassUID"),
        _first(message, "AffectedSOPInstanceUID", "RequestedSOPInstanceUID"),
        int(_first(message, "EventTypeID", "ActionTypeID") or 0),
        b"" if encoded is None else encoded.getvalue(),
        str(context.transfer_syntax[0]) == _EXPLICIT_VR,
    )


def _first(message: Message, *names: str) -> str:
    found = (getattr(message, name, None) for name in names)
    return str(next((value for value in found if value is not None), ""))


def _response(message: Message, request: Request, status: int) -> Message:
    response = type(message)()
    response.MessageIDBeingRespondedTo = message.MessageID
    # What the peer wrote there may be no UID at all, and is then not repeated.
    with contextlib.suppress(ValueError):
        response.AffectedSOPClassUID = UID(request.sop_class_uid) or None
        response.AffectedSOPInstanceUID = UID(request.sop_instance_uid) or None
    for name in ("EventTypeID", "ActionTypeID"):
        if getattr(message, name, None) is not None:
            setattr(response, name, getattr(message, name))
    response.Status = status
    return response
