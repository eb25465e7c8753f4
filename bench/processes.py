"""What a tree of processes uses: memory, CPU, file handles and threads, from /proc."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import NamedTuple, Self

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Use(NamedTuple):
    """Of one process: its share of memory (PSS, MB), file handles and threads.

    ``own_mb`` is what it has of its own, without pages of files: the share of a library grows when
    somebody else who has it too comes to an end.
    """

    memory_mb: float
    own_mb: float
    handles: int
    threads: int


def tree(pid: int) -> dict[int, str]:
    """Process id to command line of a process and all below it."""
    found: dict[int, str] = {}
    new = [pid]
    while new:
        below: list[int] = []
        for one in new:
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{one}/cmdline").read_bytes().replace(b"\0", b" ")
                found[one] = words.decode(errors="replace")
                for task in Path(f"/proc/{one}/task").glob("*/children"):
                    below += map(int, task.read_text().split())
        new = [one for one in below if one not in found]
    return found


def use_of(pid: int) -> Use | None:
    """What one process uses now; None when it is gone."""
    folder = Path(f"/proc/{pid}")
    try:
        memory = (folder / "smaps_rollup").read_text()
        status = (folder / "status").read_text()
        handles = len(os.listdir(folder / "fd"))  # noqa: PTH208 - only how many
    except OSError:
        return None

    def mb(name: str) -> float:
        return int(memory.partition(f"\n{name}:")[2].split()[0]) * 1024 / 1e6

    own_mb = mb("Pss_Anon") + mb("Pss_Shmem") + mb("SwapPss")
    return Use(mb("Pss"), own_mb, handles, int(status.partition("Threads:")[2].split()[0]))


def cpu_s_of(pids: dict[int, str]) -> float:
    """CPU seconds of these processes, and of their children that were waited for."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS_PER_S


class Watch:
    """CPU seconds and peak memory of trees of processes within a block.

    Memory is the sum of what each has of its own and its share of what several have (PSS), looked
    at ten times a second; CPU of a process that ended meanwhile counts where its parent waited.
    """

    def __init__(self, *pids: int, every_s: float = 0.1) -> None:
        self._pids = pids
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.cpu_s = self.peak_mb = 0.0

    def __enter__(self) -> Self:
        self._before_s = self._cpu_s()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.cpu_s = self._cpu_s() - self._before_s

    def _trees(self) -> dict[int, str]:
        return {one: words for pid in self._pids for one, words in tree(pid).items()}

    def _cpu_s(self) -> float:
        return cpu_s_of(self._trees())

    def _look(self) -> None:
        while True:
            uses = [use_of(pid) for pid in self._trees()]
            used_mb = sum(one.memory_mb for one in uses if one is not None)
            self.peak_mb = max(self.peak_mb, used_mb)
            if self._ended.wait(self._every_s):
                return
