"""What a peer says it has: C-FIND and C-MOVE as SCU, Study Root (PS3.4 annex C).

A peer's answer is never trusted: responses to other series than asked for are passed over,
a count that is none (text, negative, beyond this world) is not a count, answers that do not end
are broken off, and every wait has an end.
"""

from __future__ import annotations

import re
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.presentation import PresentationContext

from dicom_node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.errors import ConfigurationError, PeerBusy, PeerRefused, PeerUnavailable
from dicom_node.intake.patience import Patience
from dicom_node.intake.retrieval_levels import identifier, retrievals
from dicom_node.tls_context import outgoing

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.events import Event, EventHandlerType
    from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation

    from dicom_node.config import PeerSettings

MOST_INSTANCES = 100_000
MOVE_DESTINATION_UNKNOWN = 0xA801
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
_PENDING = (0xFF00, 0xFF01)
_SOME_FAILED = 0xB000
_ABORT_S = 1.0
_MOST_SERIES_ANSWERS = 1000
# What reading an element of a data set from outside may raise.
_UNREADABLE = (
    ValueError, TypeError, KeyError, AttributeError, NotImplementedError, OverflowError,
    struct.error,
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Limits:
    """How long to wait for a peer, in seconds.

    ``answer_s`` is for one response to a query and ``query_s`` for all of them; the same of a
    retrieval, where a peer may say nothing while it reads from tape.
    """

    connect_s: float = 5.0
    associate_s: float = 10.0
    answer_s: float = 15.0
    query_s: float = 60.0
    retrieve_answer_s: float = 120.0
    retrieve_s: float = 900.0


@dataclass(frozen=True)
class Listed:
    """One instance that a peer says it has."""

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str


@dataclass(frozen=True)
class Retrieved:
    """What a peer says became of a retrieval: sub-operations and its last status."""

    completed: int
    failed: int
    status: int

    def __add__(self, other: Retrieved) -> Retrieved:
        return Retrieved(
            self.completed + other.completed, self.failed + other.failed,
            self.status or other.status,
        )


class QueryAssociation:
    """One association with a peer for queries and moves; a context manager.

    Parameters
    ----------
    calling_ae_title
        The node's own AE title.
    peer
        Whom to ask.
    contexts
        What is proposed; C-FIND and C-MOVE unless given.

    Raises
    ------
    PeerUnavailable
        On entering: no association was made.
    """

    def __init__(
        self,
        calling_ae_title: str,
        peer: PeerSettings,
        limits: Limits | None = None,
        contexts: Sequence[PresentationContext] = (),
        roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
        handlers: Sequence[EventHandlerType] = (),
    ) -> None:
        self.peer = peer
        self.limits = limits or Limits()
        self._contexts = list(contexts) or [query_context(FIND), query_context(MOVE)]
        self._roles = list(roles)
        self._patience = Patience()
        self._handlers = [
            *handlers, (evt.EVT_CONN_OPEN, self._on_open),
            (evt.EVT_PDU_RECV, lambda _: self._patience.renew()),
        ]
        self._entity = ApplicationEntity(calling_ae_title)
        self._entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        self._entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self._entity.connection_timeout = self.limits.connect_s
        self._entity.acse_timeout = self.limits.associate_s
        self._entity.dimse_timeout = self.limits.answer_s
        self._entity.network_timeout = self.limits.retrieve_answer_s
        self._association: Association | None = None

    def __enter__(self) -> Self:
        peer = self.peer
        try:
            self._association = self._entity.associate(
                peer.host, peer.port, list(self._contexts), peer.ae_title,
                ext_neg=list(self._roles) or None, evt_handlers=list(self._handlers),
                tls_args=tls_args(peer),
            )
        except OSError as error:
            raise self.unavailable("cannot be reached", "peer.unreachable") from error
        self._patience.pause()
        if not self._association.is_established:
            self._patience.end()
            if self._association.rejected_contexts:
                raise PeerRefused(
                    f"{peer.name} offers no queries", reason="peer.context_rejected"
                )
            how = "rejected" if self._association.is_rejected else "did not accept"
            reason = "peer.rejected" if self._association.is_rejected else "peer.unreachable"
            raise self.unavailable(f"{how} the association", reason)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._association is None:
            return
        if kind is None:
            self._patience.begin(self.limits.associate_s)
            self._association.release()
        else:
            self._break_off()
        self._patience.end()

    def _on_open(self, event: Event) -> None:
        self._patience.watch(event.assoc, self.limits.associate_s)

    def _break_off(self) -> None:
        # It waits for the rest of what the peer is sending.
        self._patience.begin(_ABORT_S)
        self.association.abort()

    def abort(self) -> None:
        """Break off whatever is under way; may be called from another thread."""
        if self._association is not None:
            self._break_off()
            # pynetdicom wakes nobody who waits for a response: this is its "none came in time".
            self._association.dimse.msg_queue.put((None, None))

    @property
    def association(self) -> Association:
        """The open association of pynetdicom."""
        if self._association is None:
            raise self.unavailable("was not asked for an association", "peer.unavailable")
        return self._association

    def count_instances(self, study_instance_uid: str, series_instance_uid: str) -> int | None:
        """How many instances of a series the peer has; 0 when it does not know the series.

        Number of Series Related Instances (0020,1209) of a SERIES level query; where the peer
        does not tell it, or tells different ones, its instances are listed and counted, each
        once. ``None`` when that gives nothing either.

        Raises
        ------
        PeerUnavailable, PeerBusy, PeerRefused
        """
        query = identifier("SERIES", study_instance_uid, series_instance_uid)
        query.NumberOfSeriesRelatedInstances = None
        answers = [
            _count(answer)
            for answer in self._find(query, _MOST_SERIES_ANSWERS)
            if _text(answer, "SeriesInstanceUID") == series_instance_uid
        ]
        if not answers:
            return 0
        counts = set(answers)
        if len(counts) == 1 and None not in counts:
            return counts.pop()
        return len(self.list_instances(study_instance_uid, series_instance_uid)) or None

    def list_instances(
        self, study_instance_uid: str, series_instance_uid: str = ""
    ) -> list[Listed]:
        """The instances that the peer says it has of a series, or of a study; each once.

        Raises
        ------
        PeerUnavailable, PeerBusy, PeerRefused
        """
        if not series_instance_uid:
            query = identifier("SERIES", study_instance_uid, "")
            series = [
                _text(answer, "SeriesInstanceUID")
                for answer in self._find(query, _MOST_SERIES_ANSWERS)
            ]
            return [
                one
                for uid in dict.fromkeys(filter(None, series))
                for one in self.list_instances(study_instance_uid, uid)
            ]
        query = identifier("IMAGE", study_instance_uid, series_instance_uid)
        query.SOPInstanceUID = ""
        query.SOPClassUID = ""
        found: dict[str, Listed] = {}
        for answer in self._find(query, MOST_INSTANCES):
            uid = _text(answer, "SOPInstanceUID")
            is_of_series = _text(answer, "SeriesInstanceUID") in ("", series_instance_uid)
            if uid and is_of_series:
                found[uid] = Listed(uid, _text(answer, "SOPClassUID"), series_instance_uid)
        return list(found.values())

    def move(
        self,
        destination: str,
        study_instance_uid: str,
        series_instance_uid: str = "",
        sop_instance_uids: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> Retrieved:
        """Let the peer send instances, or a series, or a study, to an AE title that it knows.

        Raises
        ------
        PeerUnavailable, PeerBusy, PeerRefused
            ``reason`` ends with the status, for example ``peer.move.0xA801`` when the peer does
            not know the destination.
        """
        total = Retrieved(0, 0, 0)
        for query in retrievals(study_instance_uid, series_instance_uid, sop_instance_uids):
            self.need(MOVE, "C-MOVE")
            answers = self.retrieving().send_c_move(query, destination, MOVE)
            total += self.follow("move", answers, progress)
        return total

    def need(self, model: str, name: str) -> None:
        """Raise `PeerRefused` unless the peer accepted to serve ``model``."""
        accepted = {context.abstract_syntax for context in self.association.accepted_contexts}
        if model not in accepted:
            raise PeerRefused(f"{self.peer.name} does not offer {name}",
                              reason="peer.context_rejected")

    def retrieving(self) -> Association:
        """The open association, with the time that retrievals have."""
        self.association.dimse_timeout = self.limits.retrieve_answer_s
        self._patience.begin(self.limits.retrieve_answer_s)
        return self.association

    def follow(
        self,
        what: str,
        answers: Iterator[tuple[Dataset, Dataset | None]],
        progress: Progress | None = None,
    ) -> Retrieved:
        """The responses to a C-MOVE or C-GET to their end; raises as `move` does."""
        deadline = time.monotonic() + self.limits.retrieve_s
        completed = failed = 0
        for status, _ in answers:
            self._patience.renew()
            code = self._status(status, what)
            completed = max(completed, _operations(status, "Completed", "Warning"))
            failed = max(failed, _operations(status, "Failed"))
            if code in _PENDING:
                if progress is not None:
                    progress(completed + failed, _operations(status, "Remaining"))
                if time.monotonic() > deadline:
                    self._break_off()
                    raise self.unavailable("does not come to an end", "peer.endless")
                continue
            if code in (0x0000, _SOME_FAILED):
                self._patience.pause()
                return Retrieved(completed, failed, code)
            raise self._refusal(code, what)
        raise self.unavailable("did not answer", "peer.timeout")

    def _find(self, query: Dataset, most: int) -> Iterator[Dataset]:
        """The identifiers of the pending responses; raises for every end but success."""
        self.need(FIND, "C-FIND")
        self.association.dimse_timeout = self.limits.answer_s
        self._patience.begin(self.limits.answer_s)
        deadline = time.monotonic() + self.limits.query_s
        answers = self.association.send_c_find(query, FIND)
        for answered, (status, answer) in enumerate(answers, start=1):
            self._patience.renew()
            code = self._status(status, "find")
            if code == 0x0000:
                self._patience.pause()
                return
            if code not in _PENDING:
                raise self._refusal(code, "find")
            if answered > most or time.monotonic() > deadline:
                self._break_off()
                raise self.unavailable("answers without end", "peer.endless")
            if answer is not None:
                yield answer
        raise self.unavailable("did not answer", "peer.timeout")

    def _status(self, status: Dataset, what: str) -> int:
        if "Status" not in status:
            raise self.unavailable(f"did not answer a C-{what.upper()}", "peer.timeout")
        return int(status.Status)

    def _refusal(self, code: int, what: str) -> PeerBusy | PeerRefused:
        # PS3.4 annex C.4: 0xA7xx is out of resources; all else will be answered the same again.
        kind = PeerBusy if 0xA700 <= code <= 0xA7FF else PeerRefused
        return kind(
            f"{self.peer.name} answered C-{what.upper()} with 0x{code:04X}",
            reason=f"peer.{what}.0x{code:04X}",
        )

    def unavailable(self, what: str, reason: str) -> PeerUnavailable:
        """An error that names the peer."""
        who = f"{self.peer.name} ({self.peer.ae_title} at {self.peer.host}:{self.peer.port})"
        return PeerUnavailable(f"{who} {what}", reason=reason)


def tls_args(peer: PeerSettings) -> tuple[ssl.SSLContext, str] | None:
    """What pynetdicom needs to call a peer by TLS; None of one that is called without.

    Raises
    ------
    PeerUnavailable
        It is to be called by TLS, and the files of ``security.tls`` cannot be used.
    """
    try:
        how = outgoing(peer)
    except ConfigurationError as error:
        raise PeerUnavailable(
            f"{peer.name} cannot be called by TLS: {error}", reason="tls.files"
        ) from error
    return None if how is None else (how.context, how.server_hostname)


def query_context(model: str) -> PresentationContext:
    """A presentation context for queries, whose data sets are never compressed."""
    return build_context(model, [ImplicitVRLittleEndian, ExplicitVRLittleEndian])


def _text(answer: Dataset, keyword: str) -> str:
    try:
        return str(answer.get(keyword) or "").strip(" \0")
    except _UNREADABLE:
        return ""


def _count(answer: Dataset) -> int | None:
    text = _text(answer, "NumberOfSeriesRelatedInstances")
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 0 < int(text) <= MOST_INSTANCES:
        return None
    return int(text)


def _operations(status: Dataset, *kinds: str) -> int:
    total = 0
    for kind in kinds:
        text = _text(status, f"NumberOf{kind}Suboperations")
        total += int(text) if re.fullmatch(r"[0-9]{1,6}", text) else 0
    return total
