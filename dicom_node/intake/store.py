"""One C-STORE from its request to its status: the same for the streamed and the stock path.

    ReceivedAssociation.begin(request)  ->  Receipt.write(...)*  ->  Receipt.finish() -> Answer

A refusal known at the beginning (no space, wrong SOP class) or met on the way (the disk fails)
swallows the rest of the data set, so that the association survives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from dicom_node.durable import storage_error
from dicom_node.errors import (
    SUCCESS,
    DataSetMismatch,
    NodeError,
    NotUnderstood,
    OutOfSpace,
    PermanentError,
)
from dicom_node.events import Events, about_study
from dicom_node.intake.command import StoreRequest
from dicom_node.intake.file_meta import build_file_meta
from dicom_node.intake.header import Head, read_data_set_head
from dicom_node.intake.quota import Allowance
from dicom_node.intake.refusals import printable
from dicom_node.intake.sources import WINDOW_BYTES, ReceivedSource
from dicom_node.ledger import clock
from dicom_node.part import Part
from dicom_node.records import Association, Instance
from dicom_node.spool import Spool, StoredFile


class SopClassNotSupported(NodeError):
    """The request names another SOP class than its presentation context (PS3.7 annex C)."""

    status = 0x0122
    reason = "dataset.sop_class_not_supported"


class InstanceTooLarge(PermanentError):
    """The data set is longer than ``intake.max_instance_bytes``."""

    status = 0xC006
    reason = "dataset.too_large"


class NotAskedFor(NodeError):
    """It comes as the answer to a retrieval, and is of another study or series than asked for.

    "Refused: not authorized" (PS3.7 annex C); whoever gives it has it still.
    """

    status = 0x0124
    reason = "dataset.not_asked_for"


@dataclass(frozen=True)
class Limits:
    """What one instance may be: ``intake.max_instance_bytes`` and ``intake.max_sequence_depth``."""

    instance_bytes: int = 16 << 30
    sequence_depth: int = 32


# What a person can still look at; everything else that is refused is kept nowhere.
QUARANTINED: tuple[type[NodeError], ...] = (NotUnderstood, DataSetMismatch)


class Index(Protocol):
    """Who is told what was stored: `dicom_node.intake.indexer.Indexer`."""

    listener_id: str

    def stored(self, instance: Instance, association: Association) -> None:
        """An instance is durable; its association is still open."""
        ...

    def ended(self, association: Association) -> None:
        """An association that delivered something is over."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and Error Comment of the C-STORE-RSP."""

    status: int
    comment: str = ""


@dataclass
class StudyReceived:
    """What of one study an association has brought."""

    instances: int = 0
    size_bytes: int = 0
    patient_id: str = ""
    sop_class_uids: Counter[str] = field(default_factory=Counter)


class ReceivedAssociation:
    """What one association delivers; used by its receiving thread only.

    ``brought`` is told the size of every instance that is kept; ``address`` is where the caller
    called from. ``asked`` are the UIDs of study and series of a retrieval, "" for any: nothing
    else is kept of what is given.
    """

    def __init__(
        self, association: Association, receiving_ae_title: str, spool: Spool, index: Index,
        events: Events, brought: Callable[[int], None] | None = None,
        limits: Limits = Limits(), allowance: Allowance | None = None, address: str = "",
        asked: tuple[str, str] = ("", ""),
    ) -> None:  # fmt: skip
        self.association = association
        self.receiving_ae_title = receiving_ae_title
        self.spool = spool
        self.index = index
        self.events = events
        self.brought = brought
        self.limits = limits
        self.allowance = allowance
        self.address = address
        self.asked = asked
        self.stored = self.refused = 0
        self._studies: dict[str, StudyReceived] = {}

    def begin(
        self, request: StoreRequest, abstract_syntax: str, transfer_syntax_uid: str
    ) -> Receipt:
        """A C-STORE request has come under a presentation context with these syntaxes."""
        return Receipt(self, request, abstract_syntax, transfer_syntax_uid)

    def end(self, how: str) -> None:
        """The association is over: ``released``, ``aborted`` or ``lost``."""
        opened = self.association
        if self.stored:
            self.index.ended(
                Association(
                    opened.association_id,
                    opened.calling_ae_title,
                    opened.listener_id,
                    opened.opened_at,
                    clock.now(),
                    how,
                )
            )
        for study_instance_uid, study in self._studies.items():
            self.events.study_received(
                opened.association_id, opened.calling_ae_title, study_instance_uid, study.instances,
                address=self.address, patient_id=study.patient_id,
                sop_class_uids=dict(study.sop_class_uids), size_bytes=study.size_bytes,
            )
        self.events.association_ended(
            opened.association_id, how, self.stored, refused=self.refused,
            calling_ae_title=printable(opened.calling_ae_title), address=self.address,
        )

    @property
    def sender(self) -> dict[str, str]:
        """Who sends, fit for a log: AE title, address and association."""
        return {
            "calling_ae_title": printable(self.association.calling_ae_title),
            "address": self.address, "association_id": self.association.association_id,
        }

    def note(self, head: Head, size_bytes: int) -> None:
        """An instance is kept."""
        self.stored += 1
        if self.brought is not None:
            self.brought(size_bytes)
        study = self._studies.setdefault(head.study_instance_uid, StudyReceived())
        study.instances += 1
        study.size_bytes += size_bytes
        study.patient_id = study.patient_id or head.patient_id
        study.sop_class_uids[head.sop_class_uid] += 1


class Receipt:
    """The data set of one C-STORE on its way to its file."""

    def __init__(
        self,
        received: ReceivedAssociation,
        request: StoreRequest,
        abstract_syntax: str,
        transfer_syntax_uid: str,
    ) -> None:
        self._received = received
        self._request = request
        self._transfer_syntax_uid = transfer_syntax_uid
        self._part: Part | None = None
        self._failure: NodeError | None = None
        self._left_bytes = received.limits.instance_bytes
        # The first bytes of the data set, which its header is in as a rule.
        self._begin = bytearray()
        try:
            if not request.has_data_set:
                raise NotUnderstood("the C-STORE request has no data set")
            if request.sop_class_uid.decode("ascii", "replace") != abstract_syntax:
                raise SopClassNotSupported("not the SOP class of the presentation context")
            if received.allowance is not None:
                received.allowance.begin_instance()
            received.spool.check_space()
            self._part = received.spool.begin(received.association.association_id)
            self._part.write_meta(
                build_file_meta(
                    request.sop_class_uid,
                    request.sop_instance_uid,
                    transfer_syntax_uid,
                    received.association.calling_ae_title,
                    received.receiving_ae_title,
                ),
                transfer_syntax_uid,
            )
        except NodeError as failure:
            self._fail(failure)

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Append to the file; after a failure the bytes are swallowed."""
        if self._part is not None:
            self._left_bytes -= (size_bytes := sum(map(len, pieces)))
            try:
                if self._left_bytes < 0:
                    raise InstanceTooLarge("the instance is larger than the node takes")
                if self._received.allowance is not None:
                    self._received.allowance.took(size_bytes)
                self._part.write(pieces)
            except NodeError as failure:
                self._fail(failure)
                return
            if len(self._begin) < WINDOW_BYTES:
                self._keep_begin(pieces)

    def _keep_begin(self, pieces: Sequence[bytes | memoryview]) -> None:
        for piece in pieces:
            self._begin += piece[: WINDOW_BYTES - len(self._begin)]

    def abandon(self) -> None:
        """Leave nothing behind."""
        if self._part is not None:
            self._part.discard()
            self._part = None

    def finish(self) -> Answer:
        """Check and keep the complete data set; success means that it is on disk for good."""
        part, self._part = self._part, None
        if part is None:
            failure = self._failure or NotUnderstood("nothing was received")
            return self._refuse(failure, quarantined=False)
        try:
            head = self._check(part)
            kept = self._received.spool.commit(
                part, head.study_instance_uid, head.series_instance_uid, head.sop_instance_uid
            )
        except QUARANTINED as failure:
            return self._quarantine(part, failure)
        except NodeError as failure:
            part.discard()
            return self._refuse(failure, quarantined=False)
        except OSError as failure:
            part.discard()
            return self._refuse(storage_error(failure), quarantined=False)
        finally:
            part.close()
        self._tell(head, kept)
        return Answer(SUCCESS)

    def _check(self, part: Part) -> Head:
        sop_class_uid = self._request.sop_class_uid.decode("ascii", "replace")
        sop_instance_uid = self._request.sop_instance_uid.decode("ascii", "replace")
        head = read_data_set_head(
            ReceivedSource(part.fd, part.data_offset, part.size_bytes, bytes(self._begin)),
            self._transfer_syntax_uid,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            most_depth=self._received.limits.sequence_depth,
        )
        if head.sop_class_uid != sop_class_uid:
            raise DataSetMismatch("the data set is of another SOP class than requested")
        if head.sop_instance_uid != sop_instance_uid:
            raise DataSetMismatch("the data set is another SOP instance than requested")
        study, series = self._received.asked
        if study not in ("", head.study_instance_uid) or series not in (
            "", head.series_instance_uid
        ):
            raise NotAskedFor("not of what was asked for")
        return head

    def _tell(self, head: Head, kept: StoredFile) -> None:
        received = self._received
        received.note(head, kept.size_bytes)
        instance = instance_of(head, kept, received.association, clock.now())
        received.index.stored(instance, received.association)
        with about_study(head.study_instance_uid):
            received.events.instance_stored(head.sop_instance_uid, kept.size_bytes, kept.outcome)

    def _fail(self, failure: NodeError) -> None:
        self._failure = failure
        self.abandon()

    def _quarantine(self, part: Part, failure: NodeError) -> Answer:
        try:
            self._received.spool.quarantine(
                part, failure.reason, str(failure), self._received.sender
            )
        except NodeError as full:
            # Kept nowhere, so the answer must be one that makes the sender keep it.
            return self._refuse(full, quarantined=False)
        return self._refuse(failure, quarantined=True)

    def _refuse(self, failure: NodeError, *, quarantined: bool) -> Answer:
        if isinstance(failure, OutOfSpace):
            self._received.spool.forget_space()
        self._received.refused += 1
        self._received.events.instance_refused(
            failure.status, failure.reason, quarantined, **self._received.sender,
            sop_class_uid=printable(self._request.sop_class_uid.decode("ascii", "replace"), 64),
        )
        return Answer(failure.status, str(failure))


def instance_of(
    head: Head, kept: StoredFile, association: Association, received_at: datetime
) -> Instance:
    """The index entry of a kept file."""
    return Instance(
        sop_instance_uid=head.sop_instance_uid,
        sop_class_uid=head.sop_class_uid,
        transfer_syntax_uid=head.transfer_syntax_uid,
        series_instance_uid=head.series_instance_uid,
        study_instance_uid=head.study_instance_uid,
        modality=head.modality,
        path=kept.path,
        size_bytes=kept.size_bytes,
        fingerprint=kept.fingerprint,
        received_at=received_at,
        association_id=association.association_id,
        calling_ae_title=association.calling_ae_title,
        position_mm=head.position_mm,
        orientation=head.orientation,
        instance_number=head.instance_number,
        number_of_frames=head.number_of_frames,
        expected_instances=head.expected_instances,
        images_in_acquisition=head.images_in_acquisition,
        slices_in_series=head.slices_in_series,
    )
