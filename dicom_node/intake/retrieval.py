"""C-GET as SCU: instances come back on the association that asked for them (PS3.4 annex C.4.3).

    get_into_spool     as if a listener had received them: the same check, the same durable write
    get_into_folder    Part 10 files for a person

Each instance is answered with the C-STORE status that it deserves. pynetdicom collects one data
set at a time in memory before it is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast
from uuid import uuid4

from pydicom.dataset import Dataset
from pynetdicom import AllStoragePresentationContexts, build_context, build_role, evt
from pynetdicom.dimse_primitives import C_STORE

from dicom_node.durable import storage_error, write_durably
from dicom_node.errors import SUCCESS, DataSetMismatch, NodeError
from dicom_node.intake.command import StoreRequest
from dicom_node.intake.contexts import storage_transfer_syntaxes
from dicom_node.intake.file_meta import build_file_meta
from dicom_node.intake.query import (
    Limits,
    Progress,
    QueryAssociation,
    Retrieved,
    query_context,
)
from dicom_node.intake.retrieval_levels import retrievals
from dicom_node.intake.store import Answer, Index, ReceivedAssociation
from dicom_node.ledger import clock
from dicom_node.records import Association
from dicom_node.spool import uid_to_name

if TYPE_CHECKING:
    from pynetdicom.events import Event
    from pynetdicom.presentation import PresentationContext

    from dicom_node.config import PeerSettings
    from dicom_node.events import Events
    from dicom_node.spool import Spool

GET = "1.2.840.10008.5.1.4.1.2.2.3"
# PS3.8 section 9.3.2.2: 128 presentation contexts, one of them for the request itself.
_MOST_CONTEXTS = 127
# One context each, so that a peer sends what it has as it has it; what is left shares one.
_OWN_CONTEXT = 8

Keep = Callable[[StoreRequest, str, memoryview], Answer]


def get_into_spool(
    query: GetQuery, spool: Spool, index: Index, events: Events, sop_class_uids: Sequence[str],
    limits: Limits | None = None,
) -> Retrieved:
    """Retrieve into the spool; the index is told as by a listener.

    What a peer gives that is of another study or series is refused.
    ``sop_class_uids`` are the storage classes that may come; those of images when empty.

    Raises
    ------
    PeerUnavailable, PeerBusy, PeerRefused
        What came before that is kept.
    """
    opened = Association(uuid4().hex, query.peer.ae_title, index.listener_id, clock.now())
    received = ReceivedAssociation(
        opened, query.calling_ae_title, spool, index, events,
        asked=(query.study_instance_uid, query.series_instance_uid),
    )

    def keep(request: StoreRequest, transfer_syntax_uid: str, data_set: memoryview) -> Answer:
        sop_class_uid = request.sop_class_uid.decode("ascii", "replace")
        receipt = received.begin(request, sop_class_uid, transfer_syntax_uid)
        receipt.write([data_set])
        return receipt.finish()

    how = "aborted"
    try:
        retrieved = query.run(keep, sop_class_uids, limits)
        how = "released"
    finally:
        received.end(how)
    return retrieved


def get_into_folder(
    query: GetQuery, folder: Path, sop_class_uids: Sequence[str], limits: Limits | None = None
) -> tuple[Retrieved, list[Path]]:
    """Retrieve into ``folder``/<series>/<instance>.dcm; what is there already is replaced.

    Raises
    ------
    PeerUnavailable, PeerBusy, PeerRefused
        What came before that is kept.
    """
    written: list[Path] = []
    place = folder / uid_to_name(query.series_instance_uid or query.study_instance_uid)

    def keep(request: StoreRequest, transfer_syntax_uid: str, data_set: memoryview) -> Answer:
        name = uid_to_name(request.sop_instance_uid.decode("ascii", "replace"))
        meta = build_file_meta(
            request.sop_class_uid, request.sop_instance_uid, transfer_syntax_uid,
            query.peer.ae_title, query.calling_ae_title,
        )

        def write(file: BinaryIO) -> None:
            file.write(meta)
            file.write(data_set)

        try:
            place.mkdir(parents=True, exist_ok=True)
            write_durably(os.fspath(place / f"{name}.dcm"), write)
        except OSError as failure:
            full = storage_error(failure)
            return Answer(full.status, str(full))
        written.append(place / f"{name}.dcm")
        return Answer(SUCCESS)

    return query.run(keep, sop_class_uids, limits), written


class GetQuery:
    """What to retrieve from whom; see `retrievals` for the levels."""

    def __init__(
        self,
        calling_ae_title: str,
        peer: PeerSettings,
        study_instance_uid: str,
        series_instance_uid: str = "",
        sop_instance_uids: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> None:
        self.calling_ae_title = calling_ae_title
        self.peer = peer
        self.study_instance_uid = study_instance_uid
        self.series_instance_uid = series_instance_uid
        self._sop_instance_uids = list(sop_instance_uids)
        self._progress = progress

    def run(self, keep: Keep, sop_class_uids: Sequence[str], limits: Limits | None) -> Retrieved:
        """Associate, ask, and hand every instance to ``keep``."""
        classes = list(dict.fromkeys(sop_class_uids)) or _image_classes()
        classes = classes[:_MOST_CONTEXTS]
        opened = QueryAssociation(
            self.calling_ae_title, self.peer, limits,
            contexts=[query_context(GET), *storage_contexts(classes)],
            roles=[build_role(uid, scp_role=True) for uid in classes],
            handlers=[(evt.EVT_C_STORE, _on_store, [keep])],
        )
        total = Retrieved(0, 0, 0)
        with opened as association:
            association.need(GET, "C-GET")
            for query in retrievals(
                self.study_instance_uid, self.series_instance_uid, self._sop_instance_uids
            ):
                answers = association.retrieving().send_c_get(query, GET)
                total += association.follow("get", answers, self._progress)
        return total


def storage_contexts(sop_class_uids: Sequence[str]) -> list[PresentationContext]:
    """At most 127 contexts for these classes, as many transfer syntaxes apart as there is room."""
    syntaxes = storage_transfer_syntaxes()
    apart = min(_OWN_CONTEXT, _MOST_CONTEXTS // len(sop_class_uids) - 1)
    contexts = []
    for uid in sop_class_uids:
        contexts += [build_context(uid, one) for one in syntaxes[: max(0, apart)]]
        contexts.append(build_context(uid, syntaxes[max(0, apart) :]))
    return contexts


def _image_classes() -> list[str]:
    return [str(context.abstract_syntax) for context in AllStoragePresentationContexts]


def _on_store(event: Event, keep: Keep) -> Dataset:
    """Answer one C-STORE sub-operation; whatever goes wrong is a status, never the end."""
    request = cast(C_STORE, event.request)
    data_set = request.DataSet
    store = StoreRequest(
        cast(int, request._context_id),
        cast(int, request.MessageID),
        str(request.AffectedSOPClassUID).encode("ascii", "replace"),
        str(request.AffectedSOPInstanceUID).encode("ascii", "replace"),
        data_set is not None,
    )
    status = Dataset()
    try:
        if str(event.context.abstract_syntax) != str(request.AffectedSOPClassUID):
            raise DataSetMismatch("not the SOP class of its presentation context")
        content = data_set.getbuffer() if data_set is not None else memoryview(b"")
        answer = keep(store, str(event.context.transfer_syntax), content)
        status.Status = answer.status
    except NodeError as failure:
        status.Status = failure.status
    return status
