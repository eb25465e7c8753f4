"""Queries to peers that answer oddly or not at all: never trusted, never waited for for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom.events import Event

from dicom_node.config import PeerSettings
from dicom_node.errors import NodeError, PeerBusy, PeerRefused, PeerUnavailable
from dicom_node.intake.query import Limits, QueryAssociation
from dicom_node.intake.retrieval_levels import UIDS_PER_REQUEST, retrievals
from tests import peers
from tests.delivery.scripted_peer import socket_peer
from tests.intake.query_peer import (
    FIND,
    SERIES,
    STUDY,
    QueryPeer,
    image_answers,
    query_peer,
    series_answer,
)

QUICK = Limits(
    connect_s=5, associate_s=2, answer_s=2, query_s=30, retrieve_answer_s=30, retrieve_s=30
)


def count(peer: QueryPeer, limits: Limits = QUICK) -> int | None:
    with QueryAssociation("DICOMNODE", peer.settings(), limits) as association:
        return association.count_instances(STUDY, SERIES)


def test_the_count_of_the_series_asked_for_is_read() -> None:
    with query_peer(series=[series_answer(7, series="1.2.9"), series_answer(120)]) as peer:
        assert count(peer) == 120
    (asked,) = peer.asked
    assert (asked.QueryRetrieveLevel, asked.StudyInstanceUID, asked.SeriesInstanceUID) == (
        "SERIES", STUDY, SERIES,
    )
    assert "NumberOfSeriesRelatedInstances" in asked


def test_a_peer_that_does_not_know_the_series_has_none_of_it() -> None:
    with query_peer(series=[series_answer(7, series="1.2.9")]) as peer:
        assert count(peer) == 0


def test_the_same_answer_many_times_is_one_answer() -> None:
    with query_peer(series=[series_answer(120)] * 50) as peer:
        assert count(peer) == 120
        assert [asked.QueryRetrieveLevel for asked in peer.asked] == ["SERIES"]


@pytest.mark.parametrize("odd", ["-5", "many", 10**9, "1\\2", "", "0", "1e3", None])
def test_a_count_that_is_none_is_replaced_by_counting_instances_once_each(odd: object) -> None:
    images = [*image_answers(range(5)), *image_answers(range(3)), *image_answers([1], "1.2.9")]
    with query_peer(series=[series_answer(odd)], images=images) as peer:
        assert count(peer) == 5


def test_answers_that_contradict_each_other_are_replaced_by_counting() -> None:
    answers = [series_answer(118), series_answer(120)]
    with query_peer(series=answers, images=image_answers(range(119))) as peer:
        assert count(peer) == 119


def test_without_any_count_there_is_no_evidence() -> None:
    with query_peer(series=[series_answer("many")]) as peer:
        assert count(peer) is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [(0xA700, PeerBusy), (0xA900, PeerRefused), (0xC001, PeerRefused), (0xFE00, PeerRefused)],
)
def test_a_failed_query_is_an_error_with_its_status(status: int, kind: type[NodeError]) -> None:
    with (
        query_peer(series=[series_answer(120)], status=status) as peer,
        pytest.raises(kind) as failed,
    ):
        count(peer)
    assert failed.value.reason == f"peer.find.0x{status:04X}"


def test_a_peer_without_a_query_service_refuses_for_good() -> None:
    with query_peer(offers=()) as peer, pytest.raises(PeerRefused) as failed:
        count(peer)
    assert failed.value.reason == "peer.context_rejected"


def test_a_peer_that_offers_moves_only_is_told_apart() -> None:
    with query_peer(offers=[FIND], series=[series_answer(3)]) as peer:
        with QueryAssociation("DICOMNODE", peer.settings(), QUICK) as association:
            assert association.count_instances(STUDY, SERIES) == 3
            with pytest.raises(PeerRefused) as failed:
                association.move("DICOMNODE", STUDY, SERIES)
        assert failed.value.reason == "peer.context_rejected"


def test_nobody_there_is_unavailable() -> None:
    nobody = PeerSettings(name="off", ae_title="OFF", host="127.0.0.1", port=peers.free_port())
    with pytest.raises(PeerUnavailable), QueryAssociation("DICOMNODE", nobody, QUICK):
        pass


def test_a_peer_that_never_answers_the_association_request_is_left() -> None:
    with (
        socket_peer() as silent,
        pytest.raises(PeerUnavailable),
        QueryAssociation("DICOMNODE", silent, Limits(associate_s=0.5)),
    ):
        pass


def test_a_peer_that_never_answers_the_query_is_left() -> None:
    ended = threading.Event()

    def silent(_event: Event) -> Iterator[tuple[int, Dataset | None]]:
        ended.wait(60)
        yield 0x0000, None

    with query_peer(on_find=silent) as peer:
        with pytest.raises(PeerUnavailable) as failed:
            count(peer, Limits(answer_s=0.5))
        ended.set()
    assert failed.value.reason == "peer.timeout"


def test_answers_without_end_are_broken_off() -> None:
    def endless(event: Event) -> Iterator[tuple[int, Dataset | None]]:
        while not event.is_cancelled and event.assoc.is_established:
            yield 0xFF00, series_answer(120)

    with query_peer(on_find=endless) as peer, pytest.raises(PeerUnavailable) as failed:
        count(peer)
    assert failed.value.reason == "peer.endless"


def test_listing_a_study_goes_through_its_series() -> None:
    def find(event: Event) -> Iterator[tuple[int, Dataset | None]]:
        if event.identifier.QueryRetrieveLevel == "SERIES":
            yield 0xFF00, series_answer(2)
            yield 0xFF00, series_answer(1, series="1.2.4")
            yield 0xFF00, series_answer(2)
            return
        numbers = range(2) if event.identifier.SeriesInstanceUID == SERIES else range(1)
        for answer in image_answers(numbers, event.identifier.SeriesInstanceUID):
            yield 0xFF00, answer

    with (
        query_peer(on_find=find) as peer,
        QueryAssociation("DICOMNODE", peer.settings(), QUICK) as association,
    ):
        listed = association.list_instances(STUDY)
    assert [one.sop_instance_uid for one in listed] == ["1.2.3.0", "1.2.3.1", "1.2.4.0"]


def test_a_move_asks_for_the_missing_instances_only_and_to_us() -> None:
    with (
        query_peer() as peer,
        QueryAssociation("DICOMNODE", peer.settings(), QUICK) as association,
    ):
        with pytest.raises(NodeError) as failed:
            association.move("DICOMNODE", STUDY, SERIES, ["1.2.3.1", "1.2.3.2"])
        assert failed.value.reason == "peer.move.0xA801"
    ((destination, asked),) = peer.moved
    assert destination == "DICOMNODE"
    assert asked.QueryRetrieveLevel == "IMAGE"
    assert list(asked.SOPInstanceUID) == ["1.2.3.1", "1.2.3.2"]


def test_many_missing_instances_are_asked_for_in_several_requests() -> None:
    uids = [f"1.2.3.{n}" for n in range(2 * UIDS_PER_REQUEST + 1)]
    requests: list[Any] = [query.SOPInstanceUID for query in retrievals(STUDY, SERIES, uids)]
    flat = [uid for one in requests for uid in ([one] if isinstance(one, str) else one)]
    assert len(requests) == 3
    assert flat == uids
