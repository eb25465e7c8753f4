"""The daily self-test: when, against what, and who is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from dicom_node.errors import ModelFailed
from dicom_node.events import Events
from dicom_node.operations.selftest import Measured, PutOff, Selftest, SelftestBook

LUNGS = Measured("lungs-ct", "1 abc", "a processor", {"Right ml": 3000.0, "score ill": 0.4})


@pytest.fixture
def book(tmp_path: Path) -> SelftestBook:
    return SelftestBook(tmp_path / "selftest")


def test_the_first_answer_is_the_measure_for_those_that_follow(book: SelftestBook) -> None:
    first = book.judge(LUNGS)
    assert (first.is_first, first.problem) == (True, "")
    again = book.judge(replace(LUNGS, values={"Right ml": 3029.0, "score ill": 0.409}))
    assert (again.is_first, again.problem) == (False, "")
    assert book.last("lungs-ct") == again


def test_a_volume_that_left_the_band_is_told_with_what_it_was(book: SelftestBook) -> None:
    book.judge(LUNGS)
    found = book.judge(replace(LUNGS, values={"Right ml": 3031.0, "score ill": 0.4}))
    assert found.problem == "Right ml is 3031 and was 3000"
    assert book.judge(LUNGS).problem == "", "the measure is still the first answer"


def test_a_score_may_differ_by_a_hundredth_whatever_it_is(book: SelftestBook) -> None:
    book.judge(replace(LUNGS, values={"score ill": 0.001}))
    assert book.judge(replace(LUNGS, values={"score ill": 0.01})).problem == ""
    assert book.judge(replace(LUNGS, values={"score ill": 0.02})).problem != ""


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_outside_every_band(book: SelftestBook, value: float) -> None:
    book.judge(LUNGS)
    assert book.judge(replace(LUNGS, values={**LUNGS.values, "Right ml": value})).problem != ""


@pytest.mark.parametrize("changed", [{"version": "2 def"}, {"device": "another make"}])
def test_another_version_or_kind_of_device_has_a_measure_of_its_own(
    book: SelftestBook, changed: Mapping[str, str]
) -> None:
    book.judge(LUNGS)
    other = replace(LUNGS, values={"Right ml": 1.0}, **changed)
    assert book.judge(other).is_first and book.judge(other).problem == ""
    assert not book.judge(LUNGS).problem


def test_an_answer_that_the_phantom_speaks_against_is_no_measure(book: SelftestBook) -> None:
    assert book.judge(replace(LUNGS, wrong="Dice 0.1")).problem == "Dice 0.1"
    assert book.judge(LUNGS).is_first


def test_looking_alone_writes_nothing(book: SelftestBook, tmp_path: Path) -> None:
    assert book.judge(LUNGS, keep=False).is_first
    assert not (tmp_path / "selftest").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"first": 3}', '{"first": {}, "last": {"a": 1}}'])
def test_a_damaged_file_is_begun_anew(book: SelftestBook, tmp_path: Path, content: str) -> None:
    (tmp_path / "selftest").mkdir()
    (tmp_path / "selftest/lungs-ct.json").write_text(content)
    assert book.last("lungs-ct") is None
    assert book.judge(LUNGS).is_first
    assert "first" in json.loads((tmp_path / "selftest/lungs-ct.json").read_text())


def test_the_name_of_a_model_is_no_path(book: SelftestBook, tmp_path: Path) -> None:
    book.judge(replace(LUNGS, model_id="../../evil"))
    assert [one.parent.name for one in tmp_path.rglob("*.json")] == ["selftest"]


class Day:
    """A clock on the wall, models that answer, and what was told."""

    def __init__(self, book: SelftestBook, at: str = "02:30", zone: str = "Europe/Berlin") -> None:
        self.now = datetime(2026, 3, 10, 1, 0, tzinfo=ZoneInfo(zone))
        self.answer: Callable[[], Measured] = lambda: LUNGS
        self.asked = 0
        self.told: list[tuple[str, Mapping[str, object]]] = []
        self.done = threading.Event()
        self.care = Selftest(
            at, lambda: ["lungs-ct"], self._measure, book,
            Events(self._tell), lambda: self.now,
        )

    def _measure(self, model_id: str, stopping: Callable[[], bool]) -> Measured:
        self.asked += 1
        return self.answer()

    def _tell(self, name: str, values: Mapping[str, object]) -> None:
        self.told.append((name, values))
        self.done.set()

    def tick(self, now: datetime) -> None:
        self.now = now
        self.care.tick()

    def wait(self) -> None:
        assert self.done.wait(10)
        self.done.clear()
        assert self.care._thread is not None
        self.care._thread.join(10)


def test_it_runs_once_a_day_at_its_time(book: SelftestBook) -> None:
    day = Day(book)
    begin = day.now
    day.tick(begin.replace(hour=2, minute=29))
    assert day.asked == 0
    day.tick(begin.replace(hour=2, minute=30))
    day.wait()
    day.tick(begin.replace(hour=2, minute=31))
    day.tick(begin.replace(hour=23, minute=59))
    assert day.asked == 1
    day.tick(begin.replace(day=11, hour=2, minute=30))
    day.wait()
    assert day.asked == 2 and [name for name, _ in day.told] == ["selftest_passed"] * 2


def test_it_runs_at_that_time_of_the_wall_also_after_the_clocks_were_changed(
    book: SelftestBook,
) -> None:
    day = Day(book, at="06:00")
    day.now = datetime(2026, 3, 28, 12, 0, tzinfo=ZoneInfo("Europe/Berlin"))
    day.care._next = day.care._next_time()
    # Summer time began at two in the night.
    day.tick(datetime(2026, 3, 29, 5, 59, tzinfo=ZoneInfo("Europe/Berlin")))
    assert day.asked == 0
    day.tick(datetime(2026, 3, 29, 6, 0, tzinfo=ZoneInfo("Europe/Berlin")))
    day.wait()
    assert day.asked == 1


def test_a_model_that_failed_is_told_and_known_until_it_does_well(book: SelftestBook) -> None:
    day = Day(book)

    def fail() -> Measured:
        raise ModelFailed("no device", reason="worker.lost")

    day.answer = fail
    day.tick(day.now.replace(hour=3))
    day.wait()
    assert day.told[-1] == (
        "selftest_failed",
        {"model_id": "lungs-ct", "version": "", "problem": "worker.lost: no device"},
    )
    assert day.care.problem() == "lungs-ct: worker.lost: no device"
    restarted = Day(book)
    restarted.care.start()
    assert restarted.care.problem() == "lungs-ct: worker.lost: no device"
    restarted.tick(restarted.now.replace(day=11))
    restarted.wait()
    assert restarted.care.problem() == ""


def test_a_test_that_made_way_for_a_job_is_no_failure_and_is_tried_again(
    book: SelftestBook,
) -> None:
    day = Day(book)

    def make_way() -> Measured:
        raise PutOff("other jobs wait")

    day.answer = make_way
    day.tick(day.now.replace(hour=3))
    day.wait()
    assert day.told == [("selftest_put_off", {"model_id": "lungs-ct"})]
    assert day.care.problem() == "" and book.last("lungs-ct") is None
    day.answer = lambda: LUNGS
    day.tick(day.now.replace(hour=3, minute=9))
    assert day.asked == 1
    day.tick(day.now.replace(hour=3, minute=10))
    day.wait()
    assert day.told[-1][0] == "selftest_passed"
    day.tick(day.now.replace(hour=23))
    assert day.asked == 2


def test_a_test_that_runs_when_the_node_stops_is_no_failure(book: SelftestBook) -> None:
    day = Day(book)
    begun = threading.Event()

    def measure(model_id: str, stopping: Callable[[], bool]) -> Measured:
        begun.set()
        while not stopping():
            threading.Event().wait(0.01)
        raise ModelFailed("cancelled", reason="worker.cancelled")

    day.care._measure = measure
    day.tick(day.now.replace(hour=3))
    assert begun.wait(10)
    day.care.stop()
    assert day.told == [] and book.last("lungs-ct") is None
