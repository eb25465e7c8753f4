"""Names and tables that several parts of the conformance statement need."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dicom_node.operations.document import Table, table

if TYPE_CHECKING:
    from dicom_node.config import Config, PeerSettings
    from dicom_node.operations.conformance_facts import Context, Status


def name_of(transfer_syntax_uid: str) -> str:
    """The name that DICOM gives to a UID (PS3.6 annex A); the UID itself where it has none."""
    from pydicom.uid import UID

    return str(UID(transfer_syntax_uid).name)


def asks_for_commitment(config: Config, peer: PeerSettings) -> bool:
    """Whether the node asks this peer to commit to what it has stored."""
    policy = peer.storage_commitment or config.delivery.storage_commitment
    return peer.speaks_dimse and policy != "off"


def context_tables(title: str, contexts: Sequence[Context], negotiation: str) -> list[Table]:
    """Presentation contexts (PS3.2): the classes, and the lists of transfer syntaxes they have.

    Classes with the same transfer syntaxes share a list, so that hundreds of pairs are read once.
    """
    lists = list(dict.fromkeys(one.transfer_syntax_uids for one in contexts))
    letters = dict(zip(lists, _letters(len(lists)), strict=True))
    rows = [
        (one.name, one.sop_class_uid, letters[one.transfer_syntax_uids],
         one.role, negotiation)
        for one in contexts
    ]  # fmt: skip
    columns = ("Abstract syntax", "UID", "Transfer syntaxes", "Role", "Extended negotiation")
    return [
        table(title, columns, rows),
        *(
            table(
                f"{title}: transfer syntaxes {letter}", ("Name", "UID"),
                [(name_of(uid), uid) for uid in uids],
            )
            for uids, letter in letters.items()
        ),
    ]  # fmt: skip


def status_table(title: str, statuses: Sequence[Status], action: str = "Behaviour") -> Table:
    """Statuses with what they mean, and with what is done where that is told."""
    if not any(one.action for one in statuses):
        return table(title, ("Status", "Meaning"), [(one.codes, one.meaning) for one in statuses])
    rows = [(one.codes, one.meaning, one.action) for one in statuses]
    return table(title, ("Status", "Meaning", action), rows)


def _letters(count: int) -> Sequence[str]:
    return string.ascii_uppercase[:count]
