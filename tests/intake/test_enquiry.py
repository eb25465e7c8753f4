"""Asking in the background: what it finds out, what it costs, and that it never holds things up."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.events import Event

from dicom_node.config import Config
from dicom_node.events import Events
from dicom_node.intake.closing import SeriesCloser
from dicom_node.intake.enquiry import MOST_REPAIRS, PATIENCE_S, Enquiry
from dicom_node.intake.query import Limits
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import Association, Instance, Series, SeriesState
from dicom_node.spool import Spool
from tests.dicom_samples import ct_series
from tests.intake.query_peer import (
    FIND,
    GET,
    SERIES,
    STUDY,
    QueryPeer,
    image_answers,
    query_peer,
    series_answer,
)
from tests.ledger.conftest import instance

PATIENCE_OF_TESTS_S = 60.0
QUICK = Limits(connect_s=5, associate_s=5, answer_s=20, query_s=30, retrieve_answer_s=30)


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Told(Events):
    """Remembers which peers could not be asked."""

    def __init__(self) -> None:
        self.refusals: list[str] = []

    def peer_queried(self, peer: str, what: str, reason: str) -> None:
        self.refusals.append(reason)

    def unexpected(self, where: str) -> None:
        raise AssertionError(where)


def until(condition: Callable[[], Any], what: str, pump: Callable[[], Any] | None = None) -> None:
    deadline = time.monotonic() + PATIENCE_OF_TESTS_S
    while True:
        if pump is not None:
            pump()
        if condition():
            return
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class Intake:
    """A ledger, a spool, the closer and the enquiry, without listeners."""

    def __init__(self, folder: Path, peer: dict[str, Any], limits: Limits, **waits: float) -> None:
        self.ledger = Ledger.open(folder / "ledger.db")
        self.spool = Spool(folder / "spool")
        self.events, self.clock = Told(), Clock()
        config = Config.model_validate(
            {
                "peers": {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", **peer}},
                "completeness": {"quiet_period_s": 3600, "after_release_s": 2, **waits},
            }
        )
        self.enquiry = Enquiry(
            config, self.ledger, self.spool, self.events, limits, self.clock
        )
        self.closer = SeriesCloser(
            self.ledger, config.completeness, self.events, self.clock, self.enquiry
        )

    def arrive(self, *numbers: int, ago_s: float = 10, ended: str = "released",
               series: str = SERIES) -> None:
        at = datetime.now(UTC) - timedelta(seconds=ago_s)
        arrived: list[Instance] = [
            dataclasses.replace(instance(n, series=series, at=at), calling_ae_title="PACS")
            for n in numbers
        ]
        closed_at = at if ended else None
        self.ledger.index(
            arrived, [Association("one", "PACS", "listener", at, closed_at, ended)]
        )

    def series(self, uid: str = SERIES) -> Series:
        found = self.ledger.receipts.find_series(uid)
        assert found is not None
        return found

    def is_closed(self, uid: str = SERIES) -> bool:
        return self.series(uid).state is SeriesState.COMPLETE

    def counted(self) -> list[int]:
        return [one.expected_instances for one in self.ledger.announcements.of_series(SERIES)]

    def repairs(self) -> list[tuple[int, str]]:
        return [
            (one.attempt, one.reason) for one in self.ledger.history("series", SERIES)
            if one.reason.startswith("repair")
        ]

    def run_until(self, condition: Callable[[], Any], what: str) -> None:
        until(condition, what, self.closer.close_complete)


@contextmanager
def intake(
    folder: Path, peer: QueryPeer | int, limits: Limits = QUICK, waits: dict[str, float] | None
    = None, **settings: Any,
) -> Iterator[Intake]:
    port = peer if isinstance(peer, int) else peer.port
    made = Intake(folder, {"port": port, **settings}, limits, **(waits or {}))
    made.enquiry.start()
    try:
        yield made
    finally:
        made.enquiry.close()
        made.ledger.close()


def test_a_series_is_closed_by_count_though_its_association_stays_open(tmp_path: Path) -> None:
    with query_peer(series=[series_answer(3)]) as peer, intake(tmp_path, peer) as node:
        node.arrive(1, 2, 3, ago_s=1000, ended="")
        node.run_until(node.is_closed, "closed by count")
        assert node.series().reason == "c-find: 3 of 3, 3 instances"


def test_a_count_that_grows_is_asked_for_again_before_closing(tmp_path: Path) -> None:
    with query_peer(series=[series_answer(2)]) as peer, intake(tmp_path, peer) as node:
        node.arrive(1, 2, ago_s=1000, ended="")
        assert node.enquiry.awaits(node.series())
        until(lambda: node.counted() == [2], "the first answer")
        peer.series, peer.images = [series_answer(4)], image_answers([1, 2, 3, 4])
        node.arrive(3, ago_s=950, ended="")
        node.run_until(lambda: node.counted() == [4], "the second answer")
        assert not node.is_closed()
        node.arrive(4, ago_s=920, ended="")
        node.run_until(node.is_closed, "closed when the archive has no more")
        assert node.series().reason == "c-find: 4 of 4, 4 instances"


def test_a_peer_that_counts_what_it_holds_twice_is_no_reason_to_wait(tmp_path: Path) -> None:
    images = [*image_answers([1, 2, 3]), *image_answers([1, 2, 3])]
    with (
        query_peer(series=[series_answer(6)], images=images) as peer,
        intake(tmp_path, peer) as node,
    ):
        node.arrive(1, 2, 3, ago_s=1000, ended="")
        node.run_until(node.is_closed, "closed")
        assert node.series().reason == "c-find: 3 of 3, 3 instances"
        assert peer.moved == []


def test_a_peer_that_counts_fewer_than_are_here_is_no_evidence(tmp_path: Path) -> None:
    with query_peer(series=[series_answer(2)]) as peer, intake(tmp_path, peer) as node:
        node.arrive(1, 2, 3)
        node.run_until(node.is_closed, "closed by its release")
        assert node.counted() == [2]
        assert node.series().reason == "association_released, 3 instances"


def test_a_modality_without_a_query_service_is_asked_once_for_many_series(tmp_path: Path) -> None:
    with query_peer(offers=()) as peer, intake(tmp_path, peer) as node:
        names = [f"1.2.{n}" for n in range(50)]
        node.arrive(1, series=names[0])
        node.run_until(lambda: node.is_closed(names[0]), "the first series is closed")
        assert node.events.refusals == ["peer.context_rejected"]
        called = peer.associations
        for name in names[1:]:
            node.arrive(1, series=name)
        node.closer.close_complete()
        assert all(node.is_closed(name) for name in names)
        assert peer.associations == called


def test_a_peer_that_is_not_there_is_left_alone_for_longer_each_time(tmp_path: Path) -> None:
    with query_peer() as gone:
        port = gone.port
    with intake(tmp_path, port) as node:
        node.arrive(1, ended="", ago_s=10)
        waits_s = (60.0, 120.0, 240.0)
        for number, wait_s in enumerate(waits_s, start=1):
            assert node.enquiry.awaits(node.series())
            until(lambda n=number: len(node.events.refusals) == n, "the failure")  # type: ignore[misc]
            node.clock.now_s += wait_s - 1
            assert not node.enquiry.awaits(node.series())
            node.clock.now_s += 2


def test_a_peer_set_to_off_and_a_stranger_are_never_asked(tmp_path: Path) -> None:
    with query_peer() as peer, intake(tmp_path, peer, query="off") as node:
        node.arrive(1)
        assert not node.enquiry.awaits(node.series())
    with query_peer() as peer, intake(tmp_path, peer) as node:
        node.arrive(1)
        stranger = dataclasses.replace(node.series(), calling_ae_title="STRANGER")
        assert not node.enquiry.awaits(stranger)
        odd = dataclasses.replace(node.series(), series_instance_uid="no uid *")
        assert not node.enquiry.awaits(odd)
    assert peer.associations == 0


def test_an_answer_that_does_not_come_is_waited_for_a_while_and_the_timer_closes(
    tmp_path: Path,
) -> None:
    asked, ended = threading.Event(), threading.Event()

    def silent(_event: Event) -> Iterator[tuple[int, Dataset | None]]:
        asked.set()
        ended.wait(PATIENCE_OF_TESTS_S)
        yield 0x0000, None

    limits = dataclasses.replace(QUICK, answer_s=PATIENCE_OF_TESTS_S)
    with query_peer(on_find=silent) as peer, intake(tmp_path, peer, limits) as node:
        node.arrive(1)
        node.closer.close_complete()
        assert asked.wait(PATIENCE_OF_TESTS_S)
        node.closer.close_complete()
        assert not node.is_closed(), "an answer is under way"
        node.clock.now_s += PATIENCE_S
        node.closer.close_complete()
        assert node.series().reason == "association_released, 1 instances"
        ended.set()


def test_closing_the_node_breaks_off_what_is_under_way(tmp_path: Path) -> None:
    asked, ended = threading.Event(), threading.Event()

    def silent(_event: Event) -> Iterator[tuple[int, Dataset | None]]:
        asked.set()
        ended.wait(PATIENCE_OF_TESTS_S)
        yield 0x0000, None

    limits = dataclasses.replace(QUICK, answer_s=PATIENCE_OF_TESTS_S)
    with query_peer(on_find=silent) as peer:
        with intake(tmp_path, peer, limits) as node:
            node.arrive(1)
            node.enquiry.awaits(node.series())
            assert asked.wait(PATIENCE_OF_TESTS_S)
            node.enquiry.close()
            assert not any(thread.is_alive() for thread in node.enquiry._threads)
        ended.set()


def test_a_move_that_brings_nothing_is_tried_a_few_times_and_told(tmp_path: Path) -> None:
    waits = {"give_up_after_s": 50_000.0}
    with (
        query_peer(series=[series_answer(3)], images=image_answers([1, 2, 3])) as peer,
        intake(tmp_path, peer, waits=waits, retrieve="c-move") as node,
    ):
        node.arrive(1)
        for number in range(1, MOST_REPAIRS + 1):
            node.run_until(lambda n=number: len(node.repairs()) == n, "a repair")  # type: ignore[misc]
            node.clock.now_s += 1000
        asked = len(peer.asked)
        node.run_until(lambda: len(peer.asked) > asked, "it is asked again, without a repair")
        expected = "repair: c-move peer.move.0xA801"
        assert node.repairs() == [(n, expected) for n in range(1, MOST_REPAIRS + 1)]
        assert [list(one.SOPInstanceUID) for _, one in peer.moved] == [
            ["1.2.3.2", "1.2.3.3"]
        ] * MOST_REPAIRS
        node.clock.now_s += 50_000
        node.run_until(node.is_closed, "given up")
        reason = "gave_up_waiting: c-find: 3 announced, 1 here, 1 instances"
        assert node.series().reason == reason


def test_a_peer_whose_retrieval_is_off_is_asked_and_not_fetched_from(tmp_path: Path) -> None:
    with (
        query_peer(offers=[FIND, GET], series=[series_answer(3)]) as peer,
        intake(tmp_path, peer, retrieve="off") as node,
    ):
        node.arrive(1)
        node.run_until(lambda: node.counted() == [3], "counted")
        assert not node.is_closed()
        assert (peer.moved, peer.got) == ([], [])


@pytest.mark.parametrize("listed", [True, False], ids=["by instance", "by series"])
def test_what_is_given_on_the_same_association_is_kept_like_what_is_received(
    tmp_path: Path, listed: bool
) -> None:
    datasets = ct_series((3, 16, 16), StudyInstanceUID=STUDY, SeriesInstanceUID=SERIES)
    for number, dataset in enumerate(datasets, start=1):
        dataset.SOPInstanceUID = UID(f"1.2.3.{number}")
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    other = ct_series((1, 16, 16))[0]

    def give(_event: Event) -> Iterator[Any]:
        yield 3
        for dataset in (*datasets[1:], other):
            yield 0xFF00, dataset

    images = image_answers([1, 2, 3]) if listed else []
    with (
        query_peer(offers=[FIND, GET], series=[series_answer(3)], images=images, on_get=give)
        as peer,
        intake(tmp_path, peer) as node,
    ):
        node.arrive(1)
        node.run_until(lambda: node.series().instance_count == 3, "two more are here")
        until(node.repairs, "the repair is told")
        # The one of another series was refused.
        assert node.repairs()[0][1].endswith(f"c-get brought 2 of {2 if listed else 3}")
        node.closer.close_complete()
        node.clock.now_s += 1000
        node.run_until(node.is_closed, "closed by count")
        assert node.series().reason == "c-find: 3 of 3, 3 instances"
        assert peer.got[0].QueryRetrieveLevel == ("IMAGE" if listed else "SERIES")
        kept = {
            one.sop_instance_uid: one for one in node.ledger.receipts.instances(SERIES)
        }["1.2.3.3"]
        read = pydicom.dcmread(BytesIO(node.spool.resolve(kept.path).read_bytes()))
        assert read.PixelData == datasets[2].PixelData
        assert kept.calling_ae_title == "PACS"
        # Nobody asked for the instance of another series.
        assert node.ledger.receipts.find_series(str(other.SeriesInstanceUID)) is None


def test_an_announcement_of_the_modality_holds_a_series_and_then_closes_it(tmp_path: Path) -> None:
    with query_peer() as peer, intake(tmp_path, peer, query="off") as node:
        node.ledger.announcements.record(SERIES, "mpps", STUDY, 3, "CT01", True)
        node.arrive(1, 2, ago_s=1000)
        node.closer.close_complete()
        assert not node.is_closed()
        node.arrive(3, ago_s=950, ended="")
        node.closer.close_complete()
        assert node.series().reason == "mpps: 3 of 3, 3 instances"
