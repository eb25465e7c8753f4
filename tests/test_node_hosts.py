"""What a process makes of what it knows of the other hosts."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

import pytest

from dicom_node.config import Config
from dicom_node.errors import HostNameTaken, LedgerUnavailable
from dicom_node.events import Events
from dicom_node.ledger.host_session import SILENT_AFTER_S, Process
from dicom_node.ledger.hosts import HostState, without_former
from dicom_node.node_host_facts import in_words, problem_of, roles_of_nobody
from dicom_node.node_hosts import SharedPlace, SoleHost, machine_name

ALIVE = HostState("p2", "receiver-2", ("intake",), (), (), "1.2.3", 0.0, 0.0, 0.5)


class Session:
    """A place that a test decides on."""

    def __init__(self) -> None:
        self.process = Process("p1", "receiver-1", ("intake",), "1.2.3")
        self.held: set[str] = set()
        self.found: list[HostState] = []
        self.old_s = 0.0
        self.gone: list[HostState] = []
        self.error: Exception | None = None
        self.wanted: set[str] = set()
        self.ended: list[bool] = []

    def holds(self, duty: str) -> bool:
        return duty in self.held

    def hosts(self) -> tuple[tuple[HostState, ...], float]:
        return tuple(self.found), self.old_s

    def give_back(self, duty: str) -> None:
        self.held.discard(duty)

    def say(self, devices: Collection[str], models: Collection[str]) -> None:
        pass

    def round(self, wanted: Iterable[str], waiting_s: float = 0.0) -> list[HostState]:
        self.wanted = set(wanted)
        if self.error is not None:
            self.held.clear()
            raise self.error
        return self.gone

    def end(self, *, to_index: bool = False) -> None:
        self.ended.append(to_index)


class Waits(threading.Event):
    """Waits for nothing, and knows how long it would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_s = 0.0
        self.then: Callable[[], object] = lambda: None

    def wait(self, timeout: float | None = None) -> bool:
        self.waited_s += timeout or 0.0
        self.then()
        return self.is_set()


class Heard(Events):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, ...]] = []

    def host_changed(self, host: str, what: str, roles: object, reason: str = "") -> None:
        self.heard.append((host, what))

    def duty_taken(self, host: str, duty: str, *, taken: bool) -> None:
        self.heard.append((host, duty, "leads" if taken else "leads no longer"))


@pytest.fixture
def session() -> Session:
    return Session()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def place(session: Session, heard: Heard) -> SharedPlace:
    return SharedPlace(session, ["intake"], heard)  # type: ignore[arg-type]


def test_a_host_that_has_the_ledger_alone_leads_all_and_waits_for_nobody() -> None:
    place = SoleHost(Config.model_validate({"node": {"host_name": "alone"}}))
    assert place.leads("intake") and place.leads("lane pacs")
    assert (place.others("work"), place.others_waiting_s(), place.host_name) == ([], 0.0, "alone")


def test_the_name_of_a_machine_is_one_that_a_host_may_have(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    for machine in ("ct-room.example", "Größe 1", "-" * 80, "a" * 80):
        monkeypatch.setattr("socket.gethostname", lambda name=machine: name)
        Config.model_validate({"node": {"host_name": machine_name()}})


def test_nobody_else_is_waited_for_who_has_nothing_that_waits(
    place: SharedPlace, session: Session
) -> None:
    session.found = [replace(ALIVE, age_s=1.0)]
    assert place.others_waiting_s() == 0.0


def test_images_that_wait_at_another_receiver_are_waited_for(
    place: SharedPlace, session: Session
) -> None:
    session.found = [replace(ALIVE, age_s=1.0, waiting_s=1.5)]
    session.old_s = 0.25
    assert place.others_waiting_s() == 2.75
    # What is told the ledger a moment later is no reason to close nothing anywhere.
    session.found = [replace(ALIVE, age_s=1.0, waiting_s=0.2)]
    assert place.others_waiting_s() == 0.0


def test_a_receiver_that_is_silent_may_have_images_that_wait(
    place: SharedPlace, session: Session
) -> None:
    session.found = [replace(ALIVE, age_s=SILENT_AFTER_S)]
    assert place.others_waiting_s() == 0.0
    session.old_s = 0.5
    assert place.others_waiting_s() == SILENT_AFTER_S + 0.5


def test_what_a_receiver_that_is_gone_kept_is_waited_for_until_it_is_looked_through(
    place: SharedPlace, session: Session
) -> None:
    gone = replace(ALIVE, gone="silent", to_index=True)
    session.found = [gone, replace(ALIVE, process_id="p3", gone="ended")]
    assert place.to_index() == [gone] and place.others_waiting_s() > 1.0
    place.settled(["p2"])
    assert place.to_index() == [] and place.others_waiting_s() == 0.0


def test_others_are_those_that_live_and_have_the_role(
    place: SharedPlace, session: Session
) -> None:
    worker = replace(ALIVE, process_id="p3", roles=("work",))
    session.found = [
        replace(ALIVE, process_id="p1"), ALIVE, replace(ALIVE, process_id="p4", gone="silent"),
        worker,
    ]
    assert place.others("intake") == [ALIVE]
    assert place.others("work") == [worker]


def test_a_process_wants_to_lead_once_its_doors_are_open_and_tells_when_that_changes(
    place: SharedPlace, session: Session, heard: Heard
) -> None:
    place._round()
    assert session.wanted == set()
    place.ready()
    session.held = {"intake"}
    place._round()
    assert session.wanted == {"intake"}
    session.held = set()
    place._round()
    assert heard.heard == [
        ("receiver-1", "intake", "leads"), ("receiver-1", "intake", "leads no longer"),
    ]


def test_a_process_whose_main_loop_is_stuck_leaves_its_duties_to_others(
    place: SharedPlace, session: Session, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.ready()
    session.held = {"intake"}
    place._round()
    now_s = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now_s + 100.0)
    place._round()
    assert (session.held, session.wanted) == (set(), set())
    assert heard.heard[-1] == ("receiver-1", "intake", "leads no longer")
    place.turned()
    place._round()
    assert session.wanted == {"intake"}


def test_who_finds_another_one_gone_tells_of_it(
    place: SharedPlace, session: Session, heard: Heard
) -> None:
    session.gone = [ALIVE]
    place._round()
    assert heard.heard == [("receiver-2", "is gone")]


def test_a_place_that_is_lost_and_had_again_is_told_once_each(
    place: SharedPlace, session: Session, heard: Heard
) -> None:
    place.start()
    session.error = LedgerUnavailable("cut off")
    place._turn.set()
    waits = 0
    while ("receiver-1", "lost its place") not in heard.heard:
        place._stopping.wait(0.01)
        waits += 1
        assert waits < 3000
    session.error = None
    place._turn.set()
    while ("receiver-1", "has its place again") not in heard.heard:
        place._stopping.wait(0.01)
        waits += 1
        assert waits < 6000
    place.stop(to_index=True)
    assert session.ended == [True]
    assert heard.heard.count(("receiver-1", "lost its place")) == 1


def test_a_former_process_of_the_name_is_waited_for_at_the_start_and_a_living_one_is_not(
    place: SharedPlace, session: Session, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "_stopping", (waits := Waits()))
    session.error = HostNameTaken("taken")
    with pytest.raises(HostNameTaken):
        place.start()
    assert waits.waited_s > SILENT_AFTER_S and not heard.heard
    waits.then = lambda: setattr(session, "error", None)
    place.start()
    assert heard.heard == [("receiver-1", "is here")]
    place.stop()


def test_who_loses_its_name_to_another_one_while_it_is_cut_off_ends(
    place: SharedPlace, session: Session, heard: Heard
) -> None:
    place.start()
    place.turned()
    session.error = HostNameTaken("taken")
    place._turn.set()
    waits = 0
    while place._thread.is_alive():
        place._turn.set()
        place._stopping.wait(0.01)
        waits += 1
        assert waits < 3000
    with pytest.raises(HostNameTaken):
        place.turned()
    assert ("receiver-1", "lost its place") in heard.heard
    place.stop()


def test_a_name_that_is_free_at_the_next_look_was_its_own_and_nobody_ends(
    place: SharedPlace, session: Session, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A server that ends a connection lets go of its locks one after the other.
    place.start()
    errors: list[Exception | None] = [HostNameTaken("taken"), None, HostNameTaken("taken")]
    look = session.round

    def one_after_the_other(wanted: Iterable[str], waiting_s: float = 0.0) -> list[HostState]:
        session.error = errors.pop(0) if errors else None
        return look(wanted, waiting_s)

    monkeypatch.setattr(session, "round", one_after_the_other)
    waits = 0
    while heard.heard.count(("receiver-1", "has its place again")) < 2:
        place._turn.set()
        place._stopping.wait(0.01)
        waits += 1
        assert waits < 3000
    place.turned()
    assert place._thread.is_alive()
    place.stop()


def test_a_host_is_told_in_words() -> None:
    worker = replace(ALIVE, roles=("work",), devices=("cuda:0",), leads=("work",),
                     clock_ahead_s=61.0)
    assert in_words(worker) == (
        "work, version 1.2.3, on cuda:0, leads work, its clock is 61 s fast"
    )
    gone = replace(ALIVE, gone="silent", age_s=70.0, to_index=True)
    assert in_words(gone) == (
        "intake, gone (silent) for 70 s; its files are not looked through yet"
    )


def test_hosts_that_share_a_ledger_and_no_folder_are_told_of() -> None:
    other = replace(ALIVE, process_id="p3", host_name="worker-1", roles=("work", "deliver"))
    local = Config.model_validate({})
    shared = Config.model_validate({"storage": {"spool": "/mnt/spool"}})
    found = problem_of([ALIVE, other], local)
    assert found is not None and "storage.spool" in found[1]
    assert problem_of([ALIVE, other], shared) is None
    assert problem_of([replace(ALIVE, roles=("intake", "work", "deliver"))], local) is None
    twins = problem_of([ALIVE, replace(ALIVE, process_id="p3")], shared)
    assert twins is not None and "node.host_name" in twins[1]


def test_a_host_that_was_started_again_is_not_told_as_gone() -> None:
    former = replace(ALIVE, process_id="p1", gone="silent", started_at=-5.0)
    earlier = replace(former, process_id="p0", started_at=-9.0)
    assert without_former([earlier, former, ALIVE]) == [ALIVE]
    assert without_former([earlier, former]) == [former]
    kept = replace(former, to_index=True)
    assert without_former([kept, ALIVE]) == [kept, ALIVE]
    both = replace(former, roles=("intake", "web"))
    assert without_former([both, ALIVE]) == [both, ALIVE], "its page is still gone"


def test_what_no_host_does_is_told_with_what_waits_for_it() -> None:
    shared = Config.model_validate({"storage": {"spool": "/mnt/spool"}})
    deliverer = replace(ALIVE, process_id="p4", host_name="deliverer-1", roles=("deliver",))
    worker = replace(ALIVE, process_id="p5", host_name="worker-1", roles=("work",))
    gone = replace(worker, gone="silent")
    assert roles_of_nobody([ALIVE, deliverer, worker]) == ""
    assert re.fullmatch(
        r"no host does work since [-\d]{10} [:\d]{8}: jobs wait.*",
        roles_of_nobody([ALIVE, deliverer, gone]),
    )
    assert roles_of_nobody([ALIVE, deliverer]).startswith("no host does work: jobs wait")
    assert roles_of_nobody([gone]) == "", "no host lives: the node does not run"
    found = problem_of([ALIVE, deliverer, gone], shared)
    assert found is not None and "no host does work" in found[0] and "--only" in found[1]
