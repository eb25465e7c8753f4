"""A Query/Retrieve SCP on 127.0.0.1 that answers as a test tells it to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.events import Event

from dicom_node.config import PeerSettings

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
GET = "1.2.840.10008.5.1.4.1.2.2.3"
STUDY, SERIES = "1.2", "1.2.3"

Found = Iterator[tuple[int, Dataset | None]]


def series_answer(count: object, *, series: str = SERIES, study: str = STUDY) -> Dataset:
    """A response at SERIES level; ``count`` None leaves Number of Series Related Instances out."""
    answer = Dataset()
    answer.QueryRetrieveLevel = "SERIES"
    answer.StudyInstanceUID = study
    answer.SeriesInstanceUID = series
    if count is not None:
        answer.add_new(0x00201209, "LO", str(count))
    return answer


def image_answers(numbers: Sequence[int], series: str = SERIES) -> list[Dataset]:
    """Responses at IMAGE level for instances ``series.number``."""
    answers = []
    for number in numbers:
        answer = series_answer(None, series=series)
        answer.QueryRetrieveLevel = "IMAGE"
        answer.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        answer.SOPInstanceUID = f"{series}.{number}"
        answers.append(answer)
    return answers


@dataclass
class QueryPeer:
    """What it answers at each level, what it was asked, and how often it was called."""

    series: list[Dataset] = field(default_factory=list)
    images: list[Dataset] = field(default_factory=list)
    status: int = 0x0000
    on_find: Callable[[Event], Found] | None = None
    on_move: Callable[[Event], Iterator[Any]] | None = None
    on_get: Callable[[Event], Iterator[Any]] | None = None
    asked: list[Dataset] = field(default_factory=list)
    moved: list[tuple[str, Dataset]] = field(default_factory=list)
    got: list[Dataset] = field(default_factory=list)
    associations: int = 0
    port: int = 0

    def settings(self, **more: Any) -> PeerSettings:
        return PeerSettings(
            name="pacs", ae_title="PACS", host="127.0.0.1", port=self.port, **more
        )

    def find(self, event: Event) -> Found:
        self.asked.append(event.identifier)
        if self.on_find is not None:
            yield from self.on_find(event)
            return
        level = event.identifier.QueryRetrieveLevel
        for answer in self.images if level == "IMAGE" else self.series:
            yield 0xFF00, answer
        if self.status:
            yield self.status, None

    def move(self, event: Event) -> Iterator[Any]:
        self.moved.append((str(event.move_destination), event.identifier))
        if self.on_move is not None:
            yield from self.on_move(event)
            return
        yield None, None

    def get(self, event: Event) -> Iterator[Any]:
        self.got.append(event.identifier)
        if self.on_get is not None:
            yield from self.on_get(event)
            return
        yield 0

    def called(self, _event: Event) -> None:
        self.associations += 1


@contextlib.contextmanager
def query_peer(offers: Sequence[str] = (FIND, MOVE), **script: Any) -> Iterator[QueryPeer]:
    """A peer that offers these services."""
    peer = QueryPeer(**script)
    entity = AE("PACS")
    for service in offers:
        entity.add_supported_context(service)
    if GET in offers:
        for context in AllStoragePresentationContexts[:100]:
            entity.add_supported_context(
                str(context.abstract_syntax), scu_role=True, scp_role=True
            )
    if not offers:
        entity.add_supported_context("1.2.840.10008.1.1")
    server = entity.start_server(
        ("127.0.0.1", 0), block=False,
        evt_handlers=[
            (evt.EVT_C_FIND, peer.find), (evt.EVT_C_MOVE, peer.move), (evt.EVT_C_GET, peer.get),
            (evt.EVT_ACCEPTED, peer.called),
        ],
    )
    assert server is not None
    peer.port = server.server_address[1]
    try:
        yield peer
    finally:
        server.shutdown()
