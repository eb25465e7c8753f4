"""Rows of receiving: each receiver as a way, and the node's listener beside raw sockets."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Self

from bench import receivers
from bench.processes import Watch
from bench.receive import memory
from bench.rows import LIMIT, NODE, PEER, AgainstWay, AtMost, Budget, Case, Sample, Way
from bench.senders import KINDS, run_senders

RAW, STORESCP = receivers.Floor.name, receivers.Storescp.name
ORTHANC, STOCK = receivers.OrthancReceiver.name, receivers.Pynetdicom.name
_WAYS = (
    (receivers.OursStreamed, NODE), (receivers.Floor, LIMIT), (receivers.Storescp, PEER),
    (receivers.StorescpAsShipped, PEER), (receivers.OrthancReceiver, PEER),
    (receivers.Pynetdicom, PEER),
)  # fmt: skip
_NAMES = {"A": "CT of 0.5 MB", "B": "multi-frame of 20 MB", "C": "small objects of 32 KB"}
# Of one association the node waits for the disk after each instance, as whoever syncs does.
_OF_A = (
    AgainstWay(0.9, RAW), AtMost(1.5, "cpu_s", "CPU s/GB"), AgainstWay(4, ORTHANC),
    AgainstWay(6, STOCK),
)  # fmt: skip
_BUDGETS: dict[tuple[str, int], Sequence[Budget]] = {
    ("A", 4): _OF_A, ("C", 4): (AgainstWay(1, STORESCP),),
}  # fmt: skip
_numbers = itertools.count()


class ReceiverWay:
    """A receiver that runs while the others wait; what it has stored goes after each round."""

    def __init__(
        self, kind: type[receivers.Receiver], role: str, scratch: Path, load: tuple[str, int],
        seconds: float,
    ) -> None:
        self.name = "node" if role == NODE else kind.name
        self.role = role
        self._directory = scratch / f"receive-{next(_numbers)}"
        self._receiver = kind(self._directory)
        self._kind, self._associations = load
        self._seconds = seconds

    def __enter__(self) -> Self:
        program = self._receiver.command()[0] if self._knows_program() else None
        if program is not None and shutil.which(program, path=_PATH) is None:
            raise RuntimeError(f"{program} is not installed")
        self._receiver.__enter__()
        run_senders(self._receiver, self._kind, 0.2, self._associations)
        return self

    def _knows_program(self) -> bool:
        # Orthanc's command is written into its folder, which is made when it is entered.
        return isinstance(self._receiver, receivers.Storescp)

    def __exit__(self, *_: object) -> None:
        self._receiver.__exit__(None, None, None)

    def once(self) -> Sample:
        """So many seconds of sending."""
        process = self._receiver.process
        assert process is not None
        before_mb = self._receiver.rss_mb()
        with Watch(process.pid) as watch:
            sent = run_senders(
                self._receiver, self._kind, self._seconds, self._associations
            )
        size_gb = sent.instances * KINDS[self._kind] / 1e9
        rate = sent.instances / sent.seconds
        for path in self._directory.iterdir():
            # Nobody reads it again, and the disk is not to be full of it.
            if path.is_file() and path.stat().st_size > 30_000 and "index" not in path.name:
                path.unlink(missing_ok=True)
        return Sample(
            rate if self._kind == "C" else 1e3 * size_gb / sent.seconds, watch.cpu_s / size_gb,
            watch.peak_mb,
            {"instances_per_s": rate, "growth_mb": self._receiver.rss_mb() - before_mb},
        )


class MemoryWay:
    """How much a listener grows by many small objects and one large one."""

    name, role = "node", NODE

    def __init__(self, scratch: Path, size_bytes: int) -> None:
        self._scratch, self._size_bytes = scratch, size_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left."""

    def once(self) -> Sample:
        """5,000 small objects, then a large one: MB more than before."""
        found = memory(self._scratch, self._size_bytes, 5000)
        return Sample(found["peak_mb"] - found["start_mb"], 0.0, found["peak_mb"])


_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def cases(scratch: Path, *, short: bool) -> list[Case]:
    """What is measured of receiving."""
    seconds, rounds = (0.8, 2) if short else (1.5, 3)
    loads = (
        [("A", 1), ("A", 4), ("A", 8), ("B", 4), ("C", 4)] if short
        else [(kind, count) for kind in "ABC" for count in (1, 4, 8)]
    )

    def ways(load: tuple[str, int]) -> list[Way]:
        return [ReceiverWay(kind, role, scratch, load, seconds) for kind, role in _WAYS]

    found = [
        Case(
            "receive", f"{_NAMES[kind]}, {count} association{'s' if count > 1 else ''}",
            "instances/s" if kind == "C" else "MB/s", "GB", partial(ways, (kind, count)),
            _BUDGETS.get((kind, count), ()), rounds,
        )
        for kind, count in loads
    ]  # fmt: skip
    size_bytes = 150_000_000 if short else 1_500_000_000
    found.append(Case(
        "receive", f"memory: 5,000 small objects, then one of {size_bytes / 1e9:g} GB", "MB more",
        "GB", lambda: [MemoryWay(scratch, size_bytes)], (AtMost(30, "value", "MB more"),), 1,
    ))
    return found
