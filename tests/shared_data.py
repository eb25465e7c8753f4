"""Where the shared real data lies; tests that need it are skipped, with a reason, without it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_DEFAULT = Path(__file__).resolve().parents[2] / "shared"


def shared(*parts: str) -> Path:
    """Path below the shared material: ``DICOM_NODE_SHARED``, else ``shared`` beside the project."""
    return Path(os.environ.get("DICOM_NODE_SHARED", str(_DEFAULT))).joinpath(*parts)


def needs_shared(*parts: str) -> pytest.MarkDecorator:
    """Mark that skips a test where the shared material, or this part of it, is absent."""
    path = shared(*parts)
    return pytest.mark.skipif(not path.exists(), reason=f"shared data not found: {path}")
