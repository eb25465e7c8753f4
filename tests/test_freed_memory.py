from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from dicom_node.freed_memory import GivingBack, give_back, keep_between_jobs, share_arenas

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc"
)

# Threads that all live at once, each with a block of its own that is no Python object.
_THREADS = """
import ctypes, sys, threading
from dicom_node.freed_memory import share_arenas
if "share" in sys.argv:
    assert share_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(6)
def ask():
    together.wait()
    libc.malloc(1000)
    together.wait()
threads = [threading.Thread(target=ask) for _ in range(6)]
for one in threads: one.start()
for one in threads: one.join()
sys.stdout.flush()
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""
# 64 MB in blocks that are no mappings of their own; each tenth stays.
_BLOCKS = """
import ctypes
from pathlib import Path
from dicom_node.freed_memory import give_back
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
blocks = [libc.malloc(64_000) for _ in range(1000)]
for block in blocks: ctypes.memset(block, 1, 64_000)
for number, block in enumerate(blocks):
    if number % 10: libc.free(block)
before = resident_mb()
assert give_back()
print(before - resident_mb())
"""
# 120 MB in blocks as large as a part of a volume, freed: what stays, and what stays of that.
_PARTS = """
import ctypes, sys
from pathlib import Path
from dicom_node.freed_memory import give_back, keep_between_jobs
if "keep" in sys.argv:
    assert keep_between_jobs()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
at_first = resident_mb()
blocks = [libc.malloc(24_000_000) for _ in range(5)]
for block in blocks: ctypes.memset(block, 1, 24_000_000)
for block in blocks: libc.free(block)
kept = resident_mb() - at_first
give_back()
print(kept, resident_mb() - at_first)
"""


def said_by(program: str, *words: str, **environment: str) -> str:
    names = {name: value for name, value in os.environ.items() if "MALLOC" not in name.upper()}
    return subprocess.run(
        [sys.executable, "-c", program, *words], check=True, capture_output=True, text=True,
        env={**names, **environment},
    ).stdout


def test_threads_share_two_arenas() -> None:
    assert said_by(_THREADS).count("<heap nr=") > 2
    assert said_by(_THREADS, "share").count("<heap nr=") == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("MALLOC_ARENA_MAX", "8"), ("GLIBC_TUNABLES", "glibc.malloc.arena_max=8")],
)
def test_who_has_said_how_many_arenas_there_are_is_obeyed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert not share_arenas()


def test_what_was_freed_between_what_stays_goes_back_to_the_system() -> None:
    assert float(said_by(_BLOCKS)) > 40


def test_what_a_worker_freed_stays_for_its_next_job_until_it_is_given_back() -> None:
    kept, after = map(float, said_by(_PARTS, "keep").split())
    assert kept > 100 > 20 > after
    assert float(said_by(_PARTS).split()[0]) < 20


@pytest.mark.parametrize(
    ("name", "value"),
    [("MALLOC_TRIM_THRESHOLD_", "1"), ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=1")],
)
def test_who_has_said_what_is_to_be_kept_is_obeyed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert not keep_between_jobs()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_node.freed_memory._c_library", lambda: None)
    assert not share_arenas()
    assert not keep_between_jobs()
    assert not give_back()


def test_memory_is_given_back_once_in_each_interval() -> None:
    now_s, given = [100.0], []
    freed = GivingBack(60.0, lambda: now_s[0], lambda: given.append(now_s[0]))
    for now_s[0] in (100.0, 159.0, 160.0, 161.0, 219.0, 220.5):
        freed.tick()
    assert given == [160.0, 220.5]
