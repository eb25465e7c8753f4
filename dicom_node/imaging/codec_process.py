"""One process that decodes compressed pixel data, seen from the process that needs them.

    decode -> one request line -> one answer line + frames in anonymous memory

It is started when it is needed, has its limits from the kernel (`codec_worker`), and is killed
when it stands still. How it ended says whose fault it was: a signal that native code brings upon
itself is the file's, one that others send is not.
Nothing heavy is imported here.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from dicom_node.errors import StorageFailed, UnsuitableInput, WorkerLost

Stored = npt.NDArray[np.generic]

COMMAND = (sys.executable, "-m", "dicom_node.imaging.codec_worker")
_BATCH_BYTES = 128 << 20
_MAX_ANSWER_BYTES = 1 << 16
_START_S = 120.0
_FAREWELL_S = 5.0
_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "TZ")


@dataclass(frozen=True)
class CodecLimits:
    """What decoding one frame may take.

    Attributes
    ----------
    cpu_s
        Processor time, and as much again per million pixels.
    waiting_s
        Time on the clock beyond ten times that. Who passes it waits rather than works, for a disk
        perhaps, and the file is not blamed.
    memory_bytes
        Memory of the process beyond what the size of the image explains.
    """

    cpu_s: float = 10.0
    waiting_s: float = 60.0
    memory_bytes: int = 1 << 30


@dataclass(frozen=True)
class EncodedFrames:
    """Frames of one file: what a codec process must know to decode them.

    ``shape`` is (rows, columns), ``frames`` how many the object has, ``frame_numbers`` count
    from 1, ``dtype`` is the type of one pixel cell.
    """

    path: Path
    transfer_syntax_uid: str
    shape: tuple[int, int]
    frames: int
    frame_numbers: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def frame_bytes(self) -> int:
        """Size of one decoded frame."""
        return math.prod(self.shape) * self.dtype.itemsize


class KilledFromOutside(Exception):
    """The process was ended from outside while it held a file."""


@dataclass(frozen=True)
class _Live:
    process: subprocess.Popen[bytes]
    requests: IO[bytes]
    answers: IO[bytes]
    pixels: int


class CodecProcess:
    """One codec process, started when needed; used by one thread at a time.

    Parameters
    ----------
    command
        The program, to which its limits are added.
    """

    def __init__(self, command: Sequence[str], limits: CodecLimits) -> None:
        self._command = command
        self._limits = limits
        self._live: _Live | None = None

    @property
    def pid(self) -> int | None:
        """Of the process while it runs."""
        live = self._live
        return live.process.pid if live is not None and live.process.poll() is None else None

    def decode(self, wanted: EncodedFrames, out: Stored) -> None:
        """As `CodecPool.decode`, in batches, so that not all frames are held twice.

        Raises `KilledFromOutside` besides.
        """
        batch = max(1, _BATCH_BYTES // wanted.frame_bytes)
        for first in range(0, len(wanted.frame_numbers), batch):
            numbers = wanted.frame_numbers[first : first + batch]
            more = first + batch < len(wanted.frame_numbers)
            live = self._running()
            self._ask(live, wanted, numbers, more)
            try:
                _read_frames(live.pixels, out[first : first + len(numbers)])
            # Whatever it was, an interrupt too: the frames in the file are no longer known.
            except BaseException:
                self._kill(live)
                raise

    def _ask(
        self, live: _Live, wanted: EncodedFrames, numbers: Sequence[int], more: bool
    ) -> None:
        request = {
            "path": str(wanted.path.absolute()),
            "transfer_syntax_uid": wanted.transfer_syntax_uid, "shape": wanted.shape,
            "frames": wanted.frames, "frame_numbers": list(numbers),
            "dtype": wanted.dtype.str, "more": more,
        }
        limits, megapixels = self._limits, math.prod(wanted.shape) / 1e6
        frame_s = 10 * limits.cpu_s * (1 + megapixels)
        deadline = time.monotonic() + limits.waiting_s + frame_s * len(numbers)
        try:
            live.requests.write(json.dumps(request).encode() + b"\n")
            live.requests.flush()
            answer = self._read_line(live, deadline)
        except BrokenPipeError as error:
            self._kill(live)
            raise KilledFromOutside from error
        if answer.get("error") == "memory":
            self._kill(live)
        if "error" in answer:
            raise _typed_error(answer)
        if answer.get("frames") != len(numbers):
            self._kill(live)
            raise _crashed("answered off the protocol")

    def _read_line(self, live: _Live, deadline: float) -> dict[str, Any]:
        line = bytearray()
        ready = select.poll()
        ready.register(live.answers, select.POLLIN)
        while not line.endswith(b"\n"):
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                self._kill(live)
                raise WorkerLost("a codec process stood still", reason="worker.codec_stalled")
            if not ready.poll(remaining_s * 1000):
                continue
            chunk = os.read(live.answers.fileno(), 65536)
            line += chunk
            if not chunk or len(line) > _MAX_ANSWER_BYTES:
                raise self._death(live)
        try:
            answer = json.loads(line)
        except ValueError:
            return {}
        return answer if isinstance(answer, dict) else {}

    def _death(self, live: _Live) -> Exception:
        """What the end of a process that held a file says about the file."""
        code = 0
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = live.process.wait(timeout=_FAREWELL_S)
        self._kill(live)
        if -code in _FROM_OUTSIDE:
            return KilledFromOutside()
        if code == -signal.SIGPROF:
            return UnsuitableInput("the codec passed its time", reason="input.codec_timeout")
        return _crashed(f"died ({signal.strsignal(-code)})" if code < 0 else f"ended ({code})")

    def _running(self) -> _Live:
        if self._live is not None:
            if self._live.process.poll() is None:
                return self._live
            self._kill(self._live)
        live = self._live = _start(self._command, self._limits)
        try:
            ready = self._read_line(live, time.monotonic() + _START_S).get("ready") is True
        except (UnsuitableInput, KilledFromOutside, WorkerLost):
            ready = False
        if not ready:
            self._kill(live)
            raise WorkerLost("a codec process does not start", reason="worker.codec_unavailable")
        return live

    def _kill(self, live: _Live) -> None:
        with contextlib.suppress(ProcessLookupError):
            live.process.kill()
        self._reap(live)

    def _reap(self, live: _Live) -> None:
        live.process.wait()
        for pipe in (live.requests, live.answers):
            # A pipe to a dead process cannot be flushed; it is closed all the same.
            with contextlib.suppress(OSError):
                pipe.close()
        if self._live is live:
            os.close(live.pixels)
            self._live = None

    def kill(self) -> None:
        """End the process at once, whatever it does."""
        if self._live is not None:
            self._live.process.kill()
            self._live.process.wait()

    def end(self) -> None:
        """Close stdin, by which the process ends itself; kill it if it does not."""
        live = self._live
        if live is None:
            return
        with contextlib.suppress(OSError):
            live.requests.close()
        try:
            live.process.wait(timeout=_FAREWELL_S)
        except subprocess.TimeoutExpired:
            self._kill(live)
            return
        self._reap(live)


def _start(command: Sequence[str], limits: CodecLimits) -> _Live:
    pixels = _anonymous_file()
    arguments = [
        "--pixels", str(pixels), "--cpu-s", str(limits.cpu_s),
        "--memory-bytes", str(limits.memory_bytes),
    ]
    try:
        process = subprocess.Popen(
            [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            pass_fds=(pixels,), start_new_session=True, cwd="/", env=_environment(),
        )
    except OSError as error:
        os.close(pixels)
        raise WorkerLost(
            f"a codec process does not start: {error.strerror}", reason="worker.codec_unavailable"
        ) from error
    if process.stdin is None or process.stdout is None:
        raise WorkerLost("the codec process was started without pipes")
    return _Live(process, process.stdin, process.stdout, pixels)


def _anonymous_file() -> int:
    """A file without a name, in memory where the system has that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("frames", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _environment() -> dict[str, str]:
    """What a decoder needs and no more: settings of the node may hold passwords."""
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **kept, "PYTHONPATH": path}


def _read_frames(pixels: int, out: Stored) -> None:
    """Copy the frames and give their memory back."""
    view = out.data.cast("B")
    filled = 0
    while filled < len(view):
        count = os.preadv(pixels, [view[filled:]], filled)
        if not count:
            raise _crashed("wrote fewer pixels than it said")
        filled += count
    os.ftruncate(pixels, 0)


def _typed_error(answer: dict[str, Any]) -> UnsuitableInput | StorageFailed:
    message = str(answer.get("message", ""))[:400]
    if answer["error"] == "storage":
        return StorageFailed(f"cannot read the pixel data: {message}")
    return UnsuitableInput(message, reason="input.undecodable")


def _crashed(how: str) -> UnsuitableInput:
    return UnsuitableInput(f"the codec process {how}", reason="input.codec_crashed")
