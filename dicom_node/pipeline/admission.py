"""Who gets a device, and in which order: the waiting line before the workers.

Jobs stand in line by urgency and then by arrival. Whenever a device comes back, or a job comes,
the line is gone through from its head, and everyone is placed who can be
(`dicom_node.pipeline.placement`): who waits for one certain device holds up nobody who may have
another.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from ai_models.card import Card
from dicom_node.errors import WorkerLost
from dicom_node.pipeline.guests import Guests
from dicom_node.pipeline.memory import SERVED_ELSEWHERE, MeasuredMemory, key_of
from dicom_node.pipeline.placement import Candidate, place, place_ahead
from dicom_node.pipeline.worker_process import POLL_S, Cancelled, WorkerProcess
from dicom_node.records import Priority

_URGENCY = {Priority.STAT: 0, Priority.ROUTINE: 1, Priority.BACKGROUND: 2}
_BEHIND_ALL = 3


@dataclass(eq=False)
class Asked:
    """What a job asks for: a model, an input of so many voxels, not these devices.

    ``makes_way`` is for what nobody waits for: it stands behind every job, also those that come
    later. Without a ``card`` it is room that is asked for, of ``mib``.
    """

    card: Card | None
    voxels: int
    avoid: Collection[int] = ()
    priority: Priority = Priority.ROUTINE
    given: int | None = None
    place_in_line: tuple[int, int] = (0, 0)
    needs_mib: dict[str, float] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)
    makes_way: bool = False
    mib: float | None = None

    @property
    def key(self) -> str:
        """Of its model; empty where it asks for room."""
        return "" if self.card is None else key_of(self.card)

    @property
    def model(self) -> Card:
        """The card; TypeError where it asks for room."""
        if self.card is None:
            raise TypeError("room was asked for, and no model")
        return self.card


class Admission:
    """Thread-safe. Workers are named by their number in the list that was given.

    ``guests`` have memory of the same devices.
    """

    def __init__(self, workers: Sequence[WorkerProcess], memory: MeasuredMemory) -> None:
        self.guests = Guests()
        self._workers = workers
        self._memory = memory
        self._idle = set(range(len(workers)))
        self._line: list[Asked] = []
        self._arrivals = itertools.count()
        self._changed = threading.Condition()
        self._closed = False

    def take(self, asked: Asked, cancelled: Cancelled) -> int:
        """Wait for a device, and have it until `give_back`.

        Raises
        ------
        WorkerLost
            ``worker.cancelled`` or ``worker.stopping``.
        """
        with self._changed:
            asked.given = None
            if asked.place_in_line == (0, 0):
                urgency = _BEHIND_ALL if asked.makes_way else _URGENCY[asked.priority]
                asked.place_in_line = (urgency, next(self._arrivals) + 1)
            self._line.append(asked)
            self._line.sort(key=lambda one: one.place_in_line)
            self._go_through()
        try:
            return self._wait(asked, cancelled)
        except BaseException:
            # Whatever ends the waiting, nobody may stand in line for ever.
            self._leave(asked)
            raise

    def take_ahead(self, card: Card) -> int | None:
        """An idle device with room for a model that is warm nowhere; nobody may be waiting."""
        with self._changed:
            if self._closed or self._line:
                return None
            # Without an input the model alone is reckoned with.
            chosen = place_ahead(
                self._candidates(Asked(card, 1)), on_processor=_needs_no_accelerator(card)
            )
            if chosen is None:
                return None
            self._idle.discard(chosen.number)
            return chosen.number

    def keeps_waiting(self, card: Card, longer_than_s: float) -> bool:
        """Whether a job of another model than this has stood in line for so long."""
        now, key = time.monotonic(), key_of(card)
        with self._changed:
            return any(
                now - one.since > longer_than_s and one.key != key for one in self._line
            )

    def others_wait(self, longer_than_s: float) -> bool:
        """Whether a job that does not make way has stood in line for so long."""
        now = time.monotonic()
        with self._changed:
            return any(
                now - one.since > longer_than_s for one in self._line if not one.makes_way
            )

    def give_back(self, number: int) -> None:
        """Let the next one in line have the device."""
        with self._changed:
            self._idle.add(number)
            self._go_through()

    def need_mib(self, asked: Asked, number: int) -> float:
        """What a job is predicted to take on a device, as far as its kind is known."""
        if asked.card is None:
            return asked.mib or 0.0
        kind = self._workers[number].kind
        if kind not in asked.needs_mib:
            asked.needs_mib[kind] = self._memory.predicted_mib(asked.model, asked.voxels, kind)
        return asked.needs_mib[kind]

    def is_misplaced(self, asked: Asked, number: int) -> bool:
        """Whether a device that has just told its size has no room, and another one may have."""
        with self._changed:
            found = self._candidates(asked)
            usable = [one for one in found if one.number not in asked.avoid] or found
            return not found[number].fits and any(
                one.fits for one in usable if one.number != number
            )

    def fits_beside_guests(self, asked: Asked, number: int) -> bool:
        """Whether a device has what a job is predicted to take without what its guests have."""
        beside_mib, budget_mib = self.guests.held_mib(number), self._workers[number].budget_mib
        if not beside_mib or budget_mib is None:
            return True
        return self.need_mib(asked, number) + beside_mib <= budget_mib

    def close(self, end: Callable[[int], None]) -> None:
        """Send everyone home, and end each device as soon as it is idle."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for number in range(len(self._workers)):
            with self._changed:
                while number not in self._idle:
                    self._changed.wait()
            end(number)

    def _wait(self, asked: Asked, cancelled: Cancelled) -> int:
        while True:
            with self._changed:
                if self._closed:
                    raise WorkerLost("the node is stopping", reason="worker.stopping")
                if asked.given is None:
                    self._changed.wait(POLL_S)
                if asked.given is not None and not self._closed:
                    return asked.given
            # Asks the ledger, and must not hold up who gives a device back.
            if cancelled():
                raise WorkerLost("cancelled before it began", reason="worker.cancelled")

    def _leave(self, asked: Asked) -> None:
        with self._changed:
            if asked in self._line:
                self._line.remove(asked)
            if asked.given is not None:
                self._idle.add(asked.given)
            self._go_through()

    def _go_through(self) -> None:
        if not self._closed:
            for asked in list(self._line):
                if not self._idle:
                    break
                chosen = place(
                    self._candidates(asked), asked.avoid,
                    on_processor=_needs_no_accelerator(asked.card),
                )
                if chosen is not None:
                    self._idle.discard(chosen.number)
                    self._line.remove(asked)
                    asked.given = chosen.number
        self._changed.notify_all()

    def _candidates(self, asked: Asked) -> list[Candidate]:
        return [
            Candidate(
                number, worker.device, number in self._idle, asked.key in worker.warm_mib,
                self.need_mib(asked, number), worker.budget_mib,
                sum(worker.warm_mib.values()) + self.guests.held_mib(number),
            )
            for number, worker in enumerate(self._workers)
        ]


def _needs_no_accelerator(card: Card | None) -> bool:
    return card is not None and card.runtime.backend in SERVED_ELSEWHERE
