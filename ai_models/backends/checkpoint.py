"""Checkpoints of torch, read as tensors and plain values and never as a program."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ai_models.types import ModelError

# Numbers and arrays of numpy, which training scripts log beside the weights: what makes them takes
# bytes and a type and can do nothing else. numpy 1 had its module under another name.
_core: Any = getattr(np, "_core")  # noqa: B009 - private in numpy's stubs, and what pickles name
_NUMBERS: list[Any] = [
    np.dtype, np.ndarray,
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?")),
    *(
        (getattr(_core.multiarray, name), f"numpy.{module}.multiarray.{name}")
        for name in ("scalar", "_reconstruct") for module in ("_core", "core")
    ),
]
_MOST_INFLATED = 8


class PickledProgramError(ModelError):
    """A checkpoint holds more than tensors and plain values."""


def read_checkpoint(path: Path) -> Any:
    """What a ``.pt`` or ``.pth`` file holds, on the CPU.

    Raises
    ------
    PickledProgramError
        ``model.pickle``: reading it would run code.
    ModelError
        ``model.weights_missing`` or ``model.load_failed``: no such file, or no checkpoint.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"the weights {path} cannot be read: {error.strerror}", reason="model.weights_missing"
        ) from error
    return checkpoint_in(content, path.name)


def checkpoint_in(content: bytes, name: str) -> Any:
    """The same of the bytes of a file of this name."""
    _check_inflated(content, name)
    try:
        with torch.serialization.safe_globals(_NUMBERS):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch has no one type for what is torn and for what is a program
        if (found := re.search(r"GLOBAL (\S+)", str(error))) or "Unsupported" in str(error):
            what = f" {found[1]}" if found else ""
            raise PickledProgramError(
                f"{name} is no plain weights file: reading it would run Python{what}",
                reason="model.pickle",
            ) from error
        # The first sentence only: the rest advises to read the file without care.
        text = str(error).split("\n", 1)[0].split(". ", 1)[0] or type(error).__name__
        raise ModelError(
            f"torch cannot read {name}: {text}", reason="model.load_failed"
        ) from error


def _check_inflated(content: bytes, name: str) -> None:
    """torch writes its archives without compression: what inflates a lot is no checkpoint."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            inflated = sum(one.file_size for one in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError):
        # Older files are no archives; of what is torn torch says it.
        return
    if inflated > _MOST_INFLATED * len(content):
        raise ModelError(
            f"{name} would become {inflated} bytes of {len(content)}", reason="model.load_failed"
        )
