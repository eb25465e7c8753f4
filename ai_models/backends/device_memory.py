"""What memory a device has, and what of it this process holds; MiB everywhere.

On a CUDA device two allocators share it: torch's, which knows its own figures, and everything else
(ONNX Runtime's arena, cuDNN), seen as what the driver has given out beyond torch's share. The
driver counts other processes as well: where others use a device, their comings and goings are
taken for ours. On the processor it is the resident memory of this process.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

MIB = float(1 << 20)
# What models may fill of a device together; the rest is for the driver and the unforeseen.
GPU_SHARE, RAM_SHARE = 0.9, 0.5
_STATUS = Path("/proc/self/status")
_RESET_PEAK = ("/proc/self/clear_refs", "5")


@dataclass(frozen=True)
class Fitted:
    """A device: ``kind`` is its make, for figures of one hold for the others; its memory in MiB."""

    kind: str
    total_mib: float
    share: float

    @property
    def budget_mib(self) -> float:
        """What models may take together unless the settings say otherwise."""
        return self.total_mib * self.share


class MemoryMeter(Protocol):
    """Reads what this process holds of one device."""

    def fitted(self) -> Fitted:
        """What is there."""

    def held_mib(self) -> float:
        """What this process holds now."""

    def begin(self) -> None:
        """Measure the peak from here on."""

    def peak_mib(self) -> float:
        """The most that was held since `begin`, beyond what was held then."""


def meter_of(device: str) -> MemoryMeter:
    """The meter of ``cpu`` or ``cuda:<n>``.

    Raises
    ------
    RuntimeError
        Torch cannot use the device.
    """
    return ProcessorMeter() if device == "cpu" else CudaMeter(device)


class ProcessorMeter:
    """Resident memory of this process."""

    def __init__(self) -> None:
        self._at_begin = 0.0

    def fitted(self) -> Fitted:
        """See `MemoryMeter.fitted`: main memory, as far as control groups let this process."""
        return Fitted("cpu", usable_ram_bytes() / MIB, RAM_SHARE)

    def held_mib(self) -> float:
        """See `MemoryMeter.held_mib`; pages of files (libraries, inputs) are not counted."""
        status = _status()
        return status.get("RssAnon", 0.0) + status.get("RssShmem", 0.0)

    def begin(self) -> None:
        """See `MemoryMeter.begin`."""
        # Without it the peak is that of the whole life of the process: too high, never too low.
        with contextlib.suppress(OSError):
            Path(_RESET_PEAK[0]).write_text(_RESET_PEAK[1], encoding="ascii")
        self._at_begin = _status().get("VmRSS", 0.0)

    def peak_mib(self) -> float:
        """See `MemoryMeter.peak_mib`."""
        return max(0.0, _status().get("VmHWM", 0.0) - self._at_begin)


class CudaMeter:
    """Torch's share of a device and that of all others in this process."""

    def __init__(self, device: str) -> None:
        import torch

        self._cuda: Any = torch.cuda
        self._device = torch.device(device)
        self._cuda.init()
        self._cuda.mem_get_info(self._device)
        self._torch_at_begin = self._others_at_begin = 0.0

    def fitted(self) -> Fitted:
        """See `MemoryMeter.fitted`."""
        _, total = self._cuda.mem_get_info(self._device)
        return Fitted(str(self._cuda.get_device_name(self._device)), total / MIB, GPU_SHARE)

    def held_mib(self) -> float:
        """See `MemoryMeter.held_mib`."""
        return float(self._cuda.memory_allocated(self._device)) / MIB + self._others_mib()

    def begin(self) -> None:
        """See `MemoryMeter.begin`."""
        self._cuda.reset_peak_memory_stats(self._device)
        self._torch_at_begin = self._cuda.memory_allocated(self._device) / MIB
        self._others_at_begin = self._others_mib()

    def peak_mib(self) -> float:
        """See `MemoryMeter.peak_mib`; arenas of others only grow, so that now is their peak."""
        by_torch = self._cuda.max_memory_allocated(self._device) / MIB - self._torch_at_begin
        by_others = self._others_mib() - self._others_at_begin
        return float(max(0.0, by_torch) + max(0.0, by_others))

    def _others_mib(self) -> float:
        free, total = self._cuda.mem_get_info(self._device)
        reserved = self._cuda.memory_reserved(self._device)
        return max(0.0, float(total - free - reserved) / MIB)


def usable_ram_bytes(root: Path = Path("/")) -> int:
    """Main memory that this process may use: that of the machine, or less by a control group.

    Both versions of control groups are looked at, from the process's own group up (kernel
    documentation, admin-guide/cgroup-v1 and cgroup-v2).
    """
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    lines = _text(root / "proc/self/cgroup").splitlines()
    for number, controllers, group in (one.split(":", 2) for one in lines if one.count(":") > 1):
        if number == "0":
            base, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            base, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        place = base / group.lstrip("/")
        for folder in (place, *place.parents):
            limit = _text(folder / name).strip()
            if limit.isdecimal() and int(limit) > 0:
                total = min(total, int(limit))
            if folder == base:
                break
    return total


def _status() -> dict[str, float]:
    """Sizes of this process by proc(5), in MiB."""
    found = {}
    for line in _text(_STATUS).splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            found[name] = int(value[:-3]) / 1024.0
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
