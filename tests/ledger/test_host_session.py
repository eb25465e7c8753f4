"""Places among the hosts: who lives, who leads, and what a lost connection means."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from dicom_node.errors import HostNameTaken, LedgerUnavailable
from dicom_node.ledger import clock, host_session
from dicom_node.ledger.host_session import HostSession, Process
from dicom_node.ledger.ledger import Ledger
from tests.several_hosts.site import wait_until

pytestmark = pytest.mark.postgresql
Open = Callable[..., HostSession]


@pytest.fixture
def ledger(postgresql_url: str) -> Iterator[Ledger]:
    opened = Ledger.open(postgresql_url)
    yield opened
    opened.close()


@pytest.fixture
def place(ledger: Ledger) -> Iterator[Open]:
    opened: list[HostSession] = []

    def at(name: str, *roles: str, process_id: str = "") -> HostSession:
        who = Process(process_id or f"process-{name}", name, roles or ("work",), "1.2.3")
        opened.append(HostSession(ledger.url, who))
        return opened[-1]

    yield at
    for one in opened:
        one.end()
    clock.set_by_computer()


def cut(ledger: Ledger, session: HostSession) -> None:
    """The server ends the connection of a session, as it does when its host is gone."""
    assert session._connection is not None
    pid = session._connection.connection.dbapi_connection.info.backend_pid  # type: ignore[union-attr]
    with ledger._database.write() as connection:
        connection.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    query = sa.text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")

    def is_gone() -> bool:
        with ledger._database.read() as connection:
            return not connection.execute(query, {"pid": pid}).scalar_one()

    wait_until(is_gone, "the server ended it")


def test_one_process_leads_and_the_next_one_when_it_leaves(ledger: Ledger, place: Open) -> None:
    first, second = place("a"), place("b")
    first.round(["work"])
    second.round(["work"])
    assert first.holds("work") and not second.holds("work")
    assert first.is_here() and second.is_here()
    assert {one.host_name: one.lives for one in ledger.hosts.all()} == {"a": True, "b": True}
    first.end()
    second.round(["work"])
    assert second.holds("work") and not first.holds("work")
    assert {one.host_name: one.gone for one in ledger.hosts.all()} == {"a": "ended", "b": ""}


def test_duties_are_led_one_by_one_and_given_back(place: Open) -> None:
    first, second = place("a"), place("b")
    first.round(["lane pacs"])
    second.round(["lane pacs", "lane archive"])
    assert first.holds("lane pacs")
    assert second.holds("lane archive") and not second.holds("lane pacs")
    first.give_back("lane pacs")
    assert not first.holds("lane pacs")
    second.round(["lane pacs", "lane archive"])
    assert second.holds("lane pacs")


def test_who_cannot_prove_that_it_holds_a_lock_stops_before_another_one_begins(
    place: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert host_session.PROVEN_S < host_session._IDLE_S
    first = place("a")
    first.round(["work"])
    assert first.holds("work")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + host_session.PROVEN_S + 0.1)
    assert not first.holds("work") and not first.is_here()


def test_a_connection_that_the_server_ended_takes_all_locks_with_it_at_once(
    ledger: Ledger, place: Open
) -> None:
    first, second = place("a"), place("b")
    first.round(["work"])
    cut(ledger, first)
    with pytest.raises(LedgerUnavailable):
        first.round(["work"])
    assert not first.holds("work")
    second.round(["work"])
    first.round(["work"])
    assert second.holds("work") and not first.holds("work")
    assert first.is_here()


def test_a_process_that_is_silent_and_has_no_connection_counts_as_gone_until_it_is_back(
    ledger: Ledger, place: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = place("a", "intake"), place("b", "intake")
    first.round([])
    second.round([])
    monkeypatch.setattr(host_session, "SILENT_AFTER_S", 0.0)
    monkeypatch.setattr(host_session, "_OTHERS_COME_BACK_S", 0.0)
    assert second.round([]) == []
    cut(ledger, first)
    (gone,) = second.round([])
    assert (gone.host_name, gone.process_id) == ("a", "process-a")
    found = {one.host_name: (one.gone, one.to_index) for one in ledger.hosts.all()}
    assert found == {"a": ("silent", True), "b": ("", False)}
    with pytest.raises(LedgerUnavailable):
        first.round([])
    first.round([])
    found = {one.host_name: (one.gone, one.to_index) for one in ledger.hosts.all()}
    assert found == {"a": ("", False), "b": ("", False)}


def test_a_process_that_is_gone_is_found_also_when_the_clock_of_the_server_was_set_back(
    ledger: Ledger, place: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = place("a", "intake"), place("b", "intake")
    first.round([])
    second.round([])
    monkeypatch.setattr(host_session, "_OTHERS_COME_BACK_S", 0.0)
    with ledger._database.write() as connection:
        connection.execute(
            sa.text("UPDATE hosts SET seen_at = seen_at + 3600 WHERE host_name = 'a'")
        )
    # Its lock says that it lives.
    assert second.round([]) == []
    cut(ledger, first)
    assert [one.host_name for one in second.round([])] == ["a"]


def test_after_the_database_was_away_nobody_is_taken_for_gone_at_once(
    ledger: Ledger, place: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = place("a"), place("b")
    first.round([])
    second.round([])
    monkeypatch.setattr(host_session, "SILENT_AFTER_S", 0.0)
    cut(ledger, first)
    cut(ledger, second)
    with pytest.raises(LedgerUnavailable):
        second.round([])
    assert second.round([]) == []
    assert {one.gone for one in ledger.hosts.all()} == {""}


def test_what_ran_under_the_same_name_before_counts_as_gone_at_once(
    ledger: Ledger, place: Open
) -> None:
    former = place("a", process_id="former")
    former.round(["work"])
    cut(ledger, former)
    (gone,) = place("a", process_id="present").round(["work"])
    assert gone.process_id == "former"


def test_a_name_is_one_living_process_s_for_each_role(place: Open) -> None:
    first, second = place("a", "work", process_id="p1"), place("a", "work", process_id="p2")
    first.round([])
    with pytest.raises(HostNameTaken, match=r"lives is called a and does work") as caught:
        second.round([])
    assert caught.value.reason == "host.name_taken"
    # It took nothing meanwhile that the first, or one with another role, would miss.
    assert first.round([]) == [] and first.is_here() and not second.is_here()
    place("a", "intake", "web", process_id="p3").round([])
    place("b", "work", process_id="p4").round([])
    first.end()
    second.round([])
    assert second.is_here()


def test_who_comes_back_and_finds_its_name_taken_is_told(ledger: Ledger, place: Open) -> None:
    former, present = place("a", process_id="former"), place("a", process_id="present")
    former.round([])
    cut(ledger, former)
    present.round([])
    with pytest.raises(LedgerUnavailable):
        former.round([])
    with pytest.raises(HostNameTaken):
        former.round([])


def test_a_clock_that_is_a_minute_fast_goes_by_the_database(
    ledger: Ledger, place: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + 60.0)
    assert clock.seconds() - right() > 59
    session = place("a")
    session.round([])
    assert abs(clock.seconds() - right()) < 5
    session.round([])
    (found,) = ledger.hosts.all()
    assert 55 < found.clock_ahead_s < 65
    assert found.age_s < 5


def test_the_server_ends_the_session_of_a_process_that_stands_still(place: Open) -> None:
    session = place("a")
    session.round([])
    assert session._connection is not None
    shown = session._connection.exec_driver_sql("SHOW idle_session_timeout").scalar_one()
    assert shown == f"{host_session._IDLE_S}s"


def test_rows_of_processes_that_left_are_forgotten_after_a_day(
    ledger: Ledger, place: Open
) -> None:
    place("old").round([])
    with ledger._database.write() as connection:
        connection.execute(sa.text("UPDATE hosts SET gone = 'ended', seen_at = seen_at - 90000"))
    place("new").round([])
    assert [one.host_name for one in ledger.hosts.all()] == ["new"]
