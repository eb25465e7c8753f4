"""Which device these tests run on, and what they make for it.

``TEST_DEVICE=cpu`` runs on the processor whatever can be run there, for who changes a test without
a GPU at hand; it proves nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

DEVICE = os.environ.get("TEST_DEVICE", "cuda:0")
ON_GPU = DEVICE != "cpu"
_NO_GPU = "there is no CUDA device"
needs_device = pytest.mark.skipif(ON_GPU and not torch.cuda.is_available(), reason=_NO_GPU)
needs_gpu = pytest.mark.skipif(not (ON_GPU and torch.cuda.is_available()), reason=_NO_GPU)
GIB = 1 << 30


def dice(one: npt.NDArray[np.generic], other: npt.NDArray[np.generic]) -> float:
    """Of all labels together: voxels of the same label beside those of any."""
    total = int((one > 0).sum()) + int((other > 0).sum())
    return 2.0 * int(((one == other) & (one > 0)).sum()) / total if total else 1.0


@contextmanager
def room_of(free_bytes: int) -> Iterator[None]:
    """Leave so much of the device's memory; all else is taken until the end."""
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(DEVICE)
    assert free > free_bytes, "the device has less than that"
    ballast = torch.empty(free - free_bytes, dtype=torch.uint8, device=DEVICE)
    try:
        yield
    finally:
        del ballast
        torch.cuda.empty_cache()


def packages_of_the_tests(environment: Path) -> None:
    """Let a virtual environment see the packages that this process has by PYTHONPATH."""
    (packages,) = environment.glob("lib/python3*/site-packages")
    (packages / "more.pth").write_text("\n".join(
        entry for entry in sys.path if entry.endswith("site") or "site-packages" in entry
    ) + "\n")
