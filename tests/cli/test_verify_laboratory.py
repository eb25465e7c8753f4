from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.source_tree import ROOT

CHILD = "import time, dicom_node.cli.verify_laboratory as it; it.end_with({}); time.sleep(600)"
PARENT = """
import os, subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-c", {child!r}.format(os.getpid())], start_new_session=True,
    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(child.pid)
"""


def test_the_process_of_a_model_ends_with_the_command_that_started_it() -> None:
    told = subprocess.run([sys.executable, "-c", PARENT.format(child=CHILD)], cwd=ROOT,
                          capture_output=True, text=True, check=True, timeout=120)
    until = time.monotonic() + 120
    while is_running(int(told.stdout)):
        assert time.monotonic() < until, "the process goes on"
        time.sleep(0.2)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
