"""Who may associate: a pure decision with its A-ASSOCIATE-RJ answer (PS3.8 table 9-21)."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.intake.settings import ListenerSettings


@dataclass(frozen=True)
class Refusal:
    """``result``, ``source`` and ``diagnostic`` of the A-ASSOCIATE-RJ, and our stable reason."""

    result: int
    source: int
    diagnostic: int
    reason: str


UNKNOWN_CALLED = Refusal(1, 1, 7, "access.called_ae_title")
UNKNOWN_CALLING = Refusal(1, 1, 3, "access.calling_ae_title")
LOCAL_LIMIT = Refusal(2, 3, 2, "access.too_many_associations")
NO_SPACE = Refusal(2, 3, 1, "storage.no_space_for_a_study")


def refusal(
    settings: ListenerSettings, called_ae_title: str, calling_ae_title: str
) -> Refusal | None:
    """Why an association is refused for its names, None when it is not."""
    if settings.check_called_ae_title and called_ae_title.strip() != settings.ae_title.strip():
        return UNKNOWN_CALLED
    allowed = settings.calling_ae_titles
    if allowed is not None and calling_ae_title.strip() not in allowed:
        return UNKNOWN_CALLING
    return None
