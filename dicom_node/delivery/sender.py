"""C-STORE of files to a peer: one association, in the order given, one outcome per file.

Nothing is reported as stored that did not get a stored status from the peer. Sending is at
least once: an object whose answer was lost is sent again under the same SOP Instance UID.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dicom_node.delivery.association import MAX_CONTEXTS, Association, Context, Timeouts
from dicom_node.delivery.part10 import FileHead, read_file_head
from dicom_node.delivery.status import classify
from dicom_node.errors import NotUnderstood, PeerRefused, PeerUnavailable
from dicom_node.records import SendOutcome

if TYPE_CHECKING:
    from dicom_node.config import PeerSettings

_VERIFICATION = Context("1.2.840.10008.1.1", "1.2.840.10008.1.2")
_IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_DEFLATED_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
# What a file may be re-encoded to without touching its pixels, best first.
_ALTERNATIVES = {
    _EXPLICIT_LITTLE_ENDIAN: (_IMPLICIT_LITTLE_ENDIAN,),
    _IMPLICIT_LITTLE_ENDIAN: (_EXPLICIT_LITTLE_ENDIAN,),
    _DEFLATED_LITTLE_ENDIAN: (_EXPLICIT_LITTLE_ENDIAN, _IMPLICIT_LITTLE_ENDIAN),
}
# PS3.8 table 9-18.
_CONTEXT_RESULTS = {
    1: "user_rejection",
    3: "sop_class_not_supported",
    4: "transfer_syntax_not_supported",
}


@dataclass(frozen=True)
class _Item:
    """One file of the list: what can be sent, or the outcome that it already has."""

    position: int
    path: Path
    head: FileHead | None
    outcome: SendOutcome | None = None

    @property
    def contexts(self) -> tuple[Context, ...]:
        """The contexts in which this file can be sent, its own first."""
        if self.head is None:
            return ()
        own = self.head.transfer_syntax_uid
        return tuple(
            Context(self.head.sop_class_uid, uid) for uid in (own, *_ALTERNATIVES.get(own, ()))
        )


class Sender:
    """Storage SCU; holds no connection, so one may be shared by threads.

    Parameters
    ----------
    calling_ae_title
        The node's own AE title.
    timeouts
        How long to wait for a peer.
    """

    def __init__(self, calling_ae_title: str, timeouts: Timeouts | None = None) -> None:
        self._calling_ae_title = calling_ae_title
        self._timeouts = timeouts or Timeouts()

    def send(self, peer: PeerSettings, paths: Sequence[Path]) -> list[SendOutcome]:
        """Store Part 10 files at ``peer`` and return one outcome per path, in their order.

        An object is sent as it is on disk; only where the peer takes an uncompressed class in
        another little endian encoding alone is it re-encoded. When the association breaks off,
        the object under way and those behind it are transient and those answered before keep
        their answers. A refused object does not hold back the ones behind it. (More than one
        association is used only when the files need more than 128 presentation contexts.)

        Raises
        ------
        PeerUnavailable
            No association was established, so nothing was sent; ``reason`` says why
            (``peer.unreachable``, ``peer.rejected.called_ae_title``, ``peer.timeout``...).
        """
        items = [_inspect(position, path) for position, path in enumerate(paths)]
        outcomes = {item.position: item.outcome for item in items if item.outcome is not None}
        for batch in _batches([item for item in items if item.head is not None]):
            try:
                outcomes.update(self._send_batch(peer, batch))
            except PeerUnavailable as error:
                if not any(outcome.status is not None for outcome in outcomes.values()):
                    raise
                outcomes.update(_unsent(batch, error.reason))
        return [outcomes[item.position] for item in items]

    def echo(self, peer: PeerSettings) -> float:
        """Associate and C-ECHO; seconds from connecting to the answer.

        Raises
        ------
        PeerUnavailable
            No association, no answer, or a status other than success.
        PeerRefused
            The peer does not offer verification.
        """
        started = time.monotonic()
        with self._associate(peer, [_VERIFICATION]) as association:
            if not association.accepts(_VERIFICATION):
                raise PeerRefused(
                    f"{peer.name} does not offer C-ECHO", reason="peer.context_rejected"
                )
            status = association.echo(_VERIFICATION)
            seconds = time.monotonic() - started
        if status != 0:
            raise PeerUnavailable(
                f"{peer.name} answered C-ECHO with 0x{status:04X}", reason="peer.echo_failed"
            )
        return seconds

    def _associate(self, peer: PeerSettings, contexts: Sequence[Context]) -> Association:
        return Association(peer, self._calling_ae_title, contexts, self._timeouts)

    def _send_batch(self, peer: PeerSettings, batch: Sequence[_Item]) -> dict[int, SendOutcome]:
        contexts = list(dict.fromkeys(context for item in batch for context in item.contexts))
        outcomes: dict[int, SendOutcome] = {}
        association = self._associate(peer, contexts)
        try:
            with association:
                for item in batch:
                    outcomes[item.position] = _store(association, item)
        except PeerUnavailable as error:
            reason = error.reason
        except OSError:
            reason = "file.unreadable"
        else:
            return outcomes
        unsent = [item for item in batch if item.position not in outcomes]
        return outcomes | _unsent(unsent, reason)


def _inspect(position: int, path: Path) -> _Item:
    try:
        with path.open("rb") as file:
            return _Item(position, path, read_file_head(file))
    except NotUnderstood as error:
        outcome = SendOutcome("", None, stored=False, transient=False, reason=error.reason)
    except FileNotFoundError:
        outcome = SendOutcome("", None, stored=False, transient=False, reason="file.missing")
    except OSError:
        outcome = SendOutcome("", None, stored=False, transient=True, reason="file.unreadable")
    return _Item(position, path, None, outcome)


def _batches(items: Sequence[_Item]) -> Iterator[list[_Item]]:
    batch: list[_Item] = []
    contexts: set[Context] = set()
    for item in items:
        if len(contexts | set(item.contexts)) > MAX_CONTEXTS:
            yield batch
            batch, contexts = [], set()
        batch.append(item)
        contexts.update(item.contexts)
    if batch:
        yield batch


def _unsent(items: Sequence[_Item], reason: str) -> dict[int, SendOutcome]:
    return {
        item.position: SendOutcome(
            item.head.sop_instance_uid, None, stored=False, transient=True, reason=reason
        )
        for item in items
        if item.head is not None
    }


def _store(association: Association, item: _Item) -> SendOutcome:
    assert item.head is not None
    uid = item.head.sop_instance_uid
    context = next((one for one in item.contexts if association.accepts(one)), None)
    if context is None:
        result = association.rejected.get(item.contexts[0], 2)
        reason = f"peer.context_rejected.{_CONTEXT_RESULTS.get(result, 'no_reason')}"
        return SendOutcome(uid, None, stored=False, transient=False, reason=reason)
    try:
        data_set, length_bytes = _open_data_set(item.path, item.head, context)
    except NotUnderstood:
        return SendOutcome(uid, None, stored=False, transient=False, reason="file.not_reencodable")
    with data_set:
        status = association.store(context, uid, data_set, length_bytes)
    meaning = classify(status)
    return SendOutcome(uid, status, meaning.stored, meaning.transient, meaning.reason)


def _open_data_set(path: Path, head: FileHead, context: Context) -> tuple[BinaryIO, int]:
    """The data set's bytes in the context's transfer syntax, and how many they are."""
    if context.transfer_syntax_uid != head.transfer_syntax_uid:
        encoded = _reencode(path, implicit=context.transfer_syntax_uid == _IMPLICIT_LITTLE_ENDIAN)
        return io.BytesIO(encoded), len(encoded)
    file = path.open("rb")
    length_bytes = os.fstat(file.fileno()).st_size - head.data_set_offset_bytes
    file.seek(head.data_set_offset_bytes)
    return file, max(length_bytes, 0)


def _reencode(path: Path, *, implicit: bool) -> bytes:
    from pydicom import dcmread
    from pydicom.errors import BytesLengthException, InvalidDicomError
    from pynetdicom.dsutils import encode

    try:
        encoded = encode(dcmread(path), implicit, True)
    except (InvalidDicomError, BytesLengthException, ValueError, KeyError, TypeError) as error:
        raise NotUnderstood(f"cannot be re-encoded: {type(error).__name__}") from error
    if encoded is None:
        raise NotUnderstood("cannot be re-encoded")
    return encoded
