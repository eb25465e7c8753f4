"""What is tried when memory does not suffice, in the order of the card: a ladder, as plain data.

``batch`` halves the windows that are computed at once until there is one; ``offload`` gathers the
sums in the host's memory; ``roi`` halves the window; ``half`` computes in 16 bits; ``cpu`` goes to
the processor. Rungs add up, but for ``cpu``: the host's memory is another, so what changed the
numbers is taken back there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

_CHANGING = ("roi", "half", "cpu")
# Networks halve their input again and again inside: by 32 at most in those that are in use.
_LARGEST_STEP = 32


@dataclass(frozen=True)
class Rung:
    """One way to compute.

    Attributes
    ----------
    batch
        Windows at once.
    roi
        Edges of a window; ``None``: the whole input.
    offload, half, cpu
        As the card's words mean them.
    taken
        The card's words that lie behind, in their order, each once.
    changing
        Those of ``taken`` that change the numbers.
    """

    batch: int
    roi: tuple[int, ...] | None = None
    offload: bool = False
    half: bool = False
    cpu: bool = False
    taken: tuple[str, ...] = ()
    changing: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for the result; none on the lowest rung."""
        if not self.taken:
            return ()
        windows = "one window" if self.batch == 1 else f"{self.batch} windows"
        said = {
            "batch": f"{windows} at a time",
            "offload": "with sums in the host's memory",
            "roi": "in windows of half the size",
            "half": "in 16 bits",
            "cpu": "on the CPU",
        }
        words = ", ".join(said[word] for word in self.taken)
        return (f"memory did not suffice: computed {words}",)

    @property
    def parameters(self) -> dict[str, str]:
        """What a result must say because it changed the numbers."""
        return {"fall_back": " ".join(self.changing)} if self.changing else {}


def ladder(
    first: Rung, order: Sequence[str], able: Collection[str], *, cpu_changes: bool = False
) -> list[Rung]:
    """All rungs from ``first`` on.

    Parameters
    ----------
    order
        The card's ``runtime.fallbacks``.
    able
        Which of them the network can follow.
    cpu_changes
        Whether the CPU computes in another precision than the device does.
    """
    rungs = [first]
    for word in order:
        if word in able:
            rungs.extend(_further(word, rungs[-1], first, cpu_changes))
    return rungs


def _further(word: str, now: Rung, first: Rung, cpu_changes: bool) -> Iterator[Rung]:
    if word == "batch":
        while now.batch > 1:
            now = _taken(replace(now, batch=now.batch // 2), word, changes=False)
            yield now
    elif word == "offload" and not now.offload and not now.cpu:
        yield _taken(replace(now, offload=True), word, changes=False)
    elif word == "roi" and now.roi is not None:
        smaller = tuple(half_edge(edge) for edge in now.roi)
        if smaller != now.roi:
            yield _taken(replace(now, roi=smaller), word, changes=True)
    elif word == "half" and not now.half:
        yield _taken(replace(now, half=True), word, changes=True)
    elif word == "cpu" and not now.cpu:
        there = Rung(now.batch, first.roi, cpu=True, taken=_kept(now), changing=())
        yield _taken(there, word, changes=cpu_changes)


def _kept(now: Rung) -> tuple[str, ...]:
    return tuple(word for word in now.taken if word == "batch")


def _taken(rung: Rung, word: str, *, changes: bool) -> Rung:
    taken = rung.taken if word in rung.taken else (*rung.taken, word)
    changing = (*rung.changing, word) if changes else rung.changing
    return replace(
        rung, taken=taken, changing=tuple(sorted(changing, key=_CHANGING.index))
    )


def half_edge(edge: int) -> int:
    """Half an edge, rounded up to what a network that took the whole edge still takes."""
    step = min(edge & -edge, _LARGEST_STEP)
    half = -(-edge // (2 * step)) * step
    return half if half < edge else edge


class Reached:
    """Which rung sufficed for inputs of which size, while a model is warm."""

    def __init__(self) -> None:
        self._smallest: dict[int, int] = {}

    def begin_at(self, voxels: int) -> int:
        """The number of the rung to begin with: what a smaller input needed, a larger one does."""
        return max((rung for rung, size in self._smallest.items() if size <= voxels), default=0)

    def keep(self, voxels: int, rung: int) -> None:
        """An input of this size came through on this rung."""
        if rung:
            self._smallest[rung] = min(voxels, self._smallest.get(rung, voxels))
