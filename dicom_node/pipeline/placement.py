"""Which device a job goes to, and whether it waits: a pure choice among the devices of this host.

1.  A job does not go again where it was lost or ran out of memory, unless there is nowhere else.
2.  It goes where its predicted memory fits into the device's budget. What warm models hold is no
    hindrance: they are evicted.
3.  Of idle devices that fit: an accelerator before the processor (the other way round for a model
    that another host serves, which needs none); then where the model is warm; then where warm
    models leave most room.
4.  Where every device that fits is busy, the job waits for one of them.
5.  What fits nowhere goes to the largest idle device, whose worker falls back; with none idle, it
    waits. A busy device always comes back, by a deadline at the latest, so nothing waits for ever.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

_CPU = "cpu"


@dataclass(frozen=True)
class Candidate:
    """One device as one job sees it.

    Attributes
    ----------
    number
        Its place among the pool's devices.
    name
        As in the settings: ``cpu``, ``cuda:0``, ``MIG-...``.
    is_idle
        No job is on it.
    is_warm
        The job's model is loaded there.
    need_mib
        Memory that the job is predicted to take on this kind of device, its model included.
    budget_mib
        What models may take there together; ``None`` while nobody knows.
    held_mib
        What warm models hold of it.
    """

    number: int
    name: str
    is_idle: bool
    is_warm: bool
    need_mib: float
    budget_mib: float | None
    held_mib: float = 0.0

    @property
    def fits(self) -> bool:
        """Whether the job has room there once all else is evicted."""
        return self.budget_mib is None or self.need_mib <= self.budget_mib

    @property
    def room_mib(self) -> float:
        """What warm models leave; a device of which nobody knows is as good as empty."""
        return float("inf") if self.budget_mib is None else self.budget_mib - self.held_mib

    @property
    def has_room(self) -> bool:
        """Whether the job has room there without evicting anything."""
        return self.need_mib <= self.room_mib


def place(
    candidates: Sequence[Candidate], avoid: Collection[int] = (), *, on_processor: bool = False
) -> Candidate | None:
    """The idle device that a job goes to now, or ``None``: it waits.

    Parameters
    ----------
    candidates
        All devices, at least one.
    avoid
        Numbers of devices where the job was lost before.
    on_processor
        The model needs no accelerator.
    """
    usable = [one for one in candidates if one.number not in avoid] or list(candidates)
    fitting = [one for one in usable if one.fits]
    idle = [one for one in fitting if one.is_idle]
    if idle:
        return max(idle, key=lambda one: _merit(one, on_processor))
    if fitting:
        return None
    return max((one for one in usable if one.is_idle), key=_size, default=None)


def place_ahead(
    candidates: Sequence[Candidate], *, on_processor: bool = False
) -> Candidate | None:
    """The idle device on which to load a model before its job comes.

    ``None`` when it is warm already, or when no idle device has room that nobody holds.
    """
    if any(one.is_warm for one in candidates):
        return None
    free = [one for one in candidates if one.is_idle and one.has_room]
    return max(free, key=lambda one: _merit(one, on_processor), default=None)


def _merit(one: Candidate, on_processor: bool) -> tuple[bool, bool, float, int]:
    return (one.name == _CPU) is on_processor, one.is_warm, one.room_mib, -one.number


def _size(one: Candidate) -> tuple[float, int]:
    return one.budget_mib or 0.0, -one.number
