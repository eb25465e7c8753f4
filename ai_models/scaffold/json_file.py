"""JSON files of somebody else: an object, and not too large."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ai_models.types import ModelError

_LARGEST_BYTES = 16 << 20


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object.

    Raises
    ------
    ModelError
        ``model.load_failed``.
    """
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ValueError("too large")
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path.name} cannot be read: {error}", reason="model.load_failed") from (
            error
        )
    if not isinstance(values, dict):
        raise ModelError(f"{path.name} holds no JSON object", reason="model.load_failed")
    return values
