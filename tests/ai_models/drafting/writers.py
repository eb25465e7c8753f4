"""Folders with the card of a writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

VALUES: dict[str, Any] = {
    "id": "radiology-llama", "version": "1.0", "name": "Radiology Llama",
    "intended_use": "Drafts the impression of a report from its own evidence.",
    "demonstration": True, "licence": "Apache-2.0", "writer": "openai",
    "weights": {"licence": "Apache-2.0", "source": "test"},
    "endpoint": {"name": "language", "model": "radiology-8b", "seed": 11},
}


def writer_folder(folder: Path, **changes: object) -> Path:
    """A folder with ``writer.yaml``; a value of ``None`` takes the key away."""
    values = {key: value for key, value in {**VALUES, **changes}.items() if value is not None}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "writer.yaml").write_text(yaml.safe_dump(values))
    return folder
