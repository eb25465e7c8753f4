"""Real peers as fixtures; each is fresh, and its log is shown when a test fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import peers


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[peers.Orthanc]:
    """A running, empty Orthanc."""
    with peers.Orthanc(tmp_path) as archive:
        yield archive


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[peers.DcmtkStorescp]:
    """A running storescp that accepts every transfer syntax and any SOP class."""
    with peers.DcmtkStorescp(tmp_path, options=("+xa", "-pm")) as receiver:
        yield receiver


@pytest.fixture
def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    return peers.free_port()
