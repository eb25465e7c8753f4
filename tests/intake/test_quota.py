"""What callers may take, over one process and several, and who may call from where."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.raw_scu import CT, Closed, RawScu, Rejected
from dicom_node.config import Config
from dicom_node.events import Events
from dicom_node.intake.acceptor import Listeners, start_listeners
from dicom_node.intake.access import Arrival, caller_of, is_within, refusal
from dicom_node.intake.active import RECORD_BYTES
from dicom_node.intake.quota import OverQuota, Quotas, forget_places, part_bytes
from dicom_node.intake.refusals import Refusals
from dicom_node.intake.settings import Caller, ListenerSettings
from tests.intake.conftest import Node, slice_of

Start = Callable[..., Node]


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def settings_of(**peer: object) -> ListenerSettings:
    peers = {
        "ct": {"ae_title": "CT1", "host": "ct1", "port": 104, **peer},
        "mr": {"ae_title": "MR1", "host": "mr1", "port": 104},
    }
    access = {"max_associations": 8, "max_associations_per_caller": 4}
    return ListenerSettings.of(Config.model_validate({"peers": peers, "access": access}))


def processes(settings: ListenerSettings, clock: Clock, slots: int = 2) -> list[Quotas]:
    fd = os.memfd_create("test")
    os.ftruncate(fd, (RECORD_BYTES + part_bytes(settings)) * slots)
    return [Quotas(settings, fd, slot, slots, clock) for slot in range(slots)]


def test_places_of_a_caller_are_counted_over_all_processes() -> None:
    settings = settings_of()
    first, second = processes(settings, Clock())
    places = [first.enter("CT1", 2), second.enter("CT1", 2)]
    assert None not in places
    assert first.enter("CT1", 2) is None
    assert second.enter("CT11", 2) is not None
    first.leave(places[0] or 0)
    assert second.enter("CT1", 2) is not None


def test_a_process_that_died_holds_no_places_and_what_it_took_stays_taken() -> None:
    settings = settings_of(limits={"instances_per_minute": 2})
    fd = os.memfd_create("test")
    os.ftruncate(fd, (RECORD_BYTES + part_bytes(settings)) * 2)
    clock = Clock()
    died, other = (Quotas(settings, fd, slot, 2, clock) for slot in range(2))
    died.enter("CT1", 1)
    allowance = died.allowance(settings.callers[0])
    assert allowance is not None
    allowance.begin_instance()
    forget_places(fd, settings, 0, 2)
    assert other.enter("CT1", 1) is not None
    assert other.taken(0)[0] == 1


@pytest.mark.parametrize("limit", ["instances_per_minute", "bytes_per_hour"])
def test_what_is_taken_is_counted_over_all_processes_and_comes_back(limit: str) -> None:
    settings, clock = settings_of(limits={limit: 10}), Clock()
    allowances = [one.allowance(settings.callers[0]) for one in processes(settings, clock)]
    period_s = 60.0 if limit == "instances_per_minute" else 3600.0
    clock.now = 10 * period_s
    for turn in range(10):
        allowance = allowances[turn % 2]
        assert allowance is not None
        allowance.begin_instance()
        allowance.took(1)
    for allowance in allowances:
        with pytest.raises(OverQuota) as over:
            allowance and allowance.begin_instance()
        assert over.value.status == 0xA700
    # Half of the next period later half of it is no longer within one.
    clock.now += 1.5 * period_s
    assert allowances[0] is not None
    assert allowances[0].quotas.taken(0)[limit == "bytes_per_hour"] == 5
    allowances[0].begin_instance()
    clock.now += 2 * period_s
    assert allowances[0].quotas.taken(0)[limit == "bytes_per_hour"] == 0


def test_a_caller_without_limits_of_its_own_costs_no_counting() -> None:
    settings = settings_of(limits={"associations": 1})
    quotas = Quotas(settings)
    assert [quotas.allowance(one) for one in (*settings.callers, None)] == [None] * 3


def test_an_image_above_the_limit_is_a700_and_the_association_lives(start: Start) -> None:
    caller = Caller("SCU", instances_per_minute=3)
    node = start(callers=(caller,))
    scu = node.scu()
    answers = [scu.store(CT, *slice_of(number)) for number in range(5)]
    assert answers == [0, 0, 0, 0xA700, 0xA700]
    assert scu.echo(3) == 0
    other = node.scu(calling="OTHER")
    assert other.store(CT, *slice_of(9)) == 0
    assert len(node.kept()) == 4
    assert node.half_received() == node.quarantined() == []


def test_bytes_above_the_limit_are_refused_from_the_next_image_on(start: Start) -> None:
    node = start(callers=(Caller("SCU", bytes_per_hour=5000),))
    scu = node.scu()
    answers = [scu.store(CT, *slice_of(number, 3000)) for number in range(3)]
    assert answers == [0, 0, 0xA700]


def test_associations_of_one_caller_are_limited_beside_those_of_all(both: Start) -> None:
    node = both(
        max_associations_per_caller=2, callers=(Caller("CT1", associations=1), Caller("MR1"))
    )
    opened = [node.scu(calling="CT1"), node.scu(calling="MR1"), node.scu(calling="MR1")]
    for title in ("CT1", "MR1"):
        with pytest.raises(Rejected) as rejected:
            node.scu(calling=title)
        assert rejected.value.args == (2, 3, 2)
    assert node.refusals() == ["access.too_many_of_this_caller"] * 2
    for scu in opened:
        scu.release()
    assert node.answers_echo()


@pytest.fixture
def two_listeners(tmp_path: Path) -> Iterator[Listeners]:
    config = Config.model_validate(
        {
            "node": {"host": "127.0.0.1", "port": 0, "data_dir": tmp_path},
            "peers": {
                "ct": {"ae_title": "CT1", "host": "127.0.0.1", "port": 1,
                       "limits": {"instances_per_minute": 6, "associations": 5}},
            },
            "storage": {"refuse_below_free_bytes": 0},
            "intake": {"listener_processes": 2},
        }
    )  # fmt: skip
    started = start_listeners(config, f"sqlite:///{tmp_path}/ledger.sqlite")
    yield started
    started.close()


def test_the_quota_holds_over_real_listener_processes(two_listeners: Listeners) -> None:
    scus = [RawScu(two_listeners.port, calling="CT1") for _ in range(5)]
    with pytest.raises(Rejected):
        RawScu(two_listeners.port, calling="CT1")
    answers = [
        scu.store(CT, *slice_of(10 * turn + number))
        for turn in range(2) for number, scu in enumerate(scus)
    ]  # fmt: skip
    assert answers == [0] * 6 + [0xA700] * 4


def test_a_connection_from_elsewhere_is_closed_without_a_word(both: Start) -> None:
    node = both(allowed_networks=("10.0.0.0/8",))
    with pytest.raises((Closed, ConnectionError)):
        node.scu()
    assert node.refusals() == ["access.network"]
    assert both(allowed_networks=("10.0.0.0/8", "127.0.0.0/8")).answers_echo()


def test_who_on_this_host_only_looks_whether_the_door_is_open_is_no_stranger(both: Start) -> None:
    node = both(allowed_networks=("10.0.0.0/8",))
    with socket.create_connection(("127.0.0.1", node.port), timeout=5) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert node.refusals() == []


def test_an_ae_title_from_another_address_is_rejected(both: Start) -> None:
    node = both(callers=(Caller("CT1", addresses=("10.1.2.3/32",)), Caller("MR1")))
    with pytest.raises(Rejected) as rejected:
        node.scu(calling="CT1")
    assert rejected.value.args == (1, 1, 3)
    assert node.refusals() == ["access.address"]
    assert node.scu(calling="MR1").echo(3) == 0


def test_two_peers_of_one_title_are_told_apart_by_how_they_come() -> None:
    settings = settings_of(addresses=["10.1.0.0/16"])
    callers = (*settings.callers, Caller("CT1", ("10.2.0.0/16",), ("ct.hospital",), 7))
    settings = ListenerSettings(**{**vars(settings), "callers": callers})
    here, there = Arrival("10.1.2.3"), Arrival("10.2.3.4")
    named = Arrival("::ffff:10.2.3.4", frozenset({"ct.hospital", "x"}))
    assert refusal(settings, "DICOMNODE", "CT1", here) is None
    refused = refusal(settings, "DICOMNODE", "CT1", there)
    assert refused is not None
    assert refused.reason == "access.address"
    assert refusal(settings, "DICOMNODE", "CT1", named) is None
    found = [caller_of(settings, "CT1", arrival) for arrival in (here, there, named)]
    assert found == [settings.callers[0], None, callers[-1]]


@pytest.mark.parametrize(
    ("address", "networks", "expected"),
    [
        ("10.1.2.3", ("10.1.2.3/32",), True),
        ("10.1.2.4", ("10.1.2.3/32",), False),
        ("fe80::1%eth0", ("fe80::/10",), True),
        ("::1", ("127.0.0.0/8",), False),
        ("::ffff:127.0.0.1", ("127.0.0.0/8",), True),
        ("nobody", ("0.0.0.0/0",), False),
    ],
)
def test_addresses_are_compared_as_addresses(
    address: str, networks: tuple[str, ...], expected: bool
) -> None:
    assert is_within(address, networks) is expected


def test_refusals_of_one_address_are_told_within_measure() -> None:
    told: list[object] = []
    clock = Clock()
    refusals = Refusals(Events(lambda _, one: told.append(one["address"])), 3, clock)
    for _ in range(10):
        refusals.tell("10.0.0.1", "access.network")
    refusals.tell("10.0.0.2", "access.network")
    assert told == ["10.0.0.1"] * 3 + ["10.0.0.2"]
    clock.now += 61
    refusals.tell("10.0.0.1", "access.network")
    assert told[-1] == "10.0.0.1"
