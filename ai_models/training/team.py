"""Several processes that train one network, as torchrun starts them; alone without it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed

# The others wait for the first while it validates.
_PATIENCE = timedelta(hours=6)


@dataclass(frozen=True)
class Team:
    """This process among those that train together; ``rank`` 0 writes and validates."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def is_first(self) -> bool:
        """Whether this one writes files and tells of the progress."""
        return self.rank == 0

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean of one number of each."""
        if self.size > 1:
            value = value.clone()
            distributed.all_reduce(value)
            value = value / self.size
        return value

    def told_by_first(self, values: list[float]) -> list[float]:
        """The numbers of rank 0, to all; every rank gives as many."""
        if self.size == 1:
            return values
        shared = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.broadcast(shared, 0)
        return [float(one) for one in shared.cpu()]


def default_device() -> str:
    """``cuda`` where there is one, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def joined_team(device: str) -> Iterator[Team]:
    """Join the processes that torchrun started (``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``).

    On GPUs each process takes that of its local rank and they speak by NCCL, on CPUs by Gloo.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team(device=device)
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = device.startswith("cuda")
    if on_gpu:
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=_PATIENCE)
    try:
        yield Team(rank, size, device)
    finally:
        distributed.destroy_process_group()
