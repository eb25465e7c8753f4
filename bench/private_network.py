"""A measurement begun anew where loopback is the only network: its peers listen on everything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_INSIDE = "BENCH_INSIDE"


def begun_inside() -> bool:
    """Whether this process was begun by `run_inside`, wherever that led."""
    return bool(os.environ.get(_INSIDE))


def run_inside(module: str, given: Sequence[str]) -> int:
    """The exit status of ``python -m module given`` in a private network namespace.

    Raises
    ------
    SystemExit
        This process was begun so already: there is no such namespace on this machine.
    """
    if begun_inside():
        raise SystemExit("no private network namespace here: unshare and ip are needed")
    script = str(_ROOT / "tests" / "in_private_network.sh")
    command = [script, sys.executable, "-m", *module.split(), *given]
    environment = {**os.environ, _INSIDE: "1"}
    return subprocess.run(command, cwd=_ROOT, env=environment, check=False).returncode
