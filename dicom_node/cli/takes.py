"""What a destination takes, and what of a result goes there therefore, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dicom_node.results.profile import NOTHING_FITS, Sending, Wanted, plan
from dicom_node.results.sop_classes import CLASS_NAMES

if TYPE_CHECKING:
    from dicom_node.config import PeerSettings
    from dicom_node.records import DestinationProfile

# A result with findings in a volume: everything else is a part of what goes then.
_KINDS = ("segmentation", "volumetric report", "planar report")
_MODALITY = "CT"


def classes(profile: DestinationProfile | None) -> tuple[list[str], list[str]]:
    """Names of the SOP classes of results that a destination takes, and that it does not."""
    taken = {uid for uid in CLASS_NAMES if profile is None or profile.takes(uid)}
    return (
        [name for uid, name in CLASS_NAMES.items() if uid in taken],
        [name for uid, name in CLASS_NAMES.items() if uid not in taken],
    )


def briefly(profile: DestinationProfile | None) -> str:
    """What a destination takes, in a few words."""
    if profile is None:
        return "not known yet"
    taken, others = classes(profile)
    if len(taken) > len(others):
        words = f"everything but {', '.join(others)}" if others else "everything"
    else:
        words = ", ".join(taken) or "nothing"
    return words if profile.probed_at is not None else f"{words} (never asked)"


def at_length(profile: DestinationProfile | None) -> str:
    """What a destination takes and what not, class by class."""
    taken, others = classes(profile)
    words = f"takes {', '.join(taken) or 'nothing'}"
    if profile is None or profile.probed_at is None:
        words = "cannot be asked; " + words
    return words + (f"; not: {', '.join(others)}" if others else "")


def sendings(peer: PeerSettings, profile: DestinationProfile | None) -> tuple[Sending, ...]:
    """What goes to a destination of a result with findings in a volume."""
    wanted = Wanted(**peer.results.model_dump())
    return plan(_KINDS, profile, wanted, _MODALITY)


def in_words(sent: tuple[Sending, ...]) -> str:
    """The forms that a result has at a destination, and why where it is not the best one."""
    if not sent:
        return f"nothing of a result can be sent ({NOTHING_FITS})"
    return "results go as " + ", ".join(
        name_of(one.kind, one.form)
        + ("" if one.why.startswith("best form") else f" ({one.why})")
        for one in sent
    )


def name_of(kind: str, form: str) -> str:
    """An object by its kind, and its form where it is not what the node keeps."""
    words = form.replace("_", " ").replace("+", " with ")
    return f"{kind} as {words}" if words not in ("", kind) else kind


def is_choice(reason: str) -> bool:
    """Whether a delivery's reason only says why its object was chosen: it was not tried yet."""
    return reason.startswith(("produced", "as "))


def as_document(profile: DestinationProfile | None) -> dict[str, Any]:
    """What a destination takes, for programs; ``asked_at`` is null where that was never asked."""
    taken, others = classes(profile)
    asked_at = profile.probed_at if profile is not None else None
    return {"takes": taken, "takes_not": others, "asked_at": asked_at}
