"""Storage commitment that modalities ask the node for: what it keeps, and the report of it.

An instance is committed when the file that its C-STORE left is in the spool, under the SOP class
and UID that are asked for, and the ledger knows it. What the node no longer holds is not
committed, whatever it did with it: a modality may delete its own copy upon our word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dicom_node import references
from dicom_node.errors import PermanentError
from dicom_node.spool import Spool

if TYPE_CHECKING:
    from dicom_node.ledger.commitment_requests import CommitmentRequest, CommitmentRequests, Kept

# Failure Reason (0008,1197), PS3.3 section C.14.1.1.
PROCESSING_FAILURE = 0x0110
NO_SUCH_INSTANCE = 0x0112
CLASS_INSTANCE_CONFLICT = 0x0119
DUPLICATE_TRANSACTION = 0x0131
_COMMITTED, _FAILURES_EXIST = 1, 2


@dataclass(frozen=True)
class Verdict:
    """What the node commits to of one request; ``failed`` with Failure Reasons.

    ``is_missing``: some instance is not known, so far.
    """

    transaction_uid: str
    committed: tuple[tuple[str, str], ...]
    failed: tuple[tuple[str, str, int], ...]

    @property
    def is_missing(self) -> bool:
        """Whether an instance is not there, which a moment later it may be."""
        return any(reason == NO_SUCH_INSTANCE for _, _, reason in self.failed)

    @property
    def event_type_id(self) -> int:
        """1 when everything is committed, else 2 (PS3.4 table J.3-2)."""
        return _FAILURES_EXIST if self.failed else _COMMITTED

    def encode(self, *, explicit_vr: bool) -> bytes:
        """The Event Information of the N-EVENT-REPORT."""
        content: dict[int, references.Value] = {references.TRANSACTION_UID: self.transaction_uid}
        if self.committed:
            content[references.REFERENCED_SOP_SEQUENCE] = [
                references.reference(*one) for one in self.committed
            ]
        if self.failed:
            content[references.FAILED_SOP_SEQUENCE] = [
                {**references.reference(sop_class_uid, uid), references.FAILURE_REASON: reason}
                for sop_class_uid, uid, reason in self.failed
            ]
        return references.encode(content, explicit_vr=explicit_vr)


def judge(request: CommitmentRequest, requests: CommitmentRequests, spool: Spool) -> Verdict:
    """Say what the node commits to, by looking at ledger and disk.

    Raises
    ------
    LedgerUnavailable
    """
    kept = requests.kept(uid for _, uid in request.items)
    committed: list[tuple[str, str]] = []
    failed = [(*one, DUPLICATE_TRANSACTION) for one in request.duplicates]
    for sop_class_uid, uid in request.items:
        reason = _why_not(sop_class_uid, kept.get(uid, ()), spool)
        if reason is None:
            committed.append((sop_class_uid, uid))
        else:
            failed.append((sop_class_uid, uid, reason))
    return Verdict(request.transaction_uid, tuple(committed), tuple(failed))


def _why_not(sop_class_uid: str, files: Sequence[Kept], spool: Spool) -> int | None:
    if not files:
        return NO_SUCH_INSTANCE
    of_class = [one for one in files if one.sop_class_uid == sop_class_uid]
    if not of_class:
        return CLASS_INSTANCE_CONFLICT
    try:
        return None if any(_is_there(one, spool) for one in of_class) else NO_SUCH_INSTANCE
    except (OSError, PermanentError):
        return PROCESSING_FAILURE


def _is_there(kept: Kept, spool: Spool) -> bool:
    found = spool.look(kept.path)
    return found is not None and found.size_bytes == kept.size_bytes


def asked_for(data_set: bytes, *, explicit_vr: bool) -> tuple[str, list[tuple[str, str]]]:
    """Transaction UID and (class, instance) list of an N-ACTION's Action Information.

    Raises
    ------
    NotUnderstood
        Not such a data set.
    """
    found = references.decode(data_set, explicit_vr=explicit_vr)
    return (
        found.uid(references.TRANSACTION_UID),
        found.references(references.REFERENCED_SOP_SEQUENCE),
    )
