"""C-STORE of files to a peer: one association, in the order given, one outcome per file.

Nothing is reported as stored that did not get a stored status from the peer. Sending is at
least once: an object whose answer was lost is sent again under the same SOP Instance UID.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dicom_node.delivery.association import MAX_CONTEXTS, Association, Context, Timeouts
from dicom_node.delivery.compression import compressed
from dicom_node.delivery.open_sockets import STOPPING
from dicom_node.delivery.outgoing import HELD_BACK, Outgoing, inspect, is_held_back
from dicom_node.delivery.part10 import read_file_head
from dicom_node.delivery.pool import AssociationPool
from dicom_node.delivery.status import classify
from dicom_node.delivery.transcode import alternatives, transcoded
from dicom_node.errors import NotUnderstood, PeerRefused, PeerUnavailable, StorageFailed
from dicom_node.records import SendOutcome

if TYPE_CHECKING:
    from dicom_node.config import PeerSettings

VERIFICATION = Context("1.2.840.10008.1.1", "1.2.840.10008.1.2")
_HUNG_UP = frozenset({"peer.connection_lost", "peer.aborted", "peer.released"})
# PS3.8 table 9-18.
_CONTEXT_RESULTS = {
    1: "user_rejection",
    3: "sop_class_not_supported",
    4: "transfer_syntax_not_supported",
}


class Sender:
    """Storage SCU; may be shared by threads.

    Parameters
    ----------
    calling_ae_title
        The node's own AE title.
    timeouts
        How long to wait for a peer.
    idle_s
        How long an association is kept for the next list of files; 0 releases it at once.
    scratch
        The folder for copies in another transfer syntax; ``None`` is the system's.
    """

    def __init__(
        self,
        calling_ae_title: str,
        timeouts: Timeouts | None = None,
        *,
        idle_s: float = 0.0,
        scratch: Path | None = None,
    ) -> None:
        self.timeouts = timeouts or Timeouts()
        self._scratch = scratch
        self._pool = AssociationPool(calling_ae_title, self.timeouts, idle_s)

    def close(self, grace_s: float) -> None:
        """Begin no other object, wait so long for those under way, then cut them off.

        What was not answered is transient with the reason `STOPPING`.
        """
        self._pool.close(grace_s)

    def send(
        self,
        peer: PeerSettings,
        paths: Sequence[Path],
        *,
        in_order: bool = False,
        compression: str = "none",
    ) -> list[SendOutcome]:
        """Store Part 10 files at ``peer`` and return one outcome per path, in their order.

        An object is sent as it is on disk; only where the peer does not take its transfer syntax
        is it sent uncompressed in one that the peer takes (`transcode`), and with ``compression``
        losslessly compressed where the peer takes that (`compression`). When the association
        breaks off, the object under way and those behind it are transient and those answered
        before keep their answers. A refused object does not hold back the ones behind it, unless
        ``in_order``: then those behind one that may be taken later are not tried (`HELD_BACK`).
        (More than one association is used only when the files need more than 128 presentation
        contexts.)

        Raises
        ------
        PeerUnavailable
            No association was established, so nothing was sent; ``reason`` says why
            (``peer.unreachable``, ``peer.rejected.called_ae_title``, ``peer.timeout``...).
        """
        objects, outcomes = inspect(paths, compression)
        for batch in _batches(objects):
            held_back = [one for one in batch if in_order and is_held_back(one, outcomes)]
            outcomes.update(_unsent(held_back, HELD_BACK))
            batch = _without(batch, outcomes)
            if not batch:
                continue
            try:
                outcomes.update(self._send_batch(peer, batch, in_order))
            except PeerUnavailable as error:
                if not any(outcome.status is not None for outcome in outcomes.values()):
                    raise
                outcomes.update(_unsent(batch, error.reason))
        return [outcomes[position] for position in range(len(paths))]

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
        with self._pool.open(peer, [VERIFICATION]) as association:
            if not association.accepts(VERIFICATION):
                raise PeerRefused(
                    f"{peer.name} does not offer C-ECHO", reason="peer.context_rejected"
                )
            status = association.echo(VERIFICATION)
            seconds = time.monotonic() - started
        if status != 0:
            raise PeerUnavailable(
                f"{peer.name} answered C-ECHO with 0x{status:04X}", reason="peer.echo_failed"
            )
        return seconds

    def _send_batch(
        self, peer: PeerSettings, batch: Sequence[Outgoing], in_order: bool
    ) -> dict[int, SendOutcome]:
        contexts = list(dict.fromkeys(context for item in batch for context in _contexts(item)))
        association = self._pool.take_idle(peer, contexts)
        if association is not None:
            outcomes, reason = self._store_all(peer, association, batch, in_order)
            # The peer hung up while nothing was under way: that says nothing about the objects.
            if outcomes or reason not in _HUNG_UP:
                return outcomes | _unsent(_without(batch, outcomes), reason)
        association = self._pool.open(peer, contexts)
        outcomes, reason = self._store_all(peer, association, batch, in_order)
        return outcomes | _unsent(_without(batch, outcomes), reason)

    def _store_all(
        self,
        peer: PeerSettings,
        association: Association,
        batch: Sequence[Outgoing],
        in_order: bool,
    ) -> tuple[dict[int, SendOutcome], str]:
        """The outcomes of what was answered or cannot be sent, and why the rest is not there."""
        outcomes: dict[int, SendOutcome] = {}
        reason = ""
        try:
            for item in batch:
                if self._pool.is_stopping:
                    reason = STOPPING
                    break
                outcome = outcomes[item.position] = _store(association, item, self._scratch)
                if in_order and outcome.transient:
                    reason = HELD_BACK
                    break
        except PeerUnavailable as error:
            association.abort()
            return outcomes, STOPPING if self._pool.is_stopping else error.reason
        except OSError:
            association.abort()
            return outcomes, "file.unreadable"
        # Whatever it was: an association with half an object on it is of no more use.
        except BaseException:
            association.abort()
            raise
        self._pool.give_back(peer, association)
        return outcomes, reason


def _contexts(item: Outgoing) -> tuple[Context, ...]:
    """The contexts in which a file can be sent, best first."""
    own = item.head.transfer_syntax_uid
    syntaxes = (item.compressed_syntax, own, *alternatives(own))
    return tuple(Context(item.head.sop_class_uid, uid) for uid in syntaxes if uid)


def _batches(objects: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    batch: list[Outgoing] = []
    contexts: set[Context] = set()
    for item in objects:
        if len(contexts | set(_contexts(item))) > MAX_CONTEXTS:
            yield batch
            batch, contexts = [], set()
        batch.append(item)
        contexts.update(_contexts(item))
    if batch:
        yield batch


def _without(
    batch: Sequence[Outgoing], outcomes: Mapping[int, SendOutcome]
) -> list[Outgoing]:
    return [item for item in batch if item.position not in outcomes]


def _unsent(objects: Sequence[Outgoing], reason: str) -> dict[int, SendOutcome]:
    return {item.position: item.outcome(reason) for item in objects}


def _store(association: Association, item: Outgoing, scratch: Path | None) -> SendOutcome:
    contexts = [one for one in _contexts(item) if association.accepts(one)]
    if not contexts:
        own = Context(item.head.sop_class_uid, item.head.transfer_syntax_uid)
        word = _CONTEXT_RESULTS.get(association.rejected.get(own, 2), "no_reason")
        return item.outcome(f"peer.context_rejected.{word}", transient=False)
    try:
        context, data_set, length_bytes = _open_best(item, contexts, scratch)
    except (NotUnderstood, StorageFailed) as error:
        return item.outcome(error.reason, transient=error.transient)
    uid = item.head.sop_instance_uid
    with data_set:
        status = association.store(context, uid, data_set, length_bytes)
    meaning = classify(status)
    return SendOutcome(uid, status, meaning.stored, meaning.transient, meaning.reason)


def _open_best(
    item: Outgoing, contexts: Sequence[Context], scratch: Path | None
) -> tuple[Context, BinaryIO, int]:
    """The data set in the first of the contexts in which it can be had, and how long it is."""
    best, *others = contexts
    try:
        return best, *_open_data_set(item, best, scratch)
    except (NotUnderstood, StorageFailed):
        # Compression is for the peer's convenience: what cannot be compressed goes as it is.
        if best.transfer_syntax_uid != item.compressed_syntax or not others:
            raise
    return others[0], *_open_data_set(item, others[0], scratch)


def _open_data_set(
    item: Outgoing, context: Context, scratch: Path | None
) -> tuple[BinaryIO, int]:
    """The data set's bytes in the context's transfer syntax, and how many they are."""
    syntax = context.transfer_syntax_uid
    own = syntax == item.head.transfer_syntax_uid
    rewrite = compressed if syntax == item.compressed_syntax else transcoded
    file = item.path.open("rb") if own else rewrite(item.path, syntax, scratch)
    try:
        size_bytes = os.fstat(file.fileno()).st_size
        if own and size_bytes != item.size_bytes:
            raise OSError("the file changed while the list was sent")
        offset_bytes = (item.head if own else read_file_head(file)).data_set_offset_bytes
        file.seek(offset_bytes)
    # Whatever it was, the file is nobody's then.
    except BaseException:
        file.close()
        raise
    return file, size_bytes - offset_bytes
