"""The network of the tests of several hosts: who reaches whom, and what a cut does."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.network import Host, Switch, need_namespaces

pytestmark = pytest.mark.network
PORT = 4000


@pytest.fixture
def switch() -> Iterator[Switch]:
    need_namespaces()
    with Switch() as made:
        yield made


def listening(host: Host) -> socket.socket:
    return host.run(socket.create_server, (host.address, PORT))


def reaches(one: Host, other: Host) -> bool:
    with contextlib.suppress(OSError):
        one.run(socket.create_connection, (other.address, PORT), 10.0).close()
        return True
    return False


def does_not_reach(one: Host, other: Host) -> bool:
    with pytest.raises(OSError):
        one.run(socket.create_connection, (other.address, PORT), 0.3)
    return True


def test_hosts_reach_each_other_at_their_addresses_and_this_process_does_not(
    switch: Switch,
) -> None:
    archive, worker = switch.host("archive"), switch.host("worker")
    with listening(archive):
        assert reaches(worker, archive)
        with pytest.raises(OSError):
            socket.create_connection((archive.address, PORT), 0.3)


def test_a_host_that_is_unplugged_is_back_when_it_is_plugged_in(switch: Switch) -> None:
    archive, worker = switch.host("archive"), switch.host("worker")
    with listening(archive):
        worker.unplug()
        assert does_not_reach(worker, archive)
        worker.plug_in()
        assert reaches(worker, archive)


def test_one_host_can_be_lost_to_another_alone(switch: Switch) -> None:
    archive, database, worker = (switch.host(one) for one in ("archive", "database", "worker"))
    with listening(archive), listening(database):
        worker.lose(database)
        assert does_not_reach(worker, database)
        assert reaches(worker, archive)
        worker.find(database)
        assert reaches(worker, database)


def test_a_host_that_loses_its_power_closes_no_connection(switch: Switch, tmp_path: Path) -> None:
    archive, worker = switch.host("archive"), switch.host("worker")
    call = "import socket, sys; socket.create_connection((sys.argv[1], 4000)).recv(1)"
    with listening(archive) as server:
        server.settimeout(30)
        command = [sys.executable, "-c", call, archive.address]
        process = worker.start(command, tmp_path / "log")
        connection, _ = server.accept()
        assert worker.processes() == [process.pid]
        worker.power_off()
        process.wait()
        assert worker.processes() == []
        connection.settimeout(0.3)
        with connection, pytest.raises(TimeoutError):
            connection.recv(1)
