"""What is next at each destination, kept between two looks at everything that waits.

A look takes as long as there is much, and after an archive was away for a day there is much: what
may take a tenth of the time would come every few seconds, and each look hands out only as many as
a destination takes at a time. So a look leaves the first of every lane here. What came to be due
since, and what has become of those that were under way, is asked for in between.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta

from dicom_node.delivery.choice import Waiting, first_turns
from dicom_node.ledger.deliveries import Deliveries, Shipment

_TURNS = 256
# Clocks of hosts differ, and results are due before they are recorded.
_OVERLAP = timedelta(seconds=10)


class NextUp:
    """Thread-safe.

    Parameters
    ----------
    deliveries
        Those of the ledger.
    waiting
        What of a shipment is looked at to choose; ``None``: it is not this process's.
    turns
        How many studies of a lane are kept.
    """

    def __init__(
        self, deliveries: Deliveries, waiting: Callable[[Shipment], Waiting | None],
        turns: int = _TURNS,
    ) -> None:  # fmt: skip
        self._deliveries = deliveries
        self._waiting_of = waiting
        self._turns = turns
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Shipment, Waiting]] = {}
        self._ended: set[str] = set()
        self._seen_until = datetime.fromtimestamp(0, UTC)

    @property
    def waiting(self) -> list[Waiting]:
        """What may be chosen, and what stands in its way."""
        with self._lock:
            return [waiting for _, waiting in self._known.values()]

    def shipment(self, key: str) -> Shipment:
        """A shipment as it was when it was last asked for."""
        with self._lock:
            return self._known[key][0]

    def ended(self, key: str) -> None:
        """An attempt at a shipment is over: there is something else to say of it."""
        with self._lock:
            self._ended.add(key)

    def look(self, away: Collection[str], running: Collection[str], now: datetime) -> None:
        """Ask for everything that is open, but for what waits for destinations that are away.

        ``running`` are kept, however many are before them.
        """
        with self._lock:
            self._ended.clear()
        found = {
            one.key: (one, waiting)
            for one in self._deliveries.open_shipments(besides=away)
            if (waiting := self._waiting_of(one)) is not None
        }
        first = first_turns([waiting for _, waiting in found.values()], self._turns, now)
        kept = {one.key for one in first} | set(running)
        with self._lock:
            self._known = {key: one for key, one in found.items() if key in kept}
            self._seen_until = now

    def follow(self, now: datetime) -> None:
        """Ask for what has changed since the last time."""
        with self._lock:
            again = [self._known[key][0] for key in self._ended if key in self._known]
            self._ended.clear()
        changed = self._deliveries.shipments_due(self._seen_until - _OVERLAP, now)
        for one in again:
            self._note(one.key, self._deliveries.shipment(one.job_id, one.destination))
        for one in changed:
            self._note(one.key, one)
        self._seen_until = now

    def confirm(self, key: str, now: datetime) -> bool:
        """Whether a shipment is still to go now: somebody may have taken it back meanwhile."""
        before = self.shipment(key)
        self._note(key, self._deliveries.shipment(before.job_id, before.destination))
        with self._lock:
            return key in self._known and self._known[key][1].is_due(now)

    def _note(self, key: str, shipment: Shipment | None) -> None:
        waiting = None if shipment is None else self._waiting_of(shipment)
        with self._lock:
            if shipment is None or waiting is None:
                self._known.pop(key, None)
            else:
                self._known[key] = shipment, waiting
