"""What systemd is told, by a socket that takes its place."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.operations import systemd
from dicom_node.operations.health import HealthCheck
from dicom_node.operations.systemd import ServiceManager, SystemdCare
from tests.operations.notified import Notified, notified


class Node:
    """What a care asks: how the parts are, whether the doors are open."""

    def __init__(self) -> None:
        self.problem = ""
        self.is_open = True

    def care(self, manager: ServiceManager) -> SystemdCare:
        return SystemdCare(
            manager, lambda: [HealthCheck("listeners", self.problem, True),
                              HealthCheck("free space", "", False)],
            lambda: self.is_open, lambda: "receiving on port 104\nnothing to be done",
        )


def test_a_node_that_nobody_watches_tells_nobody() -> None:
    manager = ServiceManager.from_environment({})
    assert not manager.is_there and not manager.tell(READY=1)
    care = Node().care(manager)
    care.start()
    care.tick()
    care.stop()


def test_the_variables_are_taken_away_from_children(tmp_path: Path) -> None:
    environ = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "3000000",
               "WATCHDOG_PID": str(os.getpid()), "PATH": "/bin"}
    assert ServiceManager.from_environment(environ).watchdog_s == 3.0
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize("changed", [{"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}])
def test_a_watchdog_of_another_process_is_not_fed(changed: dict[str, str]) -> None:
    environ = {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid()), **changed}
    assert ServiceManager.from_environment(environ).watchdog_s == 0.0


def test_a_name_in_the_abstract_namespace_is_reached() -> None:
    manager = Notified(f"@dicom-node-test-{os.getpid()}")
    assert ServiceManager(manager.address).tell(READY=1, STATUS="one\nline")
    assert manager.read() == [{"READY": "1", "STATUS": "one line"}]
    manager.close()


def test_a_socket_that_is_gone_is_no_error(tmp_path: Path) -> None:
    assert ServiceManager(str(tmp_path / "nobody")).tell(READY=1) is False


def test_ready_is_said_once_the_doors_are_open(tmp_path: Path) -> None:
    node = Node()
    node.is_open = False
    with notified(tmp_path) as manager:
        care = node.care(ServiceManager(manager.address))
        care.tick()
        assert manager.read() == [], "the start is not over yet"
        care.start()
        care.tick()
        assert manager.told("READY") == [] and manager.told("WATCHDOG") == []
        node.is_open = True
        care.tick()
        care.tick()
        assert manager.told("READY") == ["1"]
        assert manager.told("STATUS")[-1] == "receiving on port 104 nothing to be done"


def test_a_node_with_a_problem_says_what_it_is_and_not_that_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "_STATUS_EVERY_S", 0.0)
    node = Node()
    with notified(tmp_path) as manager:
        care = node.care(ServiceManager(manager.address, watchdog_s=1e-6))
        care.start()
        care.tick()
        care.tick()
        assert manager.told("WATCHDOG") == ["1", "1"]
        node.problem = "a listener process is not running"
        care.tick()
        assert len(manager.told("WATCHDOG")) == 2
        assert manager.told("STATUS")[-1] == "listeners: a listener process is not running"
        node.problem = ""
        care.tick()
        assert len(manager.told("WATCHDOG")) == 3


def test_the_watchdog_is_fed_in_half_its_time(tmp_path: Path) -> None:
    with notified(tmp_path) as manager:
        care = Node().care(ServiceManager(manager.address, watchdog_s=7200.0))
        care.start()
        for _ in range(5):
            care.tick()
        assert manager.told("WATCHDOG") == ["1"]


def test_a_node_that_stops_says_so_and_is_fed_no_more(tmp_path: Path) -> None:
    with notified(tmp_path) as manager:
        care = Node().care(ServiceManager(manager.address, watchdog_s=1e-6))
        care.start()
        care.stop()
        fed = len(manager.told("WATCHDOG"))
        care.tick()
        assert manager.told("STOPPING") == ["1"] and len(manager.told("WATCHDOG")) == fed
        assert int(manager.told("EXTEND_TIMEOUT_USEC")[0]) >= 60_000_000


def test_more_time_is_asked_for_by_one_that_works_and_not_by_one_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "_ASK_EVERY_S", 0.05)
    with notified(tmp_path) as manager:
        with ServiceManager(manager.address).patient("starting"):
            manager.wait(_busy_until(manager, 3), "that more time is wanted")
            hanging = threading.Event()
            hanging.wait(0.5)
            before = len(manager.told("EXTEND_TIMEOUT_USEC"))
            hanging.wait(1.0)
            # What is read of the socket is work as well, and so is asked for once more at most.
            assert len(manager.told("EXTEND_TIMEOUT_USEC")) <= before + 2
        assert manager.told("STATUS")[0] == "starting"


def _busy_until(manager: Notified, times: int) -> Callable[[], bool]:
    def condition() -> bool:
        sum(range(200_000))
        return len(manager.told("EXTEND_TIMEOUT_USEC")) >= times

    return condition
