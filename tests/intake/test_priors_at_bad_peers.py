"""An archive that answers badly, or never, when an earlier examination is looked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom.events import Event

from dicom_node.intake.query import Limits
from tests.intake.prior_place import PRESENT, Archive, Place
from tests.intake.query_peer import FIND, MOVE, Found, QueryPeer, query_peer

IMPATIENT = Limits(
    connect_s=2, associate_s=2, answer_s=1, query_s=2, retrieve_answer_s=2, retrieve_s=4
)


@pytest.fixture
def archive() -> Archive:
    return Archive()


@pytest.fixture
def peer(archive: Archive) -> Iterator[QueryPeer]:
    with query_peer((FIND, MOVE), on_find=archive.find) as made:
        yield made


@pytest.fixture
def place(tmp_path: Path, archive: Archive, peer: QueryPeer) -> Iterator[Place]:
    made = Place(tmp_path, peer)
    made.search._fetching._limits = IMPATIENT
    archive.place = made
    made.search.start()
    try:
        yield made
    finally:
        made.search.close()
        assert not any(thread.is_alive() for thread in made.search._threads)
        made.ledger.close()


def told(place: Place, word: str) -> str:
    """What the ledger says the job waits for, once it says this."""
    place.search.want(place.job, "1.2", PRESENT, place.wanted)
    until = time.monotonic() + 60
    while True:
        (now,) = place.ledger.inputs.of(place.job.job_id)
        if word in now.reason:
            assert now.waits and not now.series_instance_uid
            return now.reason
        assert time.monotonic() < until, now
        time.sleep(0.05)


def test_one_that_accepts_and_never_answers_leaves_a_sentence_and_a_thread_that_is_free(
    place: Place, peer: QueryPeer
) -> None:
    ended = threading.Event()

    def never(_event: Event) -> Found:
        ended.wait(60)
        yield 0x0000, None

    peer.on_find = never
    try:
        assert told(place, "could not") == "it could not be looked for (peer.timeout)"
        assert not place.search._asked["pacs"]
    finally:
        ended.set()


def test_one_that_answers_a_little_at_a_time_for_ever_is_broken_off(
    place: Place, peer: QueryPeer
) -> None:
    def drip(event: Event) -> Found:
        number = 0
        while not event.is_cancelled and event.assoc.is_established:
            number += 1
            answer = Dataset()
            answer.StudyInstanceUID, answer.StudyDate = f"1.9.{number}", "20260101"
            answer.PatientID = "ANNA"
            yield 0xFF00, answer
            time.sleep(0.3)

    peer.on_find = drip
    assert told(place, "could not") == "it could not be looked for (peer.endless)"


def test_one_that_answers_with_more_studies_than_anybody_has_is_broken_off(
    place: Place, peer: QueryPeer
) -> None:
    def flood(_event: Event) -> Found:
        for number in range(100_000):
            answer = Dataset()
            answer.StudyInstanceUID, answer.StudyDate = f"1.9.{number}", "20260101"
            answer.PatientID = "ANNA"
            yield 0xFF00, answer
        yield 0x0000, None

    peer.on_find = flood
    assert told(place, "could not") == "it could not be looked for (peer.endless)"


@pytest.mark.parametrize("day", [
    "20991231", "rubbish", "", "2026-01-01", "20260132", "00000000", "20260101-20260102",
])
def test_a_study_of_no_day_before_is_passed_over(
    place: Place, archive: Archive, day: str
) -> None:
    archive.has("1.4", day)
    assert place.ask().reason == "there is none of the 1095 days before here or at pacs"


def test_a_retrieval_that_says_success_and_brings_nothing_is_told_as_such(
    place: Place, archive: Archive, peer: QueryPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.intake.priors._ASTRAY_S", 0.5)
    archive.has("1.4", "20260101")
    monkeypatch.setattr(
        "dicom_node.intake.query.QueryAssociation.move", _says_that_it_sent_all
    )
    assert place.ask().reason == (
        "there may be one at pacs, 59 days before, and it could not be fetched"
    )


def _says_that_it_sent_all(_association: object, *_asked: object) -> Any:
    from dicom_node.intake.query import Retrieved

    return Retrieved(4, 0, 0)


def test_the_node_ends_while_an_archive_says_nothing(
    tmp_path: Path, archive: Archive, peer: QueryPeer
) -> None:
    ended, asked = threading.Event(), threading.Event()

    def never(_event: Event) -> Found:
        asked.set()
        ended.wait(60)
        yield 0x0000, None

    peer.on_find = never
    place = Place(tmp_path, peer)
    place.search._fetching._limits = Limits(answer_s=600, query_s=600)
    place.search.start()
    try:
        place.search.want(place.job, "1.2", PRESENT, place.wanted)
        assert asked.wait(60)
        place.search.close()
        assert not any(thread.is_alive() for thread in place.search._threads)
    finally:
        ended.set()
        place.ledger.close()
