"""Listeners on real sockets of 127.0.0.1, and what they told the index."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.raw_scu import CT, EXPLICIT, VERIFICATION, RawScu
from bench.synthetic import ct_slice
from dicom_node.events import Events
from dicom_node.intake.listener import Listener
from dicom_node.intake.settings import ListenerSettings
from dicom_node.records import Association, Instance
from dicom_node.spool import Spool, SpoolPlace
from tests.intake.serving import ServingNode, serving_node

CONTEXTS = ((1, CT, [EXPLICIT]), (3, VERIFICATION, [EXPLICIT]))


class Told:
    """Stands where the indexer stands, and remembers."""

    listener_id = "test"

    def __init__(self) -> None:
        self.instances: list[Instance] = []
        self.associations: list[Association] = []
        self.has_ended = threading.Event()

    def stored(self, instance: Instance, association: Association) -> None:
        self.instances.append(instance)

    def ended(self, association: Association) -> None:
        self.associations.append(association)
        self.has_ended.set()


class Node:
    """A running listener with its spool."""

    def __init__(self, root: Path, **settings: Any) -> None:
        values: dict[str, Any] = {
            "ae_title": "DICOMNODE",
            "host": "127.0.0.1",
            "port": 0,
            "calling_ae_titles": None,
            "check_called_ae_title": True,
            "max_associations": 16,
            "receive_path": "streamed",
            "max_pdu_bytes": 131072,
            "network_timeout_s": 30.0,
            "dimse_timeout_s": 30.0,
            "acse_timeout_s": 10.0,
            "private_sop_classes": (),
        }
        watermark_bytes = settings.pop("refuse_below_free_bytes", 0)
        values["spool"] = SpoolPlace(str(root), watermark_bytes)
        self.settings = ListenerSettings(**{**values, **settings})
        self.spool = Spool(root, watermark_bytes)
        self.told = Told()
        self.happened: list[tuple[str, Mapping[str, object]]] = []
        events = Events(lambda name, arguments: self.happened.append((name, arguments)))
        self.listener = Listener(self.settings, self.spool, self.told, events)
        self.port = self.listener.start()

    def scu(self, contexts: Any = CONTEXTS, **how: Any) -> RawScu:
        return RawScu(self.port, contexts, **how)

    def kept(self) -> list[str]:
        return sorted(self.spool.stored())

    def half_received(self) -> list[str]:
        return [path.name for path in (self.spool.root / "incoming").iterdir()]

    def quarantined(self) -> list[str]:
        return sorted(path.name for path in (self.spool.root / "quarantine").iterdir())

    def refusals(self) -> list[object]:
        """Why associations were refused, as the events tell it."""
        return [one["reason"] for name, one in self.happened if name == "association_refused"]

    def answers_echo(self) -> bool:
        scu = self.scu()
        status = scu.echo(3)
        scu.release()
        return status == 0


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Starts listeners: ``node = start(receive_path="stock")``."""
    nodes: list[Node] = []

    def make(**settings: Any) -> Node:
        nodes.append(Node(tmp_path / f"spool{len(nodes)}", **settings))
        return nodes[-1]

    yield make
    for node in nodes:
        node.listener.close(drain_s=1)


@pytest.fixture(params=["streamed", "stock"])
def both(request: pytest.FixtureRequest, start: Callable[..., Node]) -> Callable[..., Node]:
    """As `start`, once for each receive path."""
    return lambda **settings: start(receive_path=request.param, **settings)


@pytest.fixture(params=["streamed", "stock"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServingNode]:
    """A node with its ledger, once for each receive path."""
    with serving_node(tmp_path, request.param) as serving:
        yield serving


@pytest.fixture
def streamed(tmp_path: Path) -> Iterator[ServingNode]:
    """A node with its ledger."""
    with serving_node(tmp_path, "streamed") as serving:
        yield serving


def slice_of(number: int, size_bytes: int = 2000, series: str = "1.2.3.2") -> tuple[str, bytes]:
    """SOP Instance UID and data set of one small slice."""
    sop_instance = f"1.2.3.9.{number}"
    pixels = bytes([number % 251]) * size_bytes
    return sop_instance, ct_slice(sop_instance, "1.2.3.1", series, number, pixels)
