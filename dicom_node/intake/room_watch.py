"""Writes down when the listeners begin to refuse associations for want of space, and when not."""

from __future__ import annotations

from collections.abc import Callable

from dicom_node.errors import LedgerUnavailable
from dicom_node.events import Events
from dicom_node.ledger.ledger import Ledger

_REASON = "the free space does not hold another study above storage.refuse_below_free_bytes"


class RoomWatch:
    """Looks at the listeners once a round of the node."""

    def __init__(self, ledger: Ledger, events: Events, refuses: Callable[[], bool]) -> None:
        self._ledger = ledger
        self._events = events
        self._refuses = refuses
        self._is_refusing = False
        self._is_written = True

    def tick(self) -> None:
        """Tell a change at once, and the ledger as soon as the full disk lets it be written."""
        refuses = self._refuses()
        if refuses != self._is_refusing:
            self._is_refusing = refuses
            self._is_written = False
            self._events.space_changed(refuses)
        if self._is_written:
            return
        states = ("accepting", "refusing") if refuses else ("refusing", "accepting")
        try:
            self._ledger.notes.add("disk", *states, _REASON if refuses else "there is room again")
        except LedgerUnavailable:
            return
        self._is_written = True
