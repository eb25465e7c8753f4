"""Whether the spool that this host has is the one that the other hosts of its ledger use.

A mark lies in the spool, and the ledger knows it. A folder that is not mounted has none, and that
of another node another one; either would take images that no other host sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from dicom_node.errors import ConfigurationError
from dicom_node.spool import SpoolPlace

if TYPE_CHECKING:
    from dicom_node.config import Config
    from dicom_node.ledger.ledger import Ledger
    from dicom_node.spool import Spool


def join_spool(config: Config, spool: Spool, ledger: Ledger) -> None:
    """Mark a shared spool at the first start, and compare the mark at every other one.

    Raises
    ------
    ConfigurationError
        It is not the one of this ledger, or an object store that cannot be used.
    LedgerUnavailable, StorageFailed
    """
    if not SpoolPlace.of(config).is_shared:
        return
    spool.check_usable()
    known = ledger.places.spool()
    if not known:
        known = ledger.places.set_spool(spool.mark(uuid4().hex))
    problem = problem_of(known, spool.marker())
    if problem is not None:
        raise problem


def problem_of(known: str, found: str) -> ConfigurationError | None:
    """What is wrong with a shared spool that has the mark ``found``; ``None``: nothing."""
    if found == known:
        return None
    if not found:
        return ConfigurationError(
            "the spool has no mark (spool-id), and that of the other hosts has one; expected the "
            "same place: is the folder mounted, are bucket and prefix right?",
            key_path="storage.spool", reason="spool.not_marked",
        )
    return ConfigurationError(
        "the spool is marked (spool-id) as that of another ledger; expected the place that the "
        "other hosts of this ledger use", key_path="storage.spool", reason="spool.of_another",
    )
