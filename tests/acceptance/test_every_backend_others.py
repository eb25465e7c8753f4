"""The conformance suite is green for every back-end: programs and models of another host."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.every_backend import (
    OTHERS,
    cases,
    hosts,
    prove_green,
    torchvision_in_workers,
)

__all__ = ["hosts", "torchvision_in_workers"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("make", cases(OTHERS))
def test_suite_is_green(
    tmp_path: Path, hosts: ExitStack, make: Callable[[Path, ExitStack], Path]
) -> None:
    prove_green(tmp_path, hosts, make)
