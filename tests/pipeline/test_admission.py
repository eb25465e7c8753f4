"""The line before the devices: order, placement, and that nobody is forgotten."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from ai_models.card import Card, load_card
from dicom_node.errors import WorkerLost
from dicom_node.pipeline.admission import Admission, Asked
from dicom_node.pipeline.memory import MeasuredMemory, key_of
from dicom_node.pipeline.worker_process import WorkerProcess
from dicom_node.records import Priority
from tests.ai_models.tiny_models import threshold_onnx, write_model

MILLION = 1_000_000


class Device:
    """What the line sees of a worker."""

    def __init__(self, device: str, budget_mib: float | None = 8000.0) -> None:
        self.device, self.budget_mib, self.kind = device, budget_mib, device
        self.warm_mib: dict[str, float] = {}


@pytest.fixture
def small(tmp_path: Path) -> Card:
    folder = write_model(
        tmp_path / "small", threshold_onnx(0.5), id="small", runtime__device_memory_mib=1000
    )
    return load_card(folder)


@pytest.fixture
def large(tmp_path: Path) -> Card:
    folder = write_model(
        tmp_path / "large", threshold_onnx(0.5), id="large", runtime__device_memory_mib=6000
    )
    return load_card(folder)


def line_before(*devices: Device) -> Admission:
    return Admission(cast(list[WorkerProcess], list(devices)), MeasuredMemory(None))


class Line:
    """Jobs in threads of their own, and who got a device, in that order."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.got: list[tuple[str, int]] = []
        self._threads: list[threading.Thread] = []
        self._has_got = threading.Condition()

    def ask(self, name: str, asked: Asked, *, wait: bool = True) -> None:
        """Ask in a thread; come back when the job has a device or stands in line."""

        def take() -> None:
            number = self.admission.take(asked, lambda: False)
            with self._has_got:
                self.got.append((name, number))
                self._has_got.notify_all()

        self._threads.append(threading.Thread(target=take))
        self._threads[-1].start()
        if wait:
            self.until(lambda: asked in self.admission._line or asked.given is not None)

    def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(1000):
            if condition():
                return
            with self._has_got:
                self._has_got.wait(0.03)
        raise AssertionError("it does not come to it")

    def wait_for(self, count: int) -> list[tuple[str, int]]:
        self.until(lambda: len(self.got) >= count)
        return self.got


@pytest.fixture
def lines() -> Iterator[Callable[..., Line]]:
    made: list[Line] = []

    def make(*devices: Device) -> Line:
        made.append(Line(line_before(*devices)))
        return made[-1]

    yield make
    for line in made:
        for thread in line._threads:
            thread.join(30)
            assert not thread.is_alive(), "a job waits for ever"


def test_stat_overtakes_and_within_a_class_the_first_to_come_is_served_first(
    lines: Callable[..., Line], small: Card
) -> None:
    line = lines(Device("cuda:0"))
    line.ask("running", Asked(small, MILLION))
    for name, priority in [
        ("background", Priority.BACKGROUND), ("routine", Priority.ROUTINE),
        ("stat", Priority.STAT), ("routine 2", Priority.ROUTINE), ("stat 2", Priority.STAT),
    ]:
        line.ask(name, Asked(small, MILLION, (), priority))
    for count in range(1, 6):
        line.wait_for(count)
        line.admission.give_back(0)
    names = [name for name, _ in line.wait_for(6)]
    assert names == ["running", "stat", "stat 2", "routine", "routine 2", "background"]


def test_who_waits_for_a_large_device_holds_up_nobody_and_is_served_before_who_came_later(
    lines: Callable[..., Line], small: Card, large: Card
) -> None:
    line = lines(Device("cuda:0", 8000.0), Device("cuda:1", 2000.0))
    line.ask("first", Asked(small, MILLION))
    line.ask("large", Asked(large, MILLION))
    line.ask("second", Asked(small, MILLION))
    assert line.wait_for(2) == [("first", 0), ("second", 1)]
    line.ask("third", Asked(small, MILLION))
    line.admission.give_back(0)
    assert line.wait_for(3)[-1] == ("large", 0)
    line.admission.give_back(1)
    assert line.wait_for(4)[-1] == ("third", 1)


def test_a_warm_model_draws_its_jobs(lines: Callable[..., Line], small: Card) -> None:
    devices = [Device("cuda:0"), Device("cuda:1")]
    devices[1].warm_mib = {key_of(small): 500.0}
    line = lines(*devices)
    line.ask("job", Asked(small, MILLION))
    assert line.wait_for(1) == [("job", 1)]


def test_what_fits_nowhere_is_placed_all_the_same(
    lines: Callable[..., Line], large: Card
) -> None:
    line = lines(Device("cuda:0", 500.0), Device("cuda:1", 900.0))
    line.ask("large", Asked(large, MILLION))
    line.ask("larger", Asked(large, MILLION))
    assert line.wait_for(2) == [("large", 1), ("larger", 0)]


def test_a_device_that_turns_out_too_small_is_changed_for_another(large: Card) -> None:
    devices = [Device("cuda:0", None), Device("cuda:1", None)]
    line, asked = line_before(*devices), Asked(large, MILLION)
    assert line.take(asked, lambda: False) == 0
    devices[0].budget_mib = 500.0
    assert line.is_misplaced(asked, 0)
    line.give_back(0)
    assert line.take(asked, lambda: False) == 1
    devices[1].budget_mib = 400.0
    assert not line.is_misplaced(asked, 1), "there is no better one"


def test_a_job_that_is_cancelled_in_line_leaves_it(
    lines: Callable[..., Line], small: Card
) -> None:
    line = lines(Device("cuda:0"))
    line.ask("running", Asked(small, MILLION))
    with pytest.raises(WorkerLost) as caught:
        line.admission.take(Asked(small, MILLION, (), Priority.STAT), lambda: True)
    assert caught.value.reason == "worker.cancelled"
    line.ask("next", Asked(small, MILLION))
    line.admission.give_back(0)
    assert line.wait_for(2)[-1] == ("next", 0)


def test_an_error_while_waiting_gives_back_what_was_given(small: Card) -> None:
    line = line_before(Device("cuda:0"))

    def fail() -> bool:
        line.give_back(0)
        raise LookupError

    line.take(Asked(small, MILLION), lambda: False)
    with pytest.raises(LookupError):
        line.take(Asked(small, MILLION), fail)
    assert line.take(Asked(small, MILLION), lambda: False) == 0


def test_closing_sends_home_who_waits_and_ends_each_device_when_it_comes_back(
    small: Card,
) -> None:
    line = line_before(Device("cuda:0"), Device("cuda:1"))
    assert line.take(Asked(small, MILLION), lambda: False) == 0
    reasons: list[str] = []
    ended: list[int] = []
    waiting = Asked(small, MILLION, {1})

    def wait() -> None:
        with pytest.raises(WorkerLost) as caught:
            line.take(waiting, lambda: False)
        reasons.append(caught.value.reason)
        line.give_back(0)

    thread = threading.Thread(target=wait)
    thread.start()
    while waiting not in line._line:
        thread.join(0.01)
    line.close(ended.append)
    thread.join(30)
    assert (reasons, ended) == (["worker.stopping"], [0, 1])
    with pytest.raises(WorkerLost):
        line.take(Asked(small, MILLION), lambda: False)
    assert line.take_ahead(small) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, 0), ({"budget_mib": 500.0}, None), ({"warm_mib": {"other": 7500.0}}, None)],
)
def test_a_model_is_loaded_ahead_where_there_is_room(
    small: Card, changes: dict[str, Any], expected: int | None
) -> None:
    device = Device("cuda:0")
    for name, value in changes.items():
        setattr(device, name, value)
    assert line_before(device).take_ahead(small) == expected


def test_nothing_is_loaded_ahead_while_somebody_waits_or_twice(
    lines: Callable[..., Line], small: Card, large: Card
) -> None:
    line = lines(Device("cuda:0", 8000.0), Device("cuda:1", 2000.0))
    line.ask("first", Asked(small, MILLION))
    line.ask("large", Asked(large, MILLION))
    assert line.admission.take_ahead(small) is None
    line.admission.give_back(0)
    line.wait_for(2)
    assert line.admission.take_ahead(small) == 1
    assert line.admission.take_ahead(small) is None, "no device is idle"


def test_only_a_job_of_another_model_is_waiting_for_one_that_is_loaded_ahead(
    lines: Callable[..., Line], small: Card, large: Card
) -> None:
    line = lines(Device("cuda:0"))
    number = line.admission.take_ahead(small)
    assert number == 0
    assert not line.admission.keeps_waiting(small, 0.0)
    own, other = Asked(small, MILLION), Asked(large, MILLION)
    line.ask("own", own)
    assert not line.admission.keeps_waiting(small, 0.0)
    line.ask("other", other)
    assert line.admission.keeps_waiting(small, 0.0)
    assert not line.admission.keeps_waiting(small, 3600.0)
    line.admission.give_back(number)
    line.wait_for(1)
    line.admission.give_back(0)
    line.wait_for(2)


def test_who_makes_way_comes_last_and_everybody_else_counts_as_waiting(
    lines: Callable[..., Line], small: Card
) -> None:
    line = lines(Device("cuda:0"))
    assert line.admission.take(Asked(small, MILLION), lambda: False) == 0
    first = Asked(small, MILLION, priority=Priority.BACKGROUND, makes_way=True)
    line.ask("test", first)
    assert not line.admission.others_wait(0.0), "it does not wait for itself"
    line.ask("job", Asked(small, MILLION, priority=Priority.BACKGROUND))
    assert line.admission.others_wait(0.0)
    assert not line.admission.others_wait(3600.0)
    line.admission.give_back(0)
    assert line.wait_for(1) == [("job", 0)]
    line.admission.give_back(0)
    assert line.wait_for(2)[1] == ("test", 0)
