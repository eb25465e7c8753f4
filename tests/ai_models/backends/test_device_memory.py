"""What a device has and what a process holds of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ai_models.backends import device_memory
from ai_models.backends.device_memory import MIB, CudaMeter, ProcessorMeter, meter_of

GIB = 1 << 30


MEASURED = """
import numpy as np
from ai_models.backends.device_memory import meter_of

meter = meter_of("cpu")
before = meter.held_mib()
kept = np.ones(64 << 20, dtype=np.uint8)
assert 50 < meter.held_mib() - before < 200
meter.begin()
passing = np.ones(128 << 20, dtype=np.uint8)
assert passing.sum() and kept.sum()
del passing
assert 100 < meter.peak_mib() < 400
meter.begin()
assert meter.peak_mib() < 60, "what was held before does not count"
"""


def test_the_processor_counts_what_is_held_and_what_was_held_at_most() -> None:
    # In a process of its own: what other tests left takes and gives back memory meanwhile.
    subprocess.run([sys.executable, "-c", MEASURED], check=True, cwd=Path(__file__).parents[3])


def test_half_of_main_memory_is_for_models() -> None:
    fitted = ProcessorMeter().fitted()
    assert fitted.kind == "cpu"
    assert 0 < fitted.budget_mib == fitted.total_mib / 2


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "1073741824\n",
          "sys/fs/cgroup/a/b/memory.max": "max\n"}, GIB),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1073741824\n"}, GIB),
        ({"proc/self/cgroup": "4:memory:/a\n0::/\n",
          "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1073741824\n"}, GIB),
        # Seen from inside of a container: the group's own name is not there.
        ({"proc/self/cgroup": "4:cpu,memory:/elsewhere/x\n",
          "sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n"}, GIB),
        ({"proc/self/cgroup": "3:cpu:/a\n", "sys/fs/cgroup/cpu/a/memory.max": "1\n"}, None),
        ({"proc/self/cgroup": "odd\n"}, None),
        ({}, None),
    ],
)
def test_a_control_group_bounds_main_memory(
    tmp_path: Path, files: dict[str, str], expected: int | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    everything = device_memory.usable_ram_bytes(tmp_path / "nothing")
    assert device_memory.usable_ram_bytes(tmp_path) == (expected or everything)


class Cuda(SimpleNamespace):
    """Answers as torch.cuda does for a device of 10 GiB."""

    def __init__(self) -> None:
        super().__init__(allocated=0, most=0, reserved=0, others=300 << 20)

    def init(self) -> None:
        """Nothing to begin."""

    def mem_get_info(self, _device: Any) -> tuple[int, int]:
        return 10 * GIB - self.reserved - self.others, 10 * GIB

    def get_device_name(self, _device: Any) -> str:
        return "NVIDIA H100 80GB HBM3 MIG 1g.10gb"

    def memory_allocated(self, _device: Any) -> int:
        return int(self.allocated)

    def memory_reserved(self, _device: Any) -> int:
        return int(self.reserved)

    def max_memory_allocated(self, _device: Any) -> int:
        return int(self.most)

    def reset_peak_memory_stats(self, _device: Any) -> None:
        self.most = self.allocated


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    fake = Cuda()
    monkeypatch.setattr(torch, "cuda", fake)
    return fake


def test_a_gpu_leaves_a_tenth_for_what_was_not_foreseen(cuda: Cuda) -> None:
    fitted = meter_of("cuda:0").fitted()
    assert fitted.kind == "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    assert fitted.budget_mib == pytest.approx(0.9 * 10240)


def test_a_gpu_counts_the_allocator_of_torch_and_that_of_all_others(cuda: Cuda) -> None:
    meter = CudaMeter("cuda:0")
    before = meter.held_mib()
    cuda.allocated, cuda.reserved, cuda.others = 500 << 20, 800 << 20, 1300 << 20
    assert meter.held_mib() - before == 1500, "kept blocks that hold nothing do not count"
    meter.begin()
    cuda.most, cuda.reserved, cuda.others = 2500 << 20, 3000 << 20, 1800 << 20
    assert meter.peak_mib() == 2000 + 500


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_real_gpu_is_measured() -> None:
    meter = CudaMeter("cuda:0")
    before = meter.held_mib()
    kept = torch.zeros(256 << 20, dtype=torch.uint8, device="cuda:0")
    assert meter.held_mib() - before == pytest.approx(256, abs=64)
    meter.begin()
    torch.zeros(512 << 20, dtype=torch.uint8, device="cuda:0")
    assert meter.peak_mib() == pytest.approx(512, abs=64)
    assert kept.numel() * 1.0 / MIB == 256
