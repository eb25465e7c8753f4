"""Who waits at a bell, and who does not hear it."""

from __future__ import annotations

import threading

from dicom_node.ledger.bell import Bell

PATIENCE_S = 60.0


def hung(up_to_s: float = 3600.0) -> tuple[Bell, threading.Event]:
    bell, event = Bell(up_to_s), threading.Event()
    bell.hang_on(event)
    return bell, event


def test_a_ring_ends_the_waiting_of_all_and_the_event_is_not_set() -> None:
    bell, event = hung()
    told: list[bool] = []
    threads = [threading.Thread(target=lambda: told.append(event.wait(3600.0))) for _ in range(3)]
    for one in threads:
        one.start()
    bell.ring()
    for one in threads:
        one.join(PATIENCE_S)
    assert told == [False] * 3


def test_a_ring_while_nobody_waits_is_heard_by_the_next_wait_of_each_thread_and_once() -> None:
    bell, event = hung()
    bell.ring()
    bell.ring()
    assert not event.wait(3600.0)
    told: list[bool] = []
    other = threading.Thread(target=lambda: told.append(event.wait(3600.0)))
    other.start()
    other.join(PATIENCE_S)
    assert told == [False]
    assert not event.wait(0.0)


def test_setting_the_event_ends_short_and_long_waiting() -> None:
    bell, event = hung(up_to_s=10.0)
    told: list[bool] = []
    threads = [
        threading.Thread(target=lambda s=seconds: told.append(event.wait(s)))
        for seconds in (9.0, 3600.0, None)
    ]
    for one in threads:
        one.start()
    bell.ring()
    event.set()
    for one in threads:
        one.join(PATIENCE_S)
    assert True in told and len(told) == 3
    assert event.wait(1.0) and event.wait(None)
