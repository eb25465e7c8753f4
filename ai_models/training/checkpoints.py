"""What a killed run goes on from: written beside, synced, renamed; read as data only."""

from __future__ import annotations

import fcntl
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ai_models.training.settings import TrainingError

FORMAT = 1


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Replace ``path`` as a whole: a kill at any moment leaves the old file or the new one.

    Raises
    ------
    TrainingError
        It cannot be written; what was there before still is.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        with beside.open("wb") as stream:
            torch.save({"format": FORMAT, **content}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except (OSError, RuntimeError) as error:  # torch has an error of its own for a full disk
        beside.unlink(missing_ok=True)
        raise TrainingError(f"{path} cannot be written: {_why(error)}") from error
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _why(error: BaseException) -> str:
    """What the system said, behind what torch made of it."""
    met: BaseException | None = error
    while met is not None:
        if isinstance(met, OSError) and met.strerror:
            return met.strerror
        met = met.__cause__ or met.__context__
    return str(error)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Tensors, numbers and text of a checkpoint, on the CPU; nothing else is loaded.

    Raises
    ------
    TrainingError
        The file is no checkpoint, or one of another format.
    """
    try:
        with zipfile.ZipFile(path) as parts:
            # torch does not look at the sums that it writes.
            damaged = parts.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} is damaged")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its readers do for a damaged file
        raise TrainingError(f"{path} cannot be read as a checkpoint: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise TrainingError(f"{path} is no checkpoint of this version; begin a new run")
    return content


@contextmanager
def only_one_in(folder: Path) -> Iterator[None]:
    """Keep every other training out of a folder, for as long as this one lives.

    Raises
    ------
    TrainingError
        Another one runs in it.
    """
    opened = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainingError(f"another training runs in {folder}") from error
        yield
    finally:
        os.close(opened)
