"""What others tell the node about how many instances a series has, kept as evidence.

    Instance Availability Notification (PS3.4 annex R)       N-CREATE
    Modality Performed Procedure Step (PS3.4 annex F.7)      N-CREATE, then N-SET until it is over

A notification lists what is available now and more may follow; a step that is COMPLETED or
DISCONTINUED is final.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dicom_node import references
from dicom_node.errors import SUCCESS, NotUnderstood
from dicom_node.events import Events
from dicom_node.ledger import clock

if TYPE_CHECKING:
    from dicom_node.intake.normalised import Request
    from dicom_node.ledger.announcements import Source
    from dicom_node.ledger.ledger import Ledger

INSTANCE_AVAILABILITY_NOTIFICATION = "1.2.840.10008.5.1.4.33"
PROCEDURE_STEP = "1.2.840.10008.3.1.2.3.3"

# PS3.7 annex C.
INVALID_VALUE = 0x0106
PROCESSING_FAILURE = 0x0110
DUPLICATE_INSTANCE = 0x0111
NO_SUCH_INSTANCE = 0x0112
INVALID_INSTANCE = 0x0117
MISSING_ATTRIBUTE = 0x0120
RESOURCE_LIMITATION = 0x0213
NOT_AUTHORISED = 0x0124
# Each is a write of its own; no examination has so many.
_MOST_SERIES = 2000
_IN_PROGRESS = "IN PROGRESS"
_OVER = frozenset({"COMPLETED", "DISCONTINUED"})
_UNAVAILABLE = "UNAVAILABLE"
_REFERENCES = (
    references.REFERENCED_IMAGE_SEQUENCE,
    references.REFERENCED_NON_IMAGE_COMPOSITE_SOP_INSTANCE_SEQUENCE,
)


class Notifications:
    """Instance Availability Notification and MPPS SCP; everything is kept before its success.

    Its methods answer one request with a status and raise `LedgerUnavailable`: not kept.
    """

    def __init__(self, ledger: Ledger, events: Events) -> None:
        self._announcements = ledger.announcements
        self._steps = ledger.procedure_steps
        self._events = events

    def availability(self, request: Request) -> int:
        """An Instance Availability Notification: count what it says can be had, by series."""
        found = _decode(request)
        if isinstance(found, int):
            return found
        study = found.uid(references.STUDY_INSTANCE_UID)
        series = found.items(references.REFERENCED_SERIES_SEQUENCE)
        if not study or not series:
            return MISSING_ATTRIBUTE
        counts: dict[str, set[str]] = {}
        for one in series:
            available = (
                item.uid(references.REFERENCED_SOP_INSTANCE_UID)
                for item in one.items(references.REFERENCED_SOP_SEQUENCE)
                if item.text(references.INSTANCE_AVAILABILITY) != _UNAVAILABLE
            )
            _add(counts, one, available)
        return self._record(request, "ian", study, counts, final=False)

    def begin_step(self, request: Request) -> int:
        """N-CREATE of a procedure step: which study it is for."""
        from dicom_node.ledger.procedure_steps import ProcedureStep

        found = _decode(request)
        if isinstance(found, int):
            return found
        if not _is_uid(request.sop_instance_uid):
            return INVALID_INSTANCE
        scheduled = found.items(references.SCHEDULED_STEP_ATTRIBUTES_SEQUENCE)
        studies = [uid for item in scheduled if (uid := item.uid(references.STUDY_INSTANCE_UID))]
        if not studies:
            return MISSING_ATTRIBUTE
        if found.text(references.PERFORMED_PROCEDURE_STEP_STATUS) != _IN_PROGRESS:
            return INVALID_VALUE
        step = ProcedureStep(
            request.sop_instance_uid, studies[0], request.calling_ae_title[:16], _IN_PROGRESS
        )
        # The same again is the same: its sender has lost our answer.
        return SUCCESS if self._steps.begin(step, clock.now()) else DUPLICATE_INSTANCE

    def change_step(self, request: Request) -> int:
        """N-SET of a procedure step: what it has produced, and whether it is over."""
        found = _decode(request)
        if isinstance(found, int):
            return found
        step = self._steps.find(request.sop_instance_uid)
        if step is None:
            return NO_SUCH_INSTANCE
        if step.calling_ae_title != request.calling_ae_title[:16]:
            return NOT_AUTHORISED
        status = found.text(references.PERFORMED_PROCEDURE_STEP_STATUS) or step.status
        if status not in _OVER and status != _IN_PROGRESS:
            return INVALID_VALUE
        if step.status in _OVER and status != step.status:
            return PROCESSING_FAILURE
        counts: dict[str, set[str]] = {}
        for one in found.items(references.PERFORMED_SERIES_SEQUENCE):
            listed = (
                item.uid(references.REFERENCED_SOP_INSTANCE_UID)
                for tag in _REFERENCES
                for item in one.items(tag)
            )
            _add(counts, one, listed)
        study, is_over = step.study_instance_uid, status in _OVER
        answer = self._record(request, "mpps", study, counts, final=is_over)
        if answer == SUCCESS:
            self._steps.change(step.sop_instance_uid, status, clock.now())
        return answer

    def _record(
        self, request: Request, source: Source, study: str, counts: dict[str, set[str]],
        *, final: bool,
    ) -> int:  # fmt: skip
        if len(counts) > _MOST_SERIES:
            return RESOURCE_LIMITATION
        for series, uids in counts.items():
            # A series that is named without instances says nothing about their number.
            if uids and not self._announcements.record(
                series, source, study, len(uids), request.calling_ae_title, final
            ):
                return INVALID_VALUE
        self._events.instances_announced(request.calling_ae_title, source, len(counts))
        return SUCCESS


def _decode(request: Request) -> references.DataSet | int:
    """The data set of a request, or the status that refuses it."""
    try:
        return references.decode(request.data_set, explicit_vr=request.explicit_vr)
    except references.TooManyItems:
        return RESOURCE_LIMITATION
    except NotUnderstood:
        return INVALID_VALUE


def _add(counts: dict[str, set[str]], series: references.DataSet, uids: Iterable[str]) -> None:
    series_instance_uid = series.uid(references.SERIES_INSTANCE_UID)
    if series_instance_uid:
        counts.setdefault(series_instance_uid, set()).update(uid for uid in uids if uid)


def _is_uid(text: str) -> bool:
    return 0 < len(text) <= 64 and set(text) <= set("0123456789.")
