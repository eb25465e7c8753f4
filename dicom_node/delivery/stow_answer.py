"""What a STOW-RS answer says of one object (PS3.18 sections 10.5.3 and I.2).

    the object among the failed ones     its Failure Reason, by the table of `status`
    2xx, and the object referenced       stored; its Warning Reason is recorded
    2xx without the object               no verdict: not stored, tried again
    415                                  not in this transfer syntax
    422                                  this object never
    400 with a STOW-RS data set          this object never: the service itself says bad request
    any other                            tried again: of the service, a proxy or a setting (also
                                         400 without the data set, as proxies answer)

`refuses_all` names the answers that are of the service and not of the object.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from dicom_node.delivery.http_service import Answer
from dicom_node.delivery.status import classify
from dicom_node.records import SendOutcome

# PS3.18 table I.2-2, and the status of RFC 9110 that says the same.
TRANSFER_SYNTAX_NOT_SUPPORTED = 0xC122
UNSUPPORTED_MEDIA_TYPE = "peer.refused.http_415"
_FAILED_SOP_SEQUENCE = "00081198"
_OTHER_FAILURES_SEQUENCE = "0008119A"
_REFERENCED_SOP_SEQUENCE = "00081199"
_SEQUENCES = frozenset((_FAILED_SOP_SEQUENCE, _OTHER_FAILURES_SEQUENCE, _REFERENCED_SOP_SEQUENCE))
_REFERENCED_SOP_INSTANCE_UID = "00081155"
_FAILURE_REASON = "00081197"
_WARNING_REASON = "00081196"
_OF_THE_SERVICE = frozenset((401, 404, 405, 407, 429, 502, 503, 504))
_OF_THE_OBJECT = frozenset((415, 422))


@dataclass(frozen=True)
class _Verdict:
    """What an answer's data set says, by SOP Instance UID; ``is_one`` tells one from none."""

    failures: dict[str, int | None] = field(default_factory=dict)
    stored: dict[str, int | None] = field(default_factory=dict)
    is_one: bool = False


def refuses_all(status: int) -> bool:
    """Whether the next object would be answered in the same way."""
    return 300 <= status < 400 or status in _OF_THE_SERVICE


def reason_of(status: int) -> str:
    """The stable code of an HTTP status that is no verdict on an object."""
    if 300 <= status < 400:
        return "peer.redirects"
    return "peer.not_authorised" if status in (401, 403, 407) else f"peer.http_{status}"


def outcome_of(sop_instance_uid: str, answer: Answer) -> SendOutcome:
    """What became of the only object of a request."""
    verdict = _read_verdict(answer.body)
    if verdict.failures:
        # An item without the UID can only be of the object that was sent.
        reason = verdict.failures.get(sop_instance_uid, verdict.failures.get(""))
        return _failed(sop_instance_uid, reason)
    if 200 <= answer.status < 300:
        if sop_instance_uid in verdict.stored:
            return _stored(sop_instance_uid, verdict.stored[sop_instance_uid])
        return SendOutcome(sop_instance_uid, None, False, True, "peer.protocol")
    if answer.status in _OF_THE_OBJECT or (answer.status == 400 and verdict.is_one):
        reason_text = f"peer.refused.http_{answer.status}"
        return SendOutcome(sop_instance_uid, None, False, False, reason_text)
    return SendOutcome(sop_instance_uid, None, False, True, reason_of(answer.status))


def _stored(uid: str, warning: int | None) -> SendOutcome:
    if not warning:
        return SendOutcome(uid, 0x0000, True, False)
    meaning = classify(warning)
    # Servers have warnings of their own beside those of the standard.
    reason = meaning.reason if meaning.stored else "peer.warning"
    return SendOutcome(uid, warning, True, False, reason)


def _failed(uid: str, status: int | None) -> SendOutcome:
    meaning = classify(-1 if status is None else status)
    if meaning.stored:
        meaning = classify(-1)
    return SendOutcome(uid, status, False, meaning.transient, meaning.reason)


def _read_verdict(body: bytes) -> _Verdict:
    """The DICOM JSON data set (PS3.18 annex F) of an answer; empty where it is none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return _Verdict()
    if isinstance(document, list) and len(document) == 1:
        document = document[0]
    failures = _items(document, _OTHER_FAILURES_SEQUENCE, _FAILURE_REASON)
    failures |= _items(document, _FAILED_SOP_SEQUENCE, _FAILURE_REASON)
    stored = _items(document, _REFERENCED_SOP_SEQUENCE, _WARNING_REASON)
    is_one = isinstance(document, dict) and not _SEQUENCES.isdisjoint(document)
    return _Verdict(failures, stored, is_one)


def _items(document: Any, sequence: str, number: str) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for item in _values(document, sequence):
        uids = [one for one in _values(item, _REFERENCED_SOP_INSTANCE_UID) if isinstance(one, str)]
        numbers = [one for one in _values(item, number) if type(one) is int and 0 <= one <= 0xFFFF]
        found[uids[0].strip("\0 ") if uids else ""] = numbers[0] if numbers else None
    return found


def _values(data_set: Any, tag: str) -> list[Any]:
    element = data_set.get(tag) if isinstance(data_set, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []
