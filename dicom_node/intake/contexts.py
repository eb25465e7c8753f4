"""The presentation contexts we accept, prepared once and matched lazily.

The DIMSE-N services may be used in either role: a destination that reports on a storage
commitment may negotiate that it is the SCP (PS3.7 D.3.3.4), or keep silent about it.

Offering every storage class in every transfer syntax costs stock pynetdicom some 90 ms of CPU
an association, because it copies them all; here an association sees only those it asks for.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydicom.uid import UID
from pynetdicom import sop_class
from pynetdicom._globals import ALL_TRANSFER_SYNTAXES
from pynetdicom.presentation import AllStoragePresentationContexts, PresentationContext
from pynetdicom.service_class import StorageServiceClass

VERIFICATION = "1.2.840.10008.1.1"
# What is not here: JPIP and SMPTE ST 2110, whose pixels are elsewhere and so cannot be kept.
_PIXELS_ELSEWHERE = frozenset(
    ["1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.95"]
    + ["1.2.840.10008.1.2.4.204", "1.2.840.10008.1.2.4.205"]
    + [f"1.2.840.10008.1.2.7.{number}" for number in (1, 2, 3)]
)
# When one context offers several, the first of these is taken: what every reader reads, then
# what loses nothing, deflated and big endian last.
_PREFERRED = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.5",
)
_LEAST = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")


def storage_transfer_syntaxes() -> list[str]:
    """Every transfer syntax kept, in order of preference."""
    between = [
        uid
        for uid in ALL_TRANSFER_SYNTAXES
        if uid not in _PIXELS_ELSEWHERE and uid not in _PREFERRED and uid not in _LEAST
    ]
    return [*_PREFERRED, *between, *_LEAST]


def storage_keywords() -> dict[str, str]:
    """The keyword of every storage class, such as ``CTImageStorage``, by its UID."""
    return {str(uid): keyword for keyword, uid in sop_class._STORAGE_CLASSES.items()}


class SupportedContexts:
    """Abstract syntax to prepared context: Verification, all storage, the configured private.

    ``services`` are the SOP classes of DIMSE-N.
    """

    def __init__(
        self, private_sop_classes: Iterable[str] = (), services: Iterable[str] = ()
    ) -> None:
        transfer_syntaxes = [UID(uid) for uid in storage_transfer_syntaxes()]
        uids = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
        self._contexts = {
            uid: _prepare(uid, transfer_syntaxes) for uid in [*uids, *private_sop_classes]
        }
        self._contexts[VERIFICATION] = _prepare(VERIFICATION, transfer_syntaxes[:2])
        for uid in services:
            self._contexts[uid] = _prepare(uid, transfer_syntaxes[:2])
            self._contexts[uid].scu_role = self._contexts[uid].scp_role = True
        self._storage = frozenset([*uids, *private_sop_classes])
        for uid in private_sop_classes:
            _register_private(uid)

    def matching(self, abstract_syntaxes: Iterable[str]) -> list[PresentationContext]:
        """The prepared contexts of these abstract syntaxes; shared, so not to be changed."""
        asked = dict.fromkeys(map(str, abstract_syntaxes))
        return [self._contexts[uid] for uid in asked if uid in self._contexts]

    def any_storage(self, abstract_syntaxes: Iterable[str]) -> bool:
        """Whether one of these is a storage class that we take."""
        return not self._storage.isdisjoint(abstract_syntaxes)

    def all(self) -> list[PresentationContext]:
        """Every prepared context."""
        return list(self._contexts.values())


def _prepare(uid: str, transfer_syntaxes: list[UID]) -> PresentationContext:
    context = PresentationContext()
    context.abstract_syntax = UID(uid)
    context.transfer_syntax = list(transfer_syntaxes)
    return context


def _register_private(uid: str) -> None:
    # The stock path looks its service class up here, by a name that must be an identifier.
    if uid not in sop_class._STORAGE_CLASSES.values():
        keyword = "PrivateStorage_" + uid.replace(".", "_")
        sop_class.register_uid(uid, keyword, StorageServiceClass)
