"""A codec process whose codec fails as the name of the file says; other files are decoded.

Each try is written down beside the file, so that a test can count them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dicom_node.imaging import codec_worker
from dicom_node.imaging.pixel_decoder import Frame, decoded_frames


def tries(path: Path) -> int:
    """How often decoding the file was begun."""
    noted = path.with_suffix(".tries")
    return len(noted.read_bytes()) if noted.exists() else 0


def fail(path: Path) -> None:
    """Do what the name of the file says."""
    with path.with_suffix(".tries").open("ab") as file:
        file.write(b"x")
    if "crash" in path.name:
        ctypes.string_at(0)
    if "loop" in path.name:
        while True:
            pass
    if "sleep" in path.name:
        time.sleep(3600)
    if "memory" in path.name:
        np.ones(1 << 34, np.uint8)
    if "exit" in path.name:
        os._exit(3)
    if "killed" in path.name or ("interrupted" in path.name and tries(path) == 1):
        os.kill(os.getpid(), signal.SIGKILL)


class BadCodec(codec_worker.CodecWorker):
    """Fails in the place where codecs do."""

    def _decode(self, request: dict[str, Any]) -> int:
        path = Path(request["path"])

        def failing(*arguments: Any) -> Iterator[Frame]:
            fail(path)
            return decoded_frames(*arguments)

        codec_worker.__dict__["decoded_frames"] = failing
        return super()._decode(request)


if __name__ == "__main__":
    codec_worker.__dict__["CodecWorker"] = BadCodec
    codec_worker.main()
