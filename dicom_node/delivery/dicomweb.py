"""STOW-RS of files to a peer's DICOMweb service (PS3.18 section 10.5), with C-STORE's promises.

One object per request, over one connection: an answer is then of one object, objects arrive in
the order given, and one that a service chokes on takes no other with it. A file is read in
pieces and never held whole. Neither the URL nor a header names a patient, a study or an object.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dicom_node.delivery.compression import compressed
from dicom_node.delivery.http_service import HttpService
from dicom_node.delivery.open_sockets import STOPPING, OpenSockets
from dicom_node.delivery.outgoing import HELD_BACK, Outgoing, inspect, is_held_back
from dicom_node.delivery.rewriting import EXPLICIT_LITTLE_ENDIAN
from dicom_node.delivery.sender import Sender
from dicom_node.delivery.stow_answer import (
    TRANSFER_SYNTAX_NOT_SUPPORTED,
    UNSUPPORTED_MEDIA_TYPE,
    outcome_of,
    reason_of,
    refuses_all,
)
from dicom_node.delivery.transcode import alternatives, transcoded
from dicom_node.errors import NotUnderstood, PeerUnavailable, StorageFailed
from dicom_node.records import SendOutcome

if TYPE_CHECKING:
    from dicom_node.config import PeerSettings

_DICOM_JSON = "application/dicom+json"
_PIECE_BYTES = 1 << 17
# A study that cannot be there: the service answers without looking far, and names no patient.
_NO_STUDY = "/studies?StudyInstanceUID=2.25.0&limit=1"


class StowSender:
    """Sends files to DICOMweb services; may be shared by threads, and keeps no connection.

    Parameters
    ----------
    connect_s
        How long to wait for TCP and TLS; all other waits are the peer's ``dicomweb.timeout_s``.
    scratch
        The folder for copies in another transfer syntax; ``None`` is the system's.
    """

    def __init__(self, *, connect_s: float = 10.0, scratch: Path | None = None) -> None:
        self._connect_s = connect_s
        self._scratch = scratch
        self._sockets = OpenSockets()
        self._stopping = False

    def close(self, grace_s: float) -> None:
        """Begin no other object, wait so long for those under way, then cut them off."""
        self._stopping = True
        self._sockets.wait_until_none(grace_s)
        self._sockets.cut_all()

    def send(
        self,
        peer: PeerSettings,
        paths: Sequence[Path],
        *,
        in_order: bool = False,
        compression: str = "none",
    ) -> list[SendOutcome]:
        """Store Part 10 files at ``peer`` and return one outcome per path, in their order.

        An object is sent as it is on disk, or losslessly compressed with ``compression``; where
        the service does not take its transfer syntax it is sent once more, uncompressed. When
        the connection breaks off, the object under way and those behind it are transient. With
        ``in_order`` those behind one that may be taken later are not tried (`HELD_BACK`).

        Raises
        ------
        PeerUnavailable
            Nothing was taken: no connection, or the service answers for none of its objects
            now (401, 404, 503, a redirect...); ``retry_after_s`` is the pause that it asked for.
        """
        waiting, outcomes = inspect(paths, compression)
        if waiting:
            self._send_all(peer, waiting, outcomes, in_order)
        return [outcomes[position] for position in range(len(paths))]

    def echo(self, peer: PeerSettings) -> float:
        """Connect and search for a study that is not there; seconds until the answer.

        Any answer that is of the service itself and not of its gateway will do: some services
        take objects and cannot be searched.

        Raises
        ------
        PeerUnavailable
            No connection, no answer, a token that is refused, or a service that is away.
        """
        started = time.monotonic()
        with self._service(peer) as service:
            answer = service.request("GET", _NO_STUDY, {"Accept": _DICOM_JSON})
            if refuses_all(answer.status) and answer.status not in (404, 405):
                raise service.unavailable(
                    f"answered {answer.status}", reason_of(answer.status), answer.retry_after_s
                )
        return time.monotonic() - started

    def _service(self, peer: PeerSettings) -> HttpService:
        if self._stopping:
            raise PeerUnavailable("the node is stopping", reason=STOPPING)
        return HttpService(peer, self._sockets, self._connect_s)

    def _send_all(
        self,
        peer: PeerSettings,
        waiting: Sequence[Outgoing],
        outcomes: dict[int, SendOutcome],
        in_order: bool,
    ) -> None:
        reason = ""
        with self._service(peer) as service:
            for item in waiting:
                held_back = in_order and is_held_back(item, outcomes)
                reason = STOPPING if self._stopping else HELD_BACK if held_back else ""
                if reason:
                    break
                try:
                    outcomes[item.position] = self._store(service, item)
                except _RefusesAll as error:
                    if item is waiting[0]:
                        raise
                    reason = error.reason
                    break
                except PeerUnavailable as error:
                    reason = STOPPING if self._stopping else error.reason
                    break
        outcomes.update(
            {one.position: one.outcome(reason) for one in waiting if one.position not in outcomes}
        )

    def _store(self, service: HttpService, item: Outgoing) -> SendOutcome:
        outcome = item.outcome("file.unreadable")
        for open_one in self._encodings(item):
            try:
                with open_one() as file:
                    outcome = _post(service, item, file)
            except (NotUnderstood, StorageFailed) as error:
                outcome = item.outcome(error.reason, transient=error.transient)
                continue
            except OSError:
                return item.outcome("file.unreadable")
            if not _is_syntax_refused(outcome):
                break
        return outcome

    def _encodings(self, item: Outgoing) -> Iterator[Callable[[], BinaryIO]]:
        """The ways in which a file can be sent, best first."""
        path, scratch = item.path, self._scratch
        if item.compressed_syntax:
            yield lambda: compressed(path, item.compressed_syntax, scratch)
        yield lambda: path.open("rb")
        if EXPLICIT_LITTLE_ENDIAN in alternatives(item.head.transfer_syntax_uid):
            yield lambda: transcoded(path, EXPLICIT_LITTLE_ENDIAN, scratch)


def sender_for(calling_ae_title: str, peer: PeerSettings) -> Sender | StowSender:
    """What can send to a peer: STOW-RS where it has a DICOMweb service, C-STORE elsewhere."""
    return Sender(calling_ae_title) if peer.dicomweb is None else StowSender()


def _is_syntax_refused(outcome: SendOutcome) -> bool:
    is_refused = outcome.reason == UNSUPPORTED_MEDIA_TYPE
    return is_refused or outcome.status == TRANSFER_SYNTAX_NOT_SUPPORTED


class _RefusesAll(PeerUnavailable):
    """The answer is of the service as a whole, so that nothing more need be sent."""


def _post(service: HttpService, item: Outgoing, file: BinaryIO) -> SendOutcome:
    boundary = uuid.uuid4().hex
    before = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    after = f"\r\n--{boundary}--\r\n".encode()
    size_bytes = os.fstat(file.fileno()).st_size
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        "Content-Length": str(len(before) + size_bytes + len(after)),
        "Accept": _DICOM_JSON,
    }

    def body() -> Iterator[bytes]:
        return chain([before], _pieces(file, size_bytes), [after])

    answer = service.request("POST", "/studies", headers, body)
    if refuses_all(answer.status):
        error = service.unavailable(
            f"answered {answer.status}", reason_of(answer.status), answer.retry_after_s
        )
        refusal = _RefusesAll(str(error), reason=error.reason)
        refusal.retry_after_s = error.retry_after_s
        raise refusal
    return outcome_of(item.head.sop_instance_uid, answer)


def _pieces(file: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    file.seek(0)
    left = size_bytes
    while left:
        piece = file.read(min(left, _PIECE_BYTES))
        if not piece:
            raise OSError("the file became shorter while it was sent")
        left -= len(piece)
        yield piece
