"""Seconds of each stage, for the result that they belong to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Write into ``seconds[stage]`` how long the block took."""
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
