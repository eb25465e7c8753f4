"""Keeps one program: starts it, ends whatever it started, and removes its folder.

    python -I -S command_keeper.py FOLDER

Started by `ai_models.backends.command_process`, never imported by it; standard library only. One
line of JSON on stdin says what to run, one on stdout says how it ended:

    {"words": [...], "environment": {...}, "file_bytes": n}
    {"exit": code, "network": bool} or {"error": text}; a negative code is a signal

When stdin closes - the worker has what it wanted, or it died, in whatever way - every process that
descends from this one is killed and the folder is removed. It stands in a session of its own, so
that whoever kills the worker's process group leaves it to do just that.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

_SET_PARENT_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_SET_INTERFACE_FLAGS, _UP = 0x8914, 1
# The kernel, short of memory, takes the program before the node's own processes.
_OUT_OF_MEMORY_SCORE = "500"
_LIBC = ctypes.CDLL(None, use_errno=True)


def keep(folder: Path) -> None:
    """Run what stdin asks for; return when stdin has closed and nothing is left."""
    os.umask(0o077)
    _LIBC.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        line = sys.stdin.buffer.readline()
        if line.endswith(b"\n"):
            answer = _run(json.loads(line), folder)
            _kill_descendants()
            try:
                sys.stdout.write(json.dumps(answer) + "\n")
                sys.stdout.flush()
            except BrokenPipeError:
                return
            _wait_for_end_of_input(None)
    finally:
        _kill_descendants()
        _remove(folder)


def _run(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    has_network = not _leave_network()

    def limit() -> None:
        _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        allowed = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        if allowed == resource.RLIM_INFINITY or allowed > request["file_bytes"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_bytes"],) * 2)
        Path("/proc/self/oom_score_adj").write_text(_OUT_OF_MEMORY_SCORE)

    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        try:
            program = subprocess.Popen(
                request["words"], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                env=request["environment"], cwd=folder / "work",
                preexec_fn=limit,  # noqa: PLW1509 - this process has one thread
            )
        except OSError as error:
            return {"error": error.strerror or str(error)}
    _wait_for_end_of_input(program.pid)
    code = program.poll()
    return {"exit": -signal.SIGKILL if code is None else code, "network": has_network}


def _leave_network() -> bool:
    """Go where there is no network but one's own loopback; whether this system let us."""
    user, group = os.geteuid(), os.getegid()
    if _LIBC.unshare(_NEW_NETWORK) != 0:
        if _LIBC.unshare(_NEW_USER | _NEW_NETWORK) != 0:
            return False
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        fcntl.ioctl(plain, _SET_INTERFACE_FLAGS, struct.pack("16sH14x", b"lo", _UP))
    return True


def _wait_for_end_of_input(pid: int | None) -> None:
    """Until stdin closes, or the process has ended."""
    waiting = select.poll()
    waiting.register(0, select.POLLIN)
    if pid is None:
        waiting.poll()
        return
    process = os.pidfd_open(pid)
    waiting.register(process, select.POLLIN)
    waiting.poll()
    os.close(process)


def _kill_descendants() -> None:
    """Orphans become children of this process, so that in the end all of them are its children."""
    while children := _children():
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                # `subprocess` has waited for it already.
                continue


def _children() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            status = (entry / "stat").read_text()
        except OSError:
            # It ended meanwhile.
            continue
        if int(status.rpartition(")")[2].split()[1]) == os.getpid():
            found.append(int(entry.name))
    return found


def _remove(folder: Path) -> None:
    for place, names, _ in os.walk(folder):
        for inner in (Path(place, name) for name in names):
            if not inner.is_symlink():
                inner.chmod(0o700)
    shutil.rmtree(folder)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
