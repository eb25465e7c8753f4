"""A way in a process of its own, which does its work once for each line that it is given.

    python -m bench.child MODULE NAME [ARGUMENT...]

``NAME`` is a function of ``MODULE`` that takes the arguments, gets ready (imports, warm up) and
returns the function to be measured. Processes of several ways wait beside each other, so that
their rounds alternate and no round pays for a start.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from bench.rows import Sample

ROOT = Path(__file__).resolve().parents[1]
Work = Callable[[], Mapping[str, float] | None]


class Child:
    """A way as a child process; ``value`` in seconds, CPU a round."""

    def __init__(
        self, name: str, role: str, module: str, function: str, *arguments: object,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.role = name, role
        words = [str(one) for one in arguments]
        self._command = [sys.executable, "-m", "bench.child", module, function, *words]
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env=self._environment,
        )
        self._line()
        return self

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin and process.stdout
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def once(self) -> Sample:
        """One round.

        Raises
        ------
        RuntimeError
            The process ended, or says what went wrong.
        """
        assert self._process and self._process.stdin
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        found = self._line()
        more = {key: float(value) for key, value in found.items()}
        value = more.pop("value", more["seconds"])
        return Sample(value, more.pop("cpu_s"), more.pop("peak_mb"), more)

    def _line(self) -> dict[str, Any]:
        assert self._process and self._process.stdout
        while True:
            line = self._process.stdout.readline()
            if not line:
                raise RuntimeError(f"{self.name}: its process ended with {self._process.wait()}")
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                if "error" in found:
                    raise RuntimeError(found["error"])
                return found


def memory_mb(key: str) -> float:
    """``VmRSS`` or ``VmHWM`` of this process (MB)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{key}:")[2].split()[0]) * 1024 / 1e6


def _forget_peak() -> None:
    # man 5 proc: 5 sets the peak to what is held now.
    Path("/proc/self/clear_refs").write_text("5")


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    """Get ready, then work once for each line."""
    module, name, *arguments = sys.argv[1:]
    try:
        work: Work = getattr(importlib.import_module(module), name)(*arguments)
        print(json.dumps({"ready": 1}), flush=True)
        for _ in sys.stdin:
            _forget_peak()
            held_mb = memory_mb("VmRSS")
            begun, cpu_begun_s = time.perf_counter(), _cpu_s()
            more = work() or {}
            found = {
                "seconds": time.perf_counter() - begun, "cpu_s": _cpu_s() - cpu_begun_s,
                "peak_mb": memory_mb("VmHWM"),
            }
            found["added_mb"] = max(0.0, found["peak_mb"] - held_mb)
            # What has to be made ready again before the next round does not count.
            getattr(work, "after", lambda: None)()
            print(json.dumps({**found, **more}), flush=True)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"[:400]}), flush=True)
        raise


if __name__ == "__main__":
    main()
