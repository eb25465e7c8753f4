"""The fault table of the outbox: what each way in which a destination fails does to deliveries.

Real sockets and a ledger on disk; the hours and days pass on a clock that the test moves.
"""

from __future__ import annotations

import socket
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dicom_node.backoff import LONGEST_DELAY_S
from dicom_node.errors import LedgerUnavailable
from dicom_node.ledger.engine import DbosEngine
from dicom_node.records import CircuitState, DeliveryState
from tests.delivery.outbox import IMPATIENT, Outbox, outbox
from tests.delivery.scripted_peer import (
    PATIENCE_S,
    abort,
    answer_when,
    scripted_peer,
    socket_peer,
)
from tests.peers import free_port

PENDING, SENT, DEAD = DeliveryState.PENDING, DeliveryState.SENT, DeliveryState.DEAD


def pass_the_time(box: Outbox, until: datetime) -> list[datetime]:
    """Let the node work until then; when it asked the destination whether it is back."""
    asked = []
    while box.clock.now < until:
        box.round()
        box.dispatch.reconcile()
        circuit = box.ledger.circuits.find("pacs")
        assert circuit.state is CircuitState.OPEN and circuit.not_before > box.clock.now
        box.clock.reach(circuit.not_before)
        asked.append(circuit.not_before)
    return asked


def test_a_destination_that_is_down_for_days_is_asked_ever_more_rarely_and_given_up_in_the_end(
    tmp_path: Path,
) -> None:
    with outbox(tmp_path, {"pacs": free_port()}) as box:
        box.add_job(1, results=2)
        began = box.clock.now
        asked = pass_the_time(box, began + timedelta(hours=96))
        assert box.states(1) == [PENDING, PENDING]
        assert [one.attempt for one in box.of_job(1)] == [2, 2], "only the first attempt counts"
        assert box.engine.given == [("job-1:pacs", 1)], "nothing is sent while it is away"
        pauses = [(b - a).total_seconds() for a, b in zip([began, *asked], asked, strict=False)]
        ceilings = [min(LONGEST_DELAY_S, 5.0 * 2**turn) for turn in range(len(pauses))]
        assert all(
            ceiling / 2 <= pause <= ceiling + 1
            for pause, ceiling in zip(pauses, ceilings, strict=True)
        )
        assert len({round(pause) for pause in pauses[-20:]}) > 10, "not all at the same pace"

        box.round()
        box.dispatch.reconcile()
        assert box.states(1) == [DEAD, DEAD]
        assert {one.reason for one in box.of_job(1)} == {"peer.unreachable"}


@pytest.mark.parametrize("verification", [True, False])
def test_everything_goes_at_once_when_a_destination_that_was_down_for_hours_answers_an_echo(
    tmp_path: Path, verification: bool
) -> None:
    port = free_port()
    with outbox(tmp_path, {"pacs": port}) as box:
        for number in range(1, 6):
            box.add_job(number)
        # (The first two find out that it is away, and the others never try.)
        pass_the_time(box, box.clock.now + timedelta(hours=7))
        with scripted_peer(port=port, verification=verification) as script:
            at = box.clock.now
            for _ in range(6):
                box.round()
            assert box.clock.now == at
            assert sorted(script.received) == [f"2.25.{n}01" for n in range(1, 6)]
        assert [box.states(number) for number in range(1, 6)] == [[SENT]] * 5
        circuit = box.ledger.circuits.find("pacs")
        assert (circuit.state, circuit.failures) == (CircuitState.CLOSED, 0)
        said = [(t.from_state, t.to_state, t.reason) for t in box.ledger.history("circuit", "pacs")]
        assert said == [
            ("closed", "open", "peer.unreachable"), ("open", "closed", "probe_answered"),
        ]


def test_what_waited_while_the_node_was_off_is_tried_before_it_is_given_up(
    tmp_path: Path,
) -> None:
    port = free_port()
    with outbox(tmp_path, {"pacs": port}) as box:
        box.add_job(1)
        box.round()
        box.clock.advance(30 * 24 * 3600)
        # As at a start: the last time that the destination was asked is a month ago.
        box.dispatch.reconcile()
        assert box.states(1) == [PENDING]
        with scripted_peer(port=port) as script:
            box.round()
            box.round()
            assert script.received == ["2.25.101"]
        assert box.states(1) == [SENT]


def test_a_destination_that_answers_echoes_and_takes_no_delivery_is_left_alone_ever_longer(
    tmp_path: Path,
) -> None:
    with (
        scripted_peer(sop_classes=(), reject_storage=True) as script,
        outbox(tmp_path, {"pacs": script.port}) as box,
    ):
        box.add_job(1)
        for failures in range(1, 9):
            box.round()
            circuit = box.ledger.circuits.find("pacs")
            assert (circuit.state, circuit.failures) == (CircuitState.OPEN, failures)
            box.clock.reach(circuit.not_before)
            box.dispatch.submit_open()
            back = box.ledger.circuits.find("pacs")
            assert back.state is CircuitState.CLOSED, "it answered the echo, so it is tried"
        assert (circuit.not_before - circuit.changed_at).total_seconds() > 300


def test_a_destination_that_accepts_and_then_aborts_costs_an_attempt_and_a_pause(
    tmp_path: Path,
) -> None:
    with (
        scripted_peer(abort, abort, 0x0000) as script,
        outbox(tmp_path, {"pacs": script.port}) as box,
    ):
        box.add_job(1, results=2)
        for attempt in (2, 3):
            box.round()
            assert box.states(1) == [PENDING, PENDING]
            assert {one.attempt for one in box.of_job(1)} == {attempt}
            assert box.ledger.circuits.find("pacs").state is CircuitState.CLOSED
            box.round()
            assert len(script.received) == attempt - 1, "nothing is sent before the pause is over"
            box.clock.reach(max(one.not_before for one in box.of_job(1)))
        box.round()
        assert box.states(1) == [SENT, SENT]
        assert script.received == ["2.25.101"] * 3 + ["2.25.102"]


def test_a_destination_that_is_out_of_resources_gets_it_later_and_in_order(tmp_path: Path) -> None:
    with (
        scripted_peer(0x0000, 0xA700, 0x0000) as script,
        outbox(tmp_path, {"pacs": script.port}) as box,
    ):
        box.add_job(1, results=3)
        box.round()
        assert box.states(1) == [SENT, PENDING, PENDING]
        busy, waiting = box.of_job(1)[1:]
        assert (busy.status, busy.reason) == (0xA700, "peer.busy.out_of_resources")
        assert waiting.status is None
        assert 2.5 <= (busy.not_before - box.clock.now).total_seconds() <= 5.0
        assert waiting.not_before == busy.not_before
        box.clock.reach(busy.not_before)
        box.round()
        assert script.received == ["2.25.101", "2.25.102", "2.25.102", "2.25.103"]
        assert box.states(1) == [SENT] * 3


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007, 0xB123])
def test_an_object_stored_with_a_warning_is_sent_and_says_so(tmp_path: Path, status: int) -> None:
    with scripted_peer(status) as script, outbox(tmp_path, {"pacs": script.port}) as box:
        box.add_job(1)
        box.round()
        (one,) = box.of_job(1)
        assert (one.state, one.status) == (SENT, status)
        assert one.reason.startswith("peer.warning")
        box.clock.advance(24 * 3600)
        box.round()
        box.dispatch.reconcile()
        assert len(script.received) == 1


def test_a_class_that_the_destination_does_not_support_is_dead_at_once_until_a_retry_succeeds(
    tmp_path: Path,
) -> None:
    with (
        scripted_peer(0x0122, 0x0000) as script,
        outbox(tmp_path, {"pacs": script.port}) as box,
    ):
        box.add_job(1, results=2)
        box.add_job(2)
        box.round()
        box.round()
        assert box.states(1) == [DEAD, SENT]
        assert box.of_job(1)[0].reason == "peer.refused.sop_class_not_supported"
        assert box.of_job(1)[0].status == 0x0122
        assert box.states(2) == [PENDING], "its form is to be chosen anew"
        assert len(script.received) == 2
        for number in (1, 2):
            kept = [one.sop_instance_uid for one in box.of_job(number)]
            box.ledger.deliveries.replace(f"job-{number}", "pacs", kept, [], "nothing else fits")
        assert box.ledger.deliveries.retry_dead("job-1") == 1
        box.clock.catch_up()
        for _ in range(2):
            box.round()
        assert box.states(1) == [SENT, SENT]
        assert box.states(2) == [SENT]
        profile = box.ledger.profiles.find("pacs")
        assert profile is not None and profile.refused == frozenset(), "it took one: it takes it"


def test_a_destination_that_never_answers_an_association_counts_as_away(tmp_path: Path) -> None:
    with (
        socket_peer() as peer,
        outbox(tmp_path, {"pacs": peer.port}, timeouts=IMPATIENT) as box,
    ):
        box.add_job(1)
        box.round()
        circuit = box.ledger.circuits.find("pacs")
        assert (circuit.state, circuit.reason) == (CircuitState.OPEN, "peer.timeout")
        assert box.states(1) == [PENDING]


def test_an_object_that_is_never_answered_is_sent_again_under_the_same_uid(tmp_path: Path) -> None:
    told = threading.Event()
    with (
        scripted_peer(answer_when(told), 0x0000) as script,
        outbox(tmp_path, {"pacs": script.port}, timeouts=IMPATIENT) as box,
    ):
        box.add_job(1, results=2)
        box.round()
        told.set()
        assert box.states(1) == [PENDING, PENDING]
        assert {one.reason for one in box.of_job(1)} == {"peer.timeout"}
        assert box.ledger.circuits.find("pacs").state is CircuitState.CLOSED
        box.clock.reach(max(one.not_before for one in box.of_job(1)))
        box.round()
        assert box.states(1) == [SENT, SENT]
        assert script.received == ["2.25.101", "2.25.101", "2.25.102"]


def test_a_slow_destination_and_a_dead_one_take_nothing_from_a_fast_one(tmp_path: Path) -> None:
    fast_is_done = threading.Event()
    with (
        scripted_peer(answer_when(fast_is_done)) as slow,
        scripted_peer() as fast,
        socket.socket() as silent,
    ):
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        ports = {"slow": slow.port, "fast": fast.port, "silent": silent.getsockname()[1]}
        with outbox(tmp_path, ports) as box:
            # What the destinations that do not answer wait for comes first in every queue.
            for number in range(1, 11):
                box.add_job(number, ("slow", "silent"))
            for number in range(11, 21):
                box.add_job(number, ("fast",))
            engine = DbosEngine(box.ledger.url, executor_id="outbox")
            dispatch = box.dispatch_for(engine)
            engine.start({"deliver": dispatch.run_attempt}, {"deliver": dispatch.limits})
            try:
                work_until(dispatch.submit_open, lambda: len(fast.received) == 10, "the fast one")
                assert len(slow.received) <= 2
                fast_is_done.set()
                work_until(dispatch.submit_open, lambda: len(slow.received) == 10, "the slow one")
                assert len(set(slow.received)) == len(set(fast.received)) == 10
            finally:
                fast_is_done.set()
                dispatch.close()
                engine.stop()


def work_until(work: object, done: object, what: str) -> None:
    assert callable(work) and callable(done)
    pause = threading.Event()
    deadline = PATIENCE_S / 0.05
    while not done():
        work()
        pause.wait(0.05)
        deadline -= 1
        assert deadline > 0, what


def test_a_stop_does_not_wait_for_destinations_that_do_not_answer(tmp_path: Path) -> None:
    told = threading.Event()
    with (
        scripted_peer(0x0000, answer_when(told)) as hanging,
        socket_peer() as silent,
        outbox(tmp_path, {"pacs": hanging.port, "silent": silent.port}) as box,
    ):
        box.add_job(1, results=3)
        box.add_job(2, ("silent",))
        box.dispatch.submit_open()
        at_work = [
            threading.Thread(target=box.dispatch.run_attempt, args=given, daemon=True)
            for given in box.engine.given
        ]
        for thread in at_work:
            thread.start()
        work_until(lambda: None, lambda: len(hanging.received) == 2, "the second object")
        box.shipping.close(0.0)
        for thread in at_work:
            # The peers would be waited for until then: 120 s for an answer.
            thread.join(60)
            assert not thread.is_alive()
        told.set()
        assert box.states(1) == [SENT, PENDING, PENDING]
        assert box.states(2, "silent") == [PENDING]
        assert box.ledger.circuits.all() == {}
        last = box.ledger.history("delivery", box.of_job(1)[1].delivery_id)
        assert [t.to_state for t in last] == ["pending"], "stopping is no fault of the destination"


def test_what_was_answered_and_recorded_is_never_sent_again_and_what_was_not_keeps_its_uid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted_peer() as script, outbox(tmp_path, {"pacs": script.port}) as box:
        box.add_job(1, results=3)
        record = box.ledger.deliveries.record

        def fails_at_the_second(delivery_id: str, *answer: Any, **options: Any) -> DeliveryState:
            if delivery_id.endswith(":102"):
                raise LedgerUnavailable("the disk is full")
            return record(delivery_id, *answer, **options)

        with monkeypatch.context() as patch:
            patch.setattr(box.ledger.deliveries, "record", fails_at_the_second)
            with pytest.raises(LedgerUnavailable):
                box.round()
        assert box.states(1) == [SENT, PENDING, PENDING]
        for _ in range(4):
            box.round()
        assert box.states(1) == [SENT] * 3
        assert script.received == [
            "2.25.101", "2.25.102", "2.25.103", "2.25.102", "2.25.103",
        ]
