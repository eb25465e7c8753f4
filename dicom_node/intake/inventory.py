"""The kept files against the ledger: what it does not know is indexed, what is gone is forgotten.

Both sides are read once, in the order of their paths, side by side: neither has to fit in memory,
and of a file that is known only name, size and time are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Protocol

from dicom_node.errors import NotUnderstood, StorageFailed, StoreUnavailable
from dicom_node.events import Events
from dicom_node.intake.header import read_head
from dicom_node.intake.store import instance_of
from dicom_node.records import Association, Instance
from dicom_node.spool import Spool

_PAGE = 5000
_BATCH = 1000


class FileIndex(Protocol):
    """The part of the ledger that the comparison needs."""

    def index(
        self,
        instances: Sequence[Instance],
        associations: Sequence[Association] = (),
        *,
        is_there: Callable[[str], bool] = ...,
    ) -> None:
        """Record, idempotently; raises `LedgerUnavailable`."""
        ...

    def files_after(self, path: str, limit: int) -> list[tuple[str, str]]:
        """Path and fingerprint of the indexed files that follow ``path``."""
        ...

    def forget_files(self, paths: Sequence[str]) -> int:
        """Drop files that are gone."""
        ...


@dataclass(frozen=True)
class Inventory:
    """How many files were indexed, how many were gone, and how many could not be read."""

    indexed: int
    missing: int
    unreadable: int


def take_inventory(
    ledger: FileIndex, spool: Spool, listener_id: str, events: Events, *, forget: bool = False
) -> Inventory:
    """Index every kept file that the ledger does not know as it is on disk.

    A file that was replaced just before a crash has another fingerprint and is indexed again.
    With ``forget`` what is indexed and not on disk is dropped from the ledger, unless there is no
    kept file at all: then the spool is likely not to be where it was.

    A kept file that cannot be read is told to the events and left where it is: it was readable
    when it was acknowledged, so this is damage for a person to look at.

    Raises
    ------
    LedgerUnavailable, OSError
    """
    comparison = _Comparison(ledger, spool)
    indexed = unreadable = 0
    unknown = comparison.unknown()
    while chunk := list(islice(unknown, _BATCH)):
        instances = list(_read(spool, chunk, listener_id, events))
        unreadable += len(chunk) - len(instances)
        if instances:
            ledger.index(instances, is_there=spool.has)
            indexed += len(instances)
    missing = comparison.missing if forget and comparison.files else []
    gone = [path for path in missing if not spool.has(path)]
    return Inventory(indexed, ledger.forget_files(gone) if gone else 0, unreadable)


class _Comparison:
    """One walk along both sides."""

    def __init__(self, ledger: FileIndex, spool: Spool) -> None:
        self._ledger = ledger
        self._spool = spool
        self.files = 0
        self.missing: list[str] = []

    def unknown(self) -> Iterator[str]:
        """Files that the ledger does not have, or has otherwise; fills `missing` by the way."""
        known = self._known()
        left = next(known, None)
        for path, fingerprint in self._spool.stored_in_order():
            self.files += 1
            while left is not None and left[0] < path:
                self.missing.append(left[0])
                left = next(known, None)
            if left is None or left[0] != path:
                yield path
                continue
            if left[1] != fingerprint:
                yield path
            left = next(known, None)
        while left is not None:
            self.missing.append(left[0])
            left = next(known, None)

    def _known(self) -> Iterator[tuple[str, str]]:
        after = ""
        while page := self._ledger.files_after(after, _PAGE):
            yield from page
            after = page[-1][0]


def _read(
    spool: Spool, relative_paths: Sequence[str], listener_id: str, events: Events
) -> Iterator[Instance]:
    for relative in relative_paths:
        try:
            kept = spool.look(relative)
            if kept is None:
                continue
            head = read_head(spool.resolve(relative))
        except FileNotFoundError:
            continue
        except StoreUnavailable:
            raise
        except (NotUnderstood, OSError, StorageFailed):
            events.unexpected("intake.inventory")
            continue
        received_at = datetime.fromtimestamp(kept.modified_at, UTC)
        unknown = Association("", head.calling_ae_title, listener_id, received_at)
        yield instance_of(head, kept, unknown, received_at)
