"""The files of one list that is to be sent: which can be, and what is known of the others.

The same for C-STORE and STOW-RS: one outcome per path, in the order of the paths.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.delivery.compression import compressed_syntax
from dicom_node.delivery.part10 import FileHead, read_file_head
from dicom_node.errors import NotUnderstood
from dicom_node.records import SendOutcome

# The object itself was not tried: one before it, which it belongs to, has to be there first.
HELD_BACK = "delivery.held_back"

Outcomes = dict[int, SendOutcome]


@dataclass(frozen=True)
class Outgoing:
    """One file that can be sent, and its place in the caller's list.

    ``compressed_syntax`` is the transfer syntax to compress it to where the peer takes that;
    empty where it is not to be compressed.
    """

    position: int
    path: Path
    head: FileHead
    size_bytes: int
    compressed_syntax: str = ""

    def outcome(self, reason: str, *, transient: bool = True) -> SendOutcome:
        """The outcome of an object that the peer did not answer for."""
        uid = self.head.sop_instance_uid
        return SendOutcome(uid, None, stored=False, transient=transient, reason=reason)


def inspect(
    paths: Sequence[Path], compression: str = "none"
) -> tuple[list[Outgoing], Outcomes]:
    """What can be sent, in order, and the outcomes by position of what cannot.

    ``compression`` is a word of the settings (``peers.<name>.results.compression``).
    """
    objects: list[Outgoing] = []
    outcomes: Outcomes = {}
    for position, path in enumerate(paths):
        found = _inspect(position, path, compression)
        if isinstance(found, Outgoing):
            objects.append(found)
        else:
            outcomes[position] = found
    return objects, outcomes


def is_held_back(item: Outgoing, outcomes: Mapping[int, SendOutcome]) -> bool:
    """Whether something before it in the list may only be taken later."""
    return any(
        outcome.transient for position, outcome in outcomes.items() if position < item.position
    )


def _inspect(position: int, path: Path, compression: str) -> Outgoing | SendOutcome:
    try:
        with path.open("rb") as file:
            head, size_bytes = read_file_head(file), os.fstat(file.fileno()).st_size
        syntax = compressed_syntax(path, head, compression)
        return Outgoing(position, path, head, size_bytes, syntax)
    except NotUnderstood as error:
        return SendOutcome("", None, stored=False, transient=False, reason=error.reason)
    except FileNotFoundError:
        return SendOutcome("", None, stored=False, transient=False, reason="file.missing")
    except OSError:
        return SendOutcome("", None, stored=False, transient=True, reason="file.unreadable")
