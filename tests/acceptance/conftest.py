"""Real peers and a real node as fixtures; their logs are shown when a test fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import peers
from tests.acceptance.running_node import RunningNode
from tests.databases import NodeDatabase


@dataclass(frozen=True)
class Site:
    """One archive and one node that sends to it, used by many tests: look at your own study."""

    archive: peers.Orthanc
    node: RunningNode


@pytest.fixture(scope="session")
def site(
    tmp_path_factory: pytest.TempPathFactory, node_database: NodeDatabase
) -> Iterator[Site]:
    """A running node beside a running Orthanc."""
    peers.need_private_network()
    folder = tmp_path_factory.mktemp("site")
    with (
        peers.Orthanc(folder) as archive,
        RunningNode(folder / "node", archive.peer, database=node_database()) as node,
    ):
        yield Site(archive, node)


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
