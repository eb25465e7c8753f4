"""How long what other receivers keep is waited for, where something is wrong with one of them."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from dicom_node.node_hosts import SharedPlace
from tests.test_node_hosts import ALIVE, Heard, Session


@pytest.fixture
def session() -> Session:
    return Session()


@pytest.fixture
def place(session: Session) -> SharedPlace:
    return SharedPlace(session, ["intake"], Heard(), lambda: 700.0)  # type: ignore[arg-type]


def test_a_receiver_that_fails_again_and_again_does_not_hide_what_waits_at_others(
    place: SharedPlace, session: Session
) -> None:
    failing = replace(ALIVE, age_s=1.0, waiting_s=700.0)
    session.found = [failing, replace(ALIVE, process_id="p3", age_s=1.0, waiting_s=5.0)]
    assert place.others_waiting_s() == 6.0
    session.found = [failing, replace(ALIVE, process_id="p3", gone="silent", to_index=True)]
    assert 1.0 < place.others_waiting_s() < 600.0
    session.found = [failing]
    assert place.others_waiting_s() == 0.0


def test_a_receiver_whose_last_sign_lies_in_the_future_is_silent(
    place: SharedPlace, session: Session
) -> None:
    # The clock of the database server was set back.
    session.found = [replace(ALIVE, age_s=-300.0)]
    assert place.others_waiting_s() > 1.0


def test_who_was_last_seen_before_the_database_was_away_is_waited_for_when_it_is_back(
    place: SharedPlace, session: Session
) -> None:
    session.found = [replace(ALIVE, age_s=1200.0)]
    assert 1.0 < place.others_waiting_s() < 600.0


def test_what_waited_while_the_database_was_away_does_not_wait_in_vain_when_it_is_back(
    place: SharedPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else series would be closed without it, in the moment before it is told.
    assert 1.0 < place.waiting_here_s() < 10.0
    now_s = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now_s + 650.0)
    assert 640.0 < place.waiting_here_s() < 700.0
    place._is_lost = True
    assert 1.0 < place.waiting_here_s() < 10.0
    place._round()
    assert 1.0 < place.waiting_here_s() < 10.0
