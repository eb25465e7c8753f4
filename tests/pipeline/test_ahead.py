"""What is made ready while a series arrives, and that nothing is held up or broken by it."""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ai_models.card import Card
from dicom_node.errors import LedgerUnavailable, NotUnderstood, StorageFailed
from dicom_node.events import Events
from dicom_node.imaging import decode
from dicom_node.imaging.codec_pool import CodecPool
from dicom_node.imaging.codec_process import CodecLimits
from dicom_node.imaging.decoded import Decoded
from dicom_node.ledger.ledger import Ledger
from dicom_node.pipeline.ahead import Ahead
from dicom_node.pipeline.made_ready import MadeReady
from dicom_node.records import Instance, JobState, Series, SeriesState
from dicom_node.spool import Spool
from tests.dicom_samples import ct_series, write_instance
from tests.imaging import bad_codec
from tests.ledger.conftest import START, instance, job

PATIENCE_S = 60.0
MODEL = cast(Card, object())
JPEG_LS = "1.2.840.10008.1.2.4.80"


class Told(Events):
    """Remembers what was unexpected."""

    def __init__(self) -> None:
        self.unexpectedly: list[str] = []

    def unexpected(self, where: str) -> None:
        self.unexpectedly.append(where)


class Site:
    """A ledger and a spool that receive, and an `Ahead` beside them."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger.open(folder / "ledger.db")
        self.spool = Spool(folder / "spool")
        self.decoded = Decoded(64 << 20)
        self.events = Told()
        self.asked: list[int] = []
        self.prepared: list[Card] = []
        self.answer: Callable[[Series, Sequence[Instance]], Card | None] = lambda *_: MODEL
        self.ahead = Ahead(
            self.ledger, self.spool, self.decoded, self._card_for, self.prepared.append,
            self.events,
        )

    def _card_for(self, series: Series, instances: Sequence[Instance]) -> Card | None:
        self.asked.append(len(instances))
        return self.answer(series, instances)

    def receive(self, *numbers: int, series: str = "1.2.3", **changes: Any) -> list[Path]:
        """Slices of these numbers, kept and indexed; their files."""
        syntax = changes.pop("syntax", None)
        datasets = ct_series((max(numbers), 32, 40))
        received, paths = [], []
        for number in numbers:
            one = dataclasses.replace(
                instance(number, series=series, at=START + timedelta(seconds=number)), **changes
            )
            path = self.spool.resolve(one.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_instance(datasets[number - 1], path, transfer_syntax_uid=syntax)
            received.append(one)
            paths.append(path)
        self.ledger.index(received)
        return paths

    def look(self) -> None:
        """Until nothing is left that could be read."""
        while self.ahead.look():
            pass

    def taken(self, paths: Sequence[Path]) -> list[bool]:
        return [self.decoded.take(path) is not None for path in paths]


class Whole:
    """Stands for `MadeReady`: tells what it was asked for, and reads nothing."""

    def __init__(self) -> None:
        self.made: list[tuple[str, list[Path]]] = []
        self.series: list[str] = []

    def make(self, series: str, paths: Sequence[Path], entry: object) -> bool:
        assert entry == "what the model takes"
        self.made.append((series, list(paths)))
        self.series.append(series)
        return True

    def drop(self, series: Iterable[str]) -> None:
        for one in list(series):
            if one in self.series:
                self.series.remove(one)


def test_a_series_that_rests_is_read_as_a_whole_and_anew_when_more_came_but_not_for_ever(
    tmp_path: Path,
) -> None:
    site, whole = Site(tmp_path), Whole()
    site.answer = lambda *_: cast(Card, SimpleNamespace(input="what the model takes"))
    site.ahead = Ahead(
        site.ledger, site.spool, site.decoded, site._card_for, lambda _: None, site.events,
        cast(MadeReady, whole), rests_after_s=3600.0,
    )
    paths = site.receive(1, 2, 3)
    site.ahead.look()
    assert site.decoded.images == 3 and not whole.made
    site.ahead._rests_after_s = 0.0
    for _ in range(3):
        site.ahead.look()
    assert whole.made == [("1.2.3", paths)] and whole.series == ["1.2.3"]
    site.ahead._rests_after_s = 3600.0
    more = site.receive(4)
    site.ahead.look()
    assert not whole.series
    site.ahead._rests_after_s = 0.0
    site.ahead.look()
    assert whole.made[1:] == [("1.2.3", [*paths, *more])]
    site.receive(5)
    site.ahead.look()
    assert len(whole.made) == 2 and not whole.series
    whole.series.append("1.2.99")
    site.ahead._forget_at = 0.0
    site.ahead.look()
    assert not whole.series, "nobody will ask for it"
    assert site.events.unexpectedly == []
    site.ledger.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.ahead.stop()
    made.ledger.close()


def test_images_are_read_as_they_come_and_the_model_is_asked_for_once(site: Site) -> None:
    paths = site.receive(1, 2, 3)
    site.look()
    paths += site.receive(4, 5)
    site.look()
    site.look()
    assert site.taken(paths) == [True] * 5
    assert site.prepared == [MODEL]
    assert site.asked == [3]


def test_a_slice_that_is_indexed_after_what_came_later_is_read_too(site: Site) -> None:
    paths: list[Path] = []
    for numbers in ((1, 4), (2, 5), (3, 6)):
        paths += site.receive(*numbers)
        site.look()
    assert site.taken(paths) == [True] * 6


def test_of_a_long_series_only_what_is_new_is_asked_of_the_ledger(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    instances = site.ledger.receipts.instances

    def counted(series: str, **since: Any) -> list[Instance]:
        found = instances(series, **since)
        read.append(len(found))
        return found

    monkeypatch.setattr(site.ledger.receipts, "instances", counted)
    for number in range(1, 9):
        site.receive(number)
        site.look()
    # Besides the new one, that which came last before it.
    assert read == [1] + [2] * 7


def test_what_was_taken_is_not_read_again(site: Site) -> None:
    paths = site.receive(1, 2)
    site.look()
    assert site.taken(paths) == [True, True]
    site.receive(3)
    site.look()
    assert site.taken(paths) == [False, False]


def test_a_slice_that_was_sent_anew_is_read_anew(site: Site) -> None:
    (path,) = site.receive(1)
    site.look()
    site.receive(1, fingerprint="b", received_at=START + timedelta(minutes=1))
    site.look()
    header = site.decoded.take(path)
    assert header is not None
    assert site.decoded.held_bytes == 0


def test_a_series_that_no_model_takes_is_asked_about_again_when_it_has_doubled(site: Site) -> None:
    site.answer = lambda _series, instances: MODEL if len(instances) >= 4 else None
    for number in range(1, 8):
        site.receive(number)
        site.look()
    assert site.asked == [1, 2, 4]
    assert site.prepared == [MODEL]
    assert site.decoded.series == ["1.2.3"]


def test_a_series_whose_model_cannot_be_told_is_left_alone(site: Site) -> None:
    def unclear(*_: object) -> Card:
        raise NotUnderstood("no file of the series can be read")

    site.answer = unclear
    site.receive(1, 2)
    site.look()
    assert (site.prepared, site.decoded.series, site.events.unexpectedly) == ([], [], [])


def test_nothing_is_read_of_objects_with_several_frames(site: Site) -> None:
    site.receive(1, number_of_frames=20)
    site.look()
    assert site.decoded.series == []


def test_only_series_that_still_arrive_are_read(site: Site) -> None:
    paths = site.receive(1, 2)
    site.ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    site.look()
    assert site.taken(paths) == [False, False]


def test_nothing_is_kept_for_a_job_that_an_operator_holds(site: Site) -> None:
    # It may be held for days, and what is kept as a whole for it keeps others from being read.
    site.receive(1, 2)
    site.look()
    site.ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    assert site.ledger.jobs.route("1.2.3", [job()], "rules", seen=START + timedelta(seconds=2))
    forget(site)
    assert site.decoded.series == ["1.2.3"]
    site.ledger.decisions.hold("job-1")
    forget(site)
    assert site.decoded.series == []


def test_a_broken_file_is_left_to_the_job_and_the_others_are_read(site: Site) -> None:
    paths = site.receive(1, 2, 3)
    paths[0].write_bytes(b"noise" * 100)
    paths[1].unlink()
    site.look()
    assert site.taken(paths) == [False, False, True]
    assert site.events.unexpectedly == []


def test_a_path_outside_the_spool_is_not_read(site: Site) -> None:
    write_instance(ct_series((1, 32, 40))[0], site.spool.root.parent / "outside.dcm")
    site.ledger.index([dataclasses.replace(instance(1), path="../outside.dcm")])
    site.look()
    assert site.decoded.series == []


def test_what_is_unexpected_is_told_once_and_ends_nothing_else(site: Site) -> None:
    def odd(series: Series, _: object) -> Card:
        if series.series_instance_uid == "1.2.3":
            raise ZeroDivisionError
        return MODEL

    site.answer = odd
    site.receive(1)
    (path,) = site.receive(1, series="1.2.4")
    site.look()
    site.receive(2)
    site.look()
    assert site.events.unexpectedly == ["reading ahead"]
    assert site.taken([path]) == [True]


def test_a_disk_that_does_not_answer_is_left_to_the_job(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Path] = []

    def failing(_series: str, path: Path) -> bool:
        tried.append(path)
        raise StorageFailed("the disk does not answer")

    monkeypatch.setattr(site.decoded, "read", failing)
    site.receive(1, 2, 3)
    site.look()
    assert len(tried) == 1
    assert site.events.unexpectedly == []


def test_a_series_of_which_one_file_ends_a_codec_is_read_no_further(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = CodecPool(2, CodecLimits(cpu_s=0.5), (sys.executable, str(Path(bad_codec.__file__))))
    monkeypatch.setattr(decode, "shared_pool", lambda: pool)
    paths = site.receive(1, 2, 3, syntax=JPEG_LS)
    crashing = [path.rename(path.with_name(f"crash-{path.name}")) for path in paths]
    found = site.ledger.receipts.instances("1.2.3")
    renamed = [dataclasses.replace(one, path=one.path.replace("1.2.3/", "1.2.3/crash-"),
                                   received_at=START + timedelta(minutes=1)) for one in found]
    site.ledger.forget_files([one.path for one in found])
    site.ledger.index(renamed)
    site.look()
    assert sum(bad_codec.tries(path) for path in crashing) == 1
    pool.close()


@pytest.mark.parametrize("fate", ["declined", "cancelled", "done", "waits for hours"])
def test_a_series_that_no_job_will_ask_for_is_dropped(fate: str, site: Site) -> None:
    site.receive(1, 2)
    site.look()
    receipts, jobs = site.ledger.receipts, site.ledger.jobs
    receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    forget(site)
    assert site.decoded.series == ["1.2.3"], "it is not routed yet"
    if fate == "declined":
        receipts.change("1.2.3", SeriesState.DECLINED, "no_rule_matched")
    else:
        found = receipts.find_series("1.2.3")
        assert found is not None
        assert jobs.route("1.2.3", [job()], "rules", seen=found.last_received_at)
        forget(site)
        assert site.decoded.series == ["1.2.3"], "its job waits"
        if fate == "cancelled":
            jobs.cancel("job-1", "cancelled_by_operator")
        elif fate == "waits for hours":
            later = datetime.now(UTC) + timedelta(hours=3)
            jobs.start("job-1", 1)
            jobs.fail("job-1", "transient: x", retry_at=later)
        else:
            jobs.start("job-1", 1)
            jobs.succeed("job-1", [], [], "no_finding", {}, attempt=1)
            assert jobs.latest(JobState.SUCCEEDED)
    forget(site)
    assert site.decoded.series == []
    assert site.decoded.held_bytes == 0


def forget(site: Site) -> None:
    """Look, with the time come to forget."""
    site.ahead._forget_at = 0.0
    site.look()


def test_it_works_beside_others_and_outlives_a_round_that_fails(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[Exception] = [LedgerUnavailable("locked"), ZeroDivisionError()]
    series_in = site.ledger.receipts.series_in

    def failing(*given: Any) -> list[Series]:
        if failures:
            raise failures.pop(0)
        return series_in(*given)

    class Impatient(threading.Event):
        """Waits a moment instead of seconds."""

        def wait(self, timeout: float | None = None) -> bool:
            return super().wait(min(timeout or 0.0, 0.01))

    monkeypatch.setattr(site.ledger.receipts, "series_in", failing)
    monkeypatch.setattr(site.ahead, "_stopping", Impatient())
    site.receive(1, 2)
    site.ahead.start()
    deadline = datetime.now(UTC) + timedelta(seconds=PATIENCE_S)
    while not site.decoded.series:
        assert datetime.now(UTC) < deadline
        threading.Event().wait(0.01)
    site.ahead.stop()
    assert site.events.unexpectedly == ["reading ahead"]
    assert "ahead" not in [thread.name for thread in threading.enumerate()]


def test_it_stops_between_two_images(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def stopping(_series: str, path: Path) -> bool:
        read.append(path)
        site.ahead.stop()
        return True

    monkeypatch.setattr(site.decoded, "read", stopping)
    site.receive(1, 2, 3)
    site.ahead.look()
    assert len(read) == 1
