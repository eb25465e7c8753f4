"""What a C-STORE status means for a delivery (PS3.4 B.2.3 and PS3.7 Annex C).

    0000        stored
    B000 B006 B007, any Bxxx
                stored, with a warning that is recorded: Bxxx is the warning class, in which the
                operation was carried out
    A7xx        out of resources: passes when the peer has room again
    0110        processing failure: archives answer so while their database or disk is away
    0124        not authorised: a setting of the peer, not of the object; put right by people
    0210 0213   duplicate message ID, resource limitation: of this moment
    A8xx A9xx Cxxx 0105 0106 0111 0112 0115 0117 0118 0119 0120 0121 0122 0211 0212
                of this object, or of what the peer is: the same bytes would be refused again
    others      unknown, so not final: tried again until the delivery gives up and a person looks

0111 (duplicate instance) is not counted as stored: the peer says that it has an instance of that
UID, not that it has these bytes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StatusMeaning:
    """What one status says: is the object safe at the peer, and if not, may it be later."""

    stored: bool
    transient: bool
    reason: str


_EXACT = {
    0x0000: StatusMeaning(True, False, ""),
    0xB000: StatusMeaning(True, False, "peer.warning.elements_coerced"),
    0xB006: StatusMeaning(True, False, "peer.warning.elements_discarded"),
    0xB007: StatusMeaning(True, False, "peer.warning.does_not_match_sop_class"),
    0x0110: StatusMeaning(False, True, "peer.processing_failure"),
    0x0124: StatusMeaning(False, True, "peer.not_authorised"),
    0x0210: StatusMeaning(False, True, "peer.duplicate_invocation"),
    0x0213: StatusMeaning(False, True, "peer.resource_limitation"),
    0x0105: StatusMeaning(False, False, "peer.refused.no_such_attribute"),
    0x0106: StatusMeaning(False, False, "peer.refused.invalid_attribute_value"),
    0x0111: StatusMeaning(False, False, "peer.refused.duplicate_instance"),
    0x0112: StatusMeaning(False, False, "peer.refused.no_such_instance"),
    0x0115: StatusMeaning(False, False, "peer.refused.invalid_argument_value"),
    0x0117: StatusMeaning(False, False, "peer.refused.invalid_instance"),
    0x0118: StatusMeaning(False, False, "peer.refused.no_such_sop_class"),
    0x0119: StatusMeaning(False, False, "peer.refused.class_instance_conflict"),
    0x0120: StatusMeaning(False, False, "peer.refused.missing_attribute"),
    0x0121: StatusMeaning(False, False, "peer.refused.missing_attribute_value"),
    0x0122: StatusMeaning(False, False, "peer.refused.sop_class_not_supported"),
    0x0211: StatusMeaning(False, False, "peer.refused.unrecognised_operation"),
    0x0212: StatusMeaning(False, False, "peer.refused.mistyped_argument"),
}
_BY_MASK = (
    (0xFF00, 0xA700, StatusMeaning(False, True, "peer.busy.out_of_resources")),
    (0xFF00, 0xA800, StatusMeaning(False, False, "peer.refused.sop_class_not_supported")),
    (0xFF00, 0xA900, StatusMeaning(False, False, "peer.refused.does_not_match_sop_class")),
    (0xF000, 0xB000, StatusMeaning(True, False, "peer.warning")),
    (0xF000, 0xC000, StatusMeaning(False, False, "peer.refused.cannot_understand")),
)
_UNKNOWN = StatusMeaning(False, True, "peer.unknown_status")


def classify(status: int) -> StatusMeaning:
    """The meaning of a C-STORE response's Status (0000,0900)."""
    exact = _EXACT.get(status)
    if exact is not None:
        return exact
    for mask, value, meaning in _BY_MASK:
        if 0 <= status <= 0xFFFF and status & mask == value:
            return meaning
    return _UNKNOWN
