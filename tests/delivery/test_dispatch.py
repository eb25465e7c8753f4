"""What the engine gets and when, and what becomes of what it loses."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.config import Config
from dicom_node.delivery.recipients import lane_of
from dicom_node.records import CircuitState, DeliveryState, Priority
from tests.delivery.outbox import Outbox, outbox
from tests.delivery.scripted_peer import ScriptedPeer, answer_when, scripted_peer
from tests.peers import free_port

PENDING, SENT, DEAD = DeliveryState.PENDING, DeliveryState.SENT, DeliveryState.DEAD


@pytest.fixture
def archive() -> Iterator[ScriptedPeer]:
    with scripted_peer() as peer:
        yield peer


@pytest.fixture
def box(tmp_path: Path, archive: ScriptedPeer) -> Iterator[Outbox]:
    with outbox(tmp_path, {"pacs": archive.port}) as opened:
        yield opened


def test_the_engine_gets_only_what_is_to_go_now(box: Outbox) -> None:
    for number in range(1, 6):
        box.add_job(number)
    for _ in range(3):
        box.dispatch.submit_open()
    assert box.engine.given == [("job-1:pacs", 1), ("job-2:pacs", 1)]
    box.engine.run()
    box.round()
    assert box.engine.given[2:] == [("job-3:pacs", 1), ("job-4:pacs", 1)]


def test_results_of_one_study_go_one_after_another_and_urgent_ones_first(box: Outbox) -> None:
    box.add_job(1, study="1.2.3")
    box.add_job(2, study="1.2.3")
    box.add_job(3)
    box.add_job(4, priority=Priority.STAT)
    box.dispatch.submit_open()
    assert box.engine.given == [("job-4:pacs", 1), ("job-1:pacs", 1)]
    box.engine.run()
    box.round()
    assert box.engine.given[2:] == [("job-2:pacs", 1), ("job-3:pacs", 1)]


def test_a_long_queue_goes_on_without_a_look_at_all_of_it_for_each_turn(
    box: Outbox, archive: ScriptedPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 7):
        box.add_job(number)
    box.round()
    box.dispatch._next_look = math.inf
    monkeypatch.setattr(box.ledger.deliveries, "open_shipments", lambda **_: pytest.fail("a look"))
    box.add_job(7, priority=Priority.STAT)
    for _ in range(4):
        box.round()
    assert [key for key, _ in box.engine.given[2:4]] == ["job-7:pacs", "job-3:pacs"]
    assert sorted(archive.received) == [f"2.25.{number}01" for number in range(1, 8)]


def test_a_sender_and_a_peer_of_the_same_name_share_its_turns(
    tmp_path: Path, archive: ScriptedPeer
) -> None:
    # The images of an outbox come from CT01.
    with outbox(tmp_path, {"ct01": archive.port, "other": archive.port}) as box:
        box.add_job(1, ("sender",))
        box.add_job(2, ("ct01",))
        box.add_job(3, ("sender",))
        box.dispatch.submit_open()
        assert box.engine.given == [("job-1:sender", 1), ("job-2:ct01", 1)]
        box.engine.run()
        box.round()
        assert archive.received == ["2.25.101", "2.25.201", "2.25.301"]


@pytest.mark.parametrize("answers", [(0x0000,), (0xA700, 0x0000), (0xC000, 0x0000)])
def test_a_sender_that_is_a_destination_by_name_as_well_keeps_one_copy(
    tmp_path: Path, answers: tuple[int, ...]
) -> None:
    with (
        scripted_peer(*answers) as archive,
        outbox(tmp_path, {"ct01": archive.port}) as box,
    ):
        box.add_job(1, ("ct01", "sender"), results=2)
        for _ in range(4):
            box.round()
            box.clock.advance(30)
        assert box.states(1, "sender") == [SENT, SENT]
        assert len(archive.received) == 2 + (len(answers) - 1)
        if answers[0] != 0xC000:
            assert {one.reason for one in box.of_job(1, "sender")} == {"sent_to.ct01"}


def test_a_sender_that_is_away_is_away_for_everybody(tmp_path: Path) -> None:
    with outbox(tmp_path, {"ct01": free_port()}) as box:
        box.add_job(1, ("sender",))
        box.round()
        box.add_job(2, ("sender",))
        box.add_job(3, ("ct01",))
        box.round()
        assert box.engine.given == [("job-1:sender", 1)]
        assert box.ledger.circuits.find("ct01").state is CircuitState.OPEN


def test_what_the_engine_lost_is_handed_out_again_under_the_same_attempt(box: Outbox) -> None:
    box.add_job(1)
    box.dispatch.submit_open()
    box.engine.waiting.clear()
    box.engine.lost.update(box.engine.given)
    box.engine.given.clear()
    box.round()
    assert box.engine.given == [], "it may be about to begin"
    box.dispatch.reconcile()
    box.engine.lost.clear()
    box.round()
    assert box.engine.given == [("job-1:pacs", 1)]
    assert box.states(1) == [SENT]


def test_an_attempt_that_ended_without_the_ledger_is_followed_by_another_at_once(
    box: Outbox, archive: ScriptedPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.add_job(1)
    with monkeypatch.context() as patch:
        patch.setattr(box.shipping, "run_attempt", lambda *_: None)
        box.round()
    assert box.states(1) == [PENDING]
    box.round()
    box.round()
    assert box.engine.given == [("job-1:pacs", 1), ("job-1:pacs", 2)]
    assert archive.received == ["2.25.101"]
    assert box.states(1) == [SENT]


def test_what_a_former_life_had_handed_out_counts_and_is_not_sent_twice(
    tmp_path: Path,
) -> None:
    told = threading.Event()
    with (
        scripted_peer(answer_when(told)) as slow,
        outbox(tmp_path, {"pacs": slow.port}, associations=1) as box,
    ):
        box.add_job(1)
        box.add_job(2)
        resumed = threading.Thread(target=box.dispatch.run_attempt, args=("job-1:pacs", 1))
        resumed.start()
        pause = threading.Event()
        while not slow.received:
            pause.wait(0.02)
        box.dispatch.run_attempt("job-1:pacs", 1)
        box.round()
        assert box.engine.given == [], "the only turn is taken"
        told.set()
        resumed.join()
        box.round()
        assert slow.received == ["2.25.101", "2.25.201"]
        assert [box.states(1), box.states(2)] == [[SENT], [SENT]]


def test_an_old_attempt_of_the_engine_is_not_sent_to_a_destination_that_is_away(
    tmp_path: Path,
) -> None:
    port = free_port()
    with outbox(tmp_path, {"pacs": port}) as box:
        box.add_job(1)
        box.add_job(2)
        box.round()
        with scripted_peer(port=port) as script:
            (attempt,) = {one.attempt for one in box.of_job(1)}
            box.dispatch.run_attempt("job-1:pacs", attempt)
            assert script.received == []
            assert box.states(1) == [PENDING]


@pytest.mark.parametrize("dead", [False, True])
def test_an_operator_need_not_wait_for_the_next_probe(tmp_path: Path, dead: bool) -> None:
    port = free_port()
    with outbox(tmp_path, {"pacs": port}, retry_for_h=1e-9 if dead else 96.0) as box:
        box.add_job(1)
        box.round()
        box.dispatch.reconcile()
        assert box.states(1) == [DEAD if dead else PENDING]
        with scripted_peer(port=port) as script:
            act = box.ledger.deliveries.retry_dead if dead else box.ledger.deliveries.hurry
            assert act("job-1") == 1
            box.clock.catch_up()
            box.round()
            assert script.received == ["2.25.101"]
        assert box.states(1) == [SENT]
        assert "retried_by_operator" in [t.reason for t in box.ledger.history("circuit", "pacs")]


def test_an_operator_ends_the_pause_of_a_refused_delivery(tmp_path: Path) -> None:
    with scripted_peer(0xA700, 0x0000) as script, outbox(tmp_path, {"pacs": script.port}) as box:
        box.add_job(1, results=2)
        box.round()
        box.round()
        assert len(script.received) == 1
        assert box.ledger.deliveries.hurry("job-1") == 2
        box.clock.catch_up()
        box.round()
        assert box.states(1) == [SENT, SENT]
        assert box.ledger.deliveries.hurry("job-1") == 0


def test_a_sender_is_asked_at_once_when_an_operator_is_in_a_hurry(tmp_path: Path) -> None:
    port = free_port()
    with outbox(tmp_path, {"ct01": port}) as box:
        box.add_job(1, ("sender",))
        box.round()
        with scripted_peer(port=port) as script:
            box.ledger.deliveries.hurry("job-1")
            box.clock.catch_up()
            box.round()
            box.round()
            assert script.received == ["2.25.101"]


def test_the_engine_has_a_turn_for_every_association_that_is_allowed(tmp_path: Path) -> None:
    with outbox(tmp_path, {"a": 1, "b": 1, "c": 1}, associations=5) as box:
        assert (box.dispatch.limits.per_host, box.dispatch.limits.per_lane) == (16, 5)


def test_a_destination_that_is_no_peer_is_its_own_lane() -> None:
    config = Config.model_validate(
        {"peers": {"web": {"dicomweb": {"url": "http://127.0.0.1/dicom-web"}}}}
    )
    assert lane_of(config, "sender", "") == "sender", "a peer without a title is nobody's sender"
    assert lane_of(config, "sender", "CT01") == "sender"
    assert lane_of(config, "removed", "CT01") == "removed"


def test_two_shipments_that_wait_together_share_an_association(
    tmp_path: Path, archive: ScriptedPeer
) -> None:
    with outbox(tmp_path, {"pacs": archive.port}, idle_s=60.0) as box:
        for number in range(1, 5):
            box.add_job(number)
        for _ in range(2):
            box.round()
        assert len(archive.received) == 4
        assert archive.associations == 1
        assert archive.released == 0
        box.sender.close(0.0)
        assert archive.ended.wait(10)


def test_a_probe_that_a_stop_cuts_off_says_nothing_about_the_destination(tmp_path: Path) -> None:
    with outbox(tmp_path, {"pacs": free_port()}) as box:
        box.add_job(1)
        box.round()
        found = box.ledger.circuits.find("pacs")
        box.sender.close(0.0)
        box.clock.reach(found.not_before)
        box.round()
        assert box.ledger.circuits.find("pacs") == found
