"""The process that decodes compressed pixel data: ``python -m dicom_node.imaging.codec_worker``.

It reads requests from stdin and answers on stdout, one JSON document a line; decoded frames go
into the file (an anonymous one in memory) that it was started with.

    greeting {"ready": true}
    request  {"path", "transfer_syntax_uid", "shape", "frames", "frame_numbers", "dtype",
             "more": whether further frames of the same file will be asked for next}
    answer   {"frames": n}   or   {"error": "undecodable" | "storage" | "memory", "message"}

What a codec may take is limited by the kernel: processor time per frame (SIGPROF ends the process,
also inside a loop of native code), memory per image, and no core file, for it would hold an
image. When stdin closes the node is gone and the process ends.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from dicom_node.imaging.pixel_decoder import Frame, Undecodable, decoded_frames

# What the codecs known here hold beside the result: 32-bit wavelet coefficients, twice, and more.
_MEMORY_PER_DECODED_BYTE = 24
_MEGAPIXEL = 1_000_000


class CodecWorker:
    """Decodes what it is asked for into the file ``pixels``.

    Parameters
    ----------
    pixels
        Descriptor of the file for decoded frames, one after the other from byte 0.
    cpu_s
        Processor time that a frame may take, and as much again per megapixel.
    memory_bytes
        Memory of the process beside what the size of the image explains.
    """

    def __init__(self, pixels: int, cpu_s: float, memory_bytes: int) -> None:
        self._pixels = pixels
        self._cpu_s = cpu_s
        self._memory_bytes = memory_bytes
        self._open: tuple[str, Dataset] | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Decode the named frames of one file; what the decoder raises is the answer."""
        try:
            return {"frames": self._decode(request)}
        except Undecodable as error:
            return {"error": "undecodable", "message": str(error)}
        except MemoryError:
            return {"error": "memory", "message": "decoding takes more memory than the image"}
        except OSError as error:
            return {"error": "storage", "message": error.strerror or "the file cannot be read"}
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            if not request["more"]:
                self._open = None

    def _decode(self, request: dict[str, Any]) -> int:
        rows, columns = (int(length) for length in request["shape"])
        dtype = np.dtype(str(request["dtype"]))
        frame_bytes = rows * columns * dtype.itemsize
        self._allow(rows * columns, frame_bytes, Path(request["path"]).stat().st_size)
        dataset = self._dataset(str(request["path"]))
        frames = decoded_frames(
            dataset, str(request["transfer_syntax_uid"]), (rows, columns),
            int(request["frames"]), request["frame_numbers"],
        )
        count = 0
        for count, frame in enumerate(frames, start=1):
            self._write(frame.astype(dtype, copy=False), (count - 1) * frame_bytes)
            self._restart_clock(rows * columns)
        return count

    def _dataset(self, path: str) -> Dataset:
        """The data set; kept no longer than `more` says, for the file may be replaced."""
        if self._open is None or self._open[0] != path:
            self._open = None
            try:
                self._open = path, pydicom.dcmread(path, force=True)
            except (OSError, MemoryError):
                raise
            # pydicom raises whatever its parsers meet on damaged bytes; one file is one answer.
            except Exception as error:
                raise Undecodable(f"not a DICOM data set ({type(error).__name__})") from error
        return self._open[1]

    def _allow(self, pixels: int, frame_bytes: int, file_bytes: int) -> None:
        wanted = self._memory_bytes + _MEMORY_PER_DECODED_BYTE * frame_bytes + 2 * file_bytes
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
        self._restart_clock(pixels)

    def _restart_clock(self, pixels: int) -> None:
        signal.setitimer(signal.ITIMER_PROF, self._cpu_s * (1 + pixels / _MEGAPIXEL))

    def _write(self, frame: Frame, position: int) -> None:
        view = np.ascontiguousarray(frame).data.cast("B")
        while view:
            written = os.pwrite(self._pixels, view, position)
            view, position = view[written:], position + written


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Take stdin and stdout for the protocol; what codecs print goes nowhere."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.close(nothing)
    return requests, answers


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve requests until stdin closes."""
    parser = argparse.ArgumentParser(description="decoder of compressed pixel data")
    parser.add_argument("--pixels", type=int, required=True)
    parser.add_argument("--cpu-s", type=float, required=True)
    parser.add_argument("--memory-bytes", type=int, required=True)
    options = parser.parse_args(arguments)
    requests, answers = _private_pipes()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    worker = CodecWorker(options.pixels, options.cpu_s, options.memory_bytes)
    answers.write(b'{"ready": true}\n')
    for line in requests:
        answers.write(json.dumps(worker.answer(json.loads(line))).encode() + b"\n")


if __name__ == "__main__":
    main()
