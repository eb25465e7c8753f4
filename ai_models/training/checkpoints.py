"""What a killed run goes on from: written beside, synced, renamed; read as data only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ai_models.training.settings import TrainingError

FORMAT = 1


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Replace ``path`` as a whole: a kill at any moment leaves the old file or the new one."""
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as stream:
        torch.save({"format": FORMAT, **content}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Tensors, numbers and text of a checkpoint, on the CPU; nothing else is loaded.

    Raises
    ------
    TrainingError
        The file is no checkpoint, or one of another format.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its readers do for a damaged file
        raise TrainingError(f"{path} cannot be read as a checkpoint: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise TrainingError(f"{path} is no checkpoint of this version; begin a new run")
    return content
