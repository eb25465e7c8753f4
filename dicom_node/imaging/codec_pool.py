"""Compressed pixel data are decoded in processes of their own, so that a codec can only end those.

A file on which a codec crashes or passes its time is answered with a coded reason and remembered:
it is not tried again while this process lives. A codec process that is killed from outside (the
kernel short of memory, an operator) says nothing about the file, which is tried once more.
"""

from __future__ import annotations

import atexit
import functools
import os
import queue
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from dicom_node.errors import StorageFailed, UnsuitableInput, WorkerLost
from dicom_node.imaging.codec_process import (
    COMMAND,
    CodecLimits,
    CodecProcess,
    EncodedFrames,
    KilledFromOutside,
    Stored,
)

Identity = tuple[int, int, int, int]

DEFAULT_LIMITS = CodecLimits()
_REMEMBERED_FILES = 4096


class CodecPool:
    """Thread-safe: each call takes the codec process that worked last, or waits for one.

    Parameters
    ----------
    processes
        How many there may be; each is started when it is first needed and stays warm.
    command
        The program, to which its limits are added.
    """

    def __init__(
        self,
        processes: int = min(4, os.cpu_count() or 1),
        limits: CodecLimits = DEFAULT_LIMITS,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._processes = [CodecProcess(command, limits) for _ in range(processes)]
        self._idle: queue.LifoQueue[CodecProcess] = queue.LifoQueue()
        for process in self._processes:
            self._idle.put(process)
        self._lock = threading.Lock()
        self._refused: OrderedDict[Identity, UnsuitableInput] = OrderedDict()

    @property
    def pids(self) -> list[int]:
        """The processes that were started and have not been found dead."""
        return [process.pid for process in self._processes if process.pid is not None]

    def decode(self, wanted: EncodedFrames, out: Stored) -> None:
        """Fill ``out`` (frames, rows, columns), contiguous and of ``wanted.dtype``.

        Raises
        ------
        UnsuitableInput
            ``input.undecodable``, ``input.codec_crashed``, ``input.codec_timeout``.
        WorkerLost
            No codec process can be started, or they are killed from outside, or they stand still.
        StorageFailed
            The disk would not give the bytes, or the memory for the frames is not there.
        """
        try:
            identity = _identity(wanted.path)
            self._raise_remembered(identity)
            self._decode(wanted, out)
        except OSError as error:
            raise StorageFailed(f"cannot decode the pixel data: {error.strerror}") from error
        except UnsuitableInput as error:
            if error.reason != "input.undecodable":
                self._remember(identity, error)
            raise

    def _decode(self, wanted: EncodedFrames, out: Stored) -> None:
        for _ in range(2):
            process = self._idle.get()
            try:
                process.decode(wanted, out)
                return
            except KilledFromOutside:
                continue
            finally:
                self._idle.put(process)
        raise WorkerLost("codec processes are killed from outside", reason="worker.codec_killed")

    def _raise_remembered(self, identity: Identity) -> None:
        with self._lock:
            known = self._refused.get(identity)
        if known is not None:
            raise UnsuitableInput(f"{known} before", reason=known.reason)

    def _remember(self, identity: Identity, error: UnsuitableInput) -> None:
        with self._lock:
            self._refused.setdefault(identity, error.with_traceback(None))
            while len(self._refused) > _REMEMBERED_FILES:
                self._refused.popitem(last=False)

    def kill(self) -> None:
        """End every process at once."""
        for process in self._processes:
            process.kill()

    def close(self) -> None:
        """End every process; waits for those that decode. A later call starts them anew."""
        ended = [self._idle.get() for _ in self._processes]
        for process in ended:
            process.end()
            self._idle.put(process)


def _identity(path: Path) -> Identity:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


_shared_lock = threading.Lock()


def shared_pool() -> CodecPool:
    """The codec processes of this process, ended with it; a forked child gets its own."""
    with _shared_lock:
        return _pool_of(os.getpid())


@functools.lru_cache(maxsize=1)
def _pool_of(pid: int) -> CodecPool:
    pool = CodecPool()

    @atexit.register
    def end() -> None:
        # At once: who still decodes in a daemon thread must not keep the process from its end.
        if os.getpid() == pid:
            pool.kill()

    return pool
